"""One image, painted from the labels of one raster into a file, with its preview and STAC item."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from odc.geo.geobox import GeoBox
from torch import Tensor

from geosynth.checkpoint import GeneratorModel
from geosynth.config import GenerateSettings
from geosynth.errors import OutputError, SettingsError
from geosynth.files import check_output, refuse_inputs
from geosynth.grid import ground_sampling_distance, warn_of_pixel_size
from geosynth.legend import CHESAPEAKE, Legend
from geosynth.models.looks.look import Look
from geosynth.mosaic.blend import BlendPainter
from geosynth.mosaic.block_size import choose_block_size
from geosynth.mosaic.painter import Painter, paint_plan
from geosynth.mosaic.pipeline import Executor, paint_blocks, paint_missing
from geosynth.mosaic.provenance import is_made_from, painting_job, provenance
from geosynth.mosaic.style import style_length_pixels
from geosynth.parallel import behind
from geosynth.progress import StageProgress, silent
from geosynth.raster.cog import CogWriter
from geosynth.raster.images import is_generated, is_zarr_name
from geosynth.raster.label_files import kept_tags
from geosynth.raster.label_legend import choose_legend, compare_colours, warn_of_colours
from geosynth.raster.labels import LabelRaster, Survey
from geosynth.raster.preview import write_preview
from geosynth.raster.read import Raster, bounded_cache
from geosynth.raster.stac import check_can_be_item, item_path, write_stac_item
from geosynth.raster.unfinished_image import UnfinishedImage
from geosynth.raster.warp import resample_labels
from geosynth.unfinished import UnfinishedWork

_LOG = logging.getLogger(__name__)


def painter_for(
    geobox: GeoBox, model: GeneratorModel, settings: GenerateSettings, style: Tensor | Look | None = None
) -> Painter:
    """The painter for a grid, in the mode of the settings, else the model's default mode; see `Painter`.

    Raises:
        SettingsError: see `GenerateSettings.mode` and `Painter`.
    """
    length = style_length_pixels(settings.style_length, geobox, model.card.settings)
    kind = BlendPainter if settings.mode(model.card.settings) == "blend" else Painter
    return kind(model, settings, length, style)


def blank_image(out: Path, painter: Painter, geobox: GeoBox) -> UnfinishedImage:
    """An image of which nothing is painted yet, in blocks of the size that the painter's settings give.

    Raises:
        SettingsError: if no block fits in the memory that they allow.
    """
    bands = painter.model.card.bands
    if is_zarr_name(out):
        from geosynth.raster.zarr_image import writing_bytes  # with libraries, whose memory counts, too

        size = choose_block_size(painter, writing_bytes(geobox, len(bands.names), bands.dtype))
    else:
        size = choose_block_size(painter)
    plan = paint_plan(geobox, size)
    return UnfinishedImage(out, plan, len(bands.names), bands.dtype)


def paint_image(
    raster: Raster,
    out: Path,
    model: GeneratorModel,
    settings: GenerateSettings,
    *,
    legend: str | Path | Legend | None = None,
    style: Tensor | Look | None = None,
    overwrite: bool = False,
    skip_finished: bool = False,
    executor: Executor = paint_blocks,
    progress: StageProgress = silent,
) -> Path:
    """Paint one image into a file; `generate` describes the arguments, the result and the errors.

    With `skip_finished` an existing image is kept if it was made from the same inputs and settings; any other is an
    error, unless `overwrite` is set too. The executor paints blocks and yields their numbers in any order, see
    `paint_blocks`.
    """
    check_image_output(out, [raster.path, *raster.files], settings, overwrite=overwrite or skip_finished)
    if settings.stac:
        check_can_be_item(raster)
    raster = resampled(raster, model, settings)
    source = LabelRaster(raster, choose_legend(raster, legend, model.card.legend), unknown=settings.unknown)
    painter = painter_for(source.geobox, model, settings, style)
    image = blank_image(out, painter, source.geobox)
    with bounded_cache():
        survey = source.survey(lambda done, total: progress("checking", done, total))
        warn_about_grid(source.name, source.geobox, model)
        verdict = compare_colours(raster.class_table, source.legend, survey.counts)
        warn_of_colours([(source, verdict)], is_default=legend is None and model.card.legend == CHESAPEAKE)
        tags = provenance(painter, source, survey)
        total = len(image.plan)
        if skip_finished and is_made_from(out, tags, overwrite=overwrite):
            image.check(overwrite=True)
            if _beside(out, settings):
                with image.alone():
                    _write_beside(out, settings, image.folder)
            return out
        with image.open(painting_job(painter, source, survey, image.plan.size), total=total, keep_finished=True):
            if image.is_finished:
                _write_beside(out, settings, image.folder)
                return out
            check_image_output(out, (), settings, overwrite=overwrite or skip_finished)
            blocks = paint_missing(painter, source, image, range(total), executor, progress)
            _write(image, blocks, painter, source, survey, tags, progress)
            image.finish(*_write_beside(image.result, settings, image.folder))
    return out


def _write_beside(image: Path, settings: GenerateSettings, folder: Path) -> list[str]:
    """Write the preview and the STAC item of an image, if they are wanted; returns their names.

    They are made in the folder, which is hidden.
    """
    preview = image.with_suffix(".png") if settings.preview else None
    if preview is not None:
        write_preview(image, preview, folder)
    if settings.stac:
        write_stac_item(image, preview, folder)
    return [path.name for path in _beside(image, settings)]


def _beside(image: Path, settings: GenerateSettings) -> list[Path]:
    """Paths of an image's preview and STAC item, those that are wanted."""
    return [image.with_suffix(".png")] * settings.preview + [item_path(image)] * settings.stac


def _write(
    image: UnfinishedImage,
    painted: Iterator[int],
    painter: Painter,
    source: LabelRaster,
    survey: Survey,
    tags: dict[str, str],
    progress: StageProgress,
) -> None:
    """Write the whole image from the blocks; `painted` paints them and yields their numbers, in any order."""
    bands = painter.model.card.bands
    # What both kinds of writers are given.
    given: dict[str, Any] = {"dtype": bands.dtype, "quantities": bands.quantities, "folder": image.folder}
    if is_zarr_name(image.out):
        from geosynth.raster.zarr_image import zarr_image_writer  # takes a second to import

        for _ in painted:  # all blocks, before any is written
            pass
        store = zarr_image_writer(image.result, source.geobox, bands.names, tags=tags, **given)
        with store as copy:
            copy(image.read, progress=partial(progress, "writing"))
    else:
        height, width = source.geobox.shape
        writer = CogWriter(
            image.result,
            source.geobox,
            bands.names,
            masked=sum(source.legend.count(survey.counts)) < height * width,
            tags=tags | kept_tags(source.raster),
            compress=painter.settings.compress or "deflate",
            progress=partial(progress, "finishing"),
            **given,
        )
        _write_cog(image, painted, writer, progress)


def _write_cog(image: UnfinishedImage, painted: Iterator[int], writer: CogWriter, progress: StageProgress) -> None:
    """Write each block while the next ones are painted."""
    written: set[int] = set()

    def write(index: int) -> None:
        writer.write(image.plan[index], *image.read_block(index))
        written.add(index)

    def write_if_seen(index: int) -> None:
        if image.has_block(index):
            write(index)

    with writer:
        behind(write_if_seen, painted)
        # Blocks of an earlier run, and those that a disk shared with workers showed late.
        left = sorted(image.finished_blocks() - written)
        for done, index in enumerate(left, start=1):
            write(index)
            progress("writing", done, len(left))


def check_image_name(out: Path) -> None:
    """Refuse a name of an image that does not tell its format.

    Raises:
        OutputError: one line.
    """
    if out.suffix.lower() not in (".tif", ".tiff", ".zarr"):
        raise OutputError(f"{out}: the image is a GeoTIFF or a Zarr store; choose a name that ends in .tif or .zarr")


def check_image_output(out: Path, inputs: Sequence[object], settings: GenerateSettings, *, overwrite: bool) -> None:
    """Refuse an image, preview or STAC item that cannot be written or would replace something else.

    Args:
        out: the image.
        inputs: files among them must not be replaced.
        settings: say how the image is compressed, and whether it gets a preview and a STAC item.
        overwrite: accept existing outputs.

    Raises:
        OutputError: one line.
        SettingsError: if the format has no such compression.
    """
    check_image_name(out)
    if is_zarr_name(out) and settings.compress not in (None, "zstd"):
        what = f"Zarr images are compressed by zstd, not {settings.compress}; leave it out"
        raise SettingsError(what, setting="compress")
    beside = _beside(out, settings)
    if beside and is_zarr_name(out):
        raise OutputError(f"{out}: previews and STAC items are made of GeoTIFFs; choose a name that ends in .tif")
    overwrite = UnfinishedWork(out).was_finishing() or overwrite
    for path in (out, *beside):
        check_output(path, overwrite=overwrite)
        if path.is_dir() and not is_generated(path):
            raise OutputError(f"{path}: is a folder, and not an image of geosynth; choose another name")
        refuse_inputs(path, inputs)


def resampled(raster: Raster, model: GeneratorModel, settings: GenerateSettings) -> Raster:
    """Labels resampled to the pixel size that a model was trained on, if the settings ask for it, with a warning.

    Raises:
        SettingsError: if the model does not record that size.
    """
    gsd, how = model.card.gsd, settings.resample
    if how is None:
        return raster
    if gsd is None:
        raise SettingsError(f"{model.path}: does not say which pixel size it was trained on; resample the labels first")
    result = resample_labels(raster, gsd, how)
    if result is not raster:
        _LOG.warning(
            "%s: resampled (%s) to %g m; the image has a grid of its own, %d x %d px",
            raster.path,
            how,
            gsd,
            *result.geobox.shape,
        )
    return result


def warn_about_grid(name: str, geobox: GeoBox, model: GeneratorModel) -> None:
    """Warn if labels of that name have no CRS, or another pixel size (in metres) than the model was trained on."""
    trained_on = model.card.gsd
    if geobox.crs is None:
        _LOG.warning("%s: has no CRS; the image will have none either", name)
    elif trained_on is not None and ground_sampling_distance(geobox) is None:
        told = (
            "%s: its pixels are not in metres; the model was trained on %g m: warp it to a projected CRS first"
            " (rio warp FILE NEW --dst-crs EPSG:CODE)"
        )
        _LOG.warning(told, name, trained_on)
    else:
        told = "the model was trained on %g m and treats them as such (generate --resample-labels)"
        warn_of_pixel_size(name, geobox, trained_on, told)

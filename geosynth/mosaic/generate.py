"""generate_file: a label raster in, a georeferenced synthetic image on the same grid out."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from odc.geo.geobox import GeoBox
from torch import Tensor

from geosynth.checkpoint import GeneratorModel, load_generator
from geosynth.config import GenerateSettings
from geosynth.errors import OutputError, SettingsError
from geosynth.grid import BlockPlan, absolute_origin, ground_sampling_distance
from geosynth.legend import Legend
from geosynth.mosaic.blend import make_painter
from geosynth.mosaic.memory import choose_block_size
from geosynth.mosaic.painter import Painter
from geosynth.mosaic.pipeline import Executor, Progress, paint_blocks, paint_missing
from geosynth.mosaic.provenance import provenance
from geosynth.mosaic.style import style_from_image, style_length_pixels
from geosynth.outputs import check_output
from geosynth.raster.cog import CogWriter, write_preview
from geosynth.raster.label_legend import choose_legend
from geosynth.raster.labels import LabelRaster, Survey
from geosynth.raster.like import RasterLike
from geosynth.raster.open_labels import is_zarr, open_labels
from geosynth.raster.read import bounded_cache
from geosynth.raster.resample import Resampling, resample_labels
from geosynth.raster.scratch import Scratch
from geosynth.raster.stac import check_can_be_item, item_path, write_stac_item
from geosynth.raster.tags import image_tags
from geosynth.raster.zarr_image import ZarrImageWriter
from geosynth.version import __version__

_LOG = logging.getLogger(__name__)
_GSD_TOLERANCE = 0.05


def generate_file(
    labels: str | Path | RasterLike,
    out: str | Path,
    model: str | Path | GeneratorModel | None = None,
    settings: GenerateSettings | None = None,
    *,
    legend: str | Path | Legend | None = None,
    unknown: Literal["error", "nodata"] = "error",
    resample: Resampling | None = None,
    style: Tensor | str | Path | None = None,
    preview: bool = False,
    stac: bool = False,
    overwrite: bool = False,
    skip_finished: bool = False,
    executor: Executor = paint_blocks,
    progress: Progress = lambda stage, done, total: None,
) -> Path:
    """Paint an image for a label raster, block by block, on the same grid: a Cloud Optimized GeoTIFF, or a Zarr store.

    Finished blocks are kept in a hidden folder beside the output until the image is whole: after an interruption of any
    kind, the same call goes on from there and gives the same bytes.

    Args:
        labels: a single-band raster of class codes: what `open_labels` takes, or one that is open.
        out: the image, a name that ends in .tif or .zarr; appears when it is whole.
        model: a file made by `train`, or one already loaded (and used where it is); None for the embedded default.
        settings: seed, block size, ...
        legend: of the label raster, if its codes are not the model's; classes are matched by name. "from-raster" takes
            the raster's own class table; see `choose_legend` for what None does.
        unknown: what to do about codes that the legend does not know, see `LabelRaster`.
        resample: "nearest" or "mode" brings labels of another pixel size to the model's; the image then has that grid.
        style: (latent_size,) of the whole image, instead of the seed's, or an image to take it from.
        preview: also write a PNG beside the image.
        stac: also write a STAC item beside the image.
        overwrite: replace an existing output.
        skip_finished: let an existing output stand if it was made from the same things.
        executor: paints blocks into the scratch and yields their numbers in any order, see `paint_blocks`.
        progress: called with ("checking", "painting" or "writing", blocks done, blocks to do).

    Returns:
        the path of the image.

    Raises:
        RasterError, DataError, LegendError, CheckpointError, SettingsError: one line each, before any work starts, and
            with nothing left behind.
        OutputError: if the image cannot be written; finished blocks are kept.
    """
    settings = settings or GenerateSettings()
    out = Path(out)
    beside = [out.with_suffix(".png")] * preview + [item_path(out)] * stac
    _check_places(out, beside, [labels, model, legend, style], overwrite=overwrite or skip_finished)
    raster = open_labels(labels) if isinstance(labels, str | Path) else labels  # before a model is loaded
    if stac:
        check_can_be_item(raster)
    if not isinstance(model, GeneratorModel):
        model = load_generator(model, settings.device)
    if resample is not None:
        raster = _resampled(raster, model, resample)
    source = LabelRaster(raster, choose_legend(raster, legend, model.card.legend), unknown=unknown)
    if isinstance(style, str | Path):
        style = style_from_image(style, model)
    style_length = style_length_pixels(settings.style_length, source.geobox, model.card.settings.start)
    painter = make_painter(model, settings, style_length, style)
    block_size = choose_block_size(painter)
    with bounded_cache():
        survey = source.survey(lambda done, total: progress("checking", done, total))
        warn_about_grid(source.geobox, model.card.gsd, source.name)
        tags = provenance(painter, source.name, source.legend, survey)
        if not (skip_finished and _is_finished(out, tags)):
            height, width = source.geobox.shape
            plan = BlockPlan(height, width, absolute_origin(source.geobox), block_size)
            scratch = Scratch(out, plan, len(model.card.bands.names), model.card.bands.dtype)
            with scratch.open(painting_job(painter, source, survey, block_size)) as changed:
                if changed:
                    _LOG.warning(
                        "%s: unfinished work with other %s is thrown away; starting afresh", out, ", ".join(changed)
                    )
                paint_missing(painter, source, scratch, range(len(plan)), executor, progress)
                _write(scratch, painter, source, survey, tags, progress)
    if preview:
        write_preview(out, out.with_suffix(".png"))
    if stac:
        write_stac_item(out, out.with_suffix(".png") if preview else None)
    return out


def _write(
    scratch: Scratch,
    painter: Painter,
    source: LabelRaster,
    survey: Survey,
    tags: dict[str, str],
    progress: Progress,
) -> None:
    """The COG or the Zarr store from the blocks, in one order whatever order they were painted in."""
    bands, settings = painter.model.card.bands, painter.settings
    if is_zarr_name(scratch.out):
        with ZarrImageWriter(scratch.out, source.geobox, bands.names, dtype=bands.dtype, tags=tags) as store:
            store.copy(scratch.read, progress=lambda done, total: progress("writing", done, total))
        return
    height, width = source.geobox.shape
    labelled = sum(survey.counts.get(code, 0) for code in source.legend.codes)
    writer = CogWriter(
        scratch.out,
        source.geobox,
        bands.names,
        dtype=bands.dtype,
        masked=labelled < height * width,
        tags=tags,
        compress=settings.compress,
        folder=scratch.folder,
    )
    blocks = sorted(scratch.done())
    with writer:
        for done, index in enumerate(blocks, start=1):
            writer.write(scratch.plan[index], *scratch.load(index))
            progress("writing", done, len(blocks))


def painting_job(painter: Painter, source: LabelRaster, survey: Survey, block_size: int) -> dict[str, Any]:
    """All that decides a block's bytes, by the names that users know."""
    style = None if painter.style is None else hashlib.sha256(painter.style.cpu().numpy().tobytes()).hexdigest()
    return {
        **painter.settings.model_dump(mode="json", exclude={"compress", "max_memory", "precision", "style_length"}),
        "block_size": block_size,
        "mosaic": painter.mode,
        "precision": painter.precision,
        "style_length": painter.style_length,
        "style": style,
        "model": painter.model.sha256,
        "labels": survey.digest,
        "legend": list(source.legend.codes),
        "version": [__version__, torch.__version__],
    }


def _check_places(out: Path, beside: Sequence[Path], inputs: Sequence[object], *, overwrite: bool) -> None:
    if out.suffix.lower() not in (".tif", ".tiff", ".zarr"):
        raise OutputError(f"{out}: the image is a GeoTIFF or a Zarr store; say a name that ends in .tif or .zarr")
    if beside and is_zarr_name(out):
        raise OutputError(f"{out}: previews and STAC items are made of GeoTIFFs; say a name that ends in .tif")
    for path in (out, *beside):
        check_output(path, overwrite=overwrite)
        if path.is_dir() and not (is_zarr_name(path) and is_zarr(path)):
            raise OutputError(f"{path}: is a folder; say the name of a file")
        for source in inputs:
            if isinstance(source, str | Path) and path.exists() and Path(source).exists() and path.samefile(source):
                raise OutputError(f"{path}: is an input too and would be lost; choose another name")


def is_zarr_name(out: Path) -> bool:
    """Whether an image of this name becomes a Zarr store."""
    return out.suffix.lower() == ".zarr"


def _is_finished(out: Path, tags: dict[str, str]) -> bool:
    """Whether the image is there, made from the same things.

    Raises:
        OutputError: if it is there and was made from others.
    """
    if not out.exists():
        return False
    own = image_tags(out)
    differing = [name.removeprefix("GEOSYNTH_").lower() for name, value in tags.items() if own.get(name) != value]
    if differing:
        raise OutputError(
            f"{out}: exists already, made otherwise ({', '.join(differing)}); choose another name or say --overwrite"
        )
    return True


def _resampled(raster: RasterLike, model: GeneratorModel, how: Resampling) -> RasterLike:
    gsd = model.card.gsd
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


def warn_about_grid(geobox: GeoBox, trained_on: float | None, source: str) -> None:
    """Say where labels have no CRS, or other pixels (metres) than those a model was trained on."""
    if geobox.crs is None:
        _LOG.warning("%s: has no CRS; the image will have none either", source)
        return
    if trained_on is None:
        return
    metres = ground_sampling_distance(geobox)
    if metres is None:
        _LOG.warning("%s: its pixels are not in metres; the model was trained on %g m", source, trained_on)
    elif abs(metres / trained_on - 1) > _GSD_TOLERANCE:
        message = "%s: pixels of %g m; the model was trained on %g m and paints at that scale (--resample-labels)"
        _LOG.warning(message, source, metres, trained_on)

"""generate: labels in, a georeferenced synthetic image on exactly their grid out."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, overload

import numpy as np
import psutil
import torch
import xarray as xr
from odc.geo.geobox import GeoBox

from geosynth.checkpoint import GeneratorModel, load_generator
from geosynth.config import GenerateSettings
from geosynth.errors import OutputError, SettingsError
from geosynth.files import check_output, refuse_inputs
from geosynth.grid import BlockPlan, absolute_origin, differing_pixel_size, ground_sampling_distance
from geosynth.legend import Legend
from geosynth.mosaic.blend import KEPT_BYTES, make_painter
from geosynth.mosaic.lazy import lazy_image
from geosynth.mosaic.painter import CELL, Painter
from geosynth.mosaic.pipeline import Executor, Progress, paint_blocks, paint_missing
from geosynth.mosaic.style import Files, Style, chosen_style, style_digest, style_files, style_length_pixels
from geosynth.parallel import open_client
from geosynth.raster.arrays import LabelArray
from geosynth.raster.cog import CogWriter, write_preview
from geosynth.raster.label_files import choose_legend, kept_tags, open_labels
from geosynth.raster.labels import LabelRaster, Survey
from geosynth.raster.mark import MARK
from geosynth.raster.read import CACHE_BYTES, Raster, bounded_cache
from geosynth.raster.stac import check_can_be_item, item_path, write_stac_item
from geosynth.raster.unfinished_image import UnfinishedImage
from geosynth.raster.warp import Resampling, resample_labels
from geosynth.raster.zarr_image import ZarrImageWriter, image_tags, is_generated
from geosynth.version import __version__

if TYPE_CHECKING:
    from distributed import Client

Model = str | Path | GeneratorModel | None
Unknown = Literal["error", "nodata"]

_LOG = logging.getLogger(__name__)


def _silent(stage: str, done: int, total: int) -> None:
    """No progress to show."""


@overload
def generate(
    labels: xr.DataArray,
    model: Model = None,
    settings: GenerateSettings | None = None,
    *,
    legend: str | Path | Legend | None = None,
    unknown: Unknown = "error",
    style: Style = None,
    style_labels: Files = None,
    **changes: Any,
) -> xr.DataArray: ...
@overload
def generate(
    labels: str | Path | Raster,
    out: str | Path,
    model: Model = None,
    settings: GenerateSettings | None = None,
    *,
    legend: str | Path | Legend | None = None,
    unknown: Unknown = "error",
    style: Style = None,
    style_labels: Files = None,
    resample: Resampling | None = None,
    preview: bool = False,
    stac: bool = False,
    overwrite: bool = False,
    client: Client | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    progress: Progress = ...,
    **changes: Any,
) -> Path: ...
def generate(labels: Any, *arguments: Any, **keywords: Any) -> Any:  # noqa: D417 - the overloads name them
    """Paint an image for labels, on exactly their grid.

    `generate(file, out)` writes the image as a Cloud Optimized GeoTIFF, or as a Zarr store where `out` ends in .zarr.
    `generate(array)` gives it as a lazy `xarray.DataArray` whose blocks are painted when they are computed; its pixels
    are those of the file.

    Args:
        labels: a raster of class codes: a file (GeoTIFF, COG, VRT, Zarr, folder or glob of tiles), or an array with
            coordinates y and x; `.rio.crs` and `.rio.nodata` are respected.
        out: for a file: the image, a name that ends in .tif or .zarr; appears when it is whole. Finished blocks are
            kept in a hidden folder beside it meanwhile: an interrupted call, repeated, goes on where it stopped, and
            gives the same bytes.
        model: a file made by `train`, or one already loaded (and used where it is); None for the embedded default.
        settings: seed, block size, ...
        legend: of the labels, if their codes are not the model's; classes are matched by name. "from-raster", for a
            file: its own class table.
        unknown: codes that the legend does not know are an "error", or "nodata".
        style: an image or several to take the look of the classes from, or a `Look`, instead of the settings' `look`;
            for a generator with a latent, (latent_size,) of the whole image instead of the seed's.
        style_labels: label rasters of the images that the look is taken from, one each, with the codes of `legend`:
            then each class has the look of its own pixels. Without them the image as a whole tells.
        resample: for a file: "nearest" or "mode" brings labels of another pixel size to the model's; the image then has
            that grid.
        preview: for a file: also write a PNG beside the image.
        stac: for a file: also write a STAC item beside the image.
        overwrite: for a file: replace an existing output.
        client: for a file: a `distributed.Client`, whose workers paint.
        scheduler: for a file: the address of a Dask scheduler, whose workers paint.
        workers: for a file: number of processes to start on this machine, which paint.
        progress: for a file: called with ("checking", "painting" or "writing", blocks done, blocks to do).
        **changes: single settings by name, as `seed=3`.

    Returns:
        the path of the image; or the lazy array (band, y, x), its bands by name, with the coordinate `valid` (y, x)
        that is False where there is no class (the image is 0 there).

    Raises:
        GeosynthError: one line. For a file before any work starts, with nothing left behind, but for OutputError and
            ClusterError, after which finished blocks are kept; for an array, codes are checked when a block is
            computed.
    """
    return (_array if isinstance(labels, xr.DataArray) else _file)(labels, *arguments, **keywords)


def _array(
    labels: xr.DataArray,
    model: Model = None,
    settings: GenerateSettings | None = None,
    *,
    legend: str | Path | Legend | None = None,
    unknown: Unknown = "error",
    style: Style = None,
    style_labels: Files = None,
    **changes: Any,
) -> xr.DataArray:
    settings = changed(settings, changes)
    if not isinstance(model, GeneratorModel):
        model = load_generator(model, settings.device)
    target = model.card.legend
    reader = target if legend is None else Legend.load(legend).translation_to(target)
    style = chosen_style(style, style_labels, model, settings, legend)
    source = LabelArray.of(labels, settings.block_size)
    style_length = style_length_pixels(settings.style_length, source.geobox, model.card.settings.start)
    painter = make_painter(model, settings, style_length, style)
    attributes = provenance(painter, source.name, reader) | MARK
    return lazy_image(source, painter, reader, choose_block_size(painter), attributes, unknown)


def _file(
    labels: str | Path | Raster,
    out: str | Path,
    model: Model = None,
    settings: GenerateSettings | None = None,
    *,
    legend: str | Path | Legend | None = None,
    unknown: Unknown = "error",
    style: Style = None,
    style_labels: Files = None,
    resample: Resampling | None = None,
    preview: bool = False,
    stac: bool = False,
    overwrite: bool = False,
    client: Client | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    progress: Progress = _silent,
    **changes: Any,
) -> Path:
    with engine(model, changed(settings, changes), client, scheduler, workers) as (ready, settled, executor):
        return generate_file(
            labels,
            out,
            ready,
            settled,
            legend=legend,
            unknown=unknown,
            style=style,
            style_labels=style_labels,
            resample=resample,
            preview=preview,
            stac=stac,
            overwrite=overwrite,
            executor=executor,
            progress=progress,
        )


def changed(settings: GenerateSettings | None, changes: dict[str, Any]) -> GenerateSettings:
    """The settings, with single ones given by name.

    Raises:
        SettingsError: if there is no such setting, or its value cannot be.
    """
    settings = settings or GenerateSettings()
    return GenerateSettings.parse({**settings.model_dump(), **changes}) if changes else settings


@contextlib.contextmanager
def engine(
    model: Model, settings: GenerateSettings, client: Client | None, scheduler: str | None, workers: int | None
) -> Iterator[tuple[Model, GenerateSettings, Executor]]:
    """Model, settings and executor for `generate_file`, by what a user says of a cluster: see `open_client`.

    For a cluster the model is loaded here without the device, which the workers have, and the precision "auto" is
    decided by them, for all alike.
    """
    with open_client(client, scheduler, workers) as running:
        if running is None:
            yield model, settings, paint_blocks
            return
        from geosynth.mosaic.portable import paint_on_cluster, settle_precision  # takes a second to import

        loaded = model if isinstance(model, GeneratorModel) else load_generator(model)
        yield loaded, settle_precision(settings, running), partial(paint_on_cluster, running)


class FileOptions(TypedDict, total=False):
    """Options of images that are written to files, as `generate` describes them."""

    legend: str | Path | Legend | None
    unknown: Unknown
    resample: Resampling | None
    preview: bool
    stac: bool
    overwrite: bool


def generate_file(
    labels: str | Path | Raster,
    out: str | Path,
    model: Model = None,
    settings: GenerateSettings | None = None,
    *,
    legend: str | Path | Legend | None = None,
    unknown: Unknown = "error",
    style: Style = None,
    style_labels: Files = None,
    resample: Resampling | None = None,
    preview: bool = False,
    stac: bool = False,
    overwrite: bool = False,
    skip_finished: bool = False,
    executor: Executor = paint_blocks,
    progress: Progress = _silent,
) -> Path:
    """Paint one image into a file; `generate` describes the arguments, the result and the errors.

    With `skip_finished` an existing image stands if it was made from the same things; any other is an error, unless
    `overwrite` is said too. The executor paints blocks and yields their numbers in any order, see `paint_blocks`.
    """
    settings = settings or GenerateSettings()
    out = Path(out)
    inputs = [labels, model, legend, *style_files(style, style_labels)]
    check_places(out, inputs, preview=preview, stac=stac, overwrite=overwrite or skip_finished)
    raster = open_labels(labels) if isinstance(labels, str | Path) else labels  # before a model is loaded
    if stac:
        check_can_be_item(raster)
    if not isinstance(model, GeneratorModel):
        model = load_generator(model, settings.device)
    if resample is not None:
        raster = resampled(raster, model, resample)
    source = LabelRaster(raster, choose_legend(raster, legend, model.card.legend), unknown=unknown)
    style = chosen_style(style, style_labels, model, settings, legend)
    style_length = style_length_pixels(settings.style_length, source.geobox, model.card.settings.start)
    painter = make_painter(model, settings, style_length, style)
    block_size = choose_block_size(painter)
    with bounded_cache():
        survey = source.survey(lambda done, total: progress("checking", done, total))
        warn_about_grid(source.geobox, model.card.gsd, source.name)
        tags = provenance(painter, source.name, source.legend, survey)
        if not (skip_finished and _is_finished(out, tags, overwrite=overwrite)):
            height, width = source.geobox.shape
            plan = BlockPlan(height, width, absolute_origin(source.geobox), block_size)
            image = UnfinishedImage(out, plan, len(model.card.bands.names), model.card.bands.dtype)
            with image.open(painting_job(painter, source, survey, block_size), total=len(plan)):
                paint_missing(painter, source, image, range(len(plan)), executor, progress)
                _write(image, painter, source, survey, tags, progress)
    if preview:
        write_preview(out, out.with_suffix(".png"))
    if stac:
        write_stac_item(out, out.with_suffix(".png") if preview else None)
    return out


def _write(
    image: UnfinishedImage,
    painter: Painter,
    source: LabelRaster,
    survey: Survey,
    tags: dict[str, str],
    progress: Progress,
) -> None:
    """The COG or the Zarr store from the blocks, in one order whatever order they were painted in."""
    bands, settings = painter.model.card.bands, painter.settings
    if is_zarr_name(image.out):
        store = ZarrImageWriter(
            image.out, source.geobox, bands.names, dtype=bands.dtype, tags=tags, folder=image.folder
        )
        with store:
            store.copy(image.read, progress=lambda done, total: progress("writing", done, total))
        return
    height, width = source.geobox.shape
    labelled = sum(source.legend.count(survey.counts))
    writer = CogWriter(
        image.out,
        source.geobox,
        bands.names,
        dtype=bands.dtype,
        masked=labelled < height * width,
        tags={**tags, **kept_tags(source.raster)},
        compress=settings.compress,
        folder=image.folder,
    )
    blocks = sorted(image.finished_blocks())
    with writer:
        for done, index in enumerate(blocks, start=1):
            writer.write(image.plan[index], *image.read_block(index))
            progress("writing", done, len(blocks))


def check_places(out: Path, inputs: Sequence[object], *, preview: bool, stac: bool, overwrite: bool) -> None:
    """Refuse an image, or what shall stand beside it, that cannot be written or would replace something else.

    Args:
        out: the image.
        inputs: files among them must not be replaced.
        preview: a PNG stands beside it.
        stac: a STAC item stands beside it.
        overwrite: let existing outputs pass.

    Raises:
        OutputError: one line.
    """
    if out.suffix.lower() not in (".tif", ".tiff", ".zarr"):
        raise OutputError(f"{out}: the image is a GeoTIFF or a Zarr store; say a name that ends in .tif or .zarr")
    beside = [out.with_suffix(".png")] * preview + [item_path(out)] * stac
    if beside and is_zarr_name(out):
        raise OutputError(f"{out}: previews and STAC items are made of GeoTIFFs; say a name that ends in .tif")
    for path in (out, *beside):
        check_output(path, overwrite=overwrite)
        if path.is_dir() and not is_generated(path):
            raise OutputError(f"{path}: is a folder, and not an image of geosynth; choose another name")
        refuse_inputs(path, inputs)


def is_zarr_name(out: Path) -> bool:
    """Whether an image of this name becomes a Zarr store."""
    return out.suffix.lower() == ".zarr"


def _is_finished(out: Path, tags: dict[str, str], *, overwrite: bool) -> bool:
    """Whether the image is there, made from the same things.

    Raises:
        OutputError: if it is there, was made from others and shall not be overwritten.
    """
    if not out.exists():
        return False
    own = image_tags(out)
    differing = [name.removeprefix("GEOSYNTH_").lower() for name, value in tags.items() if own.get(name) != value]
    if differing and not overwrite:
        raise OutputError(
            f"{out}: exists already, made otherwise ({', '.join(differing)}); choose another name or say --overwrite"
        )
    return not differing


def resampled(raster: Raster, model: GeneratorModel, how: Resampling) -> Raster:
    """Labels on pixels of the size that a model was trained on; said if they were not.

    Raises:
        SettingsError: if the model does not say which size that is.
    """
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
    elif trained_on is not None and ground_sampling_distance(geobox) is None:
        _LOG.warning("%s: its pixels are not in metres; the model was trained on %g m", source, trained_on)
    elif metres := differing_pixel_size(geobox, trained_on):
        message = "%s: pixels of %g m; the model was trained on %g m and paints at that scale (--resample-labels)"
        _LOG.warning(message, source, metres, trained_on)


# --- What an image depends on.


def painting_job(painter: Painter, source: LabelRaster, survey: Survey, block_size: int) -> dict[str, Any]:
    """All that decides a block's bytes, by the names that users know."""
    left_out = {"compress", "max_memory", "precision", "style_length", "look"}
    return {
        **painter.settings.model_dump(mode="json", exclude=left_out),
        "block_size": block_size,
        "mosaic": painter.mode,
        "precision": painter.precision,
        "style_length": painter.style_length,
        "style": style_digest(painter.style),
        "model": painter.model.sha256,
        "labels": survey.digest,
        "legend": [list(entry.codes) if entry.also else entry.code for entry in source.legend.classes],
        "version": [__version__, torch.__version__],
    }


def provenance(painter: Painter, labels: str, legend: Legend, survey: Survey | None = None) -> dict[str, str]:
    """Tags of the image.

    Args:
        painter: its model and settings.
        labels: name of the label raster.
        legend: of the labels.
        survey: of the labels, where they were read before painting.
    """
    settings = painter.settings
    tags = {
        "SYNTHETIC": "yes",
        "IMAGEDESCRIPTION": "Synthetic image painted from land-cover labels by a generative model; not an observation.",
        "TIFFTAG_SOFTWARE": f"geosynth {__version__}",
        "GEOSYNTH_VERSION": __version__,
        "GEOSYNTH_MODEL": painter.model.path.name,
        "GEOSYNTH_MODEL_SHA256": painter.model.sha256,
        "GEOSYNTH_SEED": str(settings.seed),
        "GEOSYNTH_STYLE_LENGTH": str(painter.style_length),
        "GEOSYNTH_PRECISION": painter.precision,
        "GEOSYNTH_MOSAIC": painter.mode,
        "GEOSYNTH_LABELS": Path(labels).name,
        "GEOSYNTH_LEGEND": legend.name,
    }
    if painter.look_name is not None:
        tags["GEOSYNTH_LOOK"] = painter.look_name
    elif (digest := style_digest(painter.style)) is not None:
        tags["GEOSYNTH_STYLE_SHA256"] = digest
    if survey is not None:
        tags["GEOSYNTH_CLASS_PIXELS"] = json.dumps(dict(zip(legend.names, legend.count(survey.counts), strict=True)))
        tags["GEOSYNTH_LABELS_DIGEST"] = survey.digest
    return tags


# --- Which block size fits into a given memory.

_SIZES = (4096, 2048, 1024, 512, 256, 128)  # larger blocks gain nothing
# Measured with networks of 4 to 64 base channels, in float32 and bfloat16 (benchmarks/mosaic.py shows the peak).
_NETWORK_COPIES = 8  # of the largest map of features
_LABEL_BYTES = 10  # a pixel, codes, masks and what filling needs
_PIXEL_COPIES = 4  # painted, masked, on their way to the disk
_WRITING_BYTES = 64 << 20  # COG threads, beside GDAL's cache


def choose_block_size(painter: Painter) -> int:
    """The block size of the painter's settings, or the largest that its memory limit allows.

    Raises:
        SettingsError: if no block fits.
    """
    limit = painter.settings.max_memory
    if limit is None:
        return painter.settings.block_size
    present = psutil.Process().memory_info().rss
    for size in _SIZES:
        needed = present + needed_bytes(painter, size)
        if needed <= limit:
            return size
    raise SettingsError(
        f"max_memory of {limit / 1e9:.2g} GB: this model needs {needed / 1e9:.2g} GB at least, of which"
        f" {present / 1e9:.2g} GB are the libraries and the model itself"
    )


def needed_bytes(painter: Painter, block_size: int) -> int:
    """Bytes that painting and writing take at their peak, beside the libraries and the model."""
    network, bands = painter.network, painter.model.card.bands
    blend = painter.mode == "blend"
    cell = network.crop_size or (CELL if blend else min(CELL, block_size))
    maps = (
        stage.in_channels * 4 * ((cell + 2 * min(painter.margin, network.margins[stage.stride])) // stage.stride) ** 2
        for stage in network.stages
    )
    features = max(maps) * _NETWORK_COPIES if painter.device == "cpu" else 0
    blocks = block_size**2 * len(bands.names) * np.dtype(bands.dtype).itemsize * _PIXEL_COPIES
    if blend:
        blocks += block_size**2 * len(bands.names) * 4 + KEPT_BYTES
    labels = (block_size + 2 * painter.margin) ** 2 * _LABEL_BYTES
    return CACHE_BYTES + _WRITING_BYTES + features + blocks + labels

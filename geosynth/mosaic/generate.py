"""generate: labels in, a georeferenced synthetic image on exactly their grid out."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import psutil
import torch
import xarray as xr
from odc.geo.geobox import GeoBox
from torch import Tensor

from geosynth.checkpoint import GeneratorModel, load_generator
from geosynth.config import GenerateSettings
from geosynth.config.base import takes
from geosynth.errors import OutputError, SettingsError
from geosynth.files import check_output, refuse_inputs
from geosynth.grid import differing_pixel_size, ground_sampling_distance
from geosynth.legend import Legend
from geosynth.models.looks import Look
from geosynth.mosaic.blend import KEPT_BYTES, make_painter
from geosynth.mosaic.lazy import lazy_image
from geosynth.mosaic.painter import CELL, Painter, paint_plan, sliver
from geosynth.mosaic.pipeline import Executor, paint_blocks, paint_missing
from geosynth.mosaic.style import Files, Style, chosen_style, style_digest, style_files, style_length_pixels
from geosynth.parallel import open_client
from geosynth.progress import StageProgress, silent
from geosynth.raster.arrays import LabelArray
from geosynth.raster.cog import CogWriter, write_preview
from geosynth.raster.label_files import choose_legend, kept_tags, open_labels, raster_files
from geosynth.raster.labels import LabelRaster, Survey
from geosynth.raster.mark import MARK
from geosynth.raster.read import CACHE_BYTES, Raster, bounded_cache
from geosynth.raster.stac import check_can_be_item, item_path, write_stac_item
from geosynth.raster.unfinished_image import UnfinishedImage
from geosynth.raster.warp import resample_labels
from geosynth.raster.zarr_image import ZarrImageWriter, image_tags, is_generated
from geosynth.unfinished import UnfinishedWork
from geosynth.version import __version__

if TYPE_CHECKING:
    from distributed import Client

Labels = str | Path | Sequence[str | Path] | Raster | xr.DataArray
Model = str | Path | GeneratorModel | None

_LOG = logging.getLogger(__name__)


@overload
def generate(labels: Labels, out: None = None, model: Model = None, **options: Any) -> xr.DataArray: ...
@overload
def generate(
    labels: Labels,
    out: str | Path,
    model: Model = None,
    settings: GenerateSettings | None = None,
    **options: Any,
) -> Path: ...
@takes(GenerateSettings)
def generate(
    labels: Labels,
    out: str | Path | None = None,
    model: Model = None,
    settings: GenerateSettings | None = None,
    *,
    legend: str | Path | Legend | None = None,
    style: Style = None,
    style_labels: Files = None,
    overwrite: bool = False,
    client: Client | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    progress: StageProgress = silent,
    **changes: Any,
) -> Path | xr.DataArray:
    """Paint an image for labels, on exactly their grid.

    `generate(labels, out)` writes the image as a Cloud Optimized GeoTIFF, or as a Zarr store where `out` ends in .zarr.
    `generate(labels)` gives it as a lazy `xarray.DataArray` whose blocks are painted when they are computed; its pixels
    are those of the file.

    Args:
        labels: a raster of class codes: a file (GeoTIFF, COG, VRT, Zarr, folder, glob or list of tiles), or an array
            with coordinates y and x; `.rio.crs` and `.rio.nodata` are respected.
        out: the image, a name that ends in .tif or .zarr; appears when it is whole, with what stands beside it.
            Finished blocks are kept in a hidden folder beside it meanwhile: an interrupted call, repeated, goes on
            where it stopped, and gives the same bytes. None for a lazy array.
        model: a file made by `train`, or one already loaded (and used where it is); None for the embedded default.
        settings: seed, block size, ...; see `GenerateSettings`.
        legend: of the labels, if their codes are not the model's; classes are matched by name. "from-raster", for a
            file: its own class table.
        style: an image or several to take the look of the classes from, or a `Look`, instead of the settings' `look`;
            for a generator with a latent, (latent_size,) of the whole image instead of the seed's.
        style_labels: label rasters of the images that the look is taken from, one each, with the codes of `legend`:
            then each class has the look of its own pixels. Without them the image as a whole tells.
        overwrite: replace an existing output.
        client: a `distributed.Client`, whose workers paint.
        scheduler: the address of a Dask scheduler, whose workers paint.
        workers: number of processes to start on this machine, which paint.
        progress: called with ("checking", "painting", "writing" or "finishing", parts done, parts to do).
        **changes: single settings by name, as `seed=3`.

    Returns:
        the path of the image; or the lazy array (band, y, x), its bands by name, with the coordinate `valid` (y, x)
        that is False where there is no class (the image is 0 there).

    Raises:
        GeosynthError: one line. For a file before any work starts, with nothing left behind, but for OutputError and
            ClusterError, after which finished blocks are kept; for a lazy array, codes are checked when a block is
            computed.
    """
    settings = GenerateSettings.changed(settings, changes)
    if isinstance(out, GeneratorModel) or Path(out or "").suffix == ".safetensors":
        raise SettingsError("the second argument of generate is the image to write; say model=... for the model")
    if out is None:
        if settings.preview or settings.stac or overwrite or (client, scheduler, workers) != (None, None, None):
            raise SettingsError(
                "preview, stac, overwrite, client, scheduler and workers are of an image that is written: say its name"
            )
        return _lazy(labels, model, settings, legend, style, style_labels)
    out = Path(out)
    inputs = [labels, model, legend, *style_files(style, style_labels)]
    check_places(out, inputs, settings, overwrite=overwrite)
    raster = opened(labels)  # before a model is loaded
    if settings.stac:
        check_can_be_item(raster)
    with engine(model, settings, client, scheduler, workers) as (loaded, settings, executor):
        chosen = chosen_style(style, style_labels, loaded, settings, legend)
        return paint_image(
            raster,
            out,
            loaded,
            settings,
            legend=legend,
            style=chosen,
            overwrite=overwrite,
            executor=executor,
            progress=progress,
        )


def opened(labels: Labels) -> Raster:
    """Labels of any kind as a raster."""
    if isinstance(labels, xr.DataArray):
        return LabelArray.of(labels)
    if isinstance(labels, Raster):
        return labels
    return open_labels(as_files(labels))


def as_files(labels: object) -> str | Path | Sequence[str | Path]:
    """Labels that are files, a folder or a glob.

    Raises:
        SettingsError: if they are something else.
    """
    if isinstance(labels, str | Path) or (
        isinstance(labels, Sequence) and all(isinstance(one, str | Path) for one in labels)
    ):
        return labels
    raise SettingsError(f"labels: files, a raster or an xarray.DataArray are needed, not {type(labels).__name__}")


def _lazy(
    labels: Labels,
    model: Model,
    settings: GenerateSettings,
    legend: str | Path | Legend | None,
    style: Style,
    style_labels: Files,
) -> xr.DataArray:
    raster = opened(labels)
    model = loaded_model(model, settings.device)
    raster = resampled(raster, model, settings)
    reader = choose_legend(raster, legend, model.card.legend)
    chosen = chosen_style(style, style_labels, model, settings, legend)
    painter = painter_for(raster.geobox, model, settings, chosen)
    source = raster if isinstance(raster, LabelArray) else LabelArray.of_raster(raster, settings.block_size)
    attributes = provenance(painter, source.name, reader) | MARK
    return lazy_image(source, painter, reader, choose_block_size(painter), attributes, settings.unknown)


def loaded_model(model: Model, device: str = "cpu") -> GeneratorModel:
    """A model, as it is or from its file.

    Raises:
        CheckpointError: if the file is no model.
        SettingsError: if it is neither.
    """
    if not isinstance(model, str | Path | GeneratorModel | None):
        raise SettingsError(f"model: a file or a loaded model is needed, not {type(model).__name__}")
    return model if isinstance(model, GeneratorModel) else load_generator(model, device)


@contextlib.contextmanager
def engine(
    model: Model, settings: GenerateSettings, client: Client | None, scheduler: str | None, workers: int | None
) -> Iterator[tuple[GeneratorModel, GenerateSettings, Executor]]:
    """Model, settings and executor for `paint_image`, by what a user says of a cluster: see `open_client`.

    For a cluster the model is loaded here without the device, which the workers have, and the precision "auto" is
    decided by them, for all alike.
    """
    with open_client(client, scheduler, workers) as running:
        if running is None:
            yield loaded_model(model, settings.device), settings, paint_blocks
            return
        from geosynth.mosaic.portable import paint_on_cluster, settle_precision  # takes a second to import

        yield loaded_model(model), settle_precision(settings, running), partial(paint_on_cluster, running)


def painter_for(
    geobox: GeoBox, model: GeneratorModel, settings: GenerateSettings, style: Tensor | Look | None = None
) -> Painter:
    """The painter of a grid: see `make_painter`."""
    length = style_length_pixels(settings.style_length, geobox, model.card.settings)
    return make_painter(model, settings, length, style)


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

    With `skip_finished` an existing image stands if it was made from the same things; any other is an error, unless
    `overwrite` is said too. The executor paints blocks and yields their numbers in any order, see `paint_blocks`.
    """
    check_places(out, raster_files(raster), settings, overwrite=overwrite or skip_finished)
    if settings.stac:
        check_can_be_item(raster)
    raster = resampled(raster, model, settings)
    source = LabelRaster(raster, choose_legend(raster, legend, model.card.legend), unknown=settings.unknown)
    painter = painter_for(source.geobox, model, settings, style)
    block_size = choose_block_size(painter)
    bands = model.card.bands
    with bounded_cache():
        survey = source.survey(lambda done, total: progress("checking", done, total))
        warn_about_grid(source.geobox, model.card.gsd, source.name)
        tags = provenance(painter, source.name, source.legend, survey)
        plan = paint_plan(source.geobox, block_size)
        image = UnfinishedImage(out, plan, len(bands.names), bands.dtype)
        if skip_finished and is_made_from(out, tags, overwrite=overwrite):
            _write_beside(out, settings)
            return out
        with image.open(painting_job(painter, source, survey, block_size), total=len(plan), keep_finished=True):
            if image.is_finished:
                _write_beside(out, settings)
                return out
            check_places(out, (), settings, overwrite=overwrite or skip_finished)
            paint_missing(painter, source, image, range(len(plan)), executor, progress)
            _write(image, painter, source, survey, tags, progress)
            image.finish(*_write_beside(image.result, settings))
    return out


def _write_beside(image: Path, settings: GenerateSettings) -> list[str]:
    """Preview and STAC item of an image, where they are wanted; gives their names."""
    preview = image.with_suffix(".png") if settings.preview else None
    if preview is not None:
        write_preview(image, preview)
    if settings.stac:
        write_stac_item(image, preview)
    return [path.name for path in _beside(image, settings)]


def _beside(image: Path, settings: GenerateSettings) -> list[Path]:
    """What stands beside an image."""
    return [image.with_suffix(".png")] * settings.preview + [item_path(image)] * settings.stac


def _write(
    image: UnfinishedImage,
    painter: Painter,
    source: LabelRaster,
    survey: Survey,
    tags: dict[str, str],
    progress: StageProgress,
) -> None:
    """The COG or the Zarr store from the blocks, in one order whatever order they were painted in."""
    bands, settings = painter.model.card.bands, painter.settings
    if is_zarr_name(image.out):
        store = ZarrImageWriter(
            image.result, source.geobox, bands.names, dtype=bands.dtype, tags=tags, folder=image.folder
        )
        with store:
            store.copy(image.read, progress=lambda done, total: progress("writing", done, total))
        return
    height, width = source.geobox.shape
    labelled = sum(source.legend.count(survey.counts))
    writer = CogWriter(
        image.result,
        source.geobox,
        bands.names,
        dtype=bands.dtype,
        masked=labelled < height * width,
        tags={**tags, **kept_tags(source.raster)},
        compress=settings.compress,
        folder=image.folder,
        progress=lambda done, total: progress("finishing", done, total),
    )
    blocks = sorted(image.finished_blocks())
    with writer:
        for done, index in enumerate(blocks, start=1):
            writer.write(image.plan[index], *image.read_block(index))
            progress("writing", done, len(blocks))


def check_places(out: Path, inputs: Sequence[object], settings: GenerateSettings, *, overwrite: bool) -> None:
    """Refuse an image, or what shall stand beside it, that cannot be written or would replace something else.

    Args:
        out: the image.
        inputs: files among them must not be replaced.
        settings: say what stands beside the image.
        overwrite: let existing outputs pass.

    Raises:
        OutputError: one line.
    """
    if out.suffix.lower() not in (".tif", ".tiff", ".zarr"):
        raise OutputError(f"{out}: the image is a GeoTIFF or a Zarr store; say a name that ends in .tif or .zarr")
    beside = _beside(out, settings)
    if beside and is_zarr_name(out):
        raise OutputError(f"{out}: previews and STAC items are made of GeoTIFFs; say a name that ends in .tif")
    overwrite = UnfinishedWork(out).was_finishing() or overwrite
    for path in (out, *beside):
        check_output(path, overwrite=overwrite)
        if path.is_dir() and not is_generated(path):
            raise OutputError(f"{path}: is a folder, and not an image of geosynth; choose another name")
        refuse_inputs(path, inputs)


def is_zarr_name(out: Path) -> bool:
    """Whether an image of this name becomes a Zarr store."""
    return out.suffix.lower() == ".zarr"


def is_made_from(out: Path, tags: dict[str, str], *, overwrite: bool) -> bool:
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


def resampled(raster: Raster, model: GeneratorModel, settings: GenerateSettings) -> Raster:
    """Labels on pixels of the size that a model was trained on, if that is wanted; said if they were not.

    Raises:
        SettingsError: if the model does not say which size that is.
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


def warn_about_grid(geobox: GeoBox, trained_on: float | None, source: str) -> None:
    """Say where labels have no CRS, or other pixels (metres) than those a model was trained on."""
    if geobox.crs is None:
        _LOG.warning("%s: has no CRS; the image will have none either", source)
    elif trained_on is not None and ground_sampling_distance(geobox) is None:
        _LOG.warning("%s: its pixels are not in metres; the model was trained on %g m", source, trained_on)
    elif metres := differing_pixel_size(geobox, trained_on):
        message = (
            "%s: pixels of %g m; the model was trained on %g m and takes them for such (generate --resample-labels)"
        )
        _LOG.warning(message, source, metres, trained_on)


# --- What an image depends on.


def painting_job(painter: Painter, source: LabelRaster, survey: Survey, block_size: int) -> dict[str, Any]:
    """All that decides a block's bytes, by the names that users know."""
    # They decide no byte, or by what stands below, as the labels.
    left_out = {"compress", "max_memory", "look", "unknown", "resample", "preview", "stac"}
    return {
        **painter.settings.model_dump(exclude=left_out),
        "block_size": block_size,
        "mosaic": painter.mode,
        "precision": painter.precision,
        "style_length": painter.style_length,
        "style": style_digest(painter.style),
        "model": painter.model.sha256,
        "labels": survey.digest,
        "legend": [list(entry.codes) for entry in source.legend.classes],
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
    networks = painter.model.card.loss_networks
    if networks is not None:
        tags["GEOSYNTH_LOSS_NETWORKS"] = ",".join(sorted(networks))
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
_REGION_BYTES = 12  # a pixel, where a fifth of all are in regions
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
    cell += 0 if blend else 2 * sliver(cell)
    block_size += 2 * sliver(block_size)
    maps = (
        stage.in_channels * 4 * ((cell + 2 * min(painter.margin, network.margins[stage.stride])) // stage.stride) ** 2
        for stage in network.stages
    )
    features = max(maps) * _NETWORK_COPIES if painter.device == "cpu" else 0
    blocks = block_size**2 * len(bands.names) * np.dtype(bands.dtype).itemsize * _PIXEL_COPIES
    if blend:
        blocks += block_size**2 * len(bands.names) * 4 + KEPT_BYTES
    label_bytes = _LABEL_BYTES + (_REGION_BYTES if network.style_regions else 0)
    labels = (block_size + 2 * (painter.margin + network.region_side)) ** 2 * label_bytes
    return CACHE_BYTES + _WRITING_BYTES + features + blocks + labels

"""generate: labels in, a georeferenced synthetic image on exactly their grid out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from geosynth.checkpoint import GeneratorModel, load_generator
from geosynth.config import GenerateSettings
from geosynth.config.base import takes
from geosynth.errors import SettingsError
from geosynth.legend import Legend
from geosynth.mosaic.image import check_places, paint_image, painter_for, resampled, warn_about_grid
from geosynth.mosaic.pipeline import Executor, paint_blocks
from geosynth.mosaic.provenance import provenance
from geosynth.mosaic.style import Files, Style, chosen_style, style_files
from geosynth.parallel import open_client
from geosynth.progress import StageProgress, silent
from geosynth.raster.colours import colours_as_codes
from geosynth.raster.label_files import choose_legend, open_labels
from geosynth.raster.labels import LabelRaster
from geosynth.raster.mark import MARK
from geosynth.raster.read import Raster
from geosynth.raster.stac import check_can_be_item

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client

Labels: TypeAlias = "str | Path | Sequence[str | Path] | Raster | xr.DataArray"
Model = str | Path | GeneratorModel | None


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
        labels: a raster of class codes, or of the colours of classes: a file (GeoTIFF, COG, VRT, Zarr, folder, glob or
            list of tiles), or codes in an array with coordinates y and x; `.rio.crs` and `.rio.nodata` are respected.
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
    if isinstance(labels, Raster):
        return colours_as_codes(labels)
    if not isinstance(labels, str | Path | Sequence):
        import xarray as xr  # takes a second, with what comes of it

        from geosynth.raster.arrays import LabelArray

        if isinstance(labels, xr.DataArray):
            return LabelArray.of(labels)
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
    from geosynth.mosaic.lazy import lazy_image  # takes a second to import

    raster = opened(labels)
    model = loaded_model(model, settings.device)
    raster = resampled(raster, model, settings)
    read_by = LabelRaster(raster, choose_legend(raster, legend, model.card.legend))
    warn_about_grid(read_by, model)
    chosen = chosen_style(style, style_labels, model, settings, legend)
    painter = painter_for(raster.geobox, model, settings, chosen)
    return lazy_image(raster, painter, read_by.legend, provenance(painter, read_by) | MARK)


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

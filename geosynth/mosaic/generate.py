"""generate: from labels to a georeferenced synthetic image on exactly their grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from geosynth.checkpoint import GeneratorModel
from geosynth.config import GenerateSettings
from geosynth.config.base import takes
from geosynth.errors import SettingsError
from geosynth.legend import Legend
from geosynth.mosaic.batch import generate_many
from geosynth.mosaic.inputs import Labels, Model
from geosynth.mosaic.style import Files, Style
from geosynth.progress import StageProgress, silent

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client


@overload
def generate(
    labels: Labels,
    out: None = None,
    model: Model = None,
    settings: GenerateSettings | None = None,
    *,
    legend: str | Path | Legend | None = None,
    style: Style = None,
    style_labels: Files = None,
    style_bands: Sequence[str] | None = None,
    **changes: Any,
) -> xr.DataArray: ...
@overload
def generate(
    labels: Labels,
    out: str | Path,
    model: Model = None,
    settings: GenerateSettings | None = None,
    *,
    legend: str | Path | Legend | None = None,
    style: Style = None,
    style_labels: Files = None,
    style_bands: Sequence[str] | None = None,
    overwrite: bool = False,
    client: Client | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    progress: StageProgress = silent,
    **changes: Any,
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
    style_bands: Sequence[str] | None = None,
    overwrite: bool = False,
    client: Client | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    progress: StageProgress = silent,
    **changes: Any,
) -> Path | xr.DataArray:
    """Paint an image for labels, on exactly their grid.

    `generate(labels, out)` writes the image as a Cloud Optimized GeoTIFF, or as a Zarr store if `out` ends in .zarr.
    `generate(labels)` returns it as a lazy `xarray.DataArray`, whose blocks are painted when they are computed; its
    pixels are the same as the file's.

    Args:
        labels: a raster of class codes, or of classes' colours: a GeoTIFF, COG, VRT or Zarr store; a folder, glob or
            list of tiles; or codes in an array with coordinates y and x, whose `.rio.crs` and `.rio.nodata` count.
        out: the image, a name that ends in .tif or .zarr. It appears when it is complete, together with its preview and
            STAC item. Until then finished blocks are kept in a hidden folder beside it: after an interruption the same
            call continues, with the same bytes as the result. None for a lazy array.
        model: a file made by `train`, or a loaded model, which stays on its device; None for the embedded model.
        settings: seed, block size, ...; see `GenerateSettings`.
        legend: of the labels, if their codes are not the model's; classes are matched by name. "from-raster" takes the
            class table of the label file.
        style: one or several images to take the look of the classes from, or a `Look`, instead of the settings' `look`.
            For a generator with a latent: an image, or the latent itself, (latent_size,), used everywhere.
        style_labels: label rasters of these images, one each, with the codes of `legend`. With them each class gets
            the look of its own pixels; without them looks are guessed from the image as a whole.
        style_bands: names of the bands of these images, if they do not have them, or those to take; with numbers, as in
            "red=4", those of files without these names.
        overwrite: replace an existing output.
        client: a `distributed.Client` whose workers paint.
        scheduler: the address of a Dask scheduler whose workers paint.
        workers: number of processes to start on this machine to paint.
        progress: called with ("checking", "painting", "writing" or "finishing", parts done, parts to do).
        **changes: single settings by name, as `seed=3`.

    Returns:
        the path of the image; or the lazy array (band, y, x), with the names of the bands, and with the coordinate
        `valid` (y, x), which is False where there is no class (the image is 0 there).

    Raises:
        GeosynthError: one line. For a file it comes before any work starts and nothing is left behind, except with
            OutputError and ClusterError, after which finished blocks are kept. For a lazy array, codes are checked when
            a block is computed.
    """
    settings = GenerateSettings.changed(settings, changes)
    if isinstance(out, GeneratorModel) or (isinstance(out, str | Path) and Path(out).suffix == ".safetensors"):
        raise SettingsError("the second argument of generate is the image to write; pass the model as model=...")
    if out is None:
        written = (settings.compress, client, scheduler, workers) != (None, None, None, None)
        if settings.preview or settings.stac or overwrite or written:
            raise SettingsError(
                "compress, preview, stac, overwrite, client, scheduler and workers apply to an image that is written:"
                " give its name"
            )
        from geosynth.mosaic.lazy import lazy_image  # takes a second to import

        return lazy_image(labels, model, settings, legend, style, style_labels, style_bands)
    (image,) = generate_many(
        labels,
        out,
        model,
        settings,
        legend=legend,
        style=style,
        style_labels=style_labels,
        style_bands=style_bands,
        overwrite=overwrite,
        client=client,
        scheduler=scheduler,
        workers=workers,
        progress=progress,
    )
    return image

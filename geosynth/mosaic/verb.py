"""generate: the verb that users call, for label files and for label arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import xarray as xr
from torch import Tensor

from geosynth.checkpoint import GeneratorModel, load_generator
from geosynth.config import GenerateSettings
from geosynth.legend import Legend
from geosynth.mosaic.blend import make_painter
from geosynth.mosaic.engine import engine
from geosynth.mosaic.generate import generate_file
from geosynth.mosaic.lazy import lazy_image
from geosynth.mosaic.memory import choose_block_size
from geosynth.mosaic.provenance import provenance
from geosynth.mosaic.style import style_from_image, style_length_pixels
from geosynth.raster.label_array import LabelArray
from geosynth.raster.like import RasterLike
from geosynth.raster.resample import Resampling

if TYPE_CHECKING:  # importing it takes a while, and few need it
    from distributed import Client

Model = str | Path | GeneratorModel | None
Unknown = Literal["error", "nodata"]


@overload
def generate(
    labels: xr.DataArray,
    model: Model = None,
    settings: GenerateSettings | None = None,
    *,
    legend: str | Path | Legend | None = None,
    unknown: Unknown = "error",
    style: Tensor | str | Path | None = None,
    **changes: Any,
) -> xr.DataArray: ...
@overload
def generate(
    labels: str | Path | RasterLike,
    out: str | Path,
    model: Model = None,
    settings: GenerateSettings | None = None,
    *,
    legend: str | Path | Legend | None = None,
    unknown: Unknown = "error",
    style: Tensor | str | Path | None = None,
    resample: Resampling | None = None,
    preview: bool = False,
    stac: bool = False,
    overwrite: bool = False,
    client: Client | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    progress: Callable[[str, int, int], None] = ...,
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
        out: for a file: the image; appears when it is whole. An interrupted call, repeated, goes on where it stopped.
        model: a file made by `train`, or one already loaded; None for the embedded default.
        settings: seed, block size, ...
        legend: of the labels, if their codes are not the model's; classes are matched by name.
        unknown: codes that the legend does not know are an "error", or "nodata".
        style: (latent_size,) of the whole image instead of the seed's, or an image to take it from.
        resample: for a file: "nearest" or "mode" brings labels of another pixel size to the model's.
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
            ClusterError; for an array, codes are checked when a block is computed.
    """
    return (_array if isinstance(labels, xr.DataArray) else _file)(labels, *arguments, **keywords)


def _array(
    labels: xr.DataArray,
    model: Model = None,
    settings: GenerateSettings | None = None,
    *,
    legend: str | Path | Legend | None = None,
    unknown: Unknown = "error",
    style: Tensor | str | Path | None = None,
    **changes: Any,
) -> xr.DataArray:
    settings = _changed(settings, changes)
    if not isinstance(model, GeneratorModel):
        model = load_generator(model, settings.device)
    target = model.card.legend
    reader = target if legend is None else Legend.load(legend).translation_to(target)
    if isinstance(style, str | Path):
        style = style_from_image(style, model)
    source = LabelArray.of(labels, settings.block_size)
    style_length = style_length_pixels(settings.style_length, source.geobox, model.card.settings.start)
    painter = make_painter(model, settings, style_length, style)
    attributes = provenance(painter, source.reader.name, reader)
    return lazy_image(source, painter, reader, choose_block_size(painter), attributes, unknown)


def _file(
    labels: str | Path | RasterLike,
    out: str | Path,
    model: Model = None,
    settings: GenerateSettings | None = None,
    *,
    client: Client | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    **options: Any,
) -> Path:
    changes = {name: options.pop(name) for name in GenerateSettings.model_fields.keys() & options.keys()}
    settings = _changed(settings, changes)
    with engine(model, settings, client=client, scheduler=scheduler, workers=workers) as (ready, settled, executor):
        return generate_file(labels, out, ready, settled, executor=executor, **options)


def _changed(settings: GenerateSettings | None, changes: dict[str, Any]) -> GenerateSettings:
    settings = settings or GenerateSettings()
    return GenerateSettings.parse({**settings.model_dump(), **changes}) if changes else settings

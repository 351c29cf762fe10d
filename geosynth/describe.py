"""info: what a file that geosynth works with holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from geosynth.checkpoint import ModelCard, load_generator, model_path
from geosynth.download import is_model_address
from geosynth.errors import RasterError, SettingsError
from geosynth.files import sha256_of
from geosynth.grid import TilePlan, Window
from geosynth.model_item import model_item
from geosynth.progress import Progress, silent
from geosynth.raster.chunks import ChunkReader
from geosynth.raster.class_table import read_class_table
from geosynth.raster.read import SCAN_BLOCK, RasterFile
from geosynth.raster.remote import find_group, is_remote, open_group
from geosynth.raster.stores.open import open_sources
from geosynth.raster.stores.store import Store
from geosynth.raster.zarr import describe_arrays
from geosynth.raster.zarr_image import describe_zarr_image, is_zarr_image
from geosynth.segmentation.segmenter import SegmenterCard, load_segmenter


def info(
    file: str | Path | None = None,
    *,
    stac: bool = False,
    verify: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Describe a model, a segmenter, a store, data in place, a raster, or an image in Zarr, in plain values.

    Args:
        file: what to describe: a file name; the folder of a training; a URL of a model, a segmenter, a store, a raster
            or an image in Zarr; None, or its name, for the embedded default model.
        stac: describe a model or segmenter as a STAC item with the MLM extension instead, as catalogues hold it.
        verify: read all of it, compare checksums where it has them, and tell so under "verified".
        progress: told blocks read and blocks in all.

    Raises:
        RasterError, CheckpointError: if it is none of these, or damaged; or, with `stac`, no model or segmenter.
        SettingsError, DataError, GridError, LegendError: of a YAML file, if it describes no data that can be used.
    """
    values = _describe(file)
    if verify:
        values["verified"] = _verify(values["kind"], values["path"], progress)
    return model_item(values) if stac else values


def _verify(kind: str, path: str, progress: Progress) -> dict[str, Any]:
    """What was compared.

    Raises:
        RasterError, CheckpointError: names the first damage that is found.
        SettingsError: for data in place.
    """
    if kind in ("model", "segmenter"):
        has_checksum = (ModelCard if kind == "model" else SegmenterCard).verify(Path(path))
        return {"checksums": "of the tensors" if has_checksum else "none"}
    if kind == "store":
        found = Store(path).verify(progress)
        if damaged := found.pop("damaged"):
            more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
            raise RasterError(f"{damaged[0]}{more}; make the store anew")
        return found
    if kind == "data in place":
        raise SettingsError(f"{path}: data in place are not verified; name a file of them")
    read: Callable[[Window], object]
    if kind == "raster":
        raster = RasterFile(path)
        (height, width), has_checksums, read = raster.geobox.shape, False, raster.read
    else:
        array = open_group(path)["image"]
        reader, front = ChunkReader(array, path), [slice(0, length) for length in array.shape[:-2]]
        (height, width), has_checksums = array.shape[-2:], reader.has_checksums
        read = lambda window: reader.read(*front, *window.slices)  # noqa: E731
    blocks = TilePlan(height, width, SCAN_BLOCK)
    for done, block in enumerate(blocks, start=1):
        read(block)
        progress(done, len(blocks))
    return {"blocks": len(blocks), "checksums": "of each chunk" if has_checksums else "none"}


def _describe(file: str | Path | None) -> dict[str, Any]:
    if file is None or not is_remote(file) or is_model_address(file):
        path = model_path(file)
        if path.suffix == ".safetensors":
            return _segmenter(path) if SegmenterCard.is_in(path) else _model(path)
        if path.suffix.lower() in (".yaml", ".yml"):
            return {"kind": "data in place", "path": str(path), "grids": [one.describe() for one in open_sources(path)]}
        file = path
    group = find_group(file)
    if group is not None:
        if is_zarr_image(file) and "valid" in group:
            return describe_zarr_image(file)
        arrays = {} if "geosynth" in group.attrs else describe_arrays(file)
        return {"kind": "zarr", "path": str(file), "arrays": arrays} if arrays else Store(file).describe()
    if not is_remote(file) and Path(file).is_dir():
        raise RasterError(f"{file}: a folder, but not a geosynth store")
    raster = RasterFile(file)
    # A colour table in a GeoTIFF has 256 entries; those that nobody set are black.
    classes = [
        {"code": code, "name": name, "colour": colour}
        for code, (name, colour) in read_class_table(raster).items()
        if name or colour != "#000000"
    ]
    return {**raster.describe(), **({"classes": classes} if classes else {})}


def _model(path: Path) -> dict[str, Any]:
    model = load_generator(path)
    return {
        "kind": "model",
        **_file(path),
        "parameters": sum(value.numel() for value in model.generator.parameters()),
        "halo": model.card.settings.halo,
        **({"labels beyond the halo": side} if (side := model.card.settings.region_side) else {}),
        "stride": model.card.settings.stride,
        **({"looks": list(model.looks), "default look": next(iter(model.looks), None)} if model.looks else {}),
        **_card(model.card),
    }


def _segmenter(path: Path) -> dict[str, Any]:
    segmenter = load_segmenter(path)
    parameters = sum(value.numel() for value in segmenter.network.parameters())
    return {"kind": "segmenter", **_file(path), "parameters": parameters, **_card(segmenter.card)}


def _file(path: Path) -> dict[str, Any]:
    return {"path": str(path), "bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _card(card: ModelCard | SegmenterCard) -> dict[str, Any]:
    return {
        "gsd": card.gsd,
        "bands": card.bands.model_dump(mode="json"),
        "legend": card.legend.model_dump(mode="json"),
        "settings": card.settings.model_dump(mode="json"),
        "provenance": card.provenance,
    }

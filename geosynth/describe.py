"""info: describes any file that geosynth works with.

The kind of file is determined here, by name and content. Modules for models and for Zarr take seconds to import, so
they are imported only for their kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geosynth.download import is_model_address, model_path
from geosynth.errors import RasterError, SettingsError, first_of
from geosynth.grid import Window
from geosynth.inputs import band_files, check_input, is_remote, read_values, sha256_of
from geosynth.model_item import model_item
from geosynth.progress import Progress, silent
from geosynth.raster.raster_file import RasterFile
from geosynth.raster.read import SCAN_BLOCK
from geosynth.raster.zarr_group import find_group, is_image

if TYPE_CHECKING:
    from torch import nn

    from geosynth.header import Card

Verify = Callable[[Progress], dict[str, Any]]
"""Reads all of a file and returns what was compared; raises an error that names the first damage."""
Described = tuple[dict[str, Any], Verify]

_REPORTS = {
    "STAC item": {"stac_version", "assets"},
    "report of evaluate": {"software", "headline"},
    "report of segment": {"miou", "confusion"},
    "report of study": {"sweep", "cells"},
}
"""Kinds of geosynth's JSON files, and names that are in each."""

_OF_TILES = {"source", "fold", "stride"}
"""Names in the description of each set of exported tiles."""

_IN_FOLDERS = ("report.json", "results.json", "export.json")
"""The JSON files by which folders of `evaluate`, of a sweep and of exported tiles are described."""


def info(
    file: str | Path | None = None,
    *,
    stac: bool = False,
    verify: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Describe a model, a segmenter, a store, data in place, a raster, an image in Zarr, or a report, as plain values.

    Args:
        file: what to describe: a file name; the folder of a training, a report, a sweep or exported tiles; a URL of a
            model, a segmenter, a store, a raster or an image in Zarr; None, or "chesapeake-small", for the embedded
            model. Of reports, STAC items and the record of exported tiles (JSON) the content is returned.
        stac: instead describe a model or segmenter as a STAC item with the MLM extension, for catalogues.
        verify: read everything, verify checksums if there are any, and report this under "verified".
        progress: called with the number of blocks read and of all blocks.

    Raises:
        RasterError, CheckpointError: if it is none of these, or is damaged; or, with `stac`, not a model or segmenter.
        SettingsError, DataError, GridError, LegendError: if a YAML file does not describe data that can be used.
    """
    values, verify_all = _describe(file)
    if verify:
        values["verified"] = verify_all(progress)
    return model_item(values) if stac else values


def _describe(file: str | Path | None) -> Described:
    if file is not None:
        check_input(file, "what to describe")
    if file is not None and band_files(file):
        return _raster(file)
    if file is None or not is_remote(file) or is_model_address(file):
        path = model_path(file)
        if path.suffix == ".safetensors":
            return _network(path)
        if path.suffix.lower() in (".yaml", ".yml"):
            return _in_place(path)
        records = [path / name for name in _IN_FOLDERS if (path / name).is_file()] if path.is_dir() else [path]
        for record in records:
            if record.suffix.lower() == ".json" and (report := _report(record)) is not None:
                return report
        file = path
    if (group := find_group(file)) is not None:
        return _zarr(file, group)
    if not is_remote(file) and Path(file).is_dir():
        inside = first_of(sorted(child.name for child in Path(file).iterdir() if not child.name.startswith(".")), 5)
        raise RasterError(
            f"{file}: a folder, but not a geosynth store; name one of what it holds ({inside or 'nothing'}), or make a"
            " store with `geosynth ingest`"
        )
    return _raster(file)


def _network(path: Path) -> Described:
    from geosynth.checkpoint import ModelCard, load_generator

    if not ModelCard.is_in(path):
        from geosynth.segmentation.segmenter import SegmenterCard, load_segmenter

        if SegmenterCard.is_in(path):
            segmenter = load_segmenter(path)
            scores = segmenter.card.scores
            tested = {} if scores is None else {"scores": scores.model_dump(mode="json")}
            return _of_card(path, segmenter.network, segmenter.card, tested)
    model = load_generator(path)
    settings, looks = model.card.settings, list(model.looks)
    own = {
        "halo": settings.halo,
        **({"labels beyond the halo": side} if (side := settings.look_side) else {}),
        "stride": settings.stride,
        "mosaic": settings.mosaic,
        **({"looks": looks, "default look": looks[0]} if looks else {}),
    }
    return _of_card(path, model.generator, model.card, own)


def _of_card(path: Path, network: nn.Module, card: Card, own: dict[str, Any]) -> Described:
    def verify(progress: Progress) -> dict[str, Any]:
        return {"checksums": "of the tensors" if card.verify(path) else "none"}

    return {
        "kind": card.kind,
        "path": str(path),
        "bytes": path.stat().st_size,
        "sha256": sha256_of(path),
        "parameters": sum(value.numel() for value in network.parameters()),
        **own,
        "gsd": card.gsd,
        "bands": card.bands.model_dump(mode="json"),
        "legend": card.legend.model_dump(mode="json"),
        "settings": card.settings.model_dump(mode="json"),
        "provenance": card.provenance,
    }, verify


def _in_place(path: Path) -> Described:
    from geosynth.raster.stores.open import open_sources

    def verify(progress: Progress) -> dict[str, Any]:
        raise SettingsError(f"{path}: data in place cannot be verified; name one of its files")

    return {"kind": "data in place", "path": str(path), "grids": [one.describe() for one in open_sources(path)]}, verify


def _report(path: Path) -> Described | None:
    """A report, a STAC item or the record of exported tiles; None for other JSON, as GeoJSON."""
    values = read_values(path)
    kind = next((kind for kind, names in _REPORTS.items() if isinstance(values, dict) and names <= values.keys()), None)
    if isinstance(values, list) and values and isinstance(values[0], dict) and values[0].keys() >= _OF_TILES:
        kind, values = "folder of tiles", {"tiles": len(list(path.parent.glob("image/*.tif"))), "sets": values}

    def verify(progress: Progress) -> dict[str, Any]:
        raise SettingsError(f"{path}: a {kind} has no checksums to verify")

    return None if kind is None else ({"kind": kind, "path": str(path), **values}, verify)


def _zarr(file: str | Path, group: Any) -> Described:
    from geosynth.raster.chunks import ChunkReader, verify_chunks
    from geosynth.raster.stores.store import is_store, open_stores

    def undamaged(found: dict[str, Any], remedy: str) -> dict[str, Any]:
        if damaged := found.pop("damaged"):
            more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
            raise RasterError(f"{damaged[0]}{more}{remedy}")
        return found

    def verify_arrays(names: Sequence[str], progress: Progress) -> dict[str, Any]:
        readers = {name: ChunkReader(group[name], str(file)) for name in names}
        blocks = [(name, block) for name in names for block in Window(0, 0, *group[name].shape[-2:]).pieces(SCAN_BLOCK)]
        return undamaged(verify_chunks(readers, blocks, progress), "")

    if is_image(group) and "valid" in group:
        from geosynth.raster.zarr import describe_image

        return describe_image(file), partial(verify_arrays, ["image"])
    if not is_store(file):
        from geosynth.raster.zarr import describe_arrays

        if arrays := describe_arrays(file):
            return {"kind": "zarr", "path": str(file), "arrays": arrays}, partial(verify_arrays, list(arrays))
    stores = open_stores(file)

    def verify_stores(progress: Progress) -> dict[str, Any]:
        found = [undamaged(store.verify(progress), "; make the store again") for store in stores]
        return found[0] if len(found) == 1 else {"stores": found}

    if len(stores) == 1:
        return stores[0].describe(), verify_stores
    return {"kind": "stores", "path": str(file), "stores": [store.describe() for store in stores]}, verify_stores


def _raster(file: str | Path) -> Described:
    raster = RasterFile(file)

    def verify(progress: Progress) -> dict[str, Any]:
        blocks = raster.window.pieces(SCAN_BLOCK)
        for done, block in enumerate(blocks, start=1):
            raster.read(block)
            progress(done, len(blocks))
        return {"blocks": len(blocks), "checksums": "none"}

    # A colour table in a GeoTIFF has 256 entries; unused ones are black.
    classes = [
        {"code": code, "name": name, "colour": colour}
        for code, (name, colour) in raster.class_table.items()
        if name or colour != "#000000"
    ]
    return {**raster.describe(), **({"classes": classes} if classes else {})}, verify

"""Zarr v3 stores of aligned imagery and labels: one sparse pixel grid, many scenes on it.

Layout (readable by xarray and rioxarray): arrays `image` (band, y, x) and `labels` (y, x), and one (y, x) for each
further map; see `layout`. What only geosynth needs is in the group's attribute "geosynth". Places without a scene are
not stored; their labels read as nodata. Scenes in several CRSs are in several stores, in one group.
"""

from __future__ import annotations

import hashlib
import json
import math
import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from geosynth.config.bands import Quantity
from geosynth.errors import OutputError, RasterError
from geosynth.grid import SpatialSplit, Window
from geosynth.grid.crs import crs_wkt
from geosynth.inputs import check_input, is_remote
from geosynth.legend import ClassIndices, Legend
from geosynth.locks import is_unfinished
from geosynth.progress import Progress, silent
from geosynth.raster.chunks import ChunkReader, verify_chunks
from geosynth.raster.mark import describe_mark, mark_of
from geosynth.raster.quantities import quantity_attributes
from geosynth.raster.read import Array
from geosynth.raster.stores.layout import CHUNK_SIZE, SHARD_SIZE, create_arrays, shard_edge
from geosynth.raster.stores.source import FOLDS_AND_ALL, PatchSource, Scene
from geosynth.raster.zarr_group import is_of_scenes, is_zarr, missing_package

_VERSION = 2
_DIGEST = "geosynth_sha256"


class Store(PatchSource):
    """A store, opened for reading (or, by `create`, to be filled).

    Attributes:
        path .. chunk_size: see `PatchSource`; a path that is a URL is read through fsspec.
        nodata: code of labels without a class.
    """

    def __init__(self, path: str | Path, *, mode: str = "r", unfinished: bool = False) -> None:
        """Open a store.

        Args:
            path: of the group.
            mode: "r", or "r+" to fill it.
            unfinished: also open one whose split was not completely written.

        Raises:
            RasterError: if it is not a store, is a group of several, has another version, or may have another split
                than the stores that were split together with it.
            SettingsError: if `path` is not a name.
        """
        check_input(path, "a store")
        self.path = str(path)
        try:
            if not unfinished and not is_remote(path) and is_unfinished(Path(path)):
                raise RasterError(f"{path}: its split is being written, or was interrupted; run `geosynth split` again")
            self._group: Any = zarr.open_group(self.path, mode=mode, zarr_format=3)
            if "geosynth_stores" in self._group.attrs:
                inner = ", ".join(f"{self.path}/{name}" for name in self._group.attrs["geosynth_stores"])
                raise RasterError(f"{self.path}: holds several stores; choose one: {inner}")
            values: dict[str, Any] = dict(self._group.attrs["geosynth"])
            self.image: Any = self._group["image"]
            self.labels: Any = self._group["labels"]
        except RasterError:
            raise
        except ImportError as error:
            raise missing_package(self.path, error) from error
        except Exception as error:  # of zarr, json and, through fsspec, network libraries
            absent = not is_remote(path) and not Path(path).exists()
            what = "no such folder" if absent else "not a geosynth store"
            raise RasterError(f"{self.path}: {what}; make one with `geosynth ingest`") from error
        if values.get("version") != _VERSION:
            raise RasterError(f"{self.path}: store version {values.get('version')}; this geosynth reads {_VERSION}")
        self.legend = Legend.from_values(values.get("legend"), f"{self.path}: legend")
        try:
            self._take(values)
        except Exception as error:  # of pyproj, GEOS, zarr, and any that a JSON value may cause
            reason = " ".join(str(error).split())[:200]
            raise RasterError(f"{self.path}: its record of grid, scenes and split is damaged: {reason}") from error

    def _take(self, values: Mapping[str, Any]) -> None:
        """Set the attributes from the store's record; fails if that is invalid."""
        crs = CRS(str(values["crs"])) if values["crs"] else None
        self.geobox = GeoBox(self.labels.shape, Affine(*values["transform"]), crs)
        if not math.isfinite(self.geobox.affine.determinant) or not self.geobox.affine.determinant:
            raise ValueError(f"a grid of {values['transform']}")
        self.nodata: int = operator.index(values["nodata"])
        self.band_names = tuple(map(str, values["band_names"]))
        if len(self.band_names) != self.image.shape[0] or self.image.shape[1:] != self.labels.shape:
            raise ValueError(f"{len(self.band_names)} bands for an image of {self.image.shape}")
        self.quantities = tuple(Quantity.parse(told) for told in values.get("quantities", []))
        if len(self.quantities) not in (0, len(self.band_names)):
            raise ValueError(f"{len(self.quantities)} quantities for {len(self.band_names)} bands")
        self.dtype = np.dtype(self.image.dtype)
        self.chunk_size = int(self.image.chunks[-1])
        self.scenes = tuple(Scene.from_values(scene) for scene in values["scenes"])
        for scene in self.scenes:
            if not self.window.contains(scene.window):
                raise ValueError(f"scene {scene.name} at {scene.window}")
        self.split = SpatialSplit.from_values(values["split"])
        self.synthetic = dict(values.get("synthetic", {}))
        pixels = {fold: tuple(map(operator.index, counts)) for fold, counts in values["fold_pixels"].items()}
        if any(len(counts) not in (0, self.legend.num_classes) for counts in pixels.values()):
            raise ValueError("pixels of other classes")
        self._keep_counts(pixels)
        extras = {name: self._group[name] for name in values["extras"]}
        self.extras = {name: (np.dtype(array.dtype), array.fill_value.item()) for name, array in extras.items()}
        arrays = {"image": self.image, "labels": self.labels, **extras}
        self._readers = {name: ChunkReader(array, self.path) for name, array in arrays.items()}

    @classmethod
    def create(
        cls,
        path: str | Path,
        source: PatchSource,
        *,
        chunk_size: int = CHUNK_SIZE,
        shard_size: int = SHARD_SIZE,
    ) -> Store:
        """Create an empty store for a copy of a source, in which every label is the legend's `nodata_code`.

        Args:
            path: of the group; anything there is removed.
            source: everything but pixels, chunks and counts of the folds is taken over from it.
            chunk_size: side of a chunk, the unit of reading, in pixels.
            shard_size: side of a shard, the unit of writing, a multiple of `chunk_size`; reduced for many bands.
        """
        group = zarr.open_group(str(path), mode="w", zarr_format=3)
        mark, quantities = mark_of(source.synthetic), source.quantities
        values = {
            "version": _VERSION,
            "crs": crs_wkt(source.geobox.crs),
            "transform": list(source.geobox.affine[:6]),
            "legend": source.legend.model_dump(mode="json"),
            "nodata": source.legend.nodata_code,
            "band_names": list(source.band_names),
            **({"quantities": [quantity.to_values() for quantity in quantities]} if quantities else {}),
            "extras": list(source.extras),
            "scenes": [scene.to_values() for scene in source.scenes],
            "split": source.split.to_values(),
            "fold_pixels": {},
            **({"synthetic": dict(source.synthetic)} if source.synthetic else {}),
        }
        group.attrs.update({**mark, **_record(values)})
        create_arrays(group, source, chunk_size, shard_edge(source, chunk_size, shard_size))
        group["image"].attrs.update(quantity_attributes(quantities) | mark)
        return cls(path, mode="r+")

    @property
    def shard_shape(self) -> tuple[int, int]:
        """Height and width of a shard, the unit of writing, in pixels."""
        height, width = self.image.shards[-2:]
        return int(height), int(width)

    def describe(self) -> dict[str, Any]:
        """Description of the store, as plain values; class shares are relative to the labelled pixels of a fold."""
        values = super().describe()
        for fold, told in values["folds"].items():
            pixels = np.array(self.class_pixels(fold), dtype=float)
            shares = dict(zip(self.legend.names, (pixels / pixels.sum()).tolist(), strict=True)) if pixels.any() else {}
            told |= {"pixels": int(pixels.sum()), "class_shares": shares}
        folds = values.pop("folds")
        return {
            "kind": "store",
            **values,
            "extras": list(self.extras),
            "nodata": self.nodata,
            "folds": folds,
            **({"synthetic": self.synthetic} if self.synthetic else {}),
            **describe_mark(self.image.attrs),
        }

    def read(self, window: Window) -> tuple[Array, ClassIndices]:
        """See `PatchSource`.

        Raises:
            RasterError: if a chunk cannot be read.
            LegendError: if labels have codes that the legend does not list.
        """
        return self.read_image(window), self.read_labels(window)

    def read_image(self, window: Window) -> Array:
        """See `PatchSource`."""
        return self._readers["image"].read_window(window)

    def read_labels(self, window: Window) -> ClassIndices:
        """See `PatchSource`."""
        codes = self._readers["labels"].read_window(window)
        indices = self.legend.encode(codes)
        strange = (indices == self.legend.num_classes) & (codes != self.nodata)
        if strange.any():  # the labels were edited
            found, pixels = np.unique(codes[strange], return_counts=True)
            counts = dict(zip(found.tolist(), pixels.tolist(), strict=True))
            self.legend.check(counts, f"{self.path}: labels", remedy=f"write its codes, or nodata ({self.nodata})")
        return indices

    def read_extra(self, name: str, window: Window) -> Array:
        """See `PatchSource`."""
        self.extra_type(name)
        return self._readers[name].read_window(window)

    def finish(self, scenes: Sequence[Scene], split: SpatialSplit, class_pixels: Mapping[str, Sequence[int]]) -> None:
        """When everything is written, replace the record of scenes, the split and the counts of its folds.

        Args:
            scenes: the scenes.
            split: on the store's grid.
            class_pixels: for each fold and for "all", the result of `class_pixels`.
        """
        for leftover in Path(self.path).glob("zarr*.partial"):  # left by a kill during writing
            leftover.unlink()
        group = zarr.open_group(self.path, mode="r+", zarr_format=3)
        values = {
            **group.attrs["geosynth"],
            "scenes": [scene.to_values() for scene in scenes],
            "split": split.to_values(),
            "fold_pixels": {fold: list(pixels) for fold, pixels in class_pixels.items()},
            "files": {name: self._count_files(name) for name in self._readers},
        }
        group.attrs.update(_record(values))  # writes one file, once
        self.scenes, self.split = tuple(scenes), split
        self._keep_counts(class_pixels)

    def _count_files(self, name: str) -> int:
        """Number of shard files of an array in a store on a disk; empty shards are not stored."""
        return sum(file.is_file() for file in (Path(self.path) / name / "c").rglob("*"))

    def verify(self, progress: Progress = silent) -> dict[str, Any]:
        """Read all chunks, and verify checksums if the store has them.

        Args:
            progress: called with the number of blocks read and of all blocks.

        Returns:
            what was compared, and `damaged`, one line for each damage that was found.
        """
        attributes = dict(zarr.open_group(self.path, mode="r", zarr_format=3).attrs)
        values, damaged = attributes["geosynth"], []
        if attributes.get(_DIGEST, wanted := _record(values)[_DIGEST]) != wanted:
            damaged.append(f"{self.path}: its record of grid, legend, scenes and split is not what was written")
        if not is_remote(self.path):
            for name, count in values.get("files", {}).items():
                if (found := self._count_files(name)) != count:
                    damaged.append(f"{self.path}/{name}: has {found} files, but {count} were written")
        windows = [(name, block) for block in self.shards() for name in self._readers]
        told = verify_chunks(self._readers, windows, progress)
        return {**told, "damaged": damaged + told["damaged"]}

    def _keep_counts(self, class_pixels: Mapping[str, Sequence[int]]) -> None:
        """Take over the counts of a finished store, which names only folds that have pixels."""
        none = (0,) * self.legend.num_classes
        known = {fold: tuple(class_pixels.get(fold, none)) for fold in FOLDS_AND_ALL}
        self._class_pixels = known if class_pixels else None

    def shards(self) -> list[Window]:
        """Windows of the shards that contain a part of a scene, row by row, cropped to the grid."""
        return self.blocks(max(self.shard_shape))

    def write(
        self,
        window: Window,
        image: Array,
        codes: Array,
        extras: Mapping[str, Array] | None = None,
    ) -> None:
        """Fill one window. Whole `shards` are written fastest, and several writers may do so at a time."""
        for name, values in (extras or {}).items():
            self._group[name][window.slices] = values
        self.image[(slice(None), *window.slices)] = image
        self.labels[window.slices] = codes


def _record(values: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes with the store's record, which only geosynth needs, and its SHA-256."""
    return {"geosynth": values, _DIGEST: hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()}


def create_group(path: str | Path, names: Sequence[str]) -> None:
    """Create a group for several stores, one per CRS, which are then created in it; anything there is removed."""
    zarr.open_group(str(path), mode="w", zarr_format=3).attrs["geosynth_stores"] = list(names)


def open_stores(path: str | Path, *, unfinished: bool = False) -> list[Store]:
    """The store at `path`, or all stores in this folder, where an ingest of several CRSs or a user put them.

    Args:
        path: of the store, or of the folder.
        unfinished: see `Store`.

    Raises:
        RasterError: if there is none.
    """
    names = _attributes(path).get("geosynth_stores", [])
    if Path(path).is_dir() and not is_zarr(path):
        names = sorted(child.name for child in Path(path).iterdir() if is_zarr(child))
    paths = [f"{path}/{name}" for name in names] or [str(path)]
    return [Store(one, unfinished=unfinished) for one in paths]


def is_store(path: str | Path) -> bool:
    """Whether the folder or URL `path` is a store made by geosynth, or a group of several."""
    return is_of_scenes(_attributes(path))


def _attributes(path: str | Path) -> Mapping[str, Any]:
    """Attributes of a Zarr group; empty if there is no group."""
    try:
        attributes: Mapping[str, Any] = zarr.open_group(str(path), mode="r", zarr_format=3).attrs
    except Exception:  # each of fsspec's protocols has its own
        return {}
    return attributes


def check_store_output(path: Path) -> None:
    """Refuse to replace anything that is not a store.

    Raises:
        OutputError: one line.
    """
    if (path.exists() or path.is_symlink()) and not is_store(path):
        raise OutputError(f"{path}: is not a geosynth store and will not be overwritten; choose another name")

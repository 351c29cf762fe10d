"""Zarr v3 stores of aligned imagery and labels: one sparse pixel grid, many scenes on it.

Layout (readable by xarray and rioxarray): arrays `image` (band, y, x) and `labels` (y, x) with coordinates `x`, `y`
(pixel centres) and the CF grid mapping `spatial_ref`. What only geosynth needs stands in the group's attribute
"geosynth". Places without a scene are not stored; they read as nodata labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import rasterio
import zarr
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from geosynth.errors import RasterError
from geosynth.grid import Window, ground_sampling_distance
from geosynth.grid.split import FOLDS
from geosynth.legend import Legend

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Scene:
    """One source raster pair in a store.

    Attributes:
        name: of the source image file.
        window: on the store's grid.
        fold: "train", "val" or "test".
        class_pixels: pixels of each class that have imagery too, in the legend's order.
        image_sha256, labels_sha256: of the source files.
    """

    name: str
    window: Window
    fold: str
    class_pixels: tuple[int, ...]
    image_sha256: str
    labels_sha256: str

    @property
    def is_complete(self) -> bool:
        """Whether each pixel has imagery and a class."""
        return sum(self.class_pixels) == self.window.height * self.window.width

    def to_values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_values`."""
        return cls(**{**values, "window": Window(**values["window"]), "class_pixels": tuple(values["class_pixels"])})


class Store:
    """A store opened for reading (or, by `create`, for filling).

    Attributes:
        path: of the Zarr group.
        geobox: the whole grid.
        legend: of the labels.
        band_names: of the imagery.
        scenes: the source rasters.
    """

    def __init__(self, path: str | Path, *, mode: str = "r") -> None:
        self.path = str(path)
        try:
            self._group: Any = zarr.open_group(self.path, mode=mode, zarr_format=3)
            values: dict[str, Any] = dict(self._group.attrs["geosynth"])
            self.image: Any = self._group["image"]
            self.labels: Any = self._group["labels"]
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise RasterError(f"{self.path}: not a geosynth store; make one with `geosynth ingest`") from error
        if values.get("version") != _VERSION:
            raise RasterError(f"{self.path}: store version {values.get('version')}; this geosynth reads {_VERSION}")
        crs = CRS(values["crs"]) if values["crs"] else None
        self.geobox = GeoBox(self.labels.shape, Affine(*values["transform"]), crs)
        self.legend = Legend.from_values(values["legend"], self.path)
        self.nodata: int = values["nodata"]
        self.band_names: tuple[str, ...] = tuple(values["band_names"])
        self.scenes: tuple[Scene, ...] = tuple(Scene.from_values(scene) for scene in values["scenes"])

    @classmethod
    def create(
        cls,
        path: str | Path,
        geobox: GeoBox,
        *,
        legend: Legend,
        nodata: int,
        band_names: Sequence[str],
        dtype: np.dtype[Any],
        scenes: Sequence[Scene],
        chunk_size: int,
    ) -> Store:
        """Lay out an empty store; every label is `nodata`."""
        height, width = geobox.shape
        group = zarr.open_group(str(path), mode="w", zarr_format=3)
        group.attrs["geosynth"] = {
            "version": _VERSION,
            "crs": geobox.crs.to_wkt() if geobox.crs else None,
            "transform": list(geobox.affine[:6]),
            "legend": legend.model_dump(mode="json"),
            "nodata": nodata,
            "band_names": list(band_names),
            "scenes": [scene.to_values() for scene in scenes],
        }
        chunks = (min(chunk_size, height), min(chunk_size, width))
        common = {"grid_mapping": "spatial_ref"} if geobox.crs else {}
        group.create_array(
            "image",
            shape=(len(band_names), height, width),
            chunks=(len(band_names), *chunks),
            dtype=dtype,
            fill_value=0,
            dimension_names=("band", "y", "x"),
            attributes={**common, "long_name": list(band_names)},
        )
        group.create_array(
            "labels",
            shape=(height, width),
            chunks=chunks,
            dtype=_label_dtype(legend, nodata),
            fill_value=nodata,
            dimension_names=("y", "x"),
            attributes={**common, "nodata": nodata},
        )
        _write_coordinates(group, geobox)
        return cls(path, mode="r+")

    @property
    def gsd(self) -> float | None:
        """Ground sampling distance, metres a pixel; None without a projected CRS."""
        return ground_sampling_distance(self.geobox)

    def describe(self) -> dict[str, Any]:
        """What the store holds, as plain values; class shares are of the labelled pixels of a fold's scenes."""
        height, width = self.geobox.shape
        folds = {}
        for fold in FOLDS:
            scenes = self.scenes_in(fold)
            pixels = np.array([scene.class_pixels for scene in scenes], dtype=float).sum(axis=0)
            shares = dict(zip(self.legend.names, (pixels / pixels.sum()).tolist(), strict=True)) if pixels.any() else {}
            folds[fold] = {"scenes": len(scenes), "pixels": int(pixels.sum()), "class_shares": shares}
        return {
            "kind": "store",
            "path": self.path,
            "crs": rasterio.crs.CRS.from_wkt(str(self.geobox.crs)).to_string() if self.geobox.crs else None,
            "height": height,
            "width": width,
            "transform": list(self.geobox.affine[:6]),
            "gsd": self.gsd,
            "bands": list(self.band_names),
            "dtype": str(self.image.dtype),
            "legend": self.legend.model_dump(mode="json"),
            "nodata": self.nodata,
            "folds": folds,
        }

    def scenes_in(self, fold: str) -> tuple[Scene, ...]:
        """The scenes of one fold."""
        return tuple(scene for scene in self.scenes if scene.fold == fold)

    def read_image(self, window: Window) -> npt.NDArray[Any]:
        """(bands, height, width); the window lies inside the grid."""
        return np.asarray(self.image[(slice(None), *window.slices)])

    def read_labels(self, window: Window) -> npt.NDArray[np.uint8]:
        """(height, width) class indices; `num_classes` where there is no data."""
        return self.legend.encode(np.asarray(self.labels[window.slices]))

    def set_scenes(self, scenes: Sequence[Scene]) -> None:
        """Replace the record of source rasters, when counting has ended."""
        self._group.attrs["geosynth"] = {
            **self._group.attrs["geosynth"],
            "scenes": [scene.to_values() for scene in scenes],
        }
        self.scenes = tuple(scenes)

    def write(self, window: Window, image: npt.NDArray[Any], codes: npt.NDArray[Any]) -> None:
        """Fill one window that covers whole chunks (or ends at the grid's edge)."""
        self.image[(slice(None), *window.slices)] = image
        self.labels[window.slices] = codes


def is_store(path: str | Path) -> bool:
    """Whether there is a Zarr group at `path`."""
    return (Path(path) / "zarr.json").is_file()


def _label_dtype(legend: Legend, nodata: int) -> np.dtype[Any]:
    codes = (*legend.codes, nodata)
    return np.result_type(np.min_scalar_type(min(codes)), np.min_scalar_type(max(codes)))


def _write_coordinates(group: Any, geobox: GeoBox) -> None:
    """CF coordinates: what makes `xr.open_zarr(path, decode_coords="all").rio.crs` work."""
    height, width = geobox.shape
    a = geobox.affine
    if a.b == 0 and a.d == 0:  # a rotated grid has no one-dimensional coordinates; the GeoTransform holds it
        axes = {"x": a.c + a.a * (np.arange(width) + 0.5), "y": a.f + a.e * (np.arange(height) + 0.5)}
        for name, values in axes.items():
            array = group.create_array(name, shape=values.shape, dtype="float64", dimension_names=(name,))
            array[:] = values
    if geobox.crs:
        wkt = geobox.crs.to_wkt()
        transform = " ".join(repr(value) for value in a.to_gdal())
        attributes = {"crs_wkt": wkt, "spatial_ref": wkt, "GeoTransform": transform}
        reference = group.create_array(
            "spatial_ref", shape=(), dtype="int64", dimension_names=(), attributes=attributes
        )
        reference[...] = 0

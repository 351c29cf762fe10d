"""What a finished image is, and what it says about how it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rioxarray  # noqa: F401 - registers the accessor `.rio`
import xarray as xr
import zarr

from geosynth.raster.open_labels import is_zarr
from geosynth.raster.read import open_raster


def image_tags(image: Path) -> dict[str, str]:
    """Provenance of an image made by `generate`, a GeoTIFF or a Zarr store, by the names in `provenance`.

    Raises:
        RasterError: if it is no raster.
    """
    tags: dict[str, str] = describe_zarr_image(image)["tags"] if is_zarr_image(image) else open_raster(image).tags
    return tags


def is_zarr_image(path: Path) -> bool:
    """Whether there is an image in a Zarr store, and not a store of training data."""
    if not is_zarr(path):
        return False
    group = zarr.open_group(str(path), mode="r")
    return "geosynth" not in group.attrs and "image" in group


def describe_zarr_image(path: Path) -> dict[str, Any]:
    """What an image in a Zarr store is, as plain values, by the names that `Raster.describe` uses."""
    with xr.open_zarr(path, chunks=None, decode_coords="all") as dataset:
        image = dataset["image"]
        return {
            "kind": "zarr image",
            "path": str(path),
            "crs": image.rio.crs.to_string() if image.rio.crs else None,
            "height": image.sizes["y"],
            "width": image.sizes["x"],
            "samples": image.sizes.get("sample", 1),
            "bands": [{"name": str(name), "dtype": str(image.dtype)} for name in image.coords["band"].values],
            "tags": {name: value for name, value in image.attrs.items() if isinstance(value, str)},
        }

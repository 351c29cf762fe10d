"""Images that `generate` made, GeoTIFFs or Zarr stores: what tells them, their pixels and tags."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from geosynth.errors import RasterError
from geosynth.grid import Window
from geosynth.raster.read import Array, Mask, Read, open_raster
from geosynth.raster.remote import find_group

_OF_XARRAY = {"coordinates", "grid_mapping", "units"}  # attributes that mean something to it


def is_zarr_name(out: Path) -> bool:
    """Whether an image of this name becomes a Zarr store."""
    return out.suffix.lower() == ".zarr"


def is_image(group: Any) -> bool:
    """Whether a Zarr group is an image, and not a store of training data."""
    return "geosynth" not in group.attrs and "image" in group


def _image_group(path: Path) -> Any | None:
    """The Zarr group of an image; None where there is something else, such as a GeoTIFF."""
    group = find_group(path)
    return group if group is not None and is_image(group) else None


def is_generated(path: Path) -> bool:
    """Whether a Zarr store is an image that `generate` made, which may be overwritten, and not one of somebody else."""
    try:
        group = _image_group(path)
        return group is not None and "GEOSYNTH_VERSION" in tags_among(group["image"].attrs)
    except (RasterError, ValueError):
        return False


def image_tags(image: Path) -> dict[str, str]:
    """Provenance of an image made by `generate`, a GeoTIFF or a Zarr store, by the names in `provenance`.

    Raises:
        RasterError: if it is no raster.
    """
    group = _image_group(image)
    tags: dict[str, str] = open_raster(image).tags if group is None else tags_among(group["image"].attrs)
    return tags


def tags_among(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Provenance among the attributes of an image's Zarr array, where conventions have theirs too."""
    return {
        name: value
        for name, value in attributes.items()
        if isinstance(value, str) and ":" not in name and name not in _OF_XARRAY
    }


def image_reader(image: Path) -> Read:
    """Reads windows of an image made by `generate`, a GeoTIFF or a Zarr store."""
    group = _image_group(image)
    return open_raster(image).read if group is None else partial(_read, group["image"], group["valid"])


def _read(image: Any, valid: Any, window: Window) -> tuple[Array, Mask]:
    return image[:, *window.slices], valid[window.slices]

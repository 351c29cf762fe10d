"""Zarr conventions that georeference an array: `spatial`, `proj` and `multiscales`, each in version 0.1.

GeoZarr consists of them: https://github.com/zarr-conventions/spatial, .../proj and .../multiscales. GDAL 3.13 and web
maps find grid and overviews by them; xarray, rioxarray and odc-geo use CF's attributes, which are written as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

_DESCRIBED = {
    "spatial": ("689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "Spatial coordinate information"),
    "proj": ("f17cb550-5864-4468-aeb7-f3180cfb622f", "Coordinate reference system information for geospatial data"),
    "multiscales": ("d35379db-88df-4056-af3a-620245f8e347", "Multiscale layout of zarr datasets"),
}
_OF_XARRAY = {"coordinates", "grid_mapping", "units"}  # attributes that xarray interprets


def grid_attributes(geobox: GeoBox) -> dict[str, Any]:
    """Attributes of an array with the dimensions `y` and `x`: grid, CRS, and the conventions that these follow."""
    return _registered({**_common(geobox), **_of_level(geobox)}, "spatial", *_crs_convention(geobox))


def transform_among(attributes: Mapping[str, Any], shape: tuple[int, int]) -> Affine | None:
    """The transform in the attributes of `spatial`, for corners of pixels; None if there is none, or for another shape.

    The shape is compared because a part of an array may have kept the attributes of the whole.
    """
    told = attributes.get("spatial:transform", ())
    if len(told) != 6 or list(attributes.get("spatial:shape", shape)) != list(shape):
        return None
    centred = attributes.get("spatial:registration") == "node"  # then it is for centres
    return Affine(*told) @ Affine.translation(-0.5, -0.5) if centred else Affine(*told)


def crs_text_among(attributes: Mapping[str, Any]) -> str | None:
    """The CRS in the attributes of `proj`, as a text for PROJ; None for none."""
    projjson = attributes.get("proj:projjson")
    text = attributes.get("proj:code") or attributes.get("proj:wkt2") or (projjson and json.dumps(projjson))
    return str(text) if text else None


def with_those_of_group(attributes: Mapping[str, Any], group: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of an array, with grid and CRS from those of its group where it has none of its own."""
    return {**{name: value for name, value in group.items() if name.startswith(("spatial:", "proj:"))}, **attributes}


def levels_among(attributes: Mapping[str, Any]) -> list[str]:
    """Paths of the levels in a group's `multiscales_attributes`, the finest first; empty if it has none."""
    multiscales = attributes.get("multiscales")
    layout = multiscales.get("layout", ()) if isinstance(multiscales, Mapping) else ()  # other software stores a list
    return [level["asset"] for level in layout if "asset" in level]


def multiscales_attributes(levels: Mapping[str, GeoBox], resampling: str) -> dict[str, Any]:
    """Attributes of a group with one image at several resolutions.

    Args:
        levels: paths in the group and their grids, the finest first; each level is made from the previous one.
        resampling: the method by which it is made.
    """
    layout: list[dict[str, Any]] = []
    for name, geobox in levels.items():
        scale = 2.0 if layout else 1.0
        level = {"asset": name, "transform": {"scale": [scale, scale]}, **_of_level(geobox)}
        layout.append({**level, "derived_from": layout[-1]["asset"]} if layout else level)
    finest = next(iter(levels.values()))
    attributes = {"multiscales": {"layout": layout, "resampling_method": resampling}, **_common(finest)}
    return _registered(attributes, "multiscales", "spatial", *_crs_convention(finest))


def tags_among(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Provenance among the attributes of an image's array, without those of conventions."""
    return {
        name: value
        for name, value in attributes.items()
        if isinstance(value, str) and ":" not in name and name not in _OF_XARRAY
    }


def crs_attributes(crs: CRS) -> dict[str, str]:
    """A CRS for the Zarr convention `proj` and STAC's projection extension: its EPSG code, else its WKT."""
    return {"proj:wkt2": crs.to_wkt()} if crs.epsg is None else {"proj:code": f"EPSG:{crs.epsg}"}


def _common(geobox: GeoBox) -> dict[str, Any]:
    return {
        "spatial:dimensions": ["y", "x"],
        "spatial:bbox": list(geobox.boundingbox),
        **(crs_attributes(geobox.crs) if geobox.crs else {}),
    }


def _of_level(geobox: GeoBox) -> dict[str, Any]:
    return {"spatial:transform": list(geobox.affine[:6]), "spatial:shape": [int(side) for side in geobox.shape]}


def _crs_convention(geobox: GeoBox) -> list[str]:
    return ["proj"] if geobox.crs else []


def _registered(attributes: dict[str, Any], *names: str) -> dict[str, Any]:
    conventions = [
        {
            "schema_url": f"https://raw.githubusercontent.com/zarr-conventions/{name}/refs/tags/v0.1/schema.json",
            "spec_url": f"https://github.com/zarr-conventions/{name}/blob/v0.1/README.md",
            "uuid": _DESCRIBED[name][0],
            "name": name,
            "description": _DESCRIBED[name][1],
        }
        for name in names
    ]
    return {"zarr_conventions": conventions, **attributes}

"""The STAC item of an image, for catalogues and odc-stac, which says that the image is synthetic."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import antimeridian
import numpy as np
import pystac
import rasterio
import shapely.geometry
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from geosynth.config.bands import values_of_each
from geosynth.errors import GridError
from geosynth.files import write_whole
from geosynth.grid import ground_sampling_distance
from geosynth.raster.conventions import crs_attributes
from geosynth.raster.mark import MARK
from geosynth.raster.raster_file import RasterFile, open_raster
from geosynth.raster.read import Raster

# Common names of the EO extension that need no mapping.
_COMMON_NAMES = {"coastal", "blue", "green", "red", "rededge", "nir", "nir08", "nir09", "swir16", "swir22", "pan"}
_STATISTICS = {
    "minimum": "STATISTICS_MINIMUM",
    "maximum": "STATISTICS_MAXIMUM",
    "mean": "STATISTICS_MEAN",
    "stddev": "STATISTICS_STDDEV",
}
_EXTENSIONS = [
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
    "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
]
_OURS = "GEOSYNTH_"


def item_path(image: Path) -> Path:
    """Path of an image's STAC item."""
    return image.with_suffix(".json")


def check_can_be_item(labels: Raster) -> None:
    """Refuse, before work starts, labels that a STAC item cannot locate.

    Raises:
        GridError: if they have no CRS, or are not on Earth.
    """
    if labels.geobox.crs is None:
        raise GridError(
            f"{labels.path}: has no CRS, and a STAC item needs one; assign it (rio edit-info --crs EPSG:CODE FILE) or"
            " leave out --stac"
        )
    try:
        _footprint(labels.geobox)
    except (RuntimeError, ValueError) as error:  # pyproj's, for Mars or a local CRS; and ours
        raise GridError(
            f"{labels.path}: a STAC item needs longitudes and latitudes on Earth, which its CRS does not give here;"
            " leave out --stac"
        ) from error


def _footprint(geobox: GeoBox) -> BaseGeometry:
    """The outline in longitude and latitude, cut at the antimeridian and closed around a pole (RFC 7946, 3.1.9).

    Raises:
        RuntimeError, ValueError: if there is none.
    """
    bounds = geobox.boundingbox
    step = float(max(bounds.span_x, bounds.span_y)) / 16  # 16 points along the longer side
    outline = geobox.extent.to_crs("EPSG:4326", resolution=step).geom
    if not np.isfinite(outline.bounds).all():
        raise ValueError("the outline lies beyond the projection")
    return antimeridian.fix_polygon(outline)


def write_stac_item(image: Path, preview: Path | None = None, folder: Path | None = None) -> Path:
    """Describe a complete image: footprint, projection, raster and EO extensions, provenance from its tags.

    The date that STAC requires is the one when the file was made, because a synthetic image shows no moment.

    Args:
        image: a GeoTIFF made by `generate`, with a CRS.
        preview: its PNG, if there is one.
        folder: where the item is made, as for `files.replacing`.

    Returns:
        path of the item, `image` with the suffix .json; links to its assets are relative.

    Raises:
        OutputError: if it cannot be written.
    """
    path = item_path(image)
    raster = open_raster(image)
    footprint = _footprint(raster.geobox)
    item = pystac.Item(
        id=image.stem,
        geometry=shapely.geometry.mapping(footprint),
        bbox=antimeridian.bbox(footprint),
        datetime=datetime.fromtimestamp(int(image.stat().st_mtime), UTC),
        properties=_provenance(raster) | _projection(raster.geobox),
        stac_extensions=_EXTENSIONS,
    )
    asset = pystac.Asset(f"./{image.name}", title="Synthetic image", media_type=pystac.MediaType.COG, roles=["data"])
    asset.extra_fields = _bands(image)
    item.add_asset("image", asset)
    if preview is not None:
        asset = pystac.Asset(f"./{preview.name}", media_type=pystac.MediaType.PNG, roles=["thumbnail"], title="Preview")
        item.add_asset("thumbnail", asset)
    values = item.to_dict(include_self_link=False)
    write_whole(path, json.dumps(values, indent=2, allow_nan=False) + "\n", folder=folder)
    return path


def _provenance(raster: RasterFile) -> dict[str, Any]:
    metres = ground_sampling_distance(raster.geobox)
    ours = {name: value for name, value in raster.tags.items() if name.startswith(_OURS)}
    return {
        "title": f"Synthetic image {Path(raster.path).name}",
        "description": raster.tags.get("IMAGEDESCRIPTION", "Synthetic image; not an observation."),
        "geosynth:synthetic": True,
        **MARK,
        **{f"geosynth:{name.removeprefix(_OURS).lower()}": value for name, value in ours.items()},
        **({} if metres is None else {"gsd": round(metres, 6)}),
    }


def _projection(geobox: GeoBox) -> dict[str, Any]:
    crs = geobox.crs
    assert crs is not None
    return {
        "proj:code": None,
        **crs_attributes(crs),
        "proj:shape": [int(side) for side in geobox.shape],
        "proj:transform": list(geobox.affine),
        "proj:bbox": list(geobox.boundingbox),
    }


def _bands(image: Path) -> dict[str, list[dict[str, Any]]]:
    """Names, dtypes and statistics of the file's bands, in the form of EO and raster 1.1, which odc-stac reads."""
    named, described = [], []
    with rasterio.open(image) as dataset:
        meanings = values_of_each(open_raster(image).quantities, dataset.count)
        bands = zip(dataset.descriptions, dataset.dtypes, meanings, strict=True)
        for index, (name, dtype, meaning) in enumerate(bands, start=1):
            name = name or f"b{index}"
            named.append({"name": name, **({"common_name": name} if name in _COMMON_NAMES else {})})
            told = dataset.tags(index)
            statistics = {ours: float(told[gdals]) for ours, gdals in _STATISTICS.items() if gdals in told}
            described.append(
                {
                    **{"data_type": dtype, "sampling": "area", **meaning},
                    **({"statistics": statistics} if statistics else {}),
                }
            )
    return {"eo:bands": named, "raster:bands": described}

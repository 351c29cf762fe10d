"""Coordinate reference systems: from text, compared, and by name."""

from __future__ import annotations

from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from geosynth.errors import SettingsError


def parse_crs(crs: str) -> CRS:
    """A CRS from an authority's code, such as "EPSG:26917", or from WKT.

    Raises:
        SettingsError: if it is neither.
    """
    try:
        return CRS(crs)
    except Exception as error:  # pyproj's, wrapped by odc-geo
        raise SettingsError(f"CRS {crs}: unknown; write it as in EPSG:26917") from error


def same_crs(outer: GeoBox, inner: GeoBox) -> bool:
    """Whether two grids have the same CRS, in whatever form, or both have none."""
    if outer.crs is None or inner.crs is None:
        return outer.crs is inner.crs
    # Some writers omit the authority or use an equivalent of another one (ESRI:102039 is EPSG:5070): EPSG codes count.
    return bool(outer.crs == inner.crs or (outer.crs.epsg is not None and outer.crs.epsg == inner.crs.epsg))


def crs_name(crs: CRS | None) -> str | None:
    """A CRS as an authority's code, such as "EPSG:26917", else as WKT; None for None."""
    if crs is None:
        return None
    authority, code = crs.authority
    return f"{authority}:{code}" if authority else str(crs.to_wkt())


def crs_wkt(geobox: GeoBox) -> str | None:
    """The CRS of a grid as WKT, which every library accepts; None if there is none."""
    return geobox.crs.to_wkt() if geobox.crs else None


def crs_in_short(geobox: GeoBox) -> str:
    """The CRS of a grid for messages."""
    return (crs_name(geobox.crs) or "none")[:60]


def metres_per_unit(geobox: GeoBox) -> float:
    """Metres in one unit of a grid's coordinates; its CRS must be projected."""
    return float(geobox.crs.proj.axis_info[0].unit_conversion_factor)

"""Coordinate reference systems: from text, compared, and by name."""

from __future__ import annotations

from odc.geo.crs import CRS

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


def same_crs(one: CRS | None, other: CRS | None) -> bool:
    """Whether two CRSs are the same, in whatever form, or both unknown."""
    if one is None or other is None:
        return one is other
    # Some writers omit the authority or use an equivalent of another one (ESRI:102039 is EPSG:5070): EPSG codes count.
    return bool(one == other or (one.epsg is not None and one.epsg == other.epsg))


def crs_name(crs: CRS | None) -> str | None:
    """A CRS as an authority's code, such as "EPSG:26917", else as WKT; None for None."""
    if crs is None:
        return None
    authority, code = crs.authority
    return f"{authority}:{code}" if authority else str(crs.to_wkt())


def crs_wkt(crs: CRS | None) -> str | None:
    """A CRS as WKT, which every library accepts; None for None."""
    return crs.to_wkt() if crs else None


def crs_in_short(crs: CRS | None) -> str:
    """A CRS for messages."""
    return (crs_name(crs) or "none")[:60]


def has_metres(crs: CRS | None) -> bool:
    """Whether distances in metres mean something: in projected CRSs, and in a site's own (engineering) with a unit."""
    if crs is None or crs.projected:
        return crs is not None
    return bool(crs.proj.is_engineering and crs.proj.axis_info and crs.proj.axis_info[0].unit_name != "unknown")


def metres_per_unit(crs: CRS) -> float:
    """Metres in one unit of the coordinates of a CRS that has metres."""
    return float(crs.proj.axis_info[0].unit_conversion_factor)

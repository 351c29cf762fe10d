"""What the stored values of bands mean: whether rasters agree on it, and how files and Zarr arrays record it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from geosynth.config.bands import Quantity, first_known
from geosynth.errors import DataError, SettingsError

_LOG = logging.getLogger(__name__)
_REMEDY = (
    "write what the values of both mean (rioxarray's mask_and_scale) or correct what one says (rasterio's scales,"
    " offsets and units)"
)


def agreed_quantities(told: Sequence[tuple[str, Sequence[Quantity]]], names: Sequence[str]) -> tuple[Quantity, ...]:
    """The quantities of bands whose values are to be mixed; warns of images without them beside others with them.

    Args:
        told: for each image or model, its name in messages and its quantities: one per band, or none at all.
        names: of the bands.

    Returns:
        one per band; empty if none are known.

    Raises:
        DataError: if quantities differ.
    """
    agreed = first_known([quantities for _, quantities in told])
    silent: dict[str, str] = {}
    for place, known in enumerate(agreed):
        first = None
        for name, quantities in told if known.is_known else ():
            own = quantities[place] if quantities else Quantity()
            if not own.is_known:
                silent.setdefault(name, names[place])
            elif own.agrees(known):
                first = first or name
            else:
                raise DataError(f"{name}: band {names[place]} holds {own}, but {known} in {first}; {_REMEDY}")
    if silent:
        name, band = next(iter(silent.items()))
        more = f" and {len(silent) - 1} more" if len(silent) > 1 else ""
        message = "%s%s: scale, offset and unit are not told; taken for those of the others (band %s: %s)"
        _LOG.warning(message, name, more, band, agreed[names.index(band)])
    return agreed


def write_quantities(dataset: Any, quantities: Sequence[Quantity]) -> None:
    """Record in a raster that is open for writing what its bands mean, if that is known."""
    if quantities:
        dataset.scales = [quantity.scale for quantity in quantities]
        dataset.offsets = [quantity.offset for quantity in quantities]
        dataset.units = [quantity.unit or "" for quantity in quantities]


def quantity_attributes(quantities: Sequence[Quantity]) -> dict[str, Any]:
    """Attributes of an array of several bands: CF's, if all bands mean the same; else lists, as in rioxarray."""
    if not quantities:
        return {}
    units = [quantity.unit or "" for quantity in quantities]
    pairs = [(quantity.scale, quantity.offset) for quantity in quantities]
    values: dict[str, Any] = {}
    if len(set(pairs)) > 1:  # no CF attribute, which xarray would apply to all bands
        values = {"scales": [scale for scale, _ in pairs], "offsets": [offset for _, offset in pairs]}
    elif pairs[0] != (1, 0):
        values = dict(zip(("scale_factor", "add_offset"), pairs[0], strict=True))
    return values | ({"units": units[0] if len(set(units)) == 1 else units} if any(units) else {})


def quantities_among(attributes: Mapping[str, Any], count: int, path: str) -> tuple[Quantity, ...]:
    """The quantities in the attributes of an array of `count` bands, geosynth's, CF's or rioxarray's; else empty.

    Raises:
        DataError: if they are invalid; it names `path`.
    """

    def of_each(several: str, one: str, default: Any) -> list[Any]:
        found = attributes.get(several, attributes.get(one, default))
        values = np.asarray(found).ravel().tolist()
        return values * count if len(values) == 1 else values

    columns = {
        "scale": of_each("scales", "scale_factor", 1.0),
        "offset": of_each("offsets", "add_offset", 0.0),
        "unit": [unit or None for unit in of_each("units", "units", "")],
    }
    if any(len(values) != count for values in columns.values()):
        raise DataError(f"{path}: says what the values of its bands mean, but not of {count}")
    return parse_quantities(path, [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])


def parse_quantities(path: str, told: Iterable[Mapping[str, Any]]) -> tuple[Quantity, ...]:
    """The quantities of a raster's bands, from what it says of each as plain values; empty if it says nothing.

    Raises:
        DataError: if they are invalid; it names `path`.
    """
    try:
        return first_known([[Quantity.parse(dict(values)) for values in told]])
    except SettingsError as error:
        raise DataError(f"{path}: what it says of its values cannot be: {error}") from error

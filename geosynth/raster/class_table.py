"""The class table of a label raster: attribute table, category names and colour table, read and written.

Of these, rasterio gives access to colour tables only. But the VRT that GDAL writes for a raster has all that GDAL knows
of its bands (from any format, or a sidecar), and for any format GDAL reads names and tables from a PAM sidecar
(.aux.xml). So these two XML forms are read and written here. Usages of columns are those of GDAL's `GDALRATFieldUsage`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import unescape

from geosynth.errors import LegendError, first_of
from geosynth.files import write_whole
from geosynth.legend import Legend, LegendClass, plain

_BAND = re.compile("<VRTRasterBand.*?</VRTRasterBand>", re.DOTALL)
_ROW = re.compile("<Row [^>]*>(.*?)</Row>", re.DOTALL)
_CELL = re.compile("<F>([^<]*)</F>|<F ?/>")
_QUOTE = {"&quot;": '"', "&apos;": "'"}

_NAME, _MIN, _MAX, _MIN_MAX, _COLOURS = 2, 3, 4, 5, (6, 7, 8)
_INTEGER, _STRING = 0, 2
_NAME_COLUMNS = ("class_name", "classname", "class_names", "class", "name", "label", "category", "landcover")
_VALUE_COLUMNS = ("value", "code")
CLASSES_TAG = "GEOSYNTH_CLASSES"
"""Tag of label rasters made by geosynth: class names and codes as JSON, which stay in the file without its sidecar."""
NO_CLASS = {"nodata", "unclassified"}

ClassTable = dict[int, tuple[str | None, str | None]]


def read_class_table(vrt: str, tags: Mapping[str, str]) -> ClassTable:
    """Code to (name, colour as "#rrggbb"), each None if a raster does not give it.

    Names come from the attribute table, else from the category names, else from the tag `CLASSES_TAG`.

    Args:
        vrt: XML of the VRT that GDAL writes for the raster.
        tags: of the raster.
    """
    first = _BAND.search(vrt)
    if first is None:
        return {}
    # A table may have hundreds of thousands of rows. They are cut out first, as a parser would make objects of each.
    text = first.group()
    band = ElementTree.fromstring(_ROW.sub("", text))  # noqa: S314 - of GDAL's own making
    names, of_table = _attribute_table(band, _ROW.findall(text))
    names, colours = names or _category_names(band) or _tagged_names(tags), {**_colour_table(band), **of_table}
    return {code: (names.get(code), colours.get(code)) for code in sorted({*names, *colours})}


def legend_of_table(table: ClassTable, target: Legend, source: str) -> Legend:
    """A legend for the codes of a table, by the class names of `target`; by its colours if the table has no names.

    Names are compared without regard to case, spaces, hyphens and underscores. Entries that are not a class of
    `target` are left out, so that `check` finds their codes if pixels have them. Entries called "no data", and those
    in one of the legend's nodata colours, become nodata.

    Raises:
        LegendError: if no entry is a class of `target`, or if two are the same class.
    """
    by_name = {plain(entry.name): entry for entry in target.classes}
    classes, nodata = [], []
    named = {code: name for code, (name, _) in table.items() if name}
    entries: Iterable[tuple[int, str]] = named.items() if named else _names_by_colour(table, target)
    for code, name in entries:
        found = by_name.get(plain(name))
        if found:
            classes.append(LegendClass(code=code, name=found.name, colour=table[code][1] or found.colour))
        elif plain(name) in NO_CLASS:
            nodata.append(code)
    if not classes:
        told = first_of(named.values()) or ("colours only" if table else "empty")
        wanted = ", ".join(target.names)
        raise LegendError(f"{source}: its class table ({told}) has no class of legend {target.name!r} ({wanted})")
    taken = {entry.code for entry in classes}
    settled = {*taken, *nodata, *named}
    holes = {colour.lower() for colour in target.nodata if isinstance(colour, str)}
    holding = [code for code, (_, colour) in table.items() if colour in holes]
    nodata += [code for code in dict.fromkeys([*holding, *target.nodata_codes]) if code not in settled]
    values = {"name": Path(source).name, "classes": [entry.model_dump() for entry in classes], "nodata": nodata}
    return Legend.from_values(values, source).translation_to(target)


def _names_by_colour(table: ClassTable, target: Legend) -> Iterator[tuple[int, str]]:
    """(code, class name) of codes and classes that share a colour no other has, or share both code and colour.

    Colour tables are padded, mostly with black, so a black class is found only by its code.
    """
    times = Counter(colour for _, colour in table.values())
    uses = Counter(entry.colour.lower() for entry in target.classes)
    for entry in target.classes:
        colour = entry.colour.lower()
        for code, (_, own) in table.items():
            if own == colour and (code == entry.code or times[own] == uses[colour] == 1):
                yield code, entry.name


def shows_colours_of(table: ClassTable, legend: Legend, codes: Collection[int]) -> bool:
    """Whether one of the codes has, in a raster's class table, a colour of the legend that no other code has."""
    known = {colour.lower() for entry in legend.classes for colour in entry.colours}
    times = Counter(colour for _, colour in table.values())
    return any(code in table and table[code][1] in known and times[table[code][1]] == 1 for code in codes)


def write_attribute_table(path: Path, legend: Legend) -> None:
    """Write names, attribute table and colours of a raster to the sidecar `path`.aux.xml, replacing an existing one.

    Raises:
        OutputError: if it cannot be written.
    """
    write_whole(Path(f"{path}.aux.xml"), _sidecar(legend))


def _sidecar(legend: Legend) -> bytes:
    root = ElementTree.Element("PAMDataset")
    band = ElementTree.SubElement(root, "PAMRasterBand", band="1")
    if min(legend.codes) >= 0 and max(legend.codes) < 2**12:  # category names are a list that starts at code 0
        names = ElementTree.SubElement(band, "CategoryNames")
        of_code = {entry.code: entry.name for entry in legend.classes}
        for code in range(max(legend.codes) + 1):
            ElementTree.SubElement(names, "Category").text = of_code.get(code, "")
    table = ElementTree.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    columns = (
        ("Value", _INTEGER, _MIN_MAX),
        ("Class_Name", _STRING, _NAME),
        *((name, _INTEGER, usage) for name, usage in zip(("Red", "Green", "Blue"), _COLOURS, strict=True)),
    )
    for index, (name, kind, usage) in enumerate(columns):
        column = ElementTree.SubElement(table, "FieldDefn", index=str(index))
        for tag, value in (("Name", name), ("Type", kind), ("Usage", usage)):
            ElementTree.SubElement(column, tag).text = str(value)
    for index, entry in enumerate(legend.classes):
        row = ElementTree.SubElement(table, "Row", index=str(index))
        for value in (entry.code, entry.name, *entry.rgb):
            ElementTree.SubElement(row, "F").text = str(value)
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8")
    return text


def _colour_table(band: Any) -> dict[int, str]:
    entries = band.findall("ColorTable/Entry")
    colours = {}
    for code, entry in enumerate(entries):
        red, green, blue, alpha = (int(entry.get(f"c{channel}", 255)) for channel in range(1, 5))
        if alpha:
            colours[code] = _hex(red, green, blue)
    return colours


def _category_names(band: Any) -> dict[int, str]:
    names = [(entry.text or "").strip() for entry in band.findall("CategoryNames/Category")]
    return {code: name for code, name in enumerate(names) if name}


def _tagged_names(tags: Mapping[str, str]) -> dict[int, str]:
    try:
        codes = json.loads(tags.get(CLASSES_TAG, "{}"))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(codes, dict) or not all(type(code) is int for code in codes.values()):
        return {}
    return {code: name for name, code in codes.items()}


def _attribute_table(band: Any, rows: Iterable[str]) -> tuple[dict[int, str], dict[int, str]]:
    """Names and colours by code, from the XML of the table's rows."""
    names: dict[int, str] = {}
    colours: dict[int, str] = {}
    table = band.find("GDALRasterAttributeTable")
    if table is None:
        return names, colours
    columns = [
        (plain(column.findtext("Name", "")), int(column.findtext("Usage", "0")), int(column.findtext("Type", "0")))
        for column in table.findall("FieldDefn")
    ]
    name = _find(columns, (_NAME,), _NAME_COLUMNS, _STRING)
    value = _find(columns, (_MIN_MAX, _MIN), _VALUE_COLUMNS, None)
    if name is None or value is None:
        return names, colours
    channels = [next((i for i, column in enumerate(columns) if column[1] == usage), None) for usage in _COLOURS]
    for row in rows:
        cells = [unescape(cell, _QUOTE).strip() for cell in _CELL.findall(row)]
        try:
            code = int(float(cells[value]))
            if cells[name]:
                names[code] = cells[name]
            if None not in channels:
                colours[code] = _hex(*(int(float(cells[channel])) for channel in channels if channel is not None))
        except (ValueError, OverflowError, IndexError):  # a row without a code
            continue
    return names, colours


def _find(
    columns: list[tuple[str, int, int]], usages: tuple[int, ...], names: tuple[str, ...], kind: int | None
) -> int | None:
    """The column with a given usage, else with a usual name and kind (most writers leave the usage out)."""
    for usage in usages:
        for index, column in enumerate(columns):
            if column[1] == usage:
                return index
    for name in names:
        for index, column in enumerate(columns):
            if column[0] == plain(name) and kind in (None, column[2]):
                return index
    return None


def _hex(red: int, green: int, blue: int) -> str:
    return f"#{red & 255:02x}{green & 255:02x}{blue & 255:02x}"

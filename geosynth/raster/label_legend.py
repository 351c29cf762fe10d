"""The legend that reads a label raster: the one that is chosen, and whether the colours in the file contradict it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Literal

from geosynth.errors import LegendError, first_of
from geosynth.legend import Legend, plain
from geosynth.raster.class_table import ClassTable, legend_of_table
from geosynth.raster.labels import LabelRaster
from geosynth.raster.read import Raster

_LOG = logging.getLogger(__name__)

FROM_RASTER = "from-raster"

Verdict = Literal["", "of other classes", "of no class"]


def choose_legend(raster: Raster, legend: str | Path | Legend | None, target: Legend) -> Legend:
    """The legend of a label raster, with its classes in the order of the model's legend.

    If no legend is given, codes mean what they mean to the model, unless the raster has the model's class names for
    other codes: then its own class table decides, with a warning. Colours mean what they mean to the model.

    Args:
        raster: the labels.
        legend: a legend, its built-in name or file; "from-raster" for the raster's own class table.
        target: the model's legend.

    Raises:
        LegendError: if there is no such legend, or if its classes are not the model's.
    """
    if legend is not None and legend != FROM_RASTER:
        return Legend.load(legend).translation_to(target)
    if raster.holds_colours:
        return target
    table = raster.class_table
    if legend == FROM_RASTER:
        if not table:
            raise LegendError(f"{raster.path}: has no class table (names or colours of its codes); give a legend file")
        return legend_of_table(table, target, raster.path)
    of_target = {plain(entry.name): entry.codes for entry in target.classes}
    names = {code: name for code, (name, _) in table.items() if name}
    known = {code: of_target[plain(name)] for code, name in names.items() if plain(name) in of_target}
    if any(code not in expected for code, expected in known.items()):
        own = legend_of_table(table, target, raster.path)
        told = first_of(f"{code} {names[code]}" for code in known)
        _LOG.warning(
            "%s: its class table has other codes than legend %r and is used: %s", raster.path, target.name, told
        )
        return own
    for entry in target.classes:
        name = names.get(entry.code)
        if name is not None and plain(name) != plain(entry.name):
            _LOG.warning(
                "%s: calls code %d %r; it is taken for %r, as in legend %r (--legend decides otherwise)",
                raster.path,
                entry.code,
                name,
                entry.name,
                target.name,
            )
    return target


def legend_of_files(label_legend: str | Path | Legend | None, target: Legend) -> Legend:
    """The legend of label files (None for the target), with the classes in the order of the target."""
    return (target if label_legend is None else Legend.load(label_legend)).translation_to(target)


def compare_colours(table: ClassTable, legend: Legend, used: Collection[int]) -> Verdict:
    """Whether the colours of a raster's class table contradict reading it by a legend.

    Palettes of one legend may differ in a colour or two, and colour tables are padded, mostly with black. So the
    colours are

    - "of other classes" if at least two of the codes in use each have the colour of another class, and no other code
      has that colour;
    - "of no class" if codes in use have colours, but no code has the colour of its class (a code not in use counts only
      if no other code has its colour);
    - "", no contradiction, otherwise, and whenever a code has the name of its class.

    Args:
        table: class table of the raster.
        legend: by which its codes are read.
        used: codes that pixels have.
    """
    own = {code: legend.classes[index].colour.lower() for code, index in legend.class_of.items()}
    names = {code: plain(name) for code, (name, _) in table.items() if name}
    colours = {code: colour for code, (_, colour) in table.items() if colour and code in own}
    times = Counter(colour for _, colour in table.values())
    coloured = set(used) & set(colours)
    if not coloured or any(names.get(code) == plain(legend.names[index]) for code, index in legend.class_of.items()):
        return ""
    right = {code for code, colour in colours.items() if colour == own[code]}
    alone = {code for code, colour in colours.items() if times[colour] == 1}
    if sum(colours[code] in own.values() for code in coloured & alone - right) > 1:
        return "of other classes"
    return "" if right & (coloured | alone) else "of no class"


def warn_of_colours(found: Iterable[tuple[LabelRaster, Verdict]], *, is_default: bool) -> None:
    """Warn, in one line, of all label files whose colours contradict the legend.

    Args:
        found: the files, and the result of `compare_colours` for each.
        is_default: whether the user named no legend, so that it is Chesapeake's. Only then colours of no class give a
            warning: those who name a legend may well have files in other colours.
    """
    doubted = {"of other classes", "of no class"} if is_default else {"of other classes"}
    odd = [labels for labels, verdict in found if verdict in doubted]
    if odd:
        _LOG.warning(
            "%s%s: its colours are not those of the classes of legend %r that its codes are taken for;"
            " give the legend that is theirs (a file, or from-raster)",
            odd[0].name,
            f" (and {len(odd) - 1} more)" if len(odd) > 1 else "",
            odd[0].legend.name,
        )

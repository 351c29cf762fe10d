"""What the colours of label files say against the legend by which their codes are read."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Literal

from geosynth.legend import Legend, plain
from geosynth.raster.class_table import ClassTable
from geosynth.raster.labels import LabelRaster

Verdict = Literal["", "of other classes", "of no class"]

_LOG = logging.getLogger(__name__)


def compare_colours(table: ClassTable, legend: Legend, used: Collection[int]) -> Verdict:
    """What speaks against reading a raster by a legend, in the colours of the raster's class table.

    Palettes of one legend differ in a colour or two, and colour tables are padded, mostly with black. So the colours
    are

    - "of other classes" where two or more of the codes in use have the colour of another class each, and no other code
      has it;
    - "of no class" where codes in use have colours, but no code has its class's (a code not in use counts only if no
      other code has its colour);
    - "", not to be doubted, otherwise, and wherever a code has the name of its class.

    Args:
        table: of the raster.
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
    """One line for all label files whose colours speak against the legend.

    Args:
        found: the files, and what `compare_colours` said of them.
        is_default: whether nobody named the legend, and it is Chesapeake's. Colours of no class are doubted only then:
            who names a legend may well have files in other colours.
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

"""Legend: which raster code means which class.

The raster holds *codes* (any integers); the network counts *class indices* 0 .. num_classes - 1 in the legend's order.
Pixels without a class (nodata) get the index `num_classes`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from geosynth.errors import LegendError

CodeCounts = dict[int, int]

# Codes of classes that a translation lacks: far below what any raster holds.
_ABSENT_START, _ABSENT_END = -(2**62), -(2**61)


class LegendClass(BaseModel):
    """One class: its raster code, its name, its colour as "#rrggbb"."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: int = Field(ge=-(2**63), lt=2**63)
    name: str = Field(min_length=1)
    colour: str = Field("#808080", pattern=r"^#[0-9a-fA-F]{6}$")

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green, blue in 0..255."""
        red, green, blue = bytes.fromhex(self.colour[1:])
        return red, green, blue


class Legend(BaseModel):
    """An ordered set of classes and the codes that mean "no data".

    Raises:
        LegendError: from the constructors `from_values` and `load`, when codes or names repeat or none is given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    classes: tuple[LegendClass, ...] = Field(min_length=1, max_length=254)
    nodata: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _check_unique(self) -> Self:
        codes = Counter([*(str(entry.code) for entry in self.classes), *map(str, self.nodata)])
        for what, values in (("code", codes), ("class name", Counter(entry.name for entry in self.classes))):
            repeated = [value for value, count in values.items() if count > 1]
            if repeated:
                raise ValueError(f"{what} {', '.join(repeated)} appears more than once")
        return self

    @classmethod
    def from_values(cls, values: Any, source: str = "legend") -> Self:
        """Build from plain values (YAML, JSON); `source` names them in the error."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            what = first["msg"].removeprefix("Value error, ")
            raise LegendError(f"{source}: {where + ': ' if where else ''}{what}") from error

    @classmethod
    def load(cls, legend: str | Path | Legend) -> Legend:
        """A built-in legend by name ("chesapeake"), or one from a YAML file; a Legend is returned as it is.

        Raises:
            LegendError: if there is no such legend or file, or the file holds no legend.
        """
        if isinstance(legend, Legend):
            return legend
        if str(legend) in BUILT_IN:
            return BUILT_IN[str(legend)]
        path = Path(legend)
        if not path.is_file():
            known = ", ".join(sorted(BUILT_IN))
            raise LegendError(f"{legend}: neither a legend file nor a built-in legend ({known})")
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
            raise LegendError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
        return cls.from_values(values, str(path))

    @property
    def num_classes(self) -> int:
        """Number of classes; also the class index of a pixel without data."""
        return len(self.classes)

    @property
    def codes(self) -> tuple[int, ...]:
        """The raster codes in class-index order."""
        return tuple(entry.code for entry in self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """The class names in class-index order."""
        return tuple(entry.name for entry in self.classes)

    @property
    def nodata_code(self) -> int:
        """The code that new files give to pixels without a class: the last of `nodata`, else the largest free one."""
        if self.nodata:
            return self.nodata[-1]
        return next(code for code in range(255, -1, -1) if code not in self.codes)

    def encode(self, codes: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint8]:
        """Class indices of raster codes, same shape; `num_classes` where the code is not a class's.

        Unknown codes are not told from nodata here: `check` finds them, once, before any work starts.
        """
        order = np.argsort(self.codes)
        known = np.asarray(self.codes, dtype=np.int64)[order]
        if codes.dtype in (np.uint8, np.uint16):  # a look-up table is ten times faster than a search
            table = np.full(np.iinfo(codes.dtype).max + 1, self.num_classes, dtype=np.uint8)
            inside = (known >= 0) & (known < len(table))
            table[known[inside]] = order[inside]
            encoded: npt.NDArray[np.uint8] = table[codes]
            return encoded
        # A uint64 code beyond int64 wraps in the search; the comparison with the code itself then finds it unknown.
        position = np.minimum(np.searchsorted(known, codes.astype(np.int64)), len(known) - 1)
        return np.where(known[position] == codes, order[position], self.num_classes).astype(np.uint8)

    def decode(self, indices: npt.NDArray[np.integer[Any]], nodata: int) -> npt.NDArray[np.int64]:
        """Raster codes of class indices; `nodata` where the index is `num_classes`."""
        codes: npt.NDArray[np.int64] = np.append(np.asarray(self.codes, dtype=np.int64), np.int64(nodata))[indices]
        return codes

    def unknown(self, counts: CodeCounts) -> CodeCounts:
        """Those of `counts` whose codes are neither a class nor nodata, in the codes' order."""
        known = {*self.codes, *self.nodata}
        return {code: count for code, count in sorted(counts.items()) if code not in known}

    def check(self, counts: CodeCounts, source: str) -> None:
        """Raise `LegendError` listing codes and pixel counts if `counts` holds codes that the legend does not know."""
        unknown = self.unknown(counts)
        if unknown:
            known = (*self.codes, *self.nodata)
            listed = ", ".join(f"{code} ({count} px)" for code, count in list(unknown.items())[:12])
            more = f" and {len(unknown) - 12} more" if len(unknown) > 12 else ""
            raise LegendError(
                f"{source}: codes that legend {self.name!r} does not know: {listed}{more};"
                f" it knows {', '.join(str(code) for code in sorted(known) if code >= _ABSENT_END)}"
            )

    def translation_to(self, target: Legend) -> Legend:
        """This legend's codes in the class order of `target`, matched by class name.

        Its `encode` gives class indices of `target`. Classes of `target` that this legend lacks keep a code that no
        raster holds, so that indices stay in place.

        Raises:
            LegendError: if this legend has a class that `target` lacks.
        """
        own = {entry.name: entry for entry in self.classes}
        missing = sorted(set(own) - set(target.names))
        if missing:
            raise LegendError(f"legend {target.name!r} has no class {', '.join(missing)} (from legend {self.name!r})")
        absent = iter(range(_ABSENT_START, _ABSENT_END))
        classes = tuple(
            own.get(entry.name) or entry.model_copy(update={"code": next(absent)}) for entry in target.classes
        )
        return Legend(name=self.name, classes=classes, nodata=self.nodata)


def _legend(name: str, nodata: tuple[int, ...], *classes: tuple[int, str, str]) -> Legend:
    return Legend(
        name=name, nodata=nodata, classes=tuple(LegendClass(code=c, name=n, colour=colour) for c, n, colour in classes)
    )


# Chesapeake Conservancy land cover, 7-class product (Robinson et al. 2019); 0 and 15 are no data.
CHESAPEAKE = _legend(
    "chesapeake",
    (0, 15),
    (1, "water", "#0070C0"),
    (2, "tree canopy", "#267300"),
    (3, "low vegetation", "#A3FF73"),
    (4, "barren", "#FFAA00"),
    (5, "impervious (other)", "#9C9C9C"),
    (6, "impervious (roads)", "#000000"),
)

BUILT_IN = {legend.name: legend for legend in (CHESAPEAKE,)}

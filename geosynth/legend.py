"""Legend: which raster code means which class.

The raster holds *codes* (any integers); the network counts *class indices* 0 .. num_classes - 1 in the legend's order.
Pixels without a class (nodata) get the index `num_classes`. Several codes may mean one class. Rasters that show classes
by colours are read by a `ColourLegend`, whose codes are colours.
"""

from __future__ import annotations

import colorsys
import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    ValidationError,
    model_serializer,
    model_validator,
)

from geosynth.errors import LegendError, first_fault_line, first_of
from geosynth.inputs import check_input, read_values

Code = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
CodeOrColour = Annotated[
    Annotated[Code, Tag("code")] | Annotated[Colour, Tag("colour")],
    Discriminator(lambda value: "colour" if isinstance(value, str) and value.startswith("#") else "code"),
]
CodeCounts = dict[int, int]
ClassIndices = npt.NDArray[np.uint8]
"""Class indices of pixels, of any shape: from 0 in the legend's order, `num_classes` where there is no class."""

_FORM = "a legend has `name: NAME`, `classes:` with lines as `- {code: 1, name: water}`, and, if needed, `nodata: [0]`"

_GOLDEN = 0.618  # of the circle of hues: however many colours are made, neighbours lie far apart

# Codes for classes that a translation lacks: far below any code in a raster.
_ABSENT_START, _ABSENT_END = -(2**62), -(2**61)

NO_COLOUR = 1 << 24
"""A code beyond those of all colours, for pixels without data."""

GREY = "#808080"
"""The colour of a class that is given none."""

# Colours without a class; if there are more, the raster is an image, or its edges have been softened.
MOST_UNKNOWN_COLOURS = 64


class LegendClass(BaseModel):
    """One class: its raster code, its name, its colour as "#rrggbb".

    With a list of codes, as in `code: [41, 42, 43]`, all of them are read as the class, and the first is written. The
    same holds for a list of colours.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: Code
    name: str = Field(min_length=1)
    colour: Colour = GREY
    also: tuple[Code, ...] = ()
    also_colours: tuple[Colour, ...] = ()

    _several: ClassVar = {"code": "also", "colour": "also_colours"}

    @model_validator(mode="before")
    @classmethod
    def _take_lists(cls, values: Any) -> Any:
        if isinstance(values, dict):
            for first, others in cls._several.items():
                if isinstance(listed := values.get(first), list | tuple) and listed:
                    values = {**values, first: listed[0], others: listed[1:]}
        return values

    @model_serializer(mode="wrap")
    def _give_them_back(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Several codes or colours as a list; a single one as before, so that stores and models are unchanged."""
        values: dict[str, Any] = dump(self)
        for first, others in self._several.items():
            if also := values.pop(others):
                values[first] = [values[first], *also]
        return values

    @property
    def codes(self) -> tuple[int, ...]:
        """All codes of the class, first the one that is written."""
        return self.code, *self.also

    @property
    def colours(self) -> tuple[str, ...]:
        """All colours of the class in rasters of colours, first the one that is shown."""
        return self.colour, *self.also_colours

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green and blue, 0 to 255."""
        return rgb_of(self.colour)


class Legend(BaseModel):
    """Classes in their order, and the codes that mean no data; for rasters of colours, colours such as "#rrggbb" do.

    Raises:
        LegendError: if codes or names repeat or there are none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    classes: tuple[LegendClass, ...] = Field(min_length=1, max_length=254)
    nodata: tuple[CodeOrColour, ...] = ()

    known_by: ClassVar[str] = "codes"
    """What distinguishes classes in the rasters that it reads."""

    def __init__(self, **values: Any) -> None:
        """A legend from its parts.

        Raises:
            LegendError: one line.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _legend_error(error, "legend") from error

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # as BaseModel's: not called in model files

    @model_validator(mode="after")
    def _check_unique(self) -> Self:
        codes = Counter([*(str(code) for entry in self.classes for code in entry.codes), *map(str, self.nodata)])
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
            raise _legend_error(error, source) from error

    @classmethod
    def load(cls, legend: str | Path | Legend) -> Legend:
        """A built-in legend by name ("chesapeake"), or one from a YAML file; a Legend is returned unchanged.

        Raises:
            LegendError: if there is no such legend or file, or the file is not a legend.
            SettingsError: if it is neither a legend nor a name.
        """
        if isinstance(legend, Legend):
            return legend
        check_input(legend, "a legend", "legend")
        if str(legend) in BUILT_IN:
            return BUILT_IN[str(legend)]
        path = Path(legend)
        if not path.is_file():
            known = ", ".join(sorted(BUILT_IN))
            raise LegendError(f"{legend}: neither a legend file nor a built-in legend ({known})")
        return cls.from_values(read_values(path, LegendError), str(path))

    @property
    def num_classes(self) -> int:
        """Number of classes; also the class index of a pixel without data."""
        return len(self.classes)

    @property
    def codes(self) -> tuple[int, ...]:
        """The codes that are written, one for each class, in class-index order."""
        return tuple(entry.code for entry in self.classes)

    @property
    def class_of(self) -> dict[int, int]:
        """The class index of each code that is read."""
        return {code: index for index, entry in enumerate(self.classes) for code in entry.codes}

    @property
    def names(self) -> tuple[str, ...]:
        """The class names in class-index order."""
        return tuple(entry.name for entry in self.classes)

    @property
    def nodata_codes(self) -> tuple[int, ...]:
        """The entries of `nodata` that are codes, not colours."""
        return tuple(code for code in self.nodata if isinstance(code, int))

    @property
    def nodata_code(self) -> int:
        """The code of pixels without a class in new files: the last of `nodata`, else an unused one.

        That is the largest unused value of a byte; if there is none, the smallest one above.
        """
        if self.nodata_codes:
            return self.nodata_codes[-1]
        return next(
            code for code in itertools.chain(range(255, -1, -1), itertools.count(256)) if code not in self.class_of
        )

    @property
    def code_dtype(self) -> np.dtype[Any]:
        """The smallest integer type for all codes in new files, including `nodata_code`."""
        codes = (*self.codes, self.nodata_code)
        return np.result_type(np.min_scalar_type(min(codes)), np.min_scalar_type(max(codes)))

    def encode(self, codes: npt.NDArray[np.integer[Any]]) -> ClassIndices:
        """Class indices of raster codes, in the same shape; `num_classes` where a code belongs to no class.

        Unknown codes are not distinguished from nodata here: `check` finds them, once, before any work starts.
        """
        known, order = np.array(sorted(self.class_of.items()), dtype=np.int64).T
        if codes.dtype in (np.uint8, np.uint16):  # a look-up table is ten times faster than a search
            table = np.full(np.iinfo(codes.dtype).max + 1, self.num_classes, dtype=np.uint8)
            inside = (known >= 0) & (known < len(table))
            table[known[inside]] = order[inside]
            if codes.dtype == np.uint16:
                return table.take(codes)
            # Takes a quarter of the time of table[codes], which first converts each code to int64.
            return np.ndarray(codes.shape, np.uint8, bytearray(codes.tobytes()).translate(table.tobytes()))
        # A uint64 code beyond int64 wraps in the search, but the comparison with the code itself finds it unknown.
        position = np.minimum(np.searchsorted(known, codes.astype(np.int64)), len(known) - 1)
        return np.where(known[position] == codes, order[position], self.num_classes).astype(np.uint8)

    def decode(self, indices: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.integer[Any]]:
        """Raster codes of class indices, in the same shape, of `code_dtype`; `nodata_code` where there is no class."""
        codes: npt.NDArray[np.integer[Any]] = np.array([*self.codes, self.nodata_code], self.code_dtype)[indices]
        return codes

    def unknown(self, counts: CodeCounts) -> CodeCounts:
        """The part of `counts` whose codes are neither a class nor nodata, in the order of the codes."""
        known = {*self.class_of, *self.nodata_codes}
        return {code: count for code, count in sorted(counts.items()) if code not in known}

    def count(self, counts: CodeCounts) -> tuple[int, ...]:
        """Number of pixels of each class, in class-index order."""
        return tuple(sum(counts.get(code, 0) for code in entry.codes) for entry in self.classes)

    def check(
        self,
        counts: CodeCounts,
        source: str,
        names: Mapping[int, str | None] = MappingProxyType({}),
        remedy: str = "choose another with --legend",
    ) -> None:
        """Refuse codes that the legend does not list.

        Args:
            counts: number of pixels of each code.
            source: name of the raster, for the message.
            names: names of codes in the raster, if it has any.
            remedy: what the message tells to do.

        Raises:
            LegendError: if there are such codes; lists codes, names and pixels.
        """
        unknown = self.unknown(counts)
        if unknown:
            known = (*self.class_of, *self.nodata_codes)
            called = {code: f" {name!r}" for code, name in names.items() if name}
            shown = first_of(f"{self.say(code)}{called.get(code, '')} ({n} px)" for code, n in unknown.items())
            raise LegendError(
                f"{source}: {self.known_by} that legend {self.name!r} does not know: {shown};"
                f" it knows {', '.join(self.say(code) for code in sorted(known) if code >= _ABSENT_END)};"
                f" {remedy}"
            )

    def say(self, code: int) -> str:
        """A code as text."""
        return str(code)

    def translation_to(self, target: Legend) -> Legend:
        """A legend with this legend's codes in the class order of `target`, matched by class name (`plain`).

        Its `encode` gives class indices of `target`. Classes that this legend lacks get a code that occurs in no
        raster, so that indices do not shift.

        Raises:
            LegendError: if this legend has a class that `target` lacks, or two that are the same class in `target`.
        """
        wanted = {plain(name): name for name in target.names} | {name: name for name in target.names}
        own = {wanted.get(entry.name) or wanted.get(plain(entry.name), entry.name): entry for entry in self.classes}
        missing = sorted(set(own) - set(target.names))
        if missing:
            raise LegendError(
                f"legend {target.name!r} has no class {', '.join(missing)} (from legend {self.name!r});"
                f" it has {', '.join(target.names)}"
            )
        if len(own) < len(self.classes):
            raise LegendError(f"legend {self.name!r}: two classes have the same name except for case, spaces, - and _")
        absent = iter(range(_ABSENT_START, _ABSENT_END))
        classes = tuple(
            own[entry.name].model_copy(update={"name": entry.name})
            if entry.name in own
            else entry.model_copy(update={"code": next(absent), "also": ()})
            for entry in target.classes
        )
        return Legend(name=self.name, classes=classes, nodata=self.nodata)

    def by_colour(self, source: str) -> ColourLegend:
        """The same classes, for a raster that shows them by their colours.

        Args:
            source: name of the raster, for the message.

        Raises:
            LegendError: if two classes have a colour in common, or if a class has a colour that means no data.
        """
        here = [entry for entry in self.classes if entry.code >= _ABSENT_END]
        nodata = [colour for colour in self.nodata if isinstance(colour, str)]
        holders = defaultdict(list)
        for name, colours in [*((entry.name, entry.colours) for entry in here), ("no data", nodata)]:
            for colour in colours:
                holders[colour.lower()].append(name)
        if shared := next((colour for colour, names in holders.items() if len(names) > 1), None):
            names = " and ".join(dict.fromkeys(holders[shared]))
            raise LegendError(
                f"{source}: is read by its colours, but in legend {self.name!r} {shared} is that of {names};"
                " each class needs its own"
            )

        def by_colour(entry: LegendClass) -> LegendClass:
            first, *others = map(_number, entry.colours)
            return entry.model_copy(update={"code": first, "also": tuple(others)})

        classes = tuple(by_colour(entry) if entry in here else entry for entry in self.classes)
        return ColourLegend(name=self.name, classes=classes, nodata=tuple(map(_number, nodata)))


class ColourLegend(Legend):
    """A legend whose codes are colours, as uint32 numbers 0xRRGGBB."""

    known_by: ClassVar[str] = "colours"

    def by_colour(self, source: str) -> ColourLegend:
        """The legend itself."""
        return self

    def encode(self, codes: npt.NDArray[np.integer[Any]]) -> ClassIndices:
        """See `Legend.encode`."""
        if codes.dtype != np.uint32:
            return super().encode(codes)
        known, order = np.array([one for one in self.class_of.items() if one[0] >= 0], dtype=np.int64).T
        # Zeros take no memory until they are read, so a table of all colours is cheap if 0 means no class.
        table = np.zeros(NO_COLOUR + 1, np.uint8)
        table[known] = order - self.num_classes
        indices: ClassIndices = table.take(codes)
        indices += np.uint8(self.num_classes)
        return indices

    def unknown(self, counts: CodeCounts) -> CodeCounts:
        """As for any legend, but the most frequent first, so that a missing class stands out among softened edges."""
        return dict(sorted(super().unknown(counts).items(), key=lambda one: -one[1]))

    def check(
        self,
        counts: CodeCounts,
        source: str,
        names: Mapping[int, str | None] = MappingProxyType({}),
        remedy: str = "choose another with --legend",
    ) -> None:
        """See `Legend.check`."""
        self.check_is_mask(counts, source)
        super().check(counts, source, names, remedy)

    def check_is_mask(self, counts: CodeCounts, source: str) -> None:
        """Refuse so many unknown colours that the raster cannot be labels; `counts` may be of a part.

        Raises:
            LegendError: one line.
        """
        unknown = self.unknown(counts)
        if len(unknown) > MOST_UNKNOWN_COLOURS:
            shown = ", ".join(map(self.say, list(unknown)[:3]))
            raise LegendError(
                f"{source}: more than {MOST_UNKNOWN_COLOURS} colours that legend {self.name!r} does not know, as"
                f" {shown}: an image, or a mask with soft edges (JPEG, smooth resampling)? Masks have no other colours"
                " than their classes: take the original one, or resample it to nearest pixels"
            )

    def say(self, code: int) -> str:
        """As "#rrggbb"."""
        return f"#{code:06x}"


def _legend_error(error: ValidationError, source: str) -> LegendError:
    where = error.errors()[0]["loc"]
    form = "" if len(where) > 2 else f"; {_FORM}"  # an entry of a class is told by its place alone
    return LegendError(f"{source}: {first_fault_line(error, 'a legend')}{form}")


def _number(colour: str) -> int:
    return int(colour[1:], 16)


def rgb_of(colour: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of a colour such as "#rrggbb"."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def told_apart(colours: Sequence[str | None]) -> list[str]:
    """The colours to show classes in: those that were given, and made ones for the others, if there are several.

    Args:
        colours: of the classes; `GREY` or None if a class was given none.
    """
    without = [index for index, colour in enumerate(colours) if colour in (None, GREY)]
    shown = [colour or GREY for colour in colours]
    for place, index in enumerate(without if len(without) > 1 else ()):
        channels = colorsys.hsv_to_rgb(place * _GOLDEN % 1, 0.7, (0.9, 0.6)[place % 2])
        shown[index] = "#" + bytes(round(255 * channel) for channel in channels).hex()
    return shown


def plain(name: str) -> str:
    """A class name for comparison: without regard to case, spaces, hyphens and underscores."""
    return "".join(character for character in name.casefold() if character not in " _-")


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

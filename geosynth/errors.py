"""The errors that geosynth raises on purpose. Each message is one line: what is wrong, where, what to do.

Every class is also the built-in error that a caller would expect (`ValueError` or `OSError`), so that code without
knowledge of geosynth can catch it.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class GeosynthError(Exception):
    """Base of all errors that geosynth raises on purpose.

    Args:
        what: what is wrong, where, and what to do, in one line.
        setting: name of the setting or argument that is wrong, with which the message then begins; the command line
            replaces it by its option.
    """

    def __init__(self, what: str, *, setting: str | None = None) -> None:
        super().__init__(what)
        self.what, self.setting = what, setting

    def __str__(self) -> str:
        return self.what if self.setting is None else f"{self.setting}: {self.what}"


class SettingsError(GeosynthError, ValueError):
    """A setting or argument has a value that cannot work."""


class LegendError(GeosynthError, ValueError):
    """A legend is malformed, or a raster contains codes that its legend does not list."""


class GridError(GeosynthError, ValueError):
    """Grids (CRS, transform, size) do not fit together, or a window lies outside its raster."""


class CheckpointError(GeosynthError, ValueError):
    """A file is not a geosynth model, or is damaged."""


class DataError(GeosynthError, ValueError):
    """Data that can be read but not used: wrong band count, wrong dtype, too few pixels, a fold without patches."""


class TrainingError(GeosynthError, ValueError):
    """Training cannot continue, for instance because a loss is not a finite number."""


class RasterError(GeosynthError, OSError):
    """A raster or store cannot be opened or read."""


class OutputError(GeosynthError, OSError):
    """An output already exists, or cannot be written."""


class ClusterError(GeosynthError, ConnectionError):
    """A Dask cluster does not answer, or loses its workers."""


@contextmanager
def settings_of(part: str) -> Iterator[None]:
    """A context whose errors name a setting together with the part that it belongs to, as in "train.steps"."""
    try:
        yield
    except SettingsError as error:
        error.setting = part if error.setting is None else f"{part}.{error.setting}"
        raise


def one_line(error: BaseException) -> str:
    """The message of a library's error, or of the error that caused it, without line breaks."""
    return " ".join(str(error.__cause__ or error).split())


def first_line(error: BaseException) -> str:
    """The message of a library's error up to the first line break; the name of its class if it is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# Words in pydantic's messages (patterns), and those that users know.
_PLAIN = (
    ("Input should be", "must be"),
    ("Field required", "is needed"),
    ("Extra inputs are not permitted", "there is no such entry"),
    ("a valid tuple", "a list"),
    (r"a valid dictionary.*", "names with values"),
    (r"String should match pattern '\^#.*", "must be a colour as '#0070C0'"),
    (r"Tuple should have at least 1 item.*", "must not be empty"),
    (r"String should have at least 1 character", "must not be empty"),
    ("could not parse value and unit from byte string", "give a size, as in 4GB or 512MiB"),
)


def first_fault(error: ValidationError) -> tuple[str | None, str]:
    """The name of the first wrong value, as in "segment.steps", and what is wrong with it.

    The name is None if it is not known which of several values is wrong.
    """
    first = error.errors()[0]
    # Other parts of the location are types that the value may have.
    names = [name for name in map(str, first["loc"]) if name != "str" and not name.startswith(("function-", "tuple["))]
    raised = first.get("ctx", {}).get("error")
    what = raised.what if isinstance(raised, GeosynthError) else first["msg"].removeprefix("Value error, ")
    if isinstance(raised, GeosynthError) and raised.setting not in (None, *names[-1:]):
        names.append(str(raised.setting))
    for said, plain in _PLAIN:
        what = re.sub(said, plain, what)
    return ".".join(names) or None, what


def first_fault_line(error: ValidationError, kind: str) -> str:
    """`first_fault` in one line; for values that are nothing of the kind, such as "a legend", that."""
    first = error.errors()[0]
    if not first["loc"] and first["type"] in ("model_type", "dict_type"):
        return f"is {'empty' if first['input'] is None else 'a list or plain text'}, and not {kind}"
    name, what = first_fault(error)
    return what if name is None else f"{name}: {what}"


def counted(number: int, thing: str) -> str:
    """As in "1 scene" and "2 scenes", for things whose plural ends in s."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def first_of(names: Iterable[object], most: int = 12) -> str:
    """As in "a, b and 3 more": the first ones by name, the others by their number."""
    words = list(map(str, names))
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


# By these words errors of exhausted memory are recognised that have no class of their own: words of CUDA and its
# libraries, of torch's CPU allocator, of oneDNN, of the system and its loader, and of Python, which needs memory for a
# thread.
_MEMORY_WORDS = (
    "out of memory",
    "_STATUS_ALLOC_FAILED",
    "DefaultCPUAllocator",
    "allocate memory",
    "not enough memory",
    "could not create a primitive",
    "failed to map segment",
    "can't start new thread",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, of whatever class, says that memory is exhausted."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _MEMORY_WORDS)


def no_more_files(error: BaseException) -> OSError | None:
    """The "too many open files" that caused an error, if it did: then nothing is wrong with the file itself."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.EMFILE, errno.ENFILE):
            return seen
        if not isinstance(seen, GeosynthError) and os.strerror(errno.EMFILE) in str(seen):  # as safetensors says it
            return OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        seen = seen.__cause__ or seen.__context__
    return None

"""Mutations of files: of any bytes, and of the values in JSON."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

_HEAD = 1024  # bytes in which most formats say what follows
_NUMBERS = [
    0,
    1,
    -1,
    2**15,
    2**31 - 1,
    -(2**31),
    2**32,
    2**63,
    10**400,
    0.5,
    -0.0,
    1e-320,
    1e308,
    float("inf"),
    float("nan"),
]
_TEXTS = ["", " ", ".", "..", "/", "../../x", "\0", "\ud800", "nan", "é" * 300, "%s{0}", "http://127.0.0.1:9/x", "a\nb"]
_EDGES = [
    b"\0",
    b"\xff",
    b"\x7f\xff\xff\xff",
    b"\0\0\0\0\0\0\0\0",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\0\0\xf0\x7f",
]


class _Nested:
    """As many lists in each other; spelt out only when it is written: Python's own functions give up on it."""

    def __init__(self, depth: int) -> None:
        self.depth = depth

    def __repr__(self) -> str:
        return f"nested({self.depth})"


_scalars = st.one_of(st.none(), st.booleans(), st.sampled_from(_NUMBERS), st.sampled_from(_TEXTS))
_values = st.one_of(
    _scalars,
    st.lists(_scalars, max_size=3),
    st.dictionaries(st.sampled_from(["", "a", "train", "name"]), _scalars, max_size=2),
    st.sampled_from([2, 100, 3000]).map(_Nested),
)


def mutated_file(name: str, content: bytes) -> st.SearchStrategy[bytes]:
    """Mutations that suit a file of this name."""
    if name.endswith((".json", ".geojson", "data.yaml", ".json.yaml")):
        return mutated_json(content)
    if name.endswith(".safetensors"):
        return st.one_of(mutated_bytes(content), mutated_header(content))
    return mutated_bytes(content)


@st.composite
def mutated_header(draw: st.DrawFn, content: bytes) -> bytes:
    """A safetensors file whose header is mutated, or a JSON document among its entries."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    if draw(st.booleans()):
        entries = header["__metadata__"]
        name = draw(st.sampled_from([key for key, value in entries.items() if value[:1] in "[{"]))
        entries[name] = draw(mutated_json(entries[name].encode())).decode(errors="replace")
        changed = json.dumps(header).encode()
    else:
        changed = draw(mutated_json(content[8 : 8 + length]))
    return len(changed).to_bytes(8, "little") + changed + content[8 + length :]


@st.composite
def _edits(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    place = draw(st.one_of(st.integers(0, _HEAD), st.integers(0, 2**31)))
    kind = draw(st.sampled_from(["flip", "write", "insert", "delete", "cut", "repeat"]))
    count = draw(st.integers(1, 64))
    written = draw(st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from(_EDGES)))

    def edit(content: bytes) -> bytes:
        at = place % (len(content) + 1)
        head, tail = content[:at], content[at:]
        match kind:
            case "flip":
                return head + bytes([tail[0] ^ (1 << count % 8)]) + tail[1:] if tail else head
            case "write":
                return head + written + tail[len(written) :]
            case "insert":
                return head + written * count + tail
            case "delete":
                return head + tail[count:]
            case "cut":
                return head
        return head + tail[:count] + tail

    return edit


@st.composite
def mutated_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """The content after one to four edits."""
    for edit in draw(st.lists(_edits(), min_size=1, max_size=4)):
        content = edit(content)
    return content


@st.composite
def mutated_json(draw: st.DrawFn, content: bytes) -> bytes:
    """JSON in which one to three values are others, gone, or under another name; now and then a few bytes too."""
    document = json.loads(content)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(document))
        if not places:
            break
        within, key = places[draw(st.integers(0, len(places) - 1))]
        match draw(st.sampled_from(["set", "set", "drop", "rename", "copy"])):
            case "set":
                within[key] = draw(_values)
            case "drop":
                del within[key]
            case "rename" if isinstance(within, dict):
                within[draw(st.sampled_from(_TEXTS))] = within.pop(key)
            case _:
                other, name = places[draw(st.integers(0, len(places) - 1))]
                within[key] = copy.deepcopy(other[name]) if name in other or isinstance(other, list) else None
    written = _spelt(document)
    return draw(mutated_bytes(written)) if draw(st.integers(0, 9)) == 0 else written


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _spelt(document: Any) -> bytes:
    mark = "nested lists stand here"
    nested: list[int] = []

    def default(value: Any) -> str:
        nested.append(value.depth)
        return mark

    text = json.dumps(document, default=default)
    for depth in nested:
        text = text.replace(f'"{mark}"', "[" * depth + "]" * depth, 1)
    return text.encode()

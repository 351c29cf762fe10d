"""ChunkReader: windows of a Zarr v3 array on a local disk, several times faster than through zarr-python.

zarr-python sends every chunk through an event loop and a generic codec pipeline, which takes several times as long as
decoding, and uses threads that do not survive a fork. Patches read a few chunks at a time, thousands of times a second,
from forked workers. So the common layouts (bytes, then Blosc, Zstandard or nothing, then a checksum or none; sharded or
not) are read here, by one positioned read of each chunk and one call of numcodecs. Other layouts, and stores that are
not on a local disk, are read through zarr-python.
"""

from __future__ import annotations

import itertools
import math
import os
import struct
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
from numcodecs import blosc
from numcodecs.zstd import Zstd
from zarr.storage import LocalStore

from geosynth.errors import RasterError, one_line
from geosynth.grid import Window
from geosynth.parallel import ahead
from geosynth.progress import Progress, silent

_ABSENT = 2**64 - 1  # offset and length of a chunk that is not in a shard (Zarr v3, sharding_indexed)
_MAX_SHARDS = 64
_CRC_OF_CHECKED = 0x48674BC7  # CRC-32C of any bytes followed by their own CRC-32C
_BLOSC = struct.Struct("<4xI4xI")  # Blosc's header: bytes before and after compression

Array = npt.NDArray[Any]


class ChunkReader:
    """Reads boxes of an array. Can be pickled, shared by threads, and used after a fork.

    Args:
        array: a `zarr.Array`.
        path: of the store, for messages.
    """

    def __init__(self, array: Any, path: str) -> None:
        self._array = array
        self._path = path
        self._layout = _Layout.of(array)
        self._front = tuple(slice(0, length) for length in array.shape[:-2])
        self._shards: OrderedDict[str, _Shard] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def has_checksums(self) -> bool:
        """Whether each chunk has a checksum, which is verified at every read."""
        return "crc32c" in [codec["name"] for codec in _codecs_of(self._array.metadata.to_dict())[0]]

    def read(self, *box: slice) -> Array:
        """The values of a box: for each axis of the array a slice with start and stop, within the array.

        Raises:
            RasterError: if a chunk cannot be read; it names the chunk's file.
        """
        layout = self._layout
        if layout is None:
            try:
                return np.asarray(self._array[box])
            except Exception as error:  # zarr, fsspec and network libraries each raise their own
                raise RasterError(f"{self._path}: cannot be read: {one_line(error)}") from error
        values = np.empty([axis.stop - axis.start for axis in box], dtype=layout.dtype)
        shards: dict[str, _Shard | None] = {}  # each is looked up once for this read
        for parts in itertools.product(*map(_parts, box, layout.chunks)):
            place, inner, outer = zip(*parts, strict=True)
            chunk = self._chunk(layout, place, shards)
            values[outer] = layout.fill_value if chunk is None else chunk[inner]
        return values

    def read_window(self, window: Window) -> Array:
        """The values (..., height, width) of a window of the last two axes and all of the others; see `read`."""
        return self.read(*self._front, *window.slices)

    def _chunk(self, layout: _Layout, place: tuple[int, ...], shards: dict[str, _Shard | None]) -> Array | None:
        """A whole chunk; None if it is not stored."""
        file, number = layout.find(place)
        try:
            if not layout.per_shard:
                encoded = _read_file(file)
            else:
                if file not in shards:
                    shards[file] = self._shard(layout, file)
                shard = shards[file]
                encoded = None if shard is None else shard.read(number)
            return None if encoded is None else layout.decode(encoded)
        except (OSError, RuntimeError, ValueError) as error:
            raise RasterError(f"{file}: a chunk cannot be read: {one_line(error)}") from error

    def _shard(self, layout: _Layout, file: str) -> _Shard | None:
        """An open shard, reopened if its file was replaced; None if there is none."""
        try:
            stamp = _stamp(os.stat(file))  # noqa: PTH116 - asked for at each read: a Path costs more than the question
        except FileNotFoundError:
            return None
        with self._lock:
            shard = self._shards.get(file)
            if shard is None or shard.stamp != stamp:
                shard = self._shards[file] = _Shard(file, layout)
                if len(self._shards) > _MAX_SHARDS:
                    self._shards.popitem(last=False)
            self._shards.move_to_end(file)
        return shard

    def __reduce__(self) -> tuple[Any, ...]:
        return ChunkReader, (self._array, self._path)


def verify_chunks(
    readers: Mapping[str, ChunkReader], windows: Sequence[tuple[str, Window]], progress: Progress = silent
) -> dict[str, Any]:
    """Read windows of arrays, and verify the checksums of chunks that have them.

    Args:
        readers: of the arrays, by name.
        windows: (name of the array, window); together they cover all chunks.
        progress: called with the number of windows read and of all windows.

    Returns:
        `blocks`, the number of windows; `checksums`, "of each chunk" or "none"; `damaged`, one line for each window
        that cannot be read.
    """

    def fault(place: tuple[str, Window]) -> str | None:
        name, window = place
        try:
            readers[name].read_window(window)
        except RasterError as error:
            return str(error)
        return None

    damaged = []
    for done, found in enumerate(ahead(fault, windows), start=1):
        damaged += [found] if found else []
        progress(done, len(windows))
    has_checksums = all(reader.has_checksums for reader in readers.values())
    return {"blocks": len(windows), "checksums": "of each chunk" if has_checksums else "none", "damaged": damaged}


class _Shard:
    """An open shard. Positioned reads share no state, so threads and forked processes may use one descriptor."""

    def __init__(self, file: str, layout: _Layout) -> None:
        self._file = Path(file).open("rb", buffering=0)  # noqa: SIM115 - closed when it is let go of
        status = os.fstat(self._file.fileno())
        self.stamp = _stamp(status)
        length = 16 * math.prod(layout.per_shard) + 4  # 4 bytes of checksum
        index = os.pread(self._file.fileno(), length, 0 if layout.index_at_start else max(0, status.st_size - length))
        if len(index) < length:
            raise ValueError("the file is cut off")
        entries = np.frombuffer(_checked(index), dtype="<u8").reshape(-1, 2)
        offsets, lengths = entries[(entries != _ABSENT).any(axis=1)].T
        if ((offsets > status.st_size) | (lengths > status.st_size - np.minimum(offsets, status.st_size))).any():
            raise ValueError("the file is cut off or damaged")
        self._index = entries.tolist()

    def read(self, number: int) -> bytes | None:
        offset, length = self._index[number]
        if offset == _ABSENT:
            return None
        encoded = os.pread(self._file.fileno(), length, offset)
        if len(encoded) != length:
            raise ValueError("the file is cut off")
        return encoded

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()


class _Layout:
    """Where the chunks of an array are, and how they are decoded."""

    def __init__(self, array: Any, codecs: list[dict[str, Any]], sharding: dict[str, Any] | None) -> None:
        values = array.metadata.to_dict()
        outer = tuple(values["chunk_grid"]["configuration"]["chunk_shape"])
        self.dtype = np.dtype(array.dtype)
        self.fill_value = array.fill_value
        self.chunks = tuple(sharding["chunk_shape"]) if sharding else outer
        self.per_shard = tuple(o // c for o, c in zip(outer, self.chunks, strict=True)) if sharding else ()
        self.index_at_start = sharding is not None and sharding["index_location"] == "start"
        self._folder = str(Path(array.store.root) / array.path)
        self._separator = values["chunk_key_encoding"]["configuration"]["separator"]
        self._decompress: Callable[[Any], Any] | None = None
        self.has_checksums = bool(codecs) and codecs[-1]["name"] == "crc32c"
        codecs = codecs[:-1] if self.has_checksums else codecs
        if codecs:
            self._decompress = self._from_blosc if codecs[0]["name"] == "blosc" else Zstd().decode

    @classmethod
    def of(cls, array: Any) -> _Layout | None:
        """The layout by the metadata of the Zarr v3 specification; None if zarr-python must read the array."""
        if array.metadata.zarr_format != 3 or not isinstance(array.store, LocalStore):
            return None
        values = array.metadata.to_dict()
        usual = values["chunk_grid"]["name"] == "regular" and values["chunk_key_encoding"]["name"] == "default"
        codecs, sharding = _codecs_of(values)
        if sharding:
            index_codecs = [_name_and_order(codec) for codec in sharding["index_codecs"]]
            usual &= index_codecs == [("bytes", "little"), ("crc32c", None)]
        name, order = _name_and_order(codecs[0])
        usual &= name == "bytes" and (order == sys.byteorder or np.dtype(array.dtype).itemsize == 1)
        names = [codec["name"] for codec in codecs[1:]]
        usual &= (names[:-1] if names[-1:] == ["crc32c"] else names) in ([], ["blosc"], ["zstd"])
        usual &= not values.get("storage_transformers")
        return cls(array, codecs[1:], sharding) if usual else None

    def find(self, place: tuple[int, ...]) -> tuple[str, int]:
        """The file of a chunk, and the chunk's number in it (row-major)."""
        if not self.per_shard:
            return self._file(place), 0
        shard = tuple(number // count for number, count in zip(place, self.per_shard, strict=True))
        number = 0
        for position, count in zip(place, self.per_shard, strict=True):
            number = number * count + position % count
        return self._file(shard), number

    def _file(self, place: tuple[int, ...]) -> str:
        return f"{self._folder}/{self._separator.join(('c', *map(str, place)))}"

    def _from_blosc(self, encoded: Any) -> Any:
        """Decompress after checking the header, which Blosc itself trusts: it would read beyond truncated data."""
        size = math.prod(self.chunks) * self.dtype.itemsize
        if len(encoded) < _BLOSC.size or _BLOSC.unpack_from(encoded) != (size, len(encoded)):
            raise ValueError("the chunk is cut off or damaged")
        return blosc.decompress(encoded)

    def decode(self, encoded: bytes) -> Array:
        """The values of a chunk.

        Raises:
            ValueError, RuntimeError: if it is damaged.
        """
        content = _checked(encoded) if self.has_checksums else encoded
        values = np.frombuffer(self._decompress(content) if self._decompress else content, dtype=self.dtype)
        return values.reshape(self.chunks)


def _codecs_of(values: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The codecs of the chunks (none before Zarr v3), and the configuration of the shards, if there are any."""
    codecs = list(values.get("codecs", ()))
    if len(codecs) == 1 and codecs[0]["name"] == "sharding_indexed":
        sharding = codecs[0]["configuration"]
        return list(sharding["codecs"]), sharding
    return codecs, None


def _checked(encoded: bytes) -> memoryview:
    """The bytes before a CRC-32C of four bytes, if that is right.

    To avoid a copy, which would take longer than the check, it uses that the CRC of bytes together with their own CRC
    is a constant.
    """
    if google_crc32c.value(encoded) != _CRC_OF_CHECKED:
        raise ValueError("the file is cut off or damaged: its checksum is another")
    return memoryview(encoded)[:-4]


def _name_and_order(codec: dict[str, Any]) -> tuple[str, str | None]:
    return codec["name"], codec.get("configuration", {}).get("endian")


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _read_file(file: str) -> bytes | None:
    try:
        return Path(file).read_bytes()
    except FileNotFoundError:
        return None


def _parts(axis: slice, size: int) -> list[tuple[int, slice, slice]]:
    """The chunks that a slice of an axis overlaps: number of the chunk, the overlap within it and within the slice."""
    parts = []
    for number in range(axis.start // size, -(-axis.stop // size)):
        first = number * size
        start, stop = max(axis.start, first), min(axis.stop, first + size)
        parts.append((number, slice(start - first, stop - first), slice(start - axis.start, stop - axis.start)))
    return parts

"""ChunkReader: whatever the layout, the values of zarr itself."""

from __future__ import annotations

import itertools
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ShardingCodec, ZstdCodec

from geosynth.errors import RasterError
from geosynth.grid import Window
from geosynth.raster.chunks import ChunkReader
from strategies import few

SHAPE = (2, 45, 70)
COMPRESSORS: dict[str, Any] = {
    "none": None,
    "lz4hc": BloscCodec(cname="lz4hc", shuffle="noshuffle"),
    "shuffled": BloscCodec(cname="zstd", shuffle="shuffle"),
    "zstd": ZstdCodec(level=1),
    "checked": (BloscCodec(cname="lz4hc", shuffle="noshuffle"), Crc32cCodec()),
    "gzip": GzipCodec(),
}
LAYOUTS = list(itertools.product(COMPRESSORS, ["uint8", "int16", "float32"], [None, (2, 32, 32), (2, 16, 64)]))


def make(path: Path, compressor: str, dtype: str, shards: tuple[int, ...] | None) -> tuple[Any, np.ndarray]:
    """An array with a hole: its first chunk is not stored."""
    values = np.random.default_rng(3).integers(-300, 300, SHAPE).astype(dtype)
    values[:, :16, :16] = 9
    array = zarr.create_array(
        path,
        shape=SHAPE,
        chunks=(2, 16, 16),
        shards=shards,
        dtype=dtype,
        fill_value=9,
        compressors=COMPRESSORS[compressor],
    )
    array[:] = values
    return array, values


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[ChunkReader, np.ndarray]]:
    folder = tmp_path_factory.mktemp("arrays")
    made = [make(folder / str(number), *layout) for number, layout in enumerate(LAYOUTS)]
    return [(ChunkReader(array, "here"), values) for array, values in made]


def some_slice(length: int) -> st.SearchStrategy[slice]:
    places = st.tuples(st.integers(0, length - 1), st.integers(1, length))
    return places.map(lambda place: slice(place[0], min(length, place[0] + place[1])))


@few
@given(box=st.tuples(*(some_slice(length) for length in SHAPE)))
def test_any_box_of_any_layout(arrays: list[tuple[ChunkReader, np.ndarray]], box: tuple[slice, ...]) -> None:
    for reader, values in arrays:
        found = reader.read(*box)
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(found, values[box])
        *_, rows, columns = box
        window = Window(rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)
        np.testing.assert_array_equal(reader.read_window(window), values[..., rows, columns])


def passes_zarr_by(reader: ChunkReader, *box: slice) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zarr.Array, "__getitem__", None)
        try:
            reader.read(*box)
        except RasterError:
            return False
    return True


def test_which_layouts_pass_zarr_by(arrays: list[tuple[ChunkReader, np.ndarray]]) -> None:
    for (reader, _), (compressor, _, _) in zip(arrays, LAYOUTS, strict=True):
        assert passes_zarr_by(reader, *(slice(0, side) for side in SHAPE)) == (compressor != "gzip")


def test_other_byte_order_index_place_and_version(tmp_path: Path) -> None:
    values = np.arange(64 * 64, dtype="uint16").reshape(64, 64)
    swapped = zarr.create_array(
        tmp_path / "swapped",
        shape=(64, 64),
        chunks=(16, 16),
        dtype="uint16",
        serializer=zarr.codecs.BytesCodec(endian="big"),
    )
    at_start = zarr.create_array(
        tmp_path / "at start",
        shape=(64, 64),
        chunks=(32, 32),
        dtype="uint16",
        compressors=None,
        serializer=ShardingCodec(chunk_shape=(16, 16), codecs=[zarr.codecs.BytesCodec()], index_location="start"),
    )
    old = zarr.create_array(tmp_path / "old", shape=(64, 64), chunks=(16, 16), dtype="uint16", zarr_format=2)
    for array, direct in ((swapped, False), (at_start, True), (old, False)):
        array[:] = values
        reader = ChunkReader(array, "here")
        assert passes_zarr_by(reader, slice(5, 40), slice(30, 64)) == direct
        np.testing.assert_array_equal(reader.read(slice(5, 40), slice(30, 64)), values[5:40, 30:64])


@pytest.mark.parametrize("shards", [None, (2, 32, 32)])
def test_a_replaced_file_is_read_anew(tmp_path: Path, shards: tuple[int, ...] | None) -> None:
    array, values = make(tmp_path / "array", "lz4hc", "uint8", shards)
    box = tuple(slice(0, length) for length in SHAPE)
    reader = ChunkReader(array, "here")
    np.testing.assert_array_equal(reader.read(*box), values)
    array[:] = 255 - values
    np.testing.assert_array_equal(reader.read(*box), 255 - values)


@pytest.mark.parametrize("shards", [None, (2, 32, 32)])
@pytest.mark.parametrize("compressor", ["none", "lz4hc", "zstd", "checked"])
@pytest.mark.parametrize("kept", [0, 3, 0.4])
def test_a_damaged_file_is_named(tmp_path: Path, compressor: str, shards: tuple[int, ...] | None, kept: float) -> None:
    array, _ = make(tmp_path / "array", compressor, "uint8", shards)
    victim = tmp_path / "array/c/0/1/1"
    content = victim.read_bytes()
    victim.write_bytes(content[: int(kept if kept >= 1 else kept * len(content))])
    with pytest.raises(RasterError, match=r"array/c/0/1/1: a chunk cannot be read") as caught:
        ChunkReader(array, "here").read(*(slice(0, length) for length in SHAPE))
    assert "\n" not in str(caught.value)


def _read_all(reader: ChunkReader) -> np.ndarray:
    return reader.read(*(slice(0, length) for length in SHAPE))


def test_pickled_in_threads_and_after_a_fork(arrays: list[tuple[ChunkReader, np.ndarray]]) -> None:
    for (reader, values), (compressor, _, shards) in zip(arrays, LAYOUTS, strict=True):
        if compressor == "lz4hc" and shards:
            _read_all(reader)
            np.testing.assert_array_equal(_read_all(pickle.loads(pickle.dumps(reader))), values)
            with ThreadPoolExecutor(8) as pool:
                for found in pool.map(_read_all, [reader] * 40):
                    np.testing.assert_array_equal(found, values)
            with multiprocessing.get_context("fork").Pool(2) as processes:
                for found in processes.map_async(_read_all, [reader] * 8).get(timeout=120):
                    np.testing.assert_array_equal(found, values)
                processes.close()  # a pool that is terminated may wait for ever for a worker that holds its lock
                processes.join()

"""A disk that is full while a raster is written: one line, nothing under the name, and the next run goes on."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import shapely
from odc.geo.geobox import GeoBox

from disks import disk
from geosynth.errors import OutputError
from geosynth.grid import TilePlan, Window
from geosynth.grid.vector import read_table, write_table
from geosynth.raster.cog import CogWriter
from geosynth.raster.stores.export import export_tiles
from geosynth.raster.stores.tiles import TileView
from rasters import NORTH_UP, UTM_18N, random_codes
from scene_stores import make_scene_store


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process grows beyond a size, bytes: writing fails there, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_cog(out: Path, side: int) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, side, side), dtype=np.uint8)
    valid = rng.random((side, side)) < 0.5
    geobox = GeoBox((side, side), NORTH_UP, UTM_18N)
    with CogWriter(out, geobox, ("red", "green", "blue"), masked=True, tags={}) as writer:
        for window in TilePlan(side, side, 512):
            writer.write(window, pixels[(slice(None), *window.slices)], valid[window.slices])
    with rasterio.open(out) as dataset:
        np.testing.assert_array_equal(dataset.read(), np.where(valid, pixels, 0))
        np.testing.assert_array_equal(dataset.dataset_mask() > 0, valid)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("side", [160, 1100])
def test_an_image_that_lost_its_end_when_it_was_closed_is_noticed(
    side: int, kept: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = rasterio.shutil.copy

    def lossy(source: str, out: str, **options: object) -> None:
        copy(source, out, **options)
        with Path(out).open("r+b") as file:
            file.truncate(int(kept * Path(out).stat().st_size))

    monkeypatch.setattr(rasterio.shutil, "copy", lossy)
    with pytest.raises(OutputError, match=r"out\.tif: cannot be written: "):
        write_cog(tmp_path / "out.tif", side)
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    write_cog(tmp_path / "out.tif", side)


@pytest.mark.parametrize(
    ("kilobytes", "is_long"), [*((kilobytes, False) for kilobytes in (100, 800, 850, 900, 950, 1000)), (850, True)]
)
def test_a_full_disk_leaves_no_image(
    kilobytes: int, is_long: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geosynth.raster.cog._LONG", 1 if is_long else 1 << 62)
    place = tmp_path / "disk"
    with disk(place, f"size={kilobytes}k"):
        with pytest.raises(OutputError, match=r"out\.tif: cannot be written: No space left on device$"):
            write_cog(place / "out.tif", 160)
        assert not list(place.iterdir())


def test_the_room_for_many_blocks_without_data_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even these have a place in the file's directory."""
    sizes = []

    def measure(writer: CogWriter, out: Path) -> None:
        sizes.append(writer._scratch.stat().st_blocks * 512)
        out.touch()

    monkeypatch.setattr(CogWriter, "_finish", measure)
    geobox = GeoBox((100 * 512, 100 * 512), NORTH_UP, UTM_18N)
    with CogWriter(tmp_path / "out.tif", geobox, ("red", "green", "blue", "nir"), masked=True, tags={}) as writer:
        writer.write(Window(0, 0, 512, 512), np.ones((4, 512, 512), np.uint8), np.ones((512, 512), bool))
        room = writer._needed(1)
    assert 4 * 512**2 + 2**18 < sizes[0] < room


@pytest.mark.parametrize("size", [400, 1500, 3000])
def test_tiles_that_found_no_room_are_no_tiles_and_the_next_run_goes_on(
    size: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    places = {"a.tif": Window(0, 0, 100, 90)}
    store = make_scene_store(tmp_path / "store", places, codes=random_codes(3, 100, 90))
    view, out = TileView(store, "train", 32, 20), tmp_path / "tiles"
    with largest_file(size), pytest.raises(OutputError, match=r"cannot be written: "):
        export_tiles([view], out)
    assert capfd.readouterr().err == ""  # libtiff has its own lines for it
    assert not out.exists()
    export_tiles([view], out)
    for index, window in enumerate(view):
        with rasterio.open(out / "image" / f"{view.name(index)}.tif") as image:
            np.testing.assert_array_equal(image.read(), store.read_image(window))
    assert len(list(out.rglob("*.tif"))) == 2 * len(view)


def test_a_tile_that_a_kill_left_torn_is_written_anew(tmp_path: Path) -> None:
    store = make_scene_store(tmp_path / "store", {"a.tif": Window(0, 0, 100, 90)}, codes=random_codes(3, 100, 90))
    view, out = TileView(store, "train", 32, 20), tmp_path / "tiles"

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_tiles([view], out, threads=1, progress=interrupt)
    torn = tmp_path / ".tiles.unfinished" / "result" / "image" / f"{view.name(len(view) - 1)}.tif"
    assert torn.parent.is_dir()
    torn.write_bytes(b"II*\0\xff\xff\0\0")
    export_tiles([view], out)
    with rasterio.open(out / "image" / torn.name) as image:
        np.testing.assert_array_equal(image.read(), store.read_image(view[len(view) - 1]))


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".geojson", ".parquet"])
def test_a_table_that_found_no_room_is_none(suffix: str, tmp_path: Path) -> None:

    table = gpd.GeoDataFrame(
        {"fold": ["train"] * 4000}, geometry=[shapely.box(n, 0, n + 1, 1) for n in range(4000)], crs="EPSG:32617"
    )
    path = tmp_path / f"split{suffix}"
    with largest_file(20_000), pytest.raises(OutputError, match="cannot be written"):
        write_table(table, path)
    assert not list(tmp_path.iterdir())
    write_table(table, path)
    assert len(read_table(path)) == len(table)

"""Exported tiles, read by rasterio: the pixels of the store, in place, and whole or not there."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine

from forked import start
from geosynth.errors import DataError, OutputError
from geosynth.grid import SpatialSplit, Window
from geosynth.legend import CHESAPEAKE
from geosynth.raster.stores import export as tile_export
from geosynth.raster.stores.export import export_tiles
from geosynth.raster.stores.store import Store
from geosynth.raster.stores.tiles import TileView
from geosynth.unfinished import UnfinishedWork
from rasters import UTM, north_up, random_codes
from scene_stores import BANDS, make_scene_store

PLACES = {"a.tif": Window(10, 20, 100, 90), "b.tif": Window(5, 130, 64, 64)}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    codes = random_codes(3, 110, 194)
    codes[70:80, 60:70] = 15
    return make_scene_store(tmp_path_factory.mktemp("export") / "store", PLACES, codes=codes)


@pytest.mark.parametrize(
    ("dtype", "bands", "transform", "crs"),
    [
        ("uint8", BANDS, north_up(1000, 2000), UTM),
        ("uint16", ("B02", "B03", "B04", "B08", "B11"), Affine(10, 0, 6e5, 0, -10, 4e6), "EPSG:32617"),
        ("float32", ("height",), north_up() @ Affine.rotation(20), "ESRI:102039"),
        ("uint8", ("red", "green", "blue"), Affine(1, 0, 0, 0, 1, 0), None),  # south-up, without CRS
    ],
)
def test_tiles_are_bit_by_bit_what_the_store_holds(
    tmp_path: Path, dtype: str, bands: tuple[str, ...], transform: Affine, crs: str | None
) -> None:
    store = make_scene_store(tmp_path / "store", PLACES, dtype=dtype, band_names=bands, transform=transform, crs=crs)
    view = TileView(store, "train", 32, 20)
    out = export_tiles([view], tmp_path / "tiles")
    index = gpd.read_parquet(out / "index.parquet")
    assert len(index) == len(view) == len(list((out / "image").iterdir())) == len(list((out / "labels").iterdir()))
    for row, window in zip(index.itertuples(), view, strict=True):
        with rasterio.open(out / row.image) as image, rasterio.open(out / row.labels) as labels:
            assert np.array_equal(image.read(), store.read_image(window))
            assert image.dtypes == (dtype,) * len(bands)
            assert image.descriptions == bands
            assert image.nodata is None
            assert np.array_equal(CHESAPEAKE.encode(labels.read(1)), store.read_labels(window))
            assert labels.nodata == 15
            assert labels.colormap(1)[6] == (0, 0, 0, 255)
            assert labels.colormap(1)[1] == (0x00, 0x70, 0xC0, 255)
            for dataset in (image, labels):
                assert dataset.transform.almost_equals(transform @ Affine.translation(window.column, window.row), 1e-9)
                assert (dataset.crs is None) == (crs is None)
                assert crs is None or dataset.crs == rasterio.crs.CRS.from_user_input(crs)
                assert dataset.dataset_mask().all()
        assert (row.row, row.column, row.fold) == (window.row, window.column, "train")
        corners = [transform @ (c, r) for c in (window.column, window.right) for r in (window.row, window.bottom)]
        x, y = zip(*corners, strict=True)
        assert row.geometry.bounds == pytest.approx((min(x), min(y), max(x), max(y)))


def test_the_fourth_band_is_no_transparency(store: Store, tmp_path: Path) -> None:
    out = export_tiles([TileView(store, "train", 32)], tmp_path / "tiles")
    with rasterio.open(next((out / "image").iterdir())) as dataset:
        assert [band.name for band in dataset.colorinterp] == ["red", "green", "blue", "nir"]


def test_colours_are_told_in_whatever_order(tmp_path: Path) -> None:
    bands = ("nir", "green", "red")
    view = TileView(make_scene_store(tmp_path / "store", PLACES, band_names=bands), "train", 64)
    out = export_tiles(view, tmp_path / "tiles")
    with rasterio.open(next((out / "image").iterdir())) as dataset:
        assert tuple(band.name for band in dataset.colorinterp) == dataset.descriptions == bands


def test_holes_are_masked_in_the_image_and_nodata_in_the_labels(store: Store, tmp_path: Path) -> None:
    view = TileView(store, "train", 32, 32, max_nodata=0.9)
    out = export_tiles([view], tmp_path / "tiles")
    holes = 0
    for index, window in enumerate(view):
        valid = store.read_labels(window) < CHESAPEAKE.num_classes
        name = f"{view.name(index)}.tif"
        with rasterio.open(out / "image" / name) as image, rasterio.open(out / "labels" / name) as labels:
            assert np.array_equal(image.dataset_mask() > 0, valid)
            assert np.array_equal(labels.dataset_mask() > 0, valid)
        holes += not valid.all()
    assert holes
    assert not list((out / "image").glob("*.msk"))


def test_an_interrupted_export_goes_on_where_it_ended(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view, out = TileView(store, "train", 32, 16), tmp_path / "tiles"
    write, written = tile_export._write_labels, []

    def fail_at_ten(path: Path, *rest: object) -> None:
        if len(written) == 10:
            raise KeyboardInterrupt
        written.append(path)
        write(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(tile_export, "_write_labels", fail_at_ten)
    with pytest.raises(KeyboardInterrupt):
        export_tiles([view], out, threads=1)
    assert not out.exists()
    unfinished = UnfinishedWork(out)
    kept = [part.split("-") for part in unfinished.done()]
    names = [view.name(index) for _, first, stop in kept for index in range(int(first), int(stop))]
    before = {name: (unfinished.result / "labels" / f"{name}.tif").stat().st_mtime_ns for name in names}
    assert len(before) in (5, 10)  # rows are kept as a whole; the third was at work
    monkeypatch.setattr(tile_export, "_write_labels", write)
    told: list[tuple[int, int]] = []
    export_tiles([view], out, progress=lambda done, total: told.append((done, total)))
    assert {name: (out / "labels" / f"{name}.tif").stat().st_mtime_ns for name in before} == before
    assert {path.name for path in tmp_path.iterdir()} == {"tiles"}
    assert [total for _, total in told] == [len(view)] * len(told)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert (told[0][0], told[-1][0]) == (len(before), len(view))
    whole = export_tiles([view], tmp_path / "at once")
    for file in (*(whole / "image").iterdir(), *(whole / "labels").iterdir()):
        assert file.read_bytes() == (out / file.parent.name / file.name).read_bytes()
    assert len(gpd.read_parquet(out / "index.parquet")) == len(view)


def export(store: Path, out: Path, waits: Path | None = None) -> None:
    """Does not end if it is told of a file, which it makes when all tiles are there."""

    def tell(done: int, total: int) -> None:
        if waits is not None and done == total:
            waits.touch()
            time.sleep(600)

    export_tiles([TileView(Store(store), "train", 32, 16)], out, progress=tell)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def count(folder: Path) -> int:
    """Of files and folders in a folder in which some may just go, over which `rglob` would stumble."""
    return sum(len(folders) + len(files) for _, folders, files in os.walk(folder))


def test_a_killed_export_goes_on(store: Store, tmp_path: Path) -> None:
    """kill -9 within tiles, between them and at the index, again and again; then all is as if nothing had been."""
    out, unfinished, waits = tmp_path / "tiles", tmp_path / ".tiles.unfinished", tmp_path / "waits"
    kills, ended = 0, False
    while not ended:  # one that is killed may have put the folder in its place, and not have tidied up
        # The first kills meet it before its end, however busy the machine is.
        before = count(unfinished)
        process = start(export, Path(store.path), out, waits if kills < 4 else None)
        while process.is_alive() and count(unfinished) < before + 2 + kills and not waits.exists():
            time.sleep(0.001)
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        waits.unlink(missing_ok=True)
        ended = process.exitcode == 0
        kills += not ended
    assert kills >= 4
    export(Path(store.path), tmp_path / "unbroken")
    assert contents(out) == contents(tmp_path / "unbroken")
    assert {path.name for path in tmp_path.iterdir()} == {"tiles", "unbroken"}
    with pytest.raises(KeyboardInterrupt):
        export_tiles([TileView(store, "train", 32, 16)], tmp_path / "torn", progress=_interrupt)
    (UnfinishedWork(tmp_path / "torn").result / ".index.0.partial.parquet").touch()
    export(Path(store.path), tmp_path / "torn")
    assert contents(tmp_path / "torn") == contents(tmp_path / "unbroken")


def _interrupt(*_: int) -> None:
    raise KeyboardInterrupt


def test_of_two_exports_one_makes_the_folder(store: Store, tmp_path: Path) -> None:
    work = UnfinishedWork(tmp_path / "tiles")
    with work.open({}), pytest.raises(OutputError, match=r"^.*tiles: another process or thread is writing it$"):
        export(Path(store.path), tmp_path / "tiles")
    export(Path(store.path), tmp_path / "tiles")
    assert (tmp_path / "tiles" / "index.parquet").is_file()


def test_other_tiles_and_other_folders_are_not_overwritten(store: Store, tmp_path: Path) -> None:
    out = export_tiles([TileView(store, "train", 32)], tmp_path / "tiles")
    with pytest.raises(OutputError, match="other data or settings"):
        export_tiles([TileView(store, "train", 32, 8)], out)
    moved = make_scene_store(
        tmp_path / "store",
        PLACES,
        split=SpatialSplit.by_scenes({"train": [PLACES["a.tif"]], "test": [PLACES["b.tif"]]}),
    )
    with pytest.raises(OutputError, match="other data or settings"):
        export_tiles([TileView(moved, "train", 32)], out)
    export_tiles([TileView(moved, "train", 32)], out, overwrite=True)
    assert {file.name[0] for file in (out / "image").iterdir()} == {"a"}
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").touch()
    with pytest.raises(OutputError, match="something else"):
        export_tiles([TileView(store, "train", 32)], tmp_path / "notes", overwrite=True)
    assert (tmp_path / "notes" / "mine.txt").exists()
    assert json.loads((out / "export.json").read_text())[0]["stride"] == 16


def test_what_is_there_is_not_written_again(store: Store, tmp_path: Path) -> None:
    out, view = tmp_path / "tiles", TileView(store, "train", 32)
    out.mkdir()  # an empty folder is as good as none
    index = export_tiles(view, out) / "index.parquet"
    before = index.stat().st_mtime_ns
    assert export_tiles(view, out) == out
    assert index.stat().st_mtime_ns == before
    index.unlink()
    export_tiles(view, out)
    assert len(gpd.read_parquet(index)) == len(view)


def test_an_export_that_holds_its_store_is_not_replaced(tmp_path: Path) -> None:
    out = export_tiles([TileView(make_scene_store(tmp_path / "store", PLACES), "train", 32)], tmp_path / "tiles")
    inside = Store((tmp_path / "store").rename(out / "store"))
    with pytest.raises(OutputError, match=r"holds .*store, an input that would be lost"):
        export_tiles([TileView(inside, "train", 64)], out, overwrite=True)
    assert (out / "store" / "zarr.json").is_file()


def test_a_fold_without_tiles_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no tile of 32 px lies wholly in fold test"):
        export_tiles([TileView(store, "test", 32)], tmp_path / "tiles")
    assert not (tmp_path / "tiles").exists()


def test_scenes_whose_names_differ_after_a_dot_have_tiles_of_their_own(tmp_path: Path) -> None:
    places = {"a.1": Window(0, 0, 40, 40), "a.2": Window(0, 50, 40, 40), "b.tif": Window(50, 0, 40, 40)}
    view = TileView(make_scene_store(tmp_path / "store", places), "train", 40)
    out = export_tiles([view], tmp_path / "tiles")
    assert {file.name for file in (out / "image").iterdir()} == {
        f"{name}_00000_00000.tif" for name in ("a.1", "a.2", "b")
    }

"""What every source knows of itself: pixels of each class by fold, and a digest that tells other data."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from blank_stores import blank_store
from geosynth.grid import SpatialSplit, Window
from geosynth.legend import CHESAPEAKE, Legend
from geosynth.raster.stores import source as source_module
from geosynth.raster.stores.folds import SplitRule
from geosynth.raster.stores.ingest import ingest
from geosynth.raster.stores.open import open_in_place
from geosynth.raster.stores.source import PatchSource, Scene
from geosynth.raster.stores.store import Store
from memory_source import MemorySource
from rasters import UTM, north_up, random_codes, random_image, write_raster
from strategies import few

BANDS = ("red", "green", "blue", "nir")
PLACES = [Window(0, 0, 60, 70), Window(40, 50, 60, 70)]  # they overlap
WHOLE = Window(0, 0, 100, 120)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for number, place in enumerate(PLACES):
        codes = random_codes(number, place.height, place.width)
        codes[20:30, 50:] = 15
        image = random_image(number, place.height, place.width)
        write_raster(tmp_path / "images" / f"{number}.tif", image, north_up(place.column, place.row))
        write_raster(tmp_path / "labels" / f"{number}.tif", codes, north_up(place.column, place.row))
    return tmp_path


def in_place(folder: Path, rule: SplitRule | None = None) -> PatchSource:
    rule = rule or SplitRule(blocks=32, shares=(0.5, 0.2, 0.3), buffer="3px")
    return open_in_place(folder / "images", folder / "labels", bands=BANDS, split=rule)[0]


def stored(folder: Path) -> PatchSource:
    options = {"bands": BANDS, "by": "blocks", "block_size": 32, "shares": (0.5, 0.2, 0.3), "buffer": "3px"}
    return ingest(folder / "images", folder / "labels", folder / "store", **options)[0]


@pytest.mark.parametrize("opened", [in_place, stored])
def test_the_description_counts_the_buffer_in_pixels(files: Path, opened) -> None:
    assert opened(files).describe()["buffer_px"] == 3


@pytest.mark.parametrize("opened", [in_place, stored])
def test_class_pixels_are_those_of_the_folds(files: Path, opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a split inside scenes, where scenes overlap once, and after another split anew."""
    monkeypatch.setattr(source_module, "SCAN_BLOCK", 32)
    source = opened(files)
    labels = source.read_labels(WHOLE)

    def expected(split: SpatialSplit, fold: str) -> tuple[int, ...]:
        mine = labels if fold == "all" else labels[split.mask(WHOLE, fold)]
        return tuple(int((mine == index).sum()) for index in range(CHESAPEAKE.num_classes))

    other = SpatialSplit.by_blocks(PLACES, 16, (0.3, 0, 0.7), seed=4)
    for one, split in ((source, source.split), (source.with_split(other), other)):
        for fold in ("train", "val", "test", "all"):
            assert one.class_pixels(fold) == expected(split, fold)
    assert source.class_pixels("train") == expected(source.split, "train") != expected(other, "train")


@few
@given(st.integers(10, 60), st.integers(0, 99))
def test_blocks_of_a_fold_hold_pixels_of_it(size: int, seed: int) -> None:
    split = SpatialSplit.by_blocks(PLACES, 16, (0.5, 0.2, 0.3), seed, buffer=2)
    source = MemorySource((WHOLE.height, WHOLE.width), PLACES, split)
    in_scenes = np.zeros((WHOLE.height, WHOLE.width), bool)
    for place in PLACES:
        in_scenes[place.slices] = True
    for fold in (None, "train", "val", "test"):
        wanted = in_scenes if fold is None else split.mask(WHOLE, fold)
        assert source.blocks(size, fold) == [part for part in WHOLE.pieces(size) if wanted[part.slices].any()]


def test_labels_are_read_once_to_be_counted(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = in_place(files)
    first = source.class_pixels("train")
    assert pickle.loads(pickle.dumps(source)).class_pixels("train") == first
    monkeypatch.setattr(type(source), "read_labels", lambda self, window: pytest.fail("reads again"))
    assert source.class_pixels("train") == first
    store = stored(files)
    monkeypatch.setattr(Store, "read_labels", lambda self, window: pytest.fail("reads what ingest has counted"))
    assert sum(store.class_pixels("train")) > 0


def test_one_pass_gives_what_two_give(files: Path) -> None:
    for source in (in_place(files), stored(files)):
        for window in (WHOLE, Window(30, 40, 40, 50), Window(5, 5, 20, 20)):
            image, labels = source.read(window)
            np.testing.assert_array_equal(image, source.read_image(window))
            np.testing.assert_array_equal(labels, source.read_labels(window))


def test_a_digest_tells_other_data_and_not_another_place(files: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    source = in_place(files)
    copy = tmp_path_factory.mktemp("copy") / "data"
    shutil.copytree(files, copy)
    assert in_place(copy).digest() == source.digest() == pickle.loads(pickle.dumps(source)).digest()
    assert in_place(copy, SplitRule(blocks=32)).digest() != source.digest()
    path = copy / "labels" / "1.tif"
    before = path.stat()
    write_raster(path, random_codes(9, 60, 70), north_up(50, 40))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert in_place(copy).digest() != source.digest()


def test_a_digest_tells_by_which_legend_label_files_are_read(files: Path) -> None:
    def source(label_legend: Legend | None) -> PatchSource:
        return open_in_place(files / "images", files / "labels", bands=BANDS, label_legend=label_legend)[0]

    def with_codes(*codes: int) -> Legend:
        given = zip(CHESAPEAKE.classes, codes, strict=True)
        classes = tuple(entry.model_copy(update={"code": code}) for entry, code in given)
        return Legend(name="other", classes=classes, nodata=CHESAPEAKE.nodata)

    digest = source(None).digest()
    assert source(with_codes(1, 2, 3, 4, 5, 6)).digest() == digest
    swapped = [source(with_codes(*codes)) for codes in ((2, 1, 3, 4, 5, 6), (1, 2, 4, 3, 5, 6))]
    assert len({digest, *(one.digest() for one in swapped), *(one.digest("train") for one in swapped)}) == 5


def test_a_fold_has_a_digest_of_its_own(tmp_path: Path) -> None:
    """What changes in the test scenes is no matter to who learns from the others."""
    for number, column in enumerate((0, 200)):
        write_raster(tmp_path / "images" / f"{number}.tif", random_image(0, 40, 40), north_up(column, 0))
        write_raster(tmp_path / "labels" / f"{number}.tif", random_codes(0, 40, 40), north_up(column, 0))
    split = SpatialSplit.by_scenes({"train": [Window(0, 0, 40, 40)], "test": [Window(0, 200, 40, 40)]})
    source = in_place(tmp_path, SplitRule(shares=(1, 0, 0))).with_split(split)
    before = [source.digest(fold) for fold in ("train", "test", None)]
    write_raster(tmp_path / "labels" / "1.tif", random_codes(1, 40, 41)[:, :40], north_up(200, 0), compress="deflate")
    after = [source.digest(fold) for fold in ("train", "test", None)]
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, False]


def test_pixels_tell_where_nobody_hashed(tmp_path: Path) -> None:
    """As in a store whose files came from a URL."""
    digests = set()
    for number in (0, 1, 1):
        store = blank_store(
            tmp_path / f"store{len(digests)}",
            GeoBox((40, 40), north_up(), UTM),
            legend=CHESAPEAKE,
            band_names=BANDS,
            dtype=np.dtype("uint8"),
            scenes=[Scene("a", Window(0, 0, 40, 40), (), "", "")],
            split=SpatialSplit.by_scenes({"train": [Window(0, 0, 40, 40)]}),
            chunk_size=16,
        )
        store.write(Window(0, 0, 40, 40), random_image(number, 40, 40), random_codes(0, 40, 40))
        digests.add(Store(store.path).digest())
    assert len(digests) == 2

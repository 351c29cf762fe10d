"""evaluate on a store and its twins: what needs networks, folds and several latents."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from affine import Affine
from evaluation_scenes import small_legend
from twin_stores import RGBN, SIDE, folds, images_of, places, scene_codes, write_store
from typer.testing import CliRunner

from geosynth.checkpoint import GeneratorModel
from geosynth.config import BandSettings, SegmentSettings
from geosynth.errors import CheckpointError, DataError, GeosynthError, LegendError, OutputError, SettingsError
from geosynth.evaluation.compare import PairFeatures, compare_in_space
from geosynth.evaluation.distances import frechet, gaussian, kernel_distance
from geosynth.evaluation.evaluate import evaluate
from geosynth.evaluation.extractors import Extractor, load_extractor
from geosynth.evaluation.features import Space
from geosynth.evaluation.report import Report
from geosynth.evaluation.tiles import Block, Tile
from geosynth.grid import Window
from geosynth.legend import CHESAPEAKE, Legend
from geosynth.raster.stores.store import Store
from geosynth.segmentation.segmenter import SegmenterCard, save_segmenter
from rasters import north_up, random_codes, random_image, write_raster
from scene_stores import make_scene_store

NUM_TEST, NUM_TRAIN = 10, 8
METRES = Affine(1, 0, 500_000, 0, -1, 4_500_000)


class Case(NamedTuple):
    """A store, two twins of which the first is a worse image, a segmenter, and the report on them."""

    folder: Path
    store: Store
    twins: list[Store]
    segmenter: Path
    report: Report


def write_segmenter(path: Path, legend: Legend) -> Path:
    settings = SegmentSettings()
    torch.manual_seed(0)
    network = smp.Unet(settings.encoder, encoder_weights=None, in_channels=4, classes=legend.num_classes).eval()
    save_segmenter(
        path, network, SegmenterCard(settings=settings, legend=legend, bands=BandSettings(names=RGBN), gsd=None)
    )
    return path


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("store")
    codes, split = scene_codes(0, NUM_TEST + NUM_TRAIN), folds(NUM_TEST, NUM_TRAIN)
    real = images_of(1, codes)
    store = write_store(folder / "real.zarr", codes, real, split)
    smooth = real // 2 + 40 * (codes > 0)
    twins = [
        write_store(folder / "one.zarr", codes, smooth.astype(np.uint8), split),
        write_store(folder / "two.zarr", codes, (smooth + 6 * (codes > 0)).astype(np.uint8), split),
    ]
    segmenter = write_segmenter(folder / "segmenter.safetensors", small_legend())
    report = evaluate(
        data=store.path, synthetic=twins, out=folder / "report", segmenter=segmenter, tile_size=SIDE, seed=3
    )
    return Case(folder, store, twins, segmenter, report)


def test_distances_are_stated_for_each_space_and_reference(case: Case) -> None:
    names = ("efficientnet-lite0", "efficientnet-lite0 (nir, red, green)")
    assert [(one.feature_space, one.reference) for one in case.report.features] == [
        (name, fold) for name in names for fold in ("test", "train")
    ]
    for one in case.report.features:
        real = NUM_TEST if one.reference == "test" else NUM_TRAIN
        assert (one.num_real, one.num_synthetic, one.num_places) == (real, NUM_TEST, NUM_TEST)
        for estimate in (one.frechet.estimate, one.kid.estimate, one.precision, one.recall, one.density, one.coverage):
            assert estimate.value is not None
            assert estimate.low is not None
            assert estimate.high is not None
            assert estimate.low <= estimate.value <= estimate.high
        assert one.frechet_name.startswith("Frechet, efficientnet")
        assert "biased" in (one.frechet.note or "")
        if one.reference == "test":
            assert one.frechet.num_halves == one.kid.num_halves == NUM_TEST // 2
            # a darker image of half the contrast is further away than another place
            assert one.kid.across.value is not None
            assert one.kid.real.value is not None
            assert one.kid.across.value > one.kid.real.value
        else:
            assert one.frechet.real.value is None
    assert "Inception" in (case.report.inception_reason or "")
    assert not any("FID" in row.measure for row in case.report.summary() if row.value != "-")


def test_a_perfect_twin_is_no_distance_away(case: Case) -> None:
    report = evaluate(data=case.store, synthetic=case.store, tile_size=SIDE, cache=case.folder / "report" / "cache")
    own = report.features[0]
    assert own.frechet.estimate.value == 0
    assert own.kid.estimate.value == pytest.approx(0, abs=1e-12)
    assert own.precision.value == own.recall.value == own.coverage.value == 1
    assert own.frechet.real == own.frechet.across
    assert report.headline.wasserstein.value == 0
    assert report.memorisation.share_nearer_train.value == report.memorisation.control.value
    assert "two twins" in (report.diversity.reason or "")


def test_the_tiles_that_are_nearer_to_a_target_are_told(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    """Imagery in the look of the twin, then in that of the real tiles; the distances are those of the features."""
    codes = scene_codes(5, 1)[:, :SIDE].repeat(3, axis=1)
    ours = images_of(6, codes)
    hole = np.zeros((4, SIDE, SIDE), np.uint8)  # tiles that touch it are left out
    common = {"tile_size": SIDE, "cache": case.folder / "report" / "cache"}
    for name, image in (("synthetic", ours // 2 + 40), ("real", ours)):
        values = np.concatenate([image, hole], axis=2).astype(np.uint8)
        path = write_raster(case.folder / f"{name}.tif", values, METRES, nodata=0, crs="EPSG:32618")
        told: list[tuple[int, int]] = []

        def progress(done: int, total: int, told: list[tuple[int, int]] = told) -> None:
            told.append((done, total))

        report = evaluate(data=case.store, synthetic=case.twins[0], target=path, progress=progress, **common)
        total = told[-1][1]  # chunks of tiles that are compared, train tiles, and tiles of the target
        assert total > NUM_TRAIN + 4
        assert told[-total:] == [(done, total) for done in range(1, total + 1)]
        found = report.nearness
        assert (found.nearer, found.num_target) == (name, 3)
        extractor, target = load_extractor("efficientnet-lite0"), np.stack(np.split(values, 4, axis=2)[:3])
        for store, distance in ((case.store, found.real), (case.twins[0], found.synthetic)):
            tiles = np.stack([store.read_image(window) for window in places(NUM_TEST)])
            of_pictures = [
                kernel_distance(extractor.embed(target[:, bands]), extractor.embed(tiles[:, bands]))
                for bands in ([0, 1, 2], [3, 0, 1])
            ]
            assert distance == pytest.approx(np.mean(of_pictures), abs=1e-9)
        assert {row.measure: row.value for row in report.summary()}["nearer to the target"] == name
        assert Report.model_validate_json(report.to_json()) == report
    assert "pixels of" not in caplog.text
    coarse = write_raster(case.folder / "coarse.tif", ours, Affine(3, 0, 500_000, 0, -3, 4_500_000), crs="EPSG:32618")
    few = evaluate(data=case.store, synthetic=case.twins[0], target=[coarse], **{**common, "max_tiles": 2}).nearness
    assert few.num_target == 2
    assert "coarse.tif: pixels of 3 m; those of the real imagery are of 1 m" in caplog.text
    shuffled = write_raster(case.folder / "shuffled.tif", values[[3, 2, 1, 0, 0]], METRES, nodata=0, crs="EPSG:32618")
    numbers = [f"{name}={4 - index}" for index, name in enumerate(case.store.band_names)]
    by_number = evaluate(data=case.store, synthetic=case.twins[0], target=shuffled, bands=numbers, **common)
    assert by_number.nearness == found
    taller = np.concatenate([values, values[:, :5]], axis=1)[:, ::-1]  # the same tiles from the north, stored south up
    up = Affine(1, 0, 500_000, 0, 1, 4_500_000 - SIDE - 5)
    south = write_raster(case.folder / "south.tif", taller, up, nodata=0, crs="EPSG:32618")
    assert evaluate(data=case.store, synthetic=case.twins[0], target=south, **common).nearness == found
    with pytest.raises(SettingsError, match="bands: for rasters only"):
        evaluate(data=case.store, synthetic=case.twins[0], bands=numbers, **common)


def test_what_is_nearer_to_a_target_is_not_told_of_any_imagery(case: Case, tmp_path: Path) -> None:
    image = random_image(1, SIDE, SIDE)
    one = write_raster(tmp_path / "one.tif", image, METRES)
    common: dict[str, Any] = {"tile_size": SIDE, "cache": case.folder / "report" / "cache"}
    report = evaluate(data=case.store, synthetic=case.twins[0], target=one, **common)
    assert (report.nearness.nearer, report.nearness.reason) == (
        None,
        "1 whole tile of the target; a distance needs two, which smaller tiles may give",
    )
    assert case.report.nearness.reason == "needs unlabelled imagery of the target"
    for path, changes, words in (
        (one, {"features": False}, "measured on features"),
        (write_raster(tmp_path / "bands.tif", image[:2], METRES), {}, "bands are"),
        (
            write_raster(tmp_path / "wide.tif", image.astype(np.uint16), METRES),
            {},
            "uint16 values; the real imagery's are uint8",
        ),
    ):
        with pytest.raises((DataError, SettingsError), match=words):
            evaluate(data=case.store, synthetic=case.twins[0], target=path, **common, **changes)


@pytest.mark.parametrize(
    ("tags", "known"),
    [
        ({"GEOSYNTH_LOSS_NETWORKS": "efficientnet-lite0,vgg19"}, True),
        ({"GEOSYNTH_LOSS_NETWORKS": "none"}, False),
        ({}, None),
    ],
)
def test_judges_that_the_training_looked_through_are_marked(
    case: Case, tags: dict[str, str], known: bool | None
) -> None:
    twin = Store(case.store.path)
    twin.synthetic = tags
    report = evaluate(
        data=case.store, synthetic=twin, tile_size=SIDE, cache=case.folder / "report" / "cache", judges=("wavelets",)
    )
    told = {one.feature_space: one.in_training for one in report.features}
    assert list(told.values()) == [known, known, False]  # wavelets are of no network
    rows = {row.measure: row.meaning for row in report.summary()}
    mark = {True: "*", False: "", None: "?"}[known]
    assert f"kernel distance, efficientnet-lite0, to test {mark}".strip() in rows
    assert "kernel distance, wavelets, to test" in rows
    meaning = {True: "a loss of the generator used this network", None: "does not say"}.get(known)
    assert (mark in rows) == bool(meaning)
    assert not meaning or meaning in rows[mark]


def test_turned_tiles_are_further_away_where_images_have_a_direction() -> None:
    rng = np.random.default_rng(0)
    space = Space("wavelets", load_extractor("wavelets", num_bands=1), (0,), None)
    far = {}
    for name, shape in (("rows", (64, 1)), ("grain", (64, 64))):
        features = PairFeatures([space], np.arange(16))
        for number in range(16):
            image = (128 + rng.normal(0, 20, (1, *shape)) + np.zeros((1, 64, 64))).astype(np.uint8)
            block = Block(image, image, np.zeros((64, 64), np.uint8))
            features.add([Tile(number, Window(0, 64 * number, 64, 64), number, block)])
        found = compare_in_space(
            space, "test", features.real, features.synthetic, in_training=None, turned=features.turned, seed=0
        )
        assert found.kid.real.value is not None
        assert found.kid.turned.value is not None
        far[name] = found.kid.turned.value, abs(found.kid.real.value)
    assert far["rows"][0] > 20 * far["rows"][1]
    assert far["grain"][0] < 20 * far["grain"][1]


def test_memorisation_shows_the_closest_pairs(case: Case) -> None:
    found = case.report.memorisation
    assert found.reason is None
    assert (found.num_synthetic, found.other) == (NUM_TEST, "test")
    assert found.num_train == found.num_other == NUM_TRAIN
    assert len(found.closest) == 8
    train = {(window.row, window.column) for window in places(NUM_TEST + NUM_TRAIN)[NUM_TEST:]}
    assert {pair.train_window[:2] for pair in found.closest} <= train
    assert [pair.distance for pair in found.closest] == sorted(pair.distance for pair in found.closest)
    page = (case.folder / "report" / "report.html").read_text(encoding="utf-8")
    assert page.count('alt="train"') == 8
    assert found.closest[0].train in page


def test_diversity_is_the_mean_difference_of_the_twins(case: Case) -> None:
    found = case.report.diversity
    assert (found.num_latents, found.num_tiles, found.feature_space) == (2, NUM_TEST, "efficientnet-lite0")
    assert found.pixels.value == pytest.approx(6)
    assert found.features.value is not None
    assert found.features.value > 0


def test_consistency_is_what_the_segmenter_finds_in_either_image(case: Case) -> None:
    from geosynth.segmentation.segmenter import load_segmenter

    found, segmenter = case.report.consistency, load_segmenter(case.segmenter)
    windows = places(NUM_TEST)
    miou = []
    for source in (case.store, case.twins[0]):
        pairs = ((source.read_image(window), source.read_labels(window)) for window in windows)
        miou.append(segmenter.scores(pairs).miou())
    assert [found.real.value, found.synthetic.value] == pytest.approx(miou, abs=1e-3)
    assert found.difference.value == pytest.approx(miou[1] - miou[0], abs=1e-3)
    assert (found.num_tiles, found.num_places) == (NUM_TEST, NUM_TEST)
    assert found.difference.low is not None


def test_more_tiles_than_are_looked_at_together(case: Case) -> None:
    from geosynth.segmentation.segmenter import load_segmenter

    report = evaluate(
        data=case.store, synthetic=case.twins, segmenter=case.segmenter, tile_size=SIDE // 2, features=False
    )
    assert (report.diversity.num_tiles, report.consistency.num_tiles) == (4 * NUM_TEST, 4 * NUM_TEST)
    assert report.diversity.pixels.value == pytest.approx(6)
    assert report.diversity.features.value is report.diversity.feature_space is None
    parts = [
        Window(window.row + row, window.column + column, SIDE // 2, SIDE // 2)
        for window in places(NUM_TEST)
        for row in (0, SIDE // 2)
        for column in (0, SIDE // 2)
    ]
    pairs = ((case.store.read_image(part), case.store.read_labels(part)) for part in parts)
    expected = load_segmenter(case.segmenter).scores(pairs).miou()
    assert report.consistency.real.value == pytest.approx(expected, abs=1e-3)


def test_the_report_says_what_it_rests_on_and_what_it_lacks(case: Case) -> None:
    report = case.report
    assert report.fold == "test"
    assert report.area is None
    assert report.pixels == NUM_TEST * SIDE**2
    assert report.synthetic == tuple(twin.path for twin in case.twins)
    assert (report.places.kind, report.places.count) == ("clusters of touching scenes", NUM_TEST)
    assert report.headline.wasserstein.low is not None
    assert "rasters" in (report.seams.reason or "")
    assert Report.model_validate_json(report.to_json()) == report
    written = (case.folder / "report" / "report.json").read_text(encoding="utf-8")
    assert written == report.to_json()
    assert "NaN" not in written
    assert not report.to_json().count("Infinity")


def test_the_same_call_gives_the_same_bytes_from_the_cache(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("nothing is left to embed")

    monkeypatch.setattr(Extractor, "embed", refuse)
    again = evaluate(
        data=case.store.path,
        synthetic=[twin.path for twin in case.twins],
        out=case.folder / "again",
        cache=case.folder / "report" / "cache",
        segmenter=case.segmenter,
        tile_size=SIDE,
        seed=3,
    )
    assert again == case.report
    assert sorted(path.name for path in (case.folder / "again").iterdir()) == ["report.html", "report.json"]
    page = (case.folder / "again" / "report.html").read_bytes()
    assert page == (case.folder / "report" / "report.html").read_bytes()


def test_only_distances_of_inception_features_are_fid_and_kid(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that only takes means stands for Inception, whose weights are a download."""
    from geosynth.evaluation import features

    means = Extractor(
        "inception-v3-compat", 3, "means", lambda images: images.float().mean((2, 3)), torch.device("cpu")
    )
    asked: list[Any] = []

    def load(name: Any, weights: Any = None, device: Any = "cpu", *, download: bool = False) -> Extractor:
        if name != "inception":
            return load_extractor(name, weights, device)
        asked.append((weights, download))
        return means

    monkeypatch.setattr(features, "load_extractor", load)
    options: dict[str, Any] = {"data": case.store, "synthetic": case.twins[0], "tile_size": SIDE}
    cache = case.folder / "report" / "cache"
    report = evaluate(**options, inception="w.pth", cache=cache)
    evaluate(**options, inception="download", cache=cache)
    assert asked == [("w.pth", False), (None, True)]
    assert report.inception_reason is None
    tiles = [(case.store.read_image(window), case.twins[0].read_image(window)) for window in places(NUM_TEST)]
    found = [gaussian(np.array([image[:3].mean((1, 2)) for image in images])) for images in zip(*tiles, strict=True)]
    assert report.features[0].frechet.estimate.value == pytest.approx(frechet(*found), rel=1e-4)
    told = {row.measure: row.value for row in report.summary()}
    assert {name for name in told if "FID" in name} == {"FID, to test", "FID, to train"}
    assert {name for name in told if "KID" in name} == {"KID, to test", "KID, to train"}
    assert told["FID, to test"] == str(report.features[0].frechet.estimate)


def test_too_few_tiles_are_told_with_the_number_needed(tmp_path: Path) -> None:
    codes, split = scene_codes(0, 4), folds(3, 1)
    store = write_store(tmp_path / "real.zarr", codes, images_of(1, codes), split)
    report = evaluate(data=store, synthetic=store, tile_size=SIDE)
    own, train = report.features[:2]
    assert own.precision.value is None
    assert "at least 6 are needed" in (own.note or "")
    assert own.frechet.estimate.value == 0
    assert own.frechet.estimate.low is None  # three places make no interval
    assert train.frechet.estimate.value is None
    assert "1 of them, but at least 2 are needed" in (train.frechet.note or "")
    assert "at least 2 are needed" in (report.memorisation.reason or "")
    assert "which touch" in report.places.kind


def test_constant_images_have_a_report(tmp_path: Path) -> None:
    codes, split = scene_codes(0, 10), folds(8, 2)
    flat = [np.full((4, *codes.shape), value, np.uint8) * (codes > 0) for value in (50, 60)]
    store, twin = (
        write_store(tmp_path / f"{number}.zarr", codes, image.astype(np.uint8), split)
        for number, image in enumerate(flat)
    )
    report = evaluate(data=store, synthetic=twin, tile_size=SIDE, out=tmp_path / "out")
    assert report.headline.wasserstein.value == 10
    assert report.headline.variance_ratio.value is None
    assert "NaN" not in (tmp_path / "out" / "report.json").read_text()


def test_a_model_paints_the_twins_once(tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version may paint otherwise: what an earlier one painted is left alone."""
    store = make_scene_store(tmp_path / "store.zarr", {"a": places(2)[0], "b": places(2)[1]}, split=folds(1, 1))
    options: dict[str, Any] = {"data": store.path, "model": tiny_model, "tile_size": 32, "features": False, "seed": 5}
    first = evaluate(**options, out=tmp_path / "out")
    twins = sorted((tmp_path / "out" / "cache").iterdir())
    assert [path.name[-7:] for path in twins] == ["-5.zarr", "-6.zarr"]
    assert [Store(path).synthetic["GEOSYNTH_SEED"] for path in twins] == ["5", "6"]
    assert first.diversity.pixels.value is not None
    assert first.diversity.pixels.value > 0
    before = [path.stat().st_mtime_ns for path in twins]
    with pytest.raises(OutputError, match="already exists"):
        evaluate(**options, out=tmp_path / "out")
    killed = twins[0].with_name(f".{twins[0].name}.unfinished")  # while it was being removed
    killed.mkdir()
    (killed / "lock").touch()
    assert evaluate(**options, out=tmp_path / "out", overwrite=True) == first
    assert not killed.exists()
    assert [path.stat().st_mtime_ns for path in twins] == before
    lonely = evaluate(**{**options, "latents": 1}, synthetic=[])  # painted beside nothing, and gone
    assert lonely.headline == first.headline
    assert lonely.diversity.pixels.value is None
    monkeypatch.setattr("geosynth.evaluation.twins.__version__", "0")
    evaluate(**options, out=tmp_path / "out", overwrite=True)
    assert len(list((tmp_path / "out" / "cache").iterdir())) == 4


def test_what_is_wrong_is_said_before_twins_are_painted(tmp_path: Path, run: Any) -> None:
    store = make_scene_store(tmp_path / "store.zarr", {"a": places(2)[0], "b": places(2)[1]}, split=folds(1, 1))
    other = write_segmenter(tmp_path / "other.safetensors", small_legend())
    for words, said in (
        (["--tile-size", "512"], "has no tile of 512 px"),
        (["--judge", "nobody"], "error: --judge: got 'nobody'; choose from"),
        (["--inception", store.path], "Inception|weights"),
        (["--segmenter", other], "other.safetensors: knows the classes"),
        (["--no-features", "--judge", "wavelets"], "--judge: no effect without features"),
        (["--synthetic", store.path, "--latents", "3"], "--latents: no effect on images that are painted already"),
    ):
        out = tmp_path / "out"
        done = run("evaluate", "--data", store.path, "--tile-size", "32", "--out", out, *words)
        assert (done.code, done.out) == (1, "")
        assert re.search(said, done.err)
        assert not list(out.glob("cache/twin*"))


def test_a_told_model_paints_the_look_that_is_asked_for(tmp_path: Path, told_model: GeneratorModel, run: Any) -> None:
    """Its first one without; the report says which it was. What is painted already is not painted again."""
    data = make_scene_store(tmp_path / "store.zarr", {"a": places(1)[0]}, split=folds(1, 0)).path
    out, cache = tmp_path / "out", tmp_path / "cache"
    said = ["evaluate", "--data", data, "--model", told_model.path, "--out", out, "--cache", cache]
    said += ["--tile-size", "32", "--no-features", "--latents", "1", "--overwrite"]
    wasserstein = {}
    for number, (words, look) in enumerate(((["--look", "bright"], "bright"), ([], "dim"), (["--look", "dim"], "dim"))):
        done = run(*said, *words)
        assert done.code == 0, done.err
        report = Report.model_validate_json((out / "report.json").read_text())
        assert report.look == look
        assert f"look {look}" in " ".join(done.out.split())
        assert f"<td>{look}</td>" in (out / "report.html").read_text()
        assert len(list(cache.iterdir())) == min(number + 1, 2)
        assert wasserstein.setdefault(look, report.headline.wasserstein) == report.headline.wasserstein
    assert wasserstein["bright"] != wasserstein["dim"]

    given = evaluate(data=data, synthetic=next(iter(cache.iterdir())), tile_size=32, features=False)
    assert given.look in wasserstein
    wrong = run(*said[:5], "--tile-size", "32", "--look", "none", "--out", tmp_path / "none")
    assert "no look 'none'; its looks are dim, bright" in wrong.err
    assert not (tmp_path / "none").exists()


def test_labels_in_place_that_changed_are_painted_anew(tmp_path: Path, tiny_model: Any) -> None:
    """An earlier twin, of the labels as they were, is left alone."""
    write_raster(tmp_path / "image.tif", random_image(0, 64, 64), north_up())
    description = tmp_path / "data.yaml"
    description.write_text(f"images: image.tif\nlabels: labels.tif\nbands: {list(RGBN)}\nsplit: {{shares: [0, 0, 1]}}")
    twins: list[int] = []
    for seed in (0, 1):
        write_raster(tmp_path / "labels.tif", random_codes(seed, 64, 64), north_up())
        report = evaluate(
            data=description,
            model=tiny_model,
            tile_size=32,
            features=False,
            latents=1,
            out=tmp_path / "out",
            overwrite=True,
        )
        assert report.headline.wasserstein.value is not None
        twins.append(len(list((tmp_path / "out" / "cache").iterdir())))
    assert twins == [1, 2]


def test_bad_calls_are_refused_in_one_line(case: Case, tmp_path: Path) -> None:
    other = write_segmenter(tmp_path / "other.safetensors", CHESAPEAKE)
    codes = scene_codes(0, NUM_TEST + NUM_TRAIN)
    codes[:, : places(NUM_TEST)[-1].right] = 0
    nothing = write_store(tmp_path / "nothing.zarr", codes, images_of(1, codes), folds(NUM_TEST, NUM_TRAIN))
    words = write_store(tmp_path / "words.zarr", codes, 40 * images_of(1, codes).astype("uint16"), case.store.split)
    twin = case.twins[0]
    cases: list[tuple[type[GeosynthError], str, dict[str, Any]]] = [
        (SettingsError, "not both", {"data": case.store, "synthetic": twin, "model": "m.safetensors"}),
        (SettingsError, "look: no effect on images", {"data": case.store, "synthetic": twin, "look": "dim"}),
        (SettingsError, "look: no effect on images", {
            "real": "a.tif", "synthetic": "b.tif", "labels": "c.tif", "look": "dim",
        }),
        (SettingsError, "latents: no effect on images", {"data": case.store, "synthetic": twin, "latents": 2}),
        (SettingsError, "inception: no effect without features", {
            "data": case.store, "synthetic": twin, "features": False, "inception": "download",
        }),
        (SettingsError, "legend, bands: for rasters", {
            "data": case.store, "synthetic": twin, "legend": "chesapeake", "bands": RGBN,
        }),
        (SettingsError, "compares rasters", {"real": "a.tif", "synthetic": "b.tif"}),
        (SettingsError, "compares rasters", {"real": "a.tif", "labels": "b.tif", "synthetic": ["c.tif", "d.tif"]}),
        (SettingsError, "fold 'all'", {"data": case.store, "synthetic": twin, "fold": "all"}),
        (LegendError, "knows the classes", {"data": case.store, "synthetic": twin, "segmenter": other}),
        (DataError, "pixel values (uint8) differ", {"data": words, "synthetic": twin}),
        (DataError, "looks at uint8 imagery, but the images are uint16", {
            "data": words, "synthetic": words, "segmenter": case.segmenter,
        }),
        (CheckpointError, "no such", {"data": case.store, "synthetic": twin, "segmenter": tmp_path / "none"}),
        (CheckpointError, "none.pth", {
            "data": case.store, "synthetic": twin, "features": True, "inception": str(tmp_path / "none.pth"),
        }),
        (DataError, "has no image in the fold 'test'", {"data": case.store, "synthetic": nothing}),
    ]  # fmt: skip
    for error, saying, arguments in cases:
        with pytest.raises(error) as caught:
            evaluate(**{"features": False, "tile_size": SIDE, "out": tmp_path / "out", **arguments})
        assert saying in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_command_line_takes_a_store_and_twins(case: Case, tmp_path: Path, run: Any) -> None:
    twins = [part for twin in case.twins for part in ("--synthetic", twin.path)]
    options = ["--no-features", "--tile-size", str(SIDE), "--json"]
    done = run("evaluate", "--data", case.store.path, *twins, *options)
    assert done.code == 0, done.err
    assert json.loads(done.out)["diversity"]["pixels"]["value"] == pytest.approx(6)
    here = str(tmp_path)
    for wrong, said in (
        (["--real", here], "give --real, --synthetic and --labels, or --data"),
        ([], "give --real, --synthetic and --labels, or --data"),
        (["--real", here, "--labels", here, *twins], "several --synthetic need --data"),
        (["--real", here, "--labels", here, "--fold", "val"], "--fold: no effect without --data"),
        (["--look", "dim"], "--look: no effect without --data"),
    ):
        refused = run("evaluate", *wrong)
        assert (refused.code, refused.out, refused.err) == (1, "", f"error: {said}\n")


def test_who_has_no_labels_of_a_place_is_told_what_to_train_on(tmp_path: Path, told_model: GeneratorModel) -> None:
    """Images of the place alone: its look, a twin in it, and whether that is nearer to it than the real tiles."""
    from geosynth_cli.main import _typer

    def run(*words: object) -> str:
        done = CliRunner().invoke(_typer, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        return done.stdout

    here = write_raster(tmp_path / "here.tif", random_image(9, SIDE, 3 * SIDE), north_up())
    data = make_scene_store(tmp_path / "there.zarr", {"a": Window(0, 0, SIDE, 4 * SIDE)}).path
    model, twin = tmp_path / "told_here.safetensors", tmp_path / "painted.zarr"
    run("looks", "add", "here", "--image", here, "--model", told_model.path, "--out", model)
    run("twin", "--data", data, "--model", model, "--look", "here", "--out", twin)
    options = ("--fold", "train", "--tile-size", SIDE, "--target", here)
    table = run("evaluate", "--data", data, "--synthetic", twin, *options)
    # The generator is a random one; the real tiles are noise, as the image is.
    for words in ("nearer to the target", "train on the real ones"):
        assert words in " ".join(table.split())

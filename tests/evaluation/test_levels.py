"""Imagery of uint16, int16 and float32: seen in 256 levels, told in its own units."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from evaluation_scenes import WriteScene, blobs, textured
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from twin_stores import SIDE, folds, images_of, scene_codes, write_store
from typer.testing import CliRunner

from geosynth.config import BandSettings
from geosynth.errors import DataError
from geosynth.evaluation.evaluate import evaluate
from geosynth.evaluation.levels import NUM_LEVELS, Levels
from geosynth.evaluation.pixels import NDVI_VALUES, count_ndvi
from geosynth.evaluation.report import Report
from geosynth.legend import Legend

RGBN = ("red", "green", "blue", "nir")
# Exact affine copies of bytes, in each type: value = factor x byte + summand, one of each band.
COPIES = {
    "uint16": ((200, 13, 40, 7), (0, 1000, 300, 5)),
    "int16": ((100, 13, 40, 7), (-9000, -1000, -300, 5)),
    "float32": ((2.0**-8, 2.0**-6, 1, 16), (-0.5, 0, 3, 1000)),
}


def copied(image: np.ndarray, dtype: str) -> np.ndarray:
    """(bands, height, width) bytes as another type."""
    factors, summands = (np.array(one)[:, None, None] for one in COPIES[dtype])
    return (image * factors + summands).astype(dtype)


def levels(low: Any, high: Any, dtype: str = "uint16") -> Levels:
    return Levels(BandSettings(names=("a", "b"), low=low, high=high, dtype=dtype))


@given(values=hnp.arrays(np.int16, (2, 3, 5)), low=st.integers(-30_000, 0), span=st.integers(1, 30_000))
def test_levels_are_the_nearest_of_values_between_low_and_high(values: np.ndarray, low: int, span: int) -> None:
    found = levels(low, low + span, "int16")
    seen = found.of(values)
    assert (seen.dtype, seen.shape) == (np.uint8, values.shape)
    reach = 384 * found.steps[0]  # of histograms, on either side
    bins = found.bins(values)
    for band in range(2):
        error = found.values(band)[seen[band].astype(int) + found.margin] - values[band].clip(low, low + span)
        assert np.abs(error).max() <= found.steps[band] * 0.5001
        error = found.values(band)[bins[band]] - values[band].clip(low - reach, low + span + reach)
        assert np.abs(error).max() <= found.steps[band] * 0.501
        histogram = np.bincount(bins[band].ravel(), minlength=found.num_bins)
        assert found.counts(histogram).tolist() == np.bincount(seen[band].ravel(), minlength=NUM_LEVELS).tolist()
    beyond = (values < low) | (values > low + span)
    assert found.beyond(values, np.ones(values.shape[1:], bool)).tolist() == beyond.sum(axis=(1, 2)).tolist()


def test_bytes_are_levels_and_each_band_has_its_own() -> None:
    image = np.arange(256, dtype=np.uint8).repeat(2).reshape(2, 16, 16)
    own = Levels(BandSettings(names=("a", "b")))
    assert own.of(image) is own.bins(image) is image
    assert own.counts(np.arange(NUM_LEVELS)).tolist() == list(range(NUM_LEVELS))
    assert own.values(0).tolist() == own.values(1).tolist() == list(range(NUM_LEVELS))
    found = levels((0, 100), (255, 610))
    assert found.of(np.stack([image[0], image[1] * np.uint16(2) + 100])).tolist() == image.tolist()


def test_what_is_no_number_is_the_first_level_and_raises_no_warning() -> None:
    wide = np.float32(3e38)
    image = np.array([np.nan, -np.inf, np.inf, -wide, wide, 1], np.float32).reshape(1, 1, 6).repeat(2, axis=0)
    with np.errstate(all="raise"):
        seen = levels((0, -3e38), (255, 3e38), "float32").of(image)
    assert seen.tolist() == [[[0, 0, 255, 0, 255, 1]], [[0, 0, 255, 0, 255, 128]]]


@pytest.fixture
def bytes_(write_scene: WriteScene) -> dict[str, np.ndarray]:
    """Codes, and images of 96 x 224 px that are 0 and 255 often enough: they are the percentiles."""
    rng = np.random.default_rng(0)
    codes = blobs(rng, 96, 224)
    real, synthetic = textured(rng, codes), textured(rng, codes) // 2 + 40
    places = rng.permutation(real[0].size)
    for band in real.reshape(4, -1):
        band[places[:100]], band[places[100:200]] = 0, 255
    return {"labels": codes, "real": real, "synthetic": synthetic}


def compared(values: dict[str, np.ndarray], write_scene: WriteScene, legend: Legend, **options: Any) -> Report:
    paths = {name: write_scene(f"{name}.tif", one, bands=RGBN[: len(one)]) for name, one in values.items()}
    return evaluate(**({**paths, "legend": legend, "tile_size": 32, "block_size": 64} | options))


@pytest.mark.parametrize("dtype", COPIES)
def test_an_exact_copy_in_another_type_is_as_far_away(
    bytes_: dict[str, np.ndarray], write_scene: WriteScene, legend: Legend, dtype: str
) -> None:
    """All that has no unit is the same; means and distances are those of the bytes in other units."""
    plain = compared(bytes_, write_scene, legend)
    values = bytes_ | {name: copied(bytes_[name], dtype) for name in ("real", "synthetic")}
    found = compared(values, write_scene, legend)

    assert plain.levels is None
    assert found.levels is not None
    assert found.levels.dtype == dtype
    factors, summands = COPIES[dtype]
    assert [one.band for one in found.levels.bands] == list(RGBN)
    for one, factor, summand in zip(found.levels.bands, factors, summands, strict=True):
        assert (one.low, one.high) == (summand, 255 * factor + summand)
        assert one.real_beyond == one.synthetic_beyond == 0
    for name in ("frechet", "spectrum", "class_spectra", "features", "pixels", "places"):
        assert getattr(found, name) == getattr(plain, name)
    assert found.features
    assert found.headline.variance_ratio.value == pytest.approx(plain.headline.variance_ratio.value)
    mean = np.average([factor * _headline_of(plain, band) for band, factor in enumerate(factors)])
    assert found.headline.wasserstein.value == pytest.approx(mean)
    for own, of_bytes in zip(found.classes, plain.classes, strict=True):
        for one, other, factor, summand in zip(own.bands, of_bytes.bands, factors, summands, strict=True):
            for image in ("real", "synthetic"):
                (mean, deviation, quantiles), (of_mean, of_deviation, of_quantiles) = (
                    [getattr(both, f"{image}_{what}") for what in ("mean", "std", "quantiles")] for both in (one, other)
                )
                assert mean == pytest.approx(factor * of_mean + summand)
                assert deviation == pytest.approx(factor * of_deviation)
                assert quantiles == pytest.approx(factor * np.array(of_quantiles) + summand)
            assert one.wasserstein.value == pytest.approx(factor * other.wasserstein.value)
            assert one.wasserstein.high == pytest.approx(factor * other.wasserstein.high)
            assert one.variance_ratio.value == pytest.approx(other.variance_ratio.value)
    assert Report.model_validate_json(found.to_json()) == found


def _headline_of(report: Report, band: int) -> float:
    return sum(entry.share * (entry.bands[band].wasserstein.value or 0) for entry in report.classes)


def test_seams_and_ndvi_are_those_of_the_values(
    bytes_: dict[str, np.ndarray], write_scene: WriteScene, legend: Legend
) -> None:
    """Twice the bytes as uint16 have the same ratios, though levels see each band by its own range."""
    words = {name: bytes_[name] * np.uint16(2) for name in ("real", "synthetic")}
    for one in words.values():
        one[3] //= 4  # near infrared, of which few levels are left
    halved = {name: (one // 2).astype(np.uint8) for name, one in words.items()}
    plain = compared(bytes_ | halved, write_scene, legend, features=False)
    words = {name: 2 * one.astype(np.uint16) for name, one in halved.items()}
    found = compared(bytes_ | words, write_scene, legend, features=False)
    assert found.seams == plain.seams
    assert found.headline.ndvi_wasserstein == plain.headline.ndvi_wasserstein
    assert [entry.ndvi for entry in found.classes] == [entry.ndvi for entry in plain.classes]


def test_negative_values_are_0_to_ndvi() -> None:
    red, nir = np.array([[-50, 100, -5, 0, 100, -30], [100, -50, -5, 0, 300, 3]], np.int16)[:, None]
    counts = count_ndvi(red, nir, np.zeros(red.shape, np.uint8), 1)[0]
    assert NDVI_VALUES[counts > 0] == pytest.approx([-1, 0.5, 1])
    assert counts[counts > 0].tolist() == [1, 1, 2]


def test_ndvi_is_that_of_reflectances_where_they_are_known(
    bytes_: dict[str, np.ndarray], write_scene: WriteScene, legend: Legend, tmp_path: Path
) -> None:
    """Of uint16 with an offset; images that tell another one are refused."""
    plain = compared(bytes_, write_scene, legend, features=False)
    values = bytes_ | {name: bytes_[name] * np.uint16(2) + 1000 for name in ("real", "synthetic")}
    other = compared(values, write_scene, legend, features=False)
    assert other.headline.ndvi_wasserstein.value != pytest.approx(plain.headline.ndvi_wasserstein.value, rel=0.1)
    paths = {name: write_scene(f"{name}.tif", one, bands=RGBN[: len(one)]) for name, one in values.items()}
    for name in ("real", "synthetic"):
        with rasterio.open(paths[name], "r+") as file:
            file.scales, file.offsets = [1e-4] * 4, [-0.1] * 4
    found = evaluate(**paths, legend=legend, tile_size=32, features=False)
    for entry, of_bytes in zip(found.classes, plain.classes, strict=True):
        assert entry.ndvi is not None
        assert of_bytes.ndvi is not None
        assert entry.ndvi.real_mean == pytest.approx(of_bytes.ndvi.real_mean, abs=1e-3)
        assert entry.ndvi.wasserstein.value == pytest.approx(of_bytes.ndvi.wasserstein.value, abs=1e-3)
    assert [entry.bands for entry in found.classes] == [entry.bands for entry in other.classes]
    with rasterio.open(paths["synthetic"], "r+") as file:
        file.offsets = [0.0] * 4
    with pytest.raises(DataError, match=r"band red holds values x 0\.0001"):
        evaluate(**paths, legend=legend, tile_size=32, features=False)


def test_what_lies_beyond_is_told_and_still_counted(write_scene: WriteScene, legend: Legend, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    codes = np.ones((1, 64, 128), np.uint8)
    codes[0, 0, :64] = 0  # which does not count
    real = rng.integers(2000, 3001, (4, 64, 128)).astype(np.uint16)
    real[:, 1, :4] = 60_000
    synthetic = rng.integers(2500, 2600, real.shape).astype(np.uint16)
    synthetic[2, 32:], synthetic[1] = 9000, 3600
    real[:, 0, :64], synthetic[:, 0, :64] = 0, 0
    values = {"labels": codes, "real": real, "synthetic": synthetic}
    report = compared(values, write_scene, legend, features=False, out=tmp_path / "out")
    assert report.levels is not None
    [entry] = report.classes
    inside = codes[0] == 1
    for number, (one, band) in enumerate(zip(report.levels.bands, entry.bands, strict=True)):
        pixels = real[number][inside]
        low, high = np.percentile(pixels, [0.1, 99.9], method="inverted_cdf")
        assert (one.low, one.high) == (low, high)
        assert high <= 3000
        assert one.real_beyond == np.mean((pixels < low) | (pixels > high))
        assert one.synthetic_beyond == (0, 1, 0.5 / inside.mean(), 0)[number]
        step = (high - low) / 255
        for image, found in ((real, band.real_mean), (synthetic, band.synthetic_mean)):
            counted = image[number][inside].clip(low - 384 * step, high + 384 * step)
            assert found == pytest.approx(counted.mean(), abs=step / 2)
    assert entry.bands[1].synthetic_mean == pytest.approx(3600, abs=2)
    told = {row.measure: row for row in report.summary()}["seen in 256 levels"]
    assert told.value == "uint16"
    assert f"red {report.levels.bands[0].low:g} to {report.levels.bands[0].high:g}, green" in told.meaning
    assert told.meaning.endswith("synthetic 100 %")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<td>100 %</td>" in page
    assert "<td>50.4 %</td>" in page
    assert f"water, nir: {report.levels.bands[3].low:g} to {report.levels.bands[3].high:g}" in page
    assert "255 DN" not in page


def test_no_number_is_no_data(bytes_: dict[str, np.ndarray], write_scene: WriteScene, legend: Legend) -> None:
    """NaN where there are no labels, or in their place, gives the same report."""
    images = {name: copied(bytes_[name], "float32") for name in ("real", "synthetic")}
    hole = (slice(None), slice(40, 70), slice(50, 60))
    labels = bytes_["labels"].copy()
    labels[hole] = 0
    expected = compared(images | {"labels": labels}, write_scene, legend, features=False)
    for name, nothing in (("real", np.nan), ("synthetic", np.inf)):
        holed = images | {name: images[name].copy()}
        holed[name][hole] = nothing
        assert compared(holed | {"labels": bytes_["labels"]}, write_scene, legend, features=False) == expected
    assert expected.seams.synthetic is not None


def test_what_has_no_levels_is_refused(bytes_: dict[str, np.ndarray], write_scene: WriteScene, legend: Legend) -> None:
    words = bytes_ | {name: copied(bytes_[name], "uint16") for name in ("real", "synthetic")}
    flat = words["real"].copy()
    flat[1] = 700
    floats = copied(bytes_["real"], "float32")
    cases = [
        ({"real": flat}, "real.tif: band green is 700 nearly everywhere"),
        ({"real": bytes_["real"]}, "synthetic.tif: holds uint16 values, but .*real.tif holds uint8"),
        ({name: words[name].astype(np.float64) for name in ("real", "synthetic")}, "imagery of float64"),
        ({"real": words["real"].astype(np.float64)}, "real.tif: imagery of float64; convert it"),
        ({"synthetic": words["synthetic"].astype(np.int64)}, "synthetic.tif: imagery of int64; convert it"),
        ({"real": np.full_like(floats, np.nan), "synthetic": floats}, "no pixel to compare"),
    ]
    for changes, said in cases:
        with pytest.raises(DataError, match=said) as caught:
            compared(words | changes, write_scene, legend, features=False)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("of", ["rasters", "store"])
def test_the_pass_that_finds_the_levels_tells_how_far_it_is(
    of: str, bytes_: dict[str, np.ndarray], write_scene: WriteScene, legend: Legend, tmp_path: Path
) -> None:
    counts = {}
    for dtype in ("uint8", "uint16"):
        told: list[tuple[int, int]] = []
        options = {"features": False, "progress": lambda *parts, told=told: told.append(parts)}
        if of == "rasters":
            images = {name: bytes_[name].astype(dtype) for name in ("real", "synthetic")}
            compared(bytes_ | images, write_scene, legend, **options)
        else:
            codes = scene_codes(0, 2)
            path = write_store(tmp_path / dtype, codes, images_of(1, codes).astype(dtype), folds(1, 1))
            evaluate(data=path, synthetic=path, tile_size=SIDE, **options)
        counts[dtype] = told
    extra = counts["uint16"][: -len(counts["uint8"])]
    assert counts["uint16"][len(extra) :] == counts["uint8"]
    assert extra == [(done, len(extra)) for done in range(1, len(extra) + 1)] != []


def test_stores_twins_and_targets_are_seen_in_the_levels_of_the_fold(tmp_path: Path, legend: Legend) -> None:
    """Distances to train tiles and to a target, diversity and pictures: as those of bytes of which they are copies."""
    codes, split = scene_codes(0, 6), folds(3, 3)
    has_class = (codes > 0).astype(np.uint8)
    real = images_of(1, codes)
    rng = np.random.default_rng(2)
    places = rng.permutation(np.flatnonzero(has_class[:, : 3 * (SIDE + 16)].ravel()))  # in test
    width = 3 * (SIDE + 16)
    for band in real:
        rows, columns = np.divmod(places, width)
        band[rows[:30], columns[:30]], band[rows[30:60], columns[30:60]] = 0, 255
    twins = [((real // 2 + 40 + shift) * has_class).astype(np.uint8) for shift in (0, 6)]
    target = images_of(5, scene_codes(5, 3)[:, :SIDE].repeat(3, axis=1))

    def report(folder: Path, change: Any) -> Report:
        write = lambda name, image: write_store(folder / name, codes, change(image), split)  # noqa: E731
        folder.mkdir()
        near = folder / "target.tif"
        values = change(target)
        profile = {"driver": "GTiff", "count": 4, "height": values.shape[1], "width": values.shape[2]}
        place = rasterio.Affine(1, 0, 500_000, 0, -1, 4_500_000)
        with rasterio.open(near, "w", dtype=values.dtype, crs="EPSG:32618", transform=place, **profile) as file:
            file.write(values)
        stores = [write(f"{number}.zarr", image) for number, image in enumerate(twins)]
        options = {"target": near, "tile_size": SIDE, "out": folder / "report"}
        return evaluate(data=write("real.zarr", real), synthetic=stores, **options)

    plain = report(tmp_path / "bytes", lambda image: image)
    found = report(tmp_path / "words", lambda image: 13 * image.astype(np.uint16) + 1000)
    assert found.levels is not None
    assert {(one.low, one.high) for one in found.levels.bands} == {(1000, 13 * 255 + 1000)}
    for name in ("features", "memorisation", "nearness", "frechet", "spectrum"):
        assert getattr(found, name) == getattr(plain, name)
    assert {one.reference for one in found.features} == {"test", "train"}
    assert found.nearness.nearer is not None
    assert found.diversity.features == plain.diversity.features
    assert found.diversity.pixels.value == pytest.approx(13 * 6)
    pictures = [
        [line for line in (tmp_path / name / "report" / "report.html").read_text().splitlines() if "data:image" in line]
        for name in ("bytes", "words")
    ]
    assert pictures[0] == pictures[1] != []


def test_the_journey_of_16_bit_imagery(write_scene: WriteScene, tmp_path: Path) -> None:
    """ingest, train, generate, evaluate of rasters and of the store, all by the command line."""
    from geosynth_cli.main import _typer

    def run(*words: object) -> str:
        done = CliRunner().invoke(_typer, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        return done.stdout

    items = ["image,labels,fold"]
    for seed, fold in enumerate(("train", "test")):
        rng = np.random.default_rng(seed)
        codes = blobs(rng, 128, 256, 6)
        means = 1000.0 + 300 * codes.astype(int) + 400 * np.arange(4)[:, None, None]
        real = np.rint(rng.normal(means, 80)).astype(np.uint16)
        image = write_scene(f"{fold}.tif", real, 0, 1000 * seed, bands=RGBN)
        labels = write_scene(f"{fold}_labels.tif", codes, 0, 1000 * seed)
        items.append(f"{image},{labels},{fold}")
    (tmp_path / "items.csv").write_text("\n".join(items))
    store, out = tmp_path / "store.zarr", tmp_path / "run"
    run("ingest", "--items", tmp_path / "items.csv", "--out", store)
    tiny = ("base_width=2", "max_multiple=2", "hidden_channels=4", "latent_size=3", "noise_channels=2")
    tiny += ("encoder_width=2", "discriminator_width=2", "preview_every=0", "perceptual_weight=0")
    sets = [word for one in tiny for word in ("--set", one)]
    run("train", "--data", store, "--out", out, "--steps", 2, "--batch-size", 2, "--crop-size", 64, *sets)
    synthetic = tmp_path / "synthetic.tif"
    run("generate", "--labels", labels, "--model", out, "--out", synthetic)

    rasters = ("--real", image, "--synthetic", synthetic, "--labels", labels)
    table = run("evaluate", *rasters, "--tile-size", 64, "--no-features", "--out", tmp_path / "of_rasters")
    assert "seen in 256 levels" in table
    found = Report.model_validate_json((tmp_path / "of_rasters" / "report.json").read_text())
    assert found.levels is not None
    lows = np.percentile(real.reshape(4, -1), 0.1, axis=1, method="inverted_cdf")
    assert [one.low for one in found.levels.bands] == lows.tolist()
    assert found.headline.ndvi_wasserstein.value is not None
    of_store = json.loads(
        run("evaluate", "--data", store, "--model", out, "--tile-size", 64, "--out", tmp_path / "of_store", "--json")
    )
    assert of_store["levels"]["dtype"] == "uint16"
    assert [one["low"] for one in of_store["levels"]["bands"]] == lows.tolist()
    assert len(of_store["synthetic"]) == 2
    assert of_store["features"][0]["frechet"]["estimate"]["value"] > 0
    assert of_store["diversity"]["pixels"]["value"] is not None

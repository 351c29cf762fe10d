from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from evaluation_scenes import WriteScene, blobs, textured
from odc.geo.geobox import GeoBox
from scipy.stats import t as student

from geosynth.errors import DataError, GeosynthError, GridError, LegendError, OutputError, RasterError, SettingsError
from geosynth.estimate import draw_places
from geosynth.evaluation import tiles
from geosynth.evaluation.evaluate import evaluate
from geosynth.evaluation.report import Report
from geosynth.grid import block_plan
from geosynth.legend import Legend

RGBN = ("red", "green", "blue", "nir")


@pytest.fixture
def scene(write_scene: WriteScene) -> dict[str, Any]:
    """Arrays and files of 320 x 400 px: 120 whole tiles of 32 px, as 68 are needed."""
    rng = np.random.default_rng(0)
    codes = blobs(rng, 320, 400)
    codes[0, 100:110, 200:230] = 0
    real, synthetic = textured(rng, codes), textured(rng, codes) // 2 + 40
    paths = {
        "real": write_scene("real.tif", real, bands=RGBN),
        "synthetic": write_scene("synthetic.tif", synthetic, bands=RGBN),
        "labels": write_scene("labels.tif", codes),
    }
    return {"codes": codes[0], "real": real, "synthetic": synthetic, "paths": paths}


def small(scene: dict[str, Any], legend: str | Legend, **changes: Any) -> Report:
    return evaluate(
        **({**scene["paths"], "legend": legend, "tile_size": 32, "block_size": 64, "features": False} | changes)
    )


def test_classes_are_those_of_the_pixels(scene: dict[str, Any], legend: Legend) -> None:
    report = small(scene, legend)
    assert [entry.name for entry in report.classes] == list(legend.names)
    assert report.pixels == (scene["codes"] > 0).sum()
    for code, entry in enumerate(report.classes, start=1):
        inside = scene["codes"] == code
        assert entry.pixels == inside.sum()
        for number, band in enumerate(entry.bands):
            real, synthetic = (np.sort(scene[name][number][inside].astype(float)) for name in ("real", "synthetic"))
            assert band.quantity == RGBN[number]
            assert band.real_mean == pytest.approx(real.mean())
            assert band.synthetic_mean == pytest.approx(synthetic.mean())
            assert band.real_std == pytest.approx(real.std())
            assert band.synthetic_std == pytest.approx(synthetic.std())
            for values, found in ((real, band.real_quantiles), (synthetic, band.synthetic_quantiles)):
                assert list(found) == np.quantile(values, [0.05, 0.5, 0.95], method="inverted_cdf").tolist()
            assert band.wasserstein.value == pytest.approx(np.abs(real - synthetic).mean())
            assert band.variance_ratio.value == pytest.approx(synthetic.var() / real.var())
            assert band.wasserstein.low is not None
            assert band.wasserstein.high is not None
            assert band.wasserstein.low < band.wasserstein.value < band.wasserstein.high
        assert entry.ndvi is not None
        red, nir = (scene["real"][number][inside].astype(float) for number in (0, 3))
        assert entry.ndvi.real_mean == pytest.approx(((nir - red) / (nir + red)).mean(), abs=2e-4)


def test_the_headline_is_the_mean_over_pixels(scene: dict[str, Any], legend: Legend) -> None:
    report = small(scene, legend)
    shares = [entry.share for entry in report.classes]
    assert sum(shares) == pytest.approx(1)
    distances = [[band.wasserstein.value for band in entry.bands] for entry in report.classes]
    assert report.headline.wasserstein.value == pytest.approx(np.average(np.mean(distances, axis=1), weights=shares))
    variances = np.zeros(2)
    for code in (1, 2, 3):
        inside = scene["codes"] == code
        variances += [scene[name][:, inside].var(axis=1).sum() * inside.sum() for name in ("real", "synthetic")]
    assert report.headline.variance_ratio.value == pytest.approx(variances[1] / variances[0])
    ndvi = [entry.ndvi.wasserstein.value for entry in report.classes if entry.ndvi]
    assert report.headline.ndvi_wasserstein.value == pytest.approx(np.average(ndvi, weights=shares))


def test_intervals_come_from_drawing_tiles(scene: dict[str, Any], legend: Legend) -> None:
    report = small(scene, legend, tile_size=64, seed=7)
    counts = []  # (tiles, 2, 256) of class 1, band 2
    for row in range(0, 320, 64):
        for column in range(0, 400, 64):
            place = (slice(row, row + 64), slice(column, column + 64))
            inside = scene["codes"][place] == 1
            images = (scene[name][1][place][inside] for name in ("real", "synthetic"))
            counts.append([np.bincount(image, minlength=256) for image in images])
    drawn = np.tensordot(draw_places(len(counts), seed=7)[1:], np.array(counts), axes=1)
    shares = np.cumsum(drawn / drawn.sum(axis=2, keepdims=True), axis=2)
    spread = np.abs(shares[:, 0] - shares[:, 1]).sum(axis=1).std(ddof=1)
    found = report.classes[0].bands[1].wasserstein
    assert found.value is not None
    reach = student.ppf(0.975, len(counts) - 1) * spread * np.sqrt(len(counts) / (len(counts) - 1))
    assert found.low == pytest.approx(found.value - reach)
    assert found.high == pytest.approx(found.value + reach)


def test_identical_images_are_no_distance_apart(scene: dict[str, Any], legend: Legend) -> None:
    report = small(scene, legend, synthetic=scene["paths"]["real"])
    for entry in report.classes:
        for one in (*entry.bands, entry.ndvi):
            assert one is not None
            assert (one.wasserstein.value, one.wasserstein.low, one.wasserstein.high) == (0, 0, 0)
            assert (one.variance_ratio.value, one.variance_ratio.low, one.variance_ratio.high) == (1, 1, 1)
    assert report.frechet.distance.value == report.frechet.distance.high == 0
    assert report.frechet.halves_real == pytest.approx(report.frechet.halves_across)
    assert report.frechet.halves_real is not None
    assert report.frechet.halves_real > 0
    assert report.spectrum.fine_detail == 1
    assert report.seams.synthetic == report.seams.real


def test_a_worse_image_is_further_away(scene: dict[str, Any], legend: Legend, write_scene: WriteScene) -> None:
    rng = np.random.default_rng(5)
    good = textured(rng, scene["codes"][None])
    noise = rng.normal(0, 30, size=good.shape)
    bad = np.clip(good + noise, 0, 255).astype(np.uint8)
    first, second = (
        small(scene, legend, synthetic=write_scene(name, values, bands=RGBN)).frechet
        for name, values in (("good.tif", good), ("bad.tif", bad))
    )
    assert first.distance.value is not None
    assert first.distance.high is not None
    assert second.distance.low is not None
    assert second.distance.low > first.distance.high
    # a fresh draw of the same process is as far across halves as the real one
    assert first.halves_across == pytest.approx(first.halves_real, rel=0.5)
    assert second.halves_across is not None
    assert first.halves_real is not None
    assert second.halves_across > 10 * first.halves_real


def test_results_do_not_depend_on_how_the_raster_is_read(
    scene: dict[str, Any], legend: Legend, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = small(scene, legend)
    calls = []
    monkeypatch.setattr(tiles, "_READ_SIZE", 64)
    cut = small(scene, legend, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 35) for done in range(1, 36)]
    first, second = json.loads(whole.to_json()), json.loads(cut.to_json())
    for report in (first, second):  # the order of the tiles changes the rounding of sums over them
        frechet = report["frechet"]
        frechet["distance"] = [round(value, 6) for value in frechet["distance"].values()]
        for name in ("halves_real", "halves_across"):
            frechet[name] = round(frechet[name], 6)
        report["spectrum"]["ratio"] = np.round(list(report["spectrum"]["ratio"].values()), 6).tolist()
        report["spectrum"]["fine_detail"] = round(report["spectrum"]["fine_detail"], 6)
    assert first == second


def test_only_the_common_pixels_count(scene: dict[str, Any], legend: Legend, write_scene: WriteScene) -> None:
    place = (slice(None), slice(32, 288), slice(64, 384))
    cropped = {
        "real": write_scene("real_part.tif", scene["real"][place], 32, 64, bands=RGBN),
        "synthetic": write_scene("synthetic_part.tif", scene["synthetic"][place], 32, 64, bands=RGBN),
        "labels": write_scene("labels_part.tif", scene["codes"][None][place], 32, 64),
    }
    alone = json.loads(small({"paths": cropped}, legend).to_json())
    for name in ("real", "synthetic", "labels"):
        report = json.loads(small(scene, legend, **{name: cropped[name]}).to_json())
        assert report.pop("area") == ([0, 0, 256, 320] if name == "real" else [32, 64, 256, 320])
        for key in ("headline", "classes", "frechet", "spectrum", "pixels", "seams"):
            assert report[key] == alone[key]


def test_neighbouring_tiles_are_drawn_together_where_there_are_many(scene: dict[str, Any], legend: Legend) -> None:
    grouped = small(scene, legend)  # 10 x 13 tiles of 32 px, more than 100: groups of 2 x 2
    single = small(scene, legend, tile_size=64)
    for one, other in zip(grouped.classes, single.classes, strict=True):
        assert one.bands == other.bands


def test_too_few_tiles_have_no_frechet_distance(scene: dict[str, Any], legend: Legend) -> None:
    frechet = small(scene, legend, tile_size=128).frechet
    assert (frechet.num_tiles, frechet.min_tiles) == (5, 68)  # of six, one holds the hole
    assert frechet.distance.value is frechet.halves_real is None
    assert frechet.reason is not None
    assert "68 are needed" in frechet.reason


@pytest.mark.parametrize(("row", "column"), [(0, 0), (37, 90)])
def test_seams_are_looked_for_where_blocks_meet(
    row: int, column: int, scene: dict[str, Any], legend: Legend, write_scene: WriteScene
) -> None:
    """Wherever the raster begins: `generate` cuts on the lattice of absolute positions."""
    even = textured(np.random.default_rng(1), np.ones((1, 320, 400), np.uint8))
    labels = write_scene("ones.tif", np.ones((1, 320, 400), np.uint8), row, column)
    real = write_scene("even.tif", even, row, column, bands=RGBN)
    seamed = even // 2
    with rasterio.open(real) as file:
        plan = block_plan(GeoBox(file.shape, file.transform, file.crs.to_wkt()), 64)
    for block in plan:
        seamed[:, *block.slices] += 20 * ((block.row + 63) // 64 % 2 + (block.column + 63) // 64 % 2)
    synthetic = write_scene("seamed.tif", seamed, row, column, bands=RGBN)
    seams = small(scene, legend, real=real, synthetic=synthetic, labels=labels).seams
    assert seams.real == pytest.approx(1, abs=0.1)
    assert seams.synthetic is not None
    assert seams.synthetic > 2
    nowhere = small(scene, legend, block_size=1_000_003).seams
    assert nowhere.synthetic is None
    assert nowhere.num_pairs == 0
    assert "no block line" in (nowhere.reason or "")


def test_constant_images_have_no_ratios_but_a_report(
    scene: dict[str, Any], legend: Legend, write_scene: WriteScene, tmp_path: Path
) -> None:
    flat, other = (write_scene(f"flat{dn}.tif", np.full((4, 320, 400), dn, np.uint8), bands=RGBN) for dn in (50, 60))
    report = small(scene, legend, real=flat, synthetic=other, out=tmp_path / "out")
    assert report.headline.wasserstein.value == 10
    assert report.headline.variance_ratio.value is None
    meanings = {row.measure: row.meaning for row in report.summary()}
    assert meanings["variance within classes"] == "no band of the real image varies within a class"
    assert report.frechet.distance.value == pytest.approx(4 * 10**2)  # four means, in units of at least 1 DN
    assert report.spectrum.fine_detail is report.seams.synthetic is None
    assert "NaN" not in (tmp_path / "out" / "report.json").read_text()


def test_black_images_have_no_ndvi(scene: dict[str, Any], legend: Legend, write_scene: WriteScene) -> None:
    black = write_scene("black.tif", np.zeros((4, 320, 400), np.uint8), bands=RGBN)
    report = small(scene, legend, synthetic=black)
    ndvi = report.classes[0].ndvi
    assert ndvi is not None
    assert ndvi.pixels == report.classes[0].pixels
    assert ndvi.synthetic_mean is ndvi.wasserstein.value is None
    assert report.headline.ndvi_wasserstein.value is None
    assert report.ndvi_reason == f"red and nir of the synthetic image are 0 in all of class {report.classes[0].name!r}"
    assert small(scene, legend, real=black).ndvi_reason == "red and nir of the real image are 0 everywhere"


def test_unknown_bands_have_no_ndvi(scene: dict[str, Any], legend: Legend) -> None:
    report = small(scene, legend, bands=["a", "b", "c", "d"])
    assert report.classes[0].ndvi is None
    assert report.ndvi_reason is not None
    assert report.headline.ndvi_wasserstein.value is None


def test_classes_without_pixels_are_left_out(scene: dict[str, Any], legend: Legend, write_scene: WriteScene) -> None:
    codes = np.where(scene["codes"] == 2, 3, scene["codes"])[None]
    report = small(scene, legend, labels=write_scene("two.tif", codes))
    assert [entry.name for entry in report.classes] == ["water", "road"]


def test_the_report_is_the_same_again_and_goes_through_json(scene: dict[str, Any], legend: Legend) -> None:
    report = small(scene, legend)
    assert report == small(scene, legend)
    assert Report.model_validate_json(report.to_json()) == report
    reseeded = small(scene, legend, seed=1)
    assert reseeded.headline.wasserstein.value == report.headline.wasserstein.value
    assert reseeded.headline.wasserstein != report.headline.wasserstein


def test_golden_keys_of_the_report(scene: dict[str, Any], legend: Legend) -> None:
    def keys(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: keys(inner) for name, inner in value.items()}
        return [keys(one) for one in value[:1]] if isinstance(value, list) else None

    estimate = dict.fromkeys(("value", "low", "high", "n"))
    moments = dict.fromkeys(("quantity", "pixels", "real_mean", "real_std", "synthetic_mean", "synthetic_std"))
    quantiles = {"real_quantiles": [None], "synthetic_quantiles": [None]}
    comparison = moments | quantiles | {"wasserstein": estimate, "variance_ratio": estimate}
    one_class = dict.fromkeys(("name", "colour", "pixels", "share")) | {"bands": [comparison], "ndvi": comparison}
    texture = {"name": None, "num_windows": None, "ratio": {name: [None] for name in RGBN}}
    frechet = dict.fromkeys(("feature_space", "num_features", "num_tiles", "min_tiles", "halves_real", "halves_across"))
    assert keys(json.loads(small(scene, legend).to_json())) == {
        **dict.fromkeys(
            (
                "software",
                "real",
                "look",
                "labels",
                "fold",
                "legend",
                "pixels",
                "tile_size",
                "seed",
                "ndvi_reason",
                "levels",
            )
        ),
        **dict.fromkeys(("features_reason", "inception_reason")),
        "synthetic": [None],
        "features": [],
        "places": dict.fromkeys(("kind", "count")),
        "bands": [None],
        "area": [None],
        "headline": {"wasserstein": estimate, "variance_ratio": estimate, "ndvi_wasserstein": estimate},
        "classes": [one_class],
        "frechet": frechet | {"distance": estimate, "reason": None},
        "spectrum": {
            "num_tiles": None,
            "frequencies": [None],
            "ratio": {name: [None] for name in RGBN},
            "fine_detail": None,
            "reason": None,
        },
        "class_spectra": {"window_size": None, "octaves": [[None]], "reason": None, "classes": [texture]},
        "seams": dict.fromkeys(("block_size", "num_pairs", "synthetic", "real", "reason")),
        "memorisation": {
            **dict.fromkeys(("feature_space", "num_synthetic", "num_train", "num_other", "other", "reason")),
            **dict.fromkeys(("share_nearer_train", "distance_ratio", "control", "membership_auc"), estimate),
            "closest": [],
        },
        "diversity": {
            **dict.fromkeys(("num_latents", "num_tiles", "feature_space", "reason")),
            **dict.fromkeys(("pixels", "features"), estimate),
        },
        "consistency": {
            **dict.fromkeys(("segmenter", "num_tiles", "num_places", "reason")),
            **dict.fromkeys(("real", "synthetic", "difference"), estimate),
            "class_iou": {},
        },
        "nearness": dict.fromkeys(("real", "synthetic", "nearer", "num_target", "reason")),
    }


def test_the_summary_tells_values_and_reasons(scene: dict[str, Any], legend: Legend) -> None:
    rows = small(scene, legend, tile_size=128, bands=["a", "b", "c", "d"]).summary()
    told = {row.measure: row for row in rows}
    assert len(told) == len(rows)
    assert told["Frechet, all places"].value == "-"
    assert "68 are needed" in told["Frechet, all places"].meaning
    assert "red and nir" in told["Wasserstein-1 of NDVI"].meaning
    assert told["Wasserstein-1 within classes"].value.endswith("DN")
    assert [row.value for row in rows if "FID" in "".join(row)] == ["-"]
    assert told["distances of features"].meaning == told["nearer to train"].meaning == "not asked for"


def test_rasters_have_distances_of_features_too(legend: Legend, write_scene: WriteScene) -> None:
    rng = np.random.default_rng(0)
    codes = blobs(rng, 64, 128)
    paths = {
        "real": write_scene("real.tif", textured(rng, codes), bands=RGBN),
        "synthetic": write_scene("synthetic.tif", textured(rng, codes) // 2, bands=RGBN),
        "labels": write_scene("labels.tif", codes),
    }
    report = small({"paths": paths}, legend, features=True, max_tiles=6)
    assert [one.feature_space for one in report.features] == [
        "efficientnet-lite0",
        "efficientnet-lite0 (nir, red, green)",
    ]
    for one in report.features:
        assert (one.reference, one.num_real, one.num_synthetic) == ("area", 6, 6)
        assert one.frechet.across.value is not None
    assert "store" in (report.memorisation.reason or "")
    assert "two twins" in (report.diversity.reason or "")
    assert "geosynth segment" in (report.consistency.reason or "")
    assert report.area == (0, 0, 64, 128)
    assert "which touch" in report.places.kind


def test_files_are_written_where_asked(scene: dict[str, Any], legend: Legend, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "report"
    report = small(scene, legend, out=out)
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.json"]
    assert (out / "report.json").read_text(encoding="utf-8") == report.to_json()
    assert [path.name for path in out.parent.iterdir()] == ["report"]


@pytest.mark.parametrize("place", [1, 2])
def test_an_interrupt_while_its_files_take_their_places_leaves_no_half_of_a_report(
    scene: dict[str, Any], legend: Legend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    moved: list[str] = []

    def interrupted(new: Path, path: Path) -> None:
        moved.append(path.name)
        if len(moved) == place:
            raise KeyboardInterrupt
        new.replace(path)

    out = tmp_path / "out"
    monkeypatch.setattr("geosynth.unfinished.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small(scene, legend, out=out)
    if place == 1:
        assert not out.exists()
    else:
        assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.json"]
    small(scene, legend, out=out, overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.json"]


def test_a_kill_while_its_files_take_their_places_is_mended_by_the_next_run(
    scene: dict[str, Any], legend: Legend, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    small(scene, legend, out=out)
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    work = out / ".report.json.unfinished"
    (work / "parts").mkdir(parents=True)
    (work / "job.json").write_text("{}")
    (work / "finished").write_text(json.dumps({"report.html": "report.html", "report.json": "result"}))
    (out / "report.json").rename(work / "result")  # the page has taken its place, the report not yet
    small(scene, legend, out=out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole


def test_a_report_is_replaced_on_demand_and_nothing_else(scene: dict[str, Any], legend: Legend, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="already exists"):
        small(scene, legend, out=out)
    assert [path.name for path in out.iterdir()] == ["notes.txt"]
    report = small(scene, legend, out=out, overwrite=True)
    again = small(scene, legend, out=out, overwrite=True, seed=3)
    assert report != again
    assert (out / "report.json").read_text(encoding="utf-8") == again.to_json()
    assert sorted(path.name for path in out.iterdir()) == ["notes.txt", "report.html", "report.json"]


def test_bad_input_is_refused_in_one_line_and_leaves_nothing(
    scene: dict[str, Any], legend: Legend, write_scene: WriteScene, tmp_path: Path
) -> None:
    codes = scene["codes"][None]
    somewhere = np.where(np.indices(codes.shape)[2] < 390, 0, codes).astype(np.uint8)
    (tmp_path / "a_file").write_text("")
    cases: list[tuple[type[GeosynthError], str, dict[str, Any]]] = [
        (RasterError, "no such file", {"real": tmp_path / "missing.tif"}),
        (GridError, "no pixel in common", {"synthetic": write_scene("far.tif", scene["real"], 0, 9999, bands=RGBN)}),
        (DataError, "uint16", {"synthetic": write_scene("deep.tif", scene["real"].astype(np.uint16), bands=RGBN)}),
        (DataError, "all of it is nodata", {"labels": write_scene("empty.tif", 0 * codes)}),
        (LegendError, "9 (", {"labels": write_scene("odd.tif", np.where(codes == 2, 9, codes).astype(np.uint8))}),
        (DataError, "no pixel to compare", {
            "labels": write_scene("edge.tif", somewhere),
            "real": write_scene("cut.tif", scene["real"][:, :, :380], bands=RGBN),
        }),
        (LegendError, "neither a legend file", {"legend": "nowhere"}),
        (SettingsError, "tile_size", {"tile_size": 30}),
        (SettingsError, "tile_size", {"tile_size": 8192}),
        (SettingsError, "block_size", {"block_size": 1}),
        (SettingsError, "seed", {"seed": -1}),
        (OutputError, "is a file", {"out": tmp_path / "a_file"}),
        (OutputError, "cannot be written", {"out": tmp_path / "a_file" / "out"}),
    ]  # fmt: skip
    before = sorted(tmp_path.iterdir())
    for error, saying, changes in cases:
        with pytest.raises(error) as caught:
            small(scene, **({"legend": legend, "out": tmp_path / "new" / "out"} | changes))
        assert saying in str(caught.value)
        assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


def test_a_failing_write_leaves_nothing(
    scene: dict[str, Any], legend: Legend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="No space left"):
        small(scene, legend, out=tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


def test_a_failing_write_leaves_the_report_that_was_there(
    scene: dict[str, Any], legend: Legend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    small(scene, legend, out=out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    write, calls = Path.write_text, []

    def full(path: Path, *arguments: Any, **keywords: Any) -> int:
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return write(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="No space left"):
        small(scene, legend, out=out, overwrite=True, seed=9)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_folder_beside_the_report_is_nobodys_business(scene: dict[str, Any], legend: Legend, tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "mine.txt").write_text("mine")
    small(scene, legend, out=tmp_path / "out")
    assert (tmp_path / "out.partial" / "mine.txt").read_text() == "mine"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "report.json"]


def test_importing_the_room_loads_neither_torch_nor_rasterio() -> None:
    code = "import sys, geosynth.evaluation; print([name for name in ('torch', 'rasterio') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"
    code = "import sys, geosynth.evaluation.evaluate; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "False"


@pytest.mark.realdata
def test_a_real_tile_against_itself_and_against_its_neighbour(real_data: Path, tmp_path: Path) -> None:
    images, labels = (real_data / "ohio_naip" / kind for kind in ("images", "labels"))
    names = ("low vegetation", "building", "road", "barren", "tree canopy", "water")
    legend = Legend.from_values(
        {"name": "ohio", "classes": [{"code": code, "name": name} for code, name in enumerate(names)]}
    )
    tile = "tile_14216.tif"
    options: dict[str, Any] = {"legend": legend, "bands": RGBN, "tile_size": 32, "block_size": 64, "features": False}
    itself = evaluate(images / tile, images / tile, labels / tile, **options)
    assert itself.pixels == 256 * 256
    assert itself.headline.wasserstein.value == itself.headline.ndvi_wasserstein.value == 0
    assert itself.headline.variance_ratio.value == 1
    # the tile below, put in its place, is another place
    with rasterio.open(images / tile) as here, rasterio.open(images / "tile_14217.tif") as below:
        assert here.bounds.bottom == pytest.approx(below.bounds.top)
        with rasterio.open(tmp_path / "moved.tif", "w", **here.profile) as file:
            file.write(below.read())
    moved = evaluate(images / tile, tmp_path / "moved.tif", labels / tile, tmp_path / "out", **options)
    assert moved.headline.wasserstein.low is not None
    assert moved.headline.wasserstein.low > 0.5
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
    with pytest.raises(GridError, match="no pixel in common"):
        evaluate(images / tile, images / "tile_14217.tif", labels / tile, **options)

"""What users choose at `geosynth generate`: inputs, outputs, summaries, and refusals before work starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
import zarr.codecs

import geosynth.checkpoint
from geosynth.checkpoint import GeneratorModel
from geosynth.legend import CHESAPEAKE
from geosynth.unfinished import UnfinishedWork
from rasters import NORTH_UP, UTM_18N, draw_labels, write_raster

Generate = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def generate(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_model: GeneratorModel
) -> Generate:
    """`geosynth generate --model tiny ...` in a folder of its own: exit code, stdout, lines of stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, list[str]]:
        done = run("generate", "--model", tiny_model.path, "--precision", "fp32", *arguments)
        return done.code, done.out, done.err.splitlines()

    return call


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """A folder with two label tiles side by side, each 64 px square."""
    codes = draw_labels(64, 128)
    for name, column in (("west", 0), ("east", 64)):
        transform = NORTH_UP @ NORTH_UP.translation(column, 0)
        write_raster(tmp_path / "tiles" / f"{name}.tif", codes[:, column : column + 64], transform, crs=UTM_18N)
    return tmp_path / "tiles"


def test_a_folder_is_one_image(generate: Generate, labels: Path) -> None:
    assert generate("--labels", labels, "--out", "image.tif") == (0, "image.tif\n", [])
    with rasterio.open("image.tif") as image:
        assert image.shape == (64, 128)


def test_file_by_file_with_samples_and_all_that_stands_beside(generate: Generate, labels: Path) -> None:
    options = ["--samples", 2, "--preview", "--stac"]
    code, out, errors = generate("--labels", labels, "--out-dir", "images", *options)
    assert (code, errors) == (0, [])
    names = ["east_0", "east_1", "west_0", "west_1"]
    assert out.split() == [f"images/{name}.tif" for name in names]
    written = sorted(path.name for path in Path("images").iterdir())
    assert written == sorted(f"{name}.{suffix}" for name in names for suffix in ("json", "png", "tif"))
    item = json.loads(Path("images/east_1.json").read_text())
    with rasterio.open("images/east_1.tif") as image:
        assert item["properties"]["geosynth:seed"] == image.tags()["GEOSYNTH_SEED"]


def test_a_warning_of_all_samples_is_shown_once(generate: Generate, tmp_path: Path) -> None:
    labels = write_raster(tmp_path / "labels.tif", draw_labels(64, 64), NORTH_UP, crs=None)
    _, out, errors = generate("--labels", labels, "--out", "image.tif", "--samples", 2)
    assert len(out.split()) == 2
    assert errors == [f"warning: {labels}: has no CRS; the image will have none either"]


def test_a_warning_of_many_files_is_not_repeated_for_each(generate: Generate, tmp_path: Path) -> None:
    one, two, *_ = [
        write_raster(tmp_path / "tiles" / f"{name}.tif", draw_labels(64, 64), NORTH_UP, crs=None) for name in "abcd"
    ]
    _, out, errors = generate("--labels", tmp_path / "tiles", "--out-dir", "images")
    assert len(out.split()) == 4
    assert errors == [
        f"warning: {one}: has no CRS; the image will have none either",
        f"warning: {two}: the same, and so maybe of others",
    ]


def test_an_overlap_is_refused_where_windows_do_not_overlap(
    generate: Generate, labels: Path, run: Callable[..., Any], linear_model: GeneratorModel
) -> None:
    for mode in ([], ["--mosaic", "exact"]):  # the model's own is exact
        code, _, errors = generate("--labels", labels, "--out", "image.tif", "--overlap", 32, *mode)
        assert (code, errors) == (
            1,
            ["error: --overlap: no effect in an exact mosaic, whose windows do not overlap"],
        )
    assert generate("--labels", labels, "--out", "image.tif", "--overlap", 32, "--mosaic", "blend")[0] == 0
    words = ("--model", linear_model.path, "--labels", labels, "--out", "linear.tif")
    assert run("generate", *words, "--overlap", 16).code == 0  # its mosaic is a blend, unasked


def test_the_summary_is_json(generate: Generate, labels: Path, tiny_model: GeneratorModel) -> None:
    code, out, errors = generate("--labels", labels / "west.tif", "--out", "image.tif", "--seed", 3, "--json")
    assert (code, errors) == (0, [])
    summary = json.loads(out)
    (image,) = summary["images"]
    assert image["path"] == "image.tif"
    assert image["bytes"] == Path("image.tif").stat().st_size
    assert (image["height"], image["width"], image["seed"]) == (64, 64, 3)
    assert image["model_sha256"] == tiny_model.sha256
    with rasterio.open(labels / "west.tif") as source:
        codes = source.read()
    assert image["class_pixels"] == {entry.name: int((codes == entry.code).sum()) for entry in CHESAPEAKE.classes}
    assert summary["megapixels_per_second"] == pytest.approx(64 * 64 / 1e6 / summary["seconds"], rel=0.05, abs=1e-3)


def test_a_zarr_in_and_a_zarr_out(generate: Generate, labels: Path) -> None:
    """Both ways around the same pixels as through GeoTIFF."""
    codes = rioxarray.open_rasterio(labels / "west.tif").squeeze(drop=True)
    codes.to_dataset(name="labels").to_zarr("west.zarr", consolidated=False)
    assert generate("--labels", labels / "west.tif", "--out", "image.tif")[0] == 0
    assert generate("--labels", "west.zarr", "--out", "image.zarr", "--format", "zarr")[0] == 0
    code, out, _ = generate("--labels", "west.zarr", "--out", "again.zarr", "--json")
    assert code == 0
    assert json.loads(out)["images"][0]["height"] == 64
    expected = rioxarray.open_rasterio("image.tif")
    made = xr.open_zarr("image.zarr", decode_coords="all")["image"]
    assert made.rio.crs == expected.rio.crs
    np.testing.assert_array_equal(made.values, expected.values)


def test_rioxarray_reads_the_mask_as_nan(generate: Generate, labels: Path) -> None:
    codes = draw_labels(64, 64)
    codes[:, :20] = 15
    write_raster(Path("holes.tif"), codes, NORTH_UP, crs=UTM_18N, nodata=15)
    assert generate("--labels", "holes.tif", "--out", "image.tif")[0] == 0
    image = rioxarray.open_rasterio("image.tif", masked=True)
    np.testing.assert_array_equal(np.isnan(image.values), np.broadcast_to(codes == 15, (4, 64, 64)))


def test_the_style_drifts_over_metres(generate: Generate, labels: Path) -> None:
    for length in (0, 50, 100000):
        assert generate("--labels", labels, "--out", f"{length}.tif", "--style-length", length)[0] == 0
    lengths = {}
    for length in (0, 50, 100000):
        with rasterio.open(f"{length}.tif") as image:
            lengths[image.tags()["GEOSYNTH_STYLE_LENGTH"]] = image.read()
    assert set(lengths) == {"0", "50", "100000"}
    assert (lengths["0"] != lengths["50"]).mean() > 0.1


@pytest.mark.parametrize(
    ("out", "arguments"), [("image.tif", []), ("image.zarr", []), ("image.zarr", ["--samples", 2])], ids=str
)
def test_two_at_once_on_one_image(generate: Generate, labels: Path, out: str, arguments: list[object]) -> None:
    """One works, the other says so in one line, and what the first has done stays."""
    work = UnfinishedWork(Path(out))
    with work.open({}):
        work.record("0")
        code, told, errors = generate("--labels", labels, "--out", out, *arguments)
        assert (code, told, errors) == (1, "", [f"error: {out}: another process or thread is writing it"])
        assert work.done() == {"0"}
    assert generate("--labels", labels, "--out", out, *arguments) == (0, f"{out}\n", [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "tiles"], "give --out FILE, or --out-dir FOLDER"),
        (["--labels", "tiles", "--out", "a.tif", "--out-dir", "b"], "give --out FILE, or --out-dir FOLDER"),
        (["--labels", "tiles", "--out", "a.tif", "--format", "zarr"], "--format zarr does not fit --out a.tif"),
        (["--labels", "tiles", "--out", "a.zarr", "--format", "cog"], "--format cog does not fit"),
        (["--labels", "tiles", "--out", "a.tif", "--format", "jpeg"], "--format jpeg: cog or zarr"),
        (["--labels", "tiles", "--out-dir", "b", "--format", "zarr"], "--out-dir makes GeoTIFFs"),
        (["--labels", "tiles", "--out-dir", "x.zarr", "--samples", "2"], "x.zarr: is the name of one image"),
        (["--labels", "tiles", "--out", "x.zarr", "--samples", "2", "--preview"], " x.zarr: previews and STAC items"),
        (["--labels", "tiles", "--out", "x.zarr", "--compress", "lzw"], "--compress: Zarr images are compressed"),
        (
            ["--labels", "tiles", "--out", "x.zarr", "--samples", "2", "--compress", "deflate"],
            "--compress: Zarr images",
        ),
        (["--labels", "tiles", "--out", "a.tif", "--compress", "jpeg"], "--compress: must be 'deflate', 'zstd' or"),
        (["--labels", "tiles", "--out", "a.png"], "ends in .tif"),
        (["--labels", "tiles/north*.tif", "--out", "a.tif"], "no file has such a name"),
        (["--labels", "tiles", "--out", "tiles/a.tif"], "among the label tiles"),
        (["--labels", "tiles", "--out", "a.tif", "--legend", "from-raster"], "has no class table"),
        (["--labels", "tiles", "--out", "a.tif", "--unknown", "maybe"], "unknown"),
        (["--labels", "tiles", "--out", "a.tif", "--resample-labels", "cubic"], "'mode' or 'nearest'"),
        (["--labels", "tiles", "--out", "a.tif", "--samples", "0"], "1 to 10000"),
        (["--labels", "tiles", "--out", "a.tif", "--style-from", "tiles/west.tif"], "has no style encoder"),
        (["--labels", "tiles", "--out", "a.tif", "--style-length", "-1"], "--style-length"),
        (["--labels", "tiles", "--out", "a.tif", "--mosaic", "loose"], "mosaic"),
        (["--labels", "tiles", "--out", "a.tif", "--max-memory", "much"], "--max-memory"),
        (["--labels", "nowhere.tif", "--out", "a.tif", "--stac"], "STAC"),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(
    generate: Generate, labels: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    write_raster(tmp_path / "nowhere.tif", draw_labels(64, 64), NORTH_UP, crs=None)
    before = sorted(tmp_path.rglob("*"))
    code, out, errors = generate(*arguments)
    assert (code, out) == (1, "")
    lines = [line for line in errors if not line.startswith("warning: ")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert len(sorted(tmp_path.rglob("*"))) == len(before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["land.geojson", "--column", "class"], "land.geojson: EPSG:4326 is not in metres"),
        (["land.geojson", "--column", "kind", "--crs", UTM_18N], "has no column 'kind'; it has class"),
        (["land.geojson", "--column", "class", "--crs", "EPSG:9"], "CRS EPSG:9: unknown"),
        (["land.geojson", "--column", "class", "--crs", UTM_18N, "--resolution", "0"], "--resolution: a positive size"),
        (["land.geojson", "--column", "class", "--crs", UTM_18N, "--width", "0"], "--width: of lines, a positive"),
        (["tiles", "--style-labels", "tiles/west.tif"], "labels of a style are given, but no image"),
        (["tiles", "--style-bands", "red"], "bands of a style are given, but no image"),
        (["tiles", "--style-from", "tiles/west.tif", "--look", "dim"], "--look: 'dim' and a style are given"),
        (["tiles", "--legend", "land.geojson"], "land.geojson: name: is needed"),
        (["tiles", "--block-size", "512", "--max-memory", "4GB"], "--block-size: no effect with a limit of memory"),
    ],
)
def test_what_is_wrong_with_options_is_said_before_a_model_is_loaded(
    generate: Generate, labels: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr(geosynth.checkpoint, "load_file", lambda *_, **__: pytest.fail("a model is loaded"))
    ring = [[-76, 39], [-76, 39.001], [-75.999, 39.001], [-76, 39]]
    shape = {"type": "Polygon", "coordinates": [ring]}
    feature = {"type": "Feature", "properties": {"class": "water"}, "geometry": shape}
    Path("land.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    code, _, errors = generate("--out", "a.tif", "--labels", *arguments)
    assert (code, len(errors)) == (1, 1)
    assert message in errors[0]


def test_the_compression_that_is_asked_for_is_used(generate: Generate, labels: Path) -> None:
    for choice in ("deflate", "zstd", "lzw"):
        assert generate("--labels", labels, "--out", f"{choice}.tif", "--compress", choice)[0] == 0
        with rasterio.open(f"{choice}.tif") as image:
            assert image.compression == rasterio.enums.Compression[choice]
    assert generate("--labels", labels, "--out", "plain.tif")[0] == 0
    assert Path("plain.tif").read_bytes() == Path("deflate.tif").read_bytes()
    assert generate("--labels", labels, "--out", "image.zarr", "--compress", "zstd") == (0, "image.zarr\n", [])
    (codec,) = zarr.open_array("image.zarr/image").compressors
    assert isinstance(codec, zarr.codecs.ZstdCodec)


def test_a_summary_of_samples_is_named_and_described(generate: Generate, labels: Path) -> None:
    code, out, _ = generate("--labels", labels, "--out", "image.tif", "--samples", 2, "--summary", "--json")
    assert code == 0
    told = json.loads(out)
    assert [image["path"] for image in told["images"]] == ["image_0.tif", "image_1.tif", "image_summary.tif"]
    painted = told["megapixels_per_second"] * told["seconds"]
    assert painted == pytest.approx(2 * 64 * 128 / 1e6, rel=0.05), "the summary was not painted"
    code, _, errors = generate("--labels", labels, "--out", "other.tif", "--summary")
    assert (code, len(errors)) == (1, 1)

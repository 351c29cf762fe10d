"""The scripts of the examples: what they make of small data."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import torch
from affine import Affine
from PIL import Image

import geosynth
from geosynth.checkpoint import ModelCard, load_generator, save_generator
from geosynth.config import BandSettings, EncoderSettings, GeneratorSettings
from geosynth.errors import LegendError
from geosynth.grid import SpatialSplit, Window
from geosynth.legend import CHESAPEAKE, Legend
from geosynth.models.encoder import StyleEncoder
from geosynth.models.generator import SpadeGenerator
from geosynth.raster.stores.store import Store
from rasters import north_up, random_codes, write_raster
from scene_stores import make_scene_store

EXAMPLES = Path(__file__).parents[1] / "examples"
SETTINGS = GeneratorSettings(num_classes=6, num_bands=4, base_width=2, max_multiple=2, hidden_channels=2, latent_size=3)
BANDS = BandSettings(names=("red", "green", "blue", "nir"))

Run = Callable[..., None]


@pytest.fixture
def run_script(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a script of the examples, as `python examples/NAME ...` does."""

    def run(name: str, *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")

    return run


# --- mend_ohio_labels.py: woods that were drawn as water, and a field drawn as a building, are given back.

WATER, FOREST = 5, 4


def test_bright_water_is_forest_where_there_is_much_of_it(tmp_path, run_script, capsys):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    codes = np.zeros((1, 32, 32), np.uint8)
    codes[0, :10] = WATER  # ten rows
    transform = north_up(1000, 2000)
    for name, bright_rows in (("wrong.tif", 5), ("right.tif", 1)):
        image = np.full((4, 32, 32), 20, np.uint8)
        image[3, :bright_rows] = 200
        image[3, 20:] = 200  # no water
        write_raster(tmp_path / "images" / name, image, transform)
        write_raster(tmp_path / "labels" / name, codes, transform)
    arguments = [str(tmp_path / name) for name in ("images", "labels", "out")]
    run_script("mend_ohio_labels.py", *arguments)
    assert capsys.readouterr().out == "wrong.tif: 160 of 320 pixels of water are forest\n"
    assert (tmp_path / "out" / "right.tif").read_bytes() == (tmp_path / "labels" / "right.tif").read_bytes()
    expected = codes.copy()
    expected[0, :5] = FOREST
    with (
        rasterio.open(tmp_path / "out" / "wrong.tif") as mended,
        rasterio.open(tmp_path / "labels/wrong.tif") as before,
    ):
        np.testing.assert_array_equal(mended.read(), expected)
        assert (mended.transform, mended.crs) == (before.transform, before.crs)
    with pytest.raises(SystemExit, match=r"^error: .*out: already exists; choose another folder$"):
        run_script("mend_ohio_labels.py", *arguments)


def test_a_building_as_large_as_a_field_is_bare_land(tmp_path, run_script, capsys):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    codes = np.zeros((1, 160, 160), np.uint8)
    codes[0, :101, :100], codes[0, 110:, :100], codes[0, 110:, 101:] = 1, 1, 1  # the last two are 7,950 pixels together
    transform = north_up(1000, 2000)
    write_raster(tmp_path / "images" / "a.tif", np.full((4, 160, 160), 20, np.uint8), transform)
    write_raster(tmp_path / "labels" / "a.tif", codes, transform)
    run_script("mend_ohio_labels.py", *(str(tmp_path / name) for name in ("images", "labels", "out")))
    assert capsys.readouterr().out == "a.tif: 10,100 pixels of buildings are bare land\n"
    codes[0, :101, :100] = 3
    with rasterio.open(tmp_path / "out" / "a.tif") as mended:
        np.testing.assert_array_equal(mended.read(), codes)


# --- mend_west_virginia_labels.py: woods labelled as low vegetation are given back.


def test_dark_low_vegetation_is_canopy(tmp_path, run_script, capsys):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    codes = np.full((1, 40, 40), 3, np.uint8)
    codes[0, :, :5], codes[0, 30:] = 2, 6
    image = np.full((4, 40, 40), 150, np.uint8)
    image[0, :20] = 60  # woods; of the rows beside them some 9 x 9 px are as dark
    image[0, 35, 35] = 0  # one dark pixel is none
    transform = north_up(1000, 2000)
    write_raster(tmp_path / "images" / "a.tif", image, transform)
    write_raster(tmp_path / "labels" / "a.tif", codes, transform)
    arguments = [str(tmp_path / name) for name in ("images", "labels", "out")]
    run_script("mend_west_virginia_labels.py", *arguments)
    with rasterio.open(tmp_path / "out" / "a.tif") as mended:
        found = mended.read()[0]
    assert (found[:17] == 2).all()
    np.testing.assert_array_equal(found[24:], codes[0, 24:])
    np.testing.assert_array_equal(found[:, :5] == 2, codes[0, :, :5] == 2)
    assert f"{(found != codes[0]).sum():,} pixels of low vegetation" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"^error: .*out: already exists; choose another folder$"):
        run_script("mend_west_virginia_labels.py", *arguments)


# --- average_models.py: the average of models that went on from the same one.


def make_model(path: Path, seed: int, settings: GeneratorSettings = SETTINGS) -> Path:
    torch.manual_seed(seed)
    data = [{"name": "both.tif"}, {"name": f"{seed}.tif"}]
    card = ModelCard(
        settings=settings, legend=CHESAPEAKE, bands=BANDS, gsd=1.0, provenance={"data": data, "seed": seed}
    )
    encoder = StyleEncoder(EncoderSettings(num_bands=4, base_width=2, latent_size=3))
    generator = SpadeGenerator(settings)
    for module in generator.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean)
    return save_generator(path, generator, card, encoder, dtype=torch.float32)


def test_weights_are_the_mean_and_norms_are_measured(tmp_path, run_script):
    store = make_scene_store(tmp_path / "store.zarr", {"one": Window(0, 0, 192, 192)}, codes=random_codes(0, 192, 192))
    models = [make_model(tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2)]
    out = tmp_path / "average.safetensors"
    run_script("average_models.py", store.path, *models, "--out", out)
    result, parts = load_generator(out), [load_generator(path) for path in models]
    for name in ("generator", "encoder"):
        weights = [dict(getattr(part, name).named_parameters()) for part in parts]
        for key, value in getattr(result, name).named_parameters():
            np.testing.assert_allclose(value, (weights[0][key] + weights[1][key]) / 2, rtol=2e-3, atol=1e-6)
    norms = [module for module in result.generator.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert all(int(norm.num_batches_tracked) == 50 for norm in norms)
    provenance = result.card.provenance
    assert [entry["name"] for entry in provenance["data"]] == ["both.tif", "1.tif", "2.tif"]
    assert [part["seed"] for part in provenance["average_of"]] == [1, 2]
    assert [part["sha256"] for part in provenance["average_of"]] == [part.sha256 for part in parts]


def test_norms_that_are_the_same_stay_as_do_looks(tmp_path, run_script, told_model):
    """As of trainings with `keep_norms`; no store is read."""
    other = tmp_path / "other.safetensors"
    generator = load_generator(told_model.path).generator
    with torch.no_grad():
        generator.to_image.bias += 0.5
    save_generator(
        other, generator, told_model.card, looks={name: told_model.look("bright") for name in ("dim", "bright")}
    )
    out = tmp_path / "average.safetensors"
    run_script("average_models.py", tmp_path / "none.zarr", told_model.path, other, "--out", out)
    result = load_generator(out)
    assert torch.equal(result.look().mean, told_model.look("dim").mean)
    np.testing.assert_allclose(result.generator.to_image.bias - told_model.generator.to_image.bias, 0.25, atol=1e-3)
    for name, value in told_model.generator.named_buffers():
        assert torch.equal(dict(result.generator.named_buffers())[name], value)


def test_norms_of_a_generator_that_is_told_looks_are_measured(tmp_path, run_script, told_model):
    store = make_scene_store(tmp_path / "store.zarr", {"one": Window(0, 0, 192, 192)}, codes=random_codes(0, 192, 192))
    other = tmp_path / "other.safetensors"
    generator = load_generator(told_model.path).generator
    norms = [name for name, module in generator.named_modules() if isinstance(module, torch.nn.BatchNorm2d)]
    generator.get_submodule(norms[0]).running_mean += 1
    save_generator(other, generator, told_model.card, looks=told_model.looks)
    out = tmp_path / "average.safetensors"
    run_script("average_models.py", store.path, told_model.path, other, "--out", out)
    result = load_generator(out)
    assert all(int(result.generator.get_submodule(name).num_batches_tracked) == 50 for name in norms)
    assert list(result.looks) == ["dim", "bright"]


def test_other_networks_have_no_average(tmp_path, run_script):
    wider = SETTINGS.model_copy(update={"base_width": 3})
    models = [make_model(tmp_path / "a.safetensors", 1), make_model(tmp_path / "b.safetensors", 2, wider)]
    out = tmp_path / "average.safetensors"
    with pytest.raises(SystemExit, match="networks differ"):
        run_script("average_models.py", tmp_path / "none.zarr", *models, "--out", out)
    assert not out.exists()


# --- quiet_noise.py: a model without the noise of its finest blocks.


@pytest.mark.parametrize(
    ("options", "expected"), [((), [1, 1, 0, 0]), (("--factor", "0.5", "--blocks", "1"), [1, 0.5])]
)
def test_only_the_finest_blocks_are_quieter(tmp_path, run_script, options, expected):
    settings = GeneratorSettings(num_classes=6, num_bands=4, base_width=2, max_multiple=2, hidden_channels=2)
    card = ModelCard(settings=settings, legend=CHESAPEAKE, bands=BANDS, gsd=0.6, provenance={"seed": 1})
    model, out = tmp_path / "loud.safetensors", tmp_path / "quiet.safetensors"
    save_generator(model, SpadeGenerator(settings), card)
    run_script("quiet_noise.py", str(model), str(out), *options)
    before, after = dict(load_generator(model).generator.named_parameters()), load_generator(out)
    strengths = [name for name in before if name.endswith("noise_strength")]
    now = dict(after.generator.named_parameters())
    for name, factor in zip(strengths[-len(expected) :], expected, strict=True):
        assert torch.allclose(now[name], before[name] * factor, rtol=1e-3)
    assert all(torch.equal(now[name], before[name]) for name in before if name not in strengths[-2:])
    assert after.card.provenance["seed"] == 1
    assert after.card.provenance["noise_scaled"]["blocks"]


def test_a_quieter_model_keeps_its_looks(tmp_path, run_script, told_model):
    out = tmp_path / "quiet.safetensors"
    run_script("quiet_noise.py", told_model.path, out)
    looks = load_generator(out).looks
    assert list(looks) == ["dim", "bright"]
    assert all(torch.equal(look.departures, told_model.looks[name].departures) for name, look in looks.items())


# --- dubai_scenes.py: coloured parts without a place become scenes that `ingest` takes.

LEGEND = Legend.load(EXAMPLES / "dubai_rgb_legend.yaml")
COLOURS = {entry.code: entry.rgb for entry in LEGEND.classes} | {0: (0x9B, 0x9B, 0x9B)}
HEIGHT, WIDTH = 20, 16  # of a part


def draw_scene(folder: Path, seed: int, palette: bool) -> npt.NDArray[np.uint8]:
    """Nine parts whose image shows the number of the part; the codes (3 HEIGHT, 3 WIDTH) that their colours mean."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 6, (3 * HEIGHT, 3 * WIDTH)).astype(np.uint8)
    for number in range(9):
        row, column = divmod(number, 3)
        place = np.s_[row * HEIGHT : (row + 1) * HEIGHT, column * WIDTH : (column + 1) * WIDTH]
        mask = np.array([COLOURS[code] for code in range(6)], dtype=np.uint8)[codes[place]]
        save(folder / "masks" / f"image_part_{number + 1:03}.png", in_palette(rng, codes[place]) if palette else mask)
        flat = np.full((HEIGHT, WIDTH, 3), 10 * number, dtype=np.uint8)
        save(folder / "images" / f"image_part_{number + 1:03}.jpg", flat)
    return codes


def in_palette(rng: np.random.Generator, codes: npt.NDArray[np.uint8]) -> Image.Image:
    """The colours of codes as a palette image whose indices are not the codes."""
    order = rng.permutation(6)
    image = Image.fromarray(np.argsort(order).astype(np.uint8)[codes])
    image.putpalette([value for code in order.tolist() for value in COLOURS[code]])
    return image


def save(path: Path, image: npt.NDArray[np.uint8] | Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path)


def make_scenes(run_script: Run, data: Path, out: Path) -> None:
    """scene_1 is the test scene."""
    run_script("dubai_scenes.py", data, "--test", "scene_1", "--out", out)


def test_coloured_parts_become_a_store(tmp_path: Path, run_script: Run) -> None:
    data = tmp_path / "data"
    codes = {f"scene_{seed}": draw_scene(data / f"scene_{seed}", seed, palette=seed == 2) for seed in (1, 2)}
    make_scenes(run_script, data, tmp_path / "scenes")

    (store,) = ingest_scenes(tmp_path)
    assert [scene.name for scene in store.scenes_in("test")] == ["scene_1"]
    assert [scene.name for scene in store.scenes_in("train")] == ["scene_2"]
    assert (store.geobox.crs, store.band_names) == (None, ("red", "green", "blue"))
    first, second = (scene.window for scene in store.scenes)
    assert first == Window(0, 0, 3 * HEIGHT, 3 * WIDTH)
    assert second.column - first.right > 1000  # they are no neighbours
    parts = np.kron(np.arange(0, 90, 10).reshape(3, 3), np.ones((HEIGHT, WIDTH), int))
    for scene in store.scenes:
        assert np.array_equal(LEGEND.decode(store.read_labels(scene.window)), codes[scene.name])
        difference = store.read_image(scene.window) - parts
        assert np.abs(difference[:, codes[scene.name] > 0]).max() <= 2  # JPEG rounds


def paint_unknown_colour(scene: Path) -> None:
    save(scene / "masks" / "image_part_005.png", np.full((HEIGHT, WIDTH, 3), 7, np.uint8))


def lose_a_part(scene: Path) -> None:
    (scene / "images" / "image_part_009.jpg").unlink()


def ingest_scenes(folder: Path) -> list[Store]:
    return geosynth.ingest(None, None, folder / "store.zarr", items=folder / "scenes" / "scenes.csv", legend=LEGEND)


def test_a_colour_of_no_class_is_found_by_ingest(tmp_path: Path, run_script: Run) -> None:
    draw_scene(tmp_path / "data" / "scene_1", 1, palette=False)
    paint_unknown_colour(tmp_path / "data" / "scene_1")
    make_scenes(run_script, tmp_path / "data", tmp_path / "scenes")
    with pytest.raises(LegendError, match=rf"scene_1\.tif: .* #070707 \({HEIGHT * WIDTH} px\)"):
        ingest_scenes(tmp_path)


def test_a_scene_that_lacks_a_part_is_refused(tmp_path: Path, run_script: Run) -> None:
    draw_scene(tmp_path / "data" / "scene_1", 1, palette=False)
    lose_a_part(tmp_path / "data" / "scene_1")
    with pytest.raises(SystemExit, match="holds 8 parts, not 9"):
        make_scenes(run_script, tmp_path / "data", tmp_path / "scenes")
    assert not (tmp_path / "scenes" / "scenes.csv").exists()


# --- unseen_look.py: how far a model follows the look of images.


@pytest.mark.parametrize(("bands", "take"), [(4, ["--take", "one.tif"]), (3, [])])
def test_what_is_painted_in_the_look_of_images_is_compared(tmp_path, run_script, capsys, told_model, bands, take):
    rng = np.random.default_rng(0)
    codes = random_codes(0, 64, 64)[None].clip(1, 3)
    image = (60 * codes + rng.integers(0, 20, (bands, 64, 64))).astype(np.uint8)
    for name in ("one.tif", "two.tif"):
        for folder, values in (("images", image), ("labels", codes)):
            (tmp_path / folder).mkdir(exist_ok=True)
            write_raster(tmp_path / folder / name, values, north_up(1000, 2000))
    folders = [tmp_path / name for name in ("images", "labels")]
    picture = tmp_path / "picture.png"
    run_script("unseen_look.py", *folders, *take, "--model", told_model.path, "--out", picture)
    head, share, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["water", "tree", "canopy"]
    assert share.split()[1:] == [f"{(codes == code).mean():.1%}" for code in range(1, 7)]
    found = {row[:16].strip(): row[16:].split() for row in rows}
    assert list(found) == ["taken", "with labels", "without labels", "model's own"]
    assert all(values[3:] == ["-"] * 3 for values in found.values())
    assert found["taken"][0] == "0.0"
    painted = [
        geosynth.generate(folders[1] / "two.tif", model=told_model, seed=seed).values[:bands] for seed in range(16)
    ]
    means = [image.transpose(1, 2, 0)[codes[0] == 2].mean(0) for image in (image, *painted)]
    assert found["model's own"][1] == f"{np.abs(means[0] - np.mean(means[1:], 0)).mean():.1f}"
    with Image.open(picture) as shown:
        assert shown.size == (64 if take else 2 * 64, 4 * 64)


# --- assemble_cluster.py: touching scenes of one fold become two rasters.


def test_the_largest_cluster_becomes_two_rasters(tmp_path: Path, run_script: Run) -> None:
    places = {
        "alone": Window(0, 0, 64, 64),
        "left": Window(128, 128, 64, 64),
        "below": Window(192, 192, 64, 64),  # touches it at a corner
        "of another fold": Window(128, 192, 64, 64),
    }
    split = SpatialSplit.by_scenes({"train": [places.pop("of another fold")], "test": list(places.values())})
    store = make_scene_store(tmp_path / "store.zarr", places, split=split)
    run_script("assemble_cluster.py", store.path, "--fold", "test", "--out", tmp_path / "cluster")
    window, inside = Window(128, 128, 128, 128), np.kron(np.eye(2), np.ones((64, 64))).astype(bool)
    with (
        rasterio.open(tmp_path / "cluster" / "real.tif") as real,
        rasterio.open(tmp_path / "cluster" / "labels.tif") as labels,
    ):
        indices = store.read_labels(window)
        valid = inside & (indices < CHESAPEAKE.num_classes)
        np.testing.assert_array_equal(real.dataset_mask() > 0, valid)
        np.testing.assert_array_equal(labels.dataset_mask() > 0, valid)
        np.testing.assert_array_equal(labels.read(1)[valid], CHESAPEAKE.decode(indices)[valid])
        np.testing.assert_array_equal(real.read()[:, valid], store.read_image(window)[:, valid])
        assert real.transform == labels.transform == store.geobox.affine @ Affine.translation(128, 128)
        assert real.crs == labels.crs == store.geobox.crs
        assert real.descriptions == store.band_names
    run_script("assemble_cluster.py", store.path, "--rank", "1", "--out", tmp_path / "second")
    with rasterio.open(tmp_path / "second" / "labels.tif") as labels:
        assert labels.transform == store.geobox.affine


# --- make_md_lc.py draws the label raster that all else starts with.


def test_the_example_is_what_its_script_draws(tmp_path: Path, run_script: Run) -> None:
    run_script("make_md_lc.py", "--out", tmp_path / "drawn.tif")
    with rasterio.open(tmp_path / "drawn.tif") as drawn, rasterio.open(EXAMPLES / "md_lc.tif") as example:
        assert (drawn.read() != example.read()).mean() < 1e-3  # all but what another version of GDAL rounds otherwise
        assert (drawn.profile, drawn.tags(1)) == (example.profile, example.tags(1))

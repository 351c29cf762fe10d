"""Looks that users choose: by name, from images with their labels or without, kept in the model file."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray
import torch
from safetensors.torch import load_file

import geosynth
from geosynth.checkpoint import GeneratorModel, load_generator, save_with_look
from geosynth.config import GenerateSettings
from geosynth.errors import CheckpointError, DataError, GridError, LegendError, OutputError, SettingsError
from geosynth.grid import Window, absolute_origin
from geosynth.models.looks.styles import without_holes
from geosynth.mosaic import looks
from geosynth.mosaic.looks import look_from_images
from geosynth.mosaic.painter import Painter
from geosynth.mosaic.pipeline import read_around
from geosynth.mosaic.portable import PortablePainter
from geosynth.raster.labels import LabelRaster
from geosynth.raster.raster_file import open_raster
from rasters import NORTH_UP, draw_labels, pixels_of, random_image

Write = Callable[..., Path]
SETTINGS = GenerateSettings(precision="fp32")
COLOURS = np.array(
    [[20, 40, 60, 5], [60, 90, 50, 160], [110, 140, 90, 190], [170, 150, 130, 150], [200, 205, 210, 190]]
)


def coloured(codes: np.ndarray, gain: float = 1.0) -> np.ndarray:
    """(4, H, W): classes 1..5 in colours of their own, with a little noise; 6 like 5."""
    noise = np.random.default_rng(0).normal(0, 3, (*codes.shape, 4))
    return (COLOURS[np.minimum(codes, 5) - 1] * gain + noise).round().clip(1, 255).astype(np.uint8).transpose(2, 0, 1)


def levels(model: GeneratorModel, images: list[Path], labels: list[Path]) -> np.ndarray:
    """(6, 4): the bands' means of each class in the look, in the image's units."""
    return ((look_from_images(images, labels, model).mean[:, :4] + 1) * 127.5).numpy()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_bytes_do_not_depend_on_the_block_size(
    precision: str, write_raster: Write, tmp_path: Path, told_model: GeneratorModel
) -> None:
    labels = write_raster(draw_labels(620, 700))
    images = [
        geosynth.generate(labels, tmp_path / f"{size}.tif", told_model, precision=precision, block_size=size)
        for size in (512, 2048)
    ]
    assert pixels_of(images[0]).std() > 5
    assert images[0].read_bytes() == images[1].read_bytes()


def test_any_window_is_the_crop_of_the_whole(write_raster: Write, told_model: GeneratorModel) -> None:
    source = LabelRaster(write_raster(draw_labels(560, 600)), told_model.card.legend)
    painter = Painter(told_model, SETTINGS, style_length=300)
    elsewhere = pickle.loads(pickle.dumps(PortablePainter(painter)))
    origin = absolute_origin(source.geobox)

    def paint(window: Window, by: Any = painter) -> np.ndarray:
        return np.asarray(by.paint(read_around(painter, source, window, origin)))

    whole = paint(Window(0, 0, 560, 600))
    for window in (Window(0, 0, 33, 47), Window(311, 200, 150, 301), Window(100, 0, 77, 600)):
        for by in (painter, elsewhere):
            gap = np.abs(paint(window, by).astype(int) - whole[:, *window.slices].astype(int))
            assert gap.max() <= 1
            assert (gap > 0).mean() < 1e-4


def test_a_look_by_its_name(write_raster: Write, tmp_path: Path, told_model: GeneratorModel) -> None:
    labels = write_raster(draw_labels(96, 96))

    def paint(look: str | None) -> tuple[np.ndarray, dict[str, str]]:
        with rasterio.open(
            geosynth.generate(labels, tmp_path / f"{look}.tif", told_model, SETTINGS, look=look)
        ) as file:
            return file.read(), file.tags()

    images = {look: paint(look) for look in (None, "dim", "bright")}
    np.testing.assert_array_equal(images[None][0], images["dim"][0])
    assert (images["bright"][0] != images["dim"][0]).mean() > 0.3
    assert [tags["GEOSYNTH_LOOK"] for _, tags in images.values()] == ["dim", "dim", "bright"]
    lazy = geosynth.generate(
        rioxarray.open_rasterio(labels, chunks={}), model=told_model, settings=SETTINGS, look="bright"
    )
    np.testing.assert_array_equal(lazy.values, images["bright"][0])


def test_measured_with_labels_each_class_has_its_own_colours(write_raster: Write, told_model: GeneratorModel) -> None:
    codes = draw_labels(300, 270)
    image, labels = write_raster(coloured(codes), "like.tif"), write_raster(codes)
    np.testing.assert_allclose(levels(told_model, [image], [labels])[:5], COLOURS, atol=2)


def test_several_images_are_one_look(write_raster: Write, told_model: GeneratorModel) -> None:
    codes = draw_labels(128, 128)
    labels = write_raster(codes)
    images = [write_raster(coloured(codes, gain), f"{gain}.tif") for gain in (1.0, 0.5)]
    np.testing.assert_allclose(levels(told_model, images, [labels, labels])[:5], COLOURS * 0.75, atol=2)


def test_labels_may_lie_beside_the_image(write_raster: Write, told_model: GeneratorModel) -> None:
    """On its pixel grid, not with its first pixel; other parts do not count."""
    codes = draw_labels(200, 200)
    image = coloured(codes)
    image[:, :50], image[:, :, :20] = 255, 255
    place = NORTH_UP @ NORTH_UP.translation(24, 56)
    labels = write_raster(codes[56:, 24:], transform=place)
    np.testing.assert_allclose(levels(told_model, [write_raster(image, "like.tif")], [labels])[:5], COLOURS, atol=2)


def test_pixels_without_data_do_not_count(write_raster: Write, told_model: GeneratorModel) -> None:
    codes = draw_labels(200, 200)
    image = coloured(codes)
    image[:, 40:90, 30:150] = 0
    path, labels = write_raster(image, "like.tif", nodata=0), write_raster(codes)
    np.testing.assert_allclose(levels(told_model, [path], [labels])[:5], COLOURS, atol=2)
    spread = look_from_images([path], [labels], told_model).mean[:5, 4:8].exp() * 127.5
    assert spread.max() < 6


@pytest.mark.parametrize("labelled", [True, False])
def test_a_look_is_that_of_the_image_with_north_up(
    labelled: bool, write_raster: Write, told_model: GeneratorModel
) -> None:
    codes = draw_labels(128, 128)
    rows, columns = np.indices(codes.shape)
    image = coloured(codes) // 2 + (60 + 50 * np.sin(0.5 * columns + 0.9 * rows)).astype(np.uint8)
    found = []
    for name, order in (("north", slice(None)), ("south", slice(None, None, -1))):
        transform = NORTH_UP if name == "north" else NORTH_UP @ NORTH_UP.translation(0, 128) @ NORTH_UP.scale(1, -1)
        labels = write_raster(codes[order], f"{name}_labels.tif", transform=transform)
        path = write_raster(image[:, order], f"{name}.tif", transform=transform)
        found.append(look_from_images([path], [labels] if labelled else [], told_model).mean)
    np.testing.assert_allclose(*found, atol=1e-4)
    assert not labelled or found[0][:5, -1].abs().min() > 0.2, "the grain has a direction, whose sine a mirror changes"


@pytest.mark.parametrize("labelled", [True, False])
def test_pixels_near_what_has_no_data_have_no_class(
    labelled: bool, write_raster: Write, told_model: GeneratorModel
) -> None:
    """Within four pixels, whose detail sees it; and tiles are filled up to whole cells of styles by none."""
    codes = draw_labels(101, 70)
    image = coloured(codes)
    image[:, 30:33, 20] = 0
    image[:, 60, 66:] = 0
    codes[90, 40] = 15
    path, labels = write_raster(image, "like.tif", nodata=0), write_raster(codes, nodata=15)
    own = LabelRaster(labels, told_model.card.legend) if labelled else None
    valid = (image > 0).all(0) & ((codes != 15) | (not labelled))
    nothing = 6 if labelled else 1
    ((holed, marked),) = looks._tiles(open_raster(path), own)
    pixels, indices = (
        values[0].numpy() for values in without_holes(torch.tensor(holed)[None], torch.tensor(marked)[None], nothing)
    )
    assert indices.shape == pixels.shape[1:] == (104, 72)
    np.testing.assert_array_equal(pixels, np.pad(np.where(valid, image, 0), ((0, 0), (0, 3), (0, 2)), mode="edge"))
    assert indices.dtype == np.uint8
    known = np.zeros(indices.shape, bool)
    for row, column in np.ndindex(valid.shape):
        known[row, column] = valid[max(row - 4, 0) : row + 5, max(column - 4, 0) : column + 5].all()
    expected = np.pad(codes - 1 if labelled else np.zeros_like(codes), ((0, 3), (0, 2)))
    np.testing.assert_array_equal(indices, np.where(known, expected, nothing))


def test_large_images_are_sampled_evenly(
    write_raster: Write, told_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles 0, 3 and 6 of seven: what the others show does not matter, and what those show does."""
    monkeypatch.setattr(looks, "_TILE", 64)
    monkeypatch.setattr(looks, "_MAX_TILES", 3)
    codes = draw_labels(64, 7 * 64)
    image, labels = coloured(codes), write_raster(codes)

    def found(*spoilt: int) -> np.ndarray:
        shown = image.copy()
        for tile in spoilt:
            shown[:, :, 64 * tile : 64 * (tile + 1)] = 255
        return levels(told_model, [write_raster(shown, f"like{spoilt}.tif")], [labels])

    whole = found()
    np.testing.assert_array_equal(found(1, 2, 4, 5), whole)
    for tile in (0, 3, 6):
        assert (found(tile) != whole).any()
    monkeypatch.setattr(looks, "_MAX_TILES", 7)
    every = found()
    assert all((found(tile) != every).any() for tile in range(7))


@pytest.mark.parametrize("count", [1, 15, 16, 17, 50, 120])
def test_tiles_to_paint_are_spread_over_all(
    count: int, monkeypatch: pytest.MonkeyPatch, told_model: GeneratorModel
) -> None:
    painted: list[torch.Tensor] = []
    monkeypatch.setattr(looks, "asked_for", lambda look, generator, tiles: painted.extend(tiles) or look)

    def tiles() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for number in range(count):
            indices = np.zeros((8, 8), np.uint8)
            indices[0] = list(map(int, f"{number:08b}"))
            yield coloured(indices + 1), indices

    looks.look_from_tiles(tiles(), told_model, "tiles", labelled=True)
    numbers = [int("".join(map(str, tile[0].tolist())), 2) for tile in painted]
    step = 1 if count < 16 else numbers[1]
    assert numbers == list(range(0, count, step))
    assert len(numbers) == count or 8 <= len(numbers) < 16


def test_classes_that_the_image_lacks_go_with_the_others(write_raster: Write, told_model: GeneratorModel) -> None:
    codes = np.full((160, 160), 3, np.uint8)
    codes[:80] = 2
    labels = write_raster(codes)
    found = [
        levels(told_model, [write_raster(coloured(codes, gain), f"{gain}.tif")], [labels]) for gain in (0.6, 1.0, 1.3)
    ]
    for darker, brighter in itertools.pairwise(found):
        assert (brighter > darker).all()
    assert np.min(found) >= 0
    assert np.max(found) <= 255


def test_without_labels_the_whole_tells(write_raster: Write, told_model: GeneratorModel) -> None:
    codes = draw_labels(160, 160)
    dark, bright = (levels(told_model, [write_raster(coloured(codes, gain), f"{gain}.tif")], []) for gain in (0.6, 1.2))
    assert (bright.mean(0) > dark.mean(0) + 20).all()


def test_from_an_image_by_the_command_line(
    run: Callable[..., Any], write_raster: Write, tmp_path: Path, told_model: GeneratorModel
) -> None:
    """One with labels as `--style-from` paints what `looks add` keeps by a name."""
    codes = draw_labels(128, 128)
    labels, like = write_raster(codes), write_raster(coloured(codes), "like.tif")
    more = tmp_path / "more.safetensors"
    added = run("looks", "add", "mine", "--image", like, "--labels", labels, "--model", told_model.path, "--out", more)
    assert added.code == 0, added.err
    again = run("looks", "add", "mine", "--image", like, "--model", more, "--out", more, "--overwrite")
    assert (again.code, again.err) == (1, f"error: {more}: has a look 'mine' already; choose another name\n")
    assert geosynth.info(more)["looks"] == ["dim", "bright", "mine"]
    assert geosynth.info(more)["default look"] == "dim"
    before, after = load_file(told_model.path), load_file(more)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    common = ["--labels", labels, "--precision", "fp32"]
    outs = [tmp_path / name for name in ("a.tif", "b.tif")]
    chosen = (["--model", more, "--look", "mine"], ["--style-from", like, "--style-labels", labels])
    for out, options in zip(outs, chosen, strict=True):
        model = [] if "--model" in options else ["--model", told_model.path]
        done = run("generate", *common, *model, *options, "--out", out)
        assert done.code == 0, done.err
    np.testing.assert_array_equal(pixels_of(outs[0]), pixels_of(outs[1]))
    with rasterio.open(outs[1]) as image:
        assert "GEOSYNTH_LOOK" not in image.tags()
        assert "GEOSYNTH_STYLE_SHA256" in image.tags()


def test_the_bands_of_the_image_by_numbers(
    run: Callable[..., Any], write_raster: Write, tmp_path: Path, told_model: GeneratorModel
) -> None:
    codes = draw_labels(128, 128)
    bands = coloured(codes)
    labels, like = write_raster(codes), write_raster(bands, "like.tif")
    more = write_raster(np.concatenate([bands[3:], random_image(0, 128, 128, 2), bands[:3]]), "more.tif")
    numbers = "red=4,green=5,blue=6,nir=1"
    model = ["--model", told_model.path]
    outs = [tmp_path / name for name in ("a.tif", "b.tif")]
    for out, options in zip(
        outs, (["--style-from", like], ["--style-from", more, "--style-bands", numbers]), strict=True
    ):
        done = run("generate", *model, "--labels", labels, "--precision", "fp32", *options, "--out", out)
        assert done.code == 0, done.err
    np.testing.assert_array_equal(pixels_of(outs[0]), pixels_of(outs[1]))
    kept = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    for out, options in zip(kept, (["--image", like], ["--image", more, "--bands", numbers]), strict=True):
        done = run("looks", "add", "mine", *model, *options, "--out", out)
        assert done.code == 0, done.err
    assert all(torch.equal(load_file(kept[0])[name], value) for name, value in load_file(kept[1]).items())
    idle = run("generate", *model, "--labels", labels, "--style-bands", numbers, "--out", tmp_path / "c.tif")
    assert (idle.code, idle.err) == (1, "error: bands of a style are given, but no image to take it from\n")


def test_a_look_is_kept_as_it_was_measured(write_raster: Write, tmp_path: Path, told_model: GeneratorModel) -> None:
    """With labels, by a legend of their own, as without; of one image or of several."""
    codes = draw_labels(128, 128)
    image, other = (write_raster(coloured(codes, gain), f"{gain}.tif") for gain in (1.0, 0.5))
    own = geosynth.Legend.from_values(
        {"name": "tens", "classes": [{"code": 10 * c.code, "name": c.name} for c in told_model.card.legend.classes]}
    )
    labels = write_raster(codes * 10)
    for number, (images, given) in enumerate(((image, labels), ([image, other], [labels, labels]), (other, None))):
        out = tmp_path / f"{number}.safetensors"
        geosynth.add_look("mine", images, out, told_model.path, labels=given, legend=own)
        kept = load_generator(out).look("mine")
        listed = [images] if isinstance(images, Path) else images
        expected = look_from_images(listed, [labels] * len(listed) if given else [], told_model, own)
        assert kept is not None
        assert all(torch.equal(kept.tensors()[name], values) for name, values in expected.tensors().items())
    before = out.read_bytes()
    with pytest.raises(OutputError, match="already exists"):
        geosynth.add_look("mine", other, out, told_model.path)
    assert out.read_bytes() == before
    geosynth.add_look("mine", image, out, told_model.path, overwrite=True)
    assert out.read_bytes() != before


def test_an_image_may_lack_bands(
    write_raster: Write, tmp_path: Path, told_model: GeneratorModel, caplog: pytest.LogCaptureFixture
) -> None:
    """A photograph: the colours that it has are its own, near infrared is guessed, and a warning says so."""
    codes = draw_labels(200, 200)
    labels, whole = write_raster(codes), write_raster(coloured(codes), "whole.tif")
    photograph = write_raster(coloured(codes)[:3], "rgb.tif", photometric="rgb")
    np.testing.assert_allclose(levels(told_model, [photograph], [labels])[:5, :3], COLOURS[:, :3], atol=2)
    assert f"{photograph}: without nir;" in caplog.text
    both = levels(told_model, [whole, photograph], [labels, labels])
    np.testing.assert_allclose(both[:5, :3], COLOURS[:, :3], atol=2)
    for given in (labels, None):
        out = geosynth.generate(
            labels, tmp_path / f"{given is None}.tif", told_model, SETTINGS, style=photograph, style_labels=given
        )
        assert pixels_of(out).shape == (4, 200, 200)


@pytest.mark.parametrize("descriptions", [("red", "nir"), ("nir", "red")])
def test_bands_that_only_some_images_have_are_not_looked_at(
    descriptions: tuple[str, str], write_raster: Write, told_model: GeneratorModel
) -> None:
    codes = draw_labels(200, 200)
    labels, whole = write_raster(codes), write_raster(coloured(codes), "whole.tif")
    rows = [("red", "green", "blue", "nir").index(name) for name in descriptions]
    other = write_raster(coloured(codes, 0.5)[rows], "other.tif")
    with rasterio.open(other, "r+") as file:
        file.descriptions = descriptions
    found = levels(told_model, [whole, other], [labels, labels])
    np.testing.assert_allclose(found[:5, [0, 3]], 0.75 * COLOURS[:, [0, 3]], atol=2)


def test_what_is_asked_for_is_painted_again_from_the_file(
    write_raster: Write, tmp_path: Path, told_model: GeneratorModel
) -> None:
    codes = draw_labels(96, 96)
    image, labels = write_raster(coloured(codes), "like.tif"), write_raster(codes)
    look = look_from_images([image], [labels], told_model)
    assert look.asked is not None
    look = replace(look, asked=look.mean + 0.2)
    kept = save_with_look(told_model, tmp_path / "more.safetensors", "mine", look)
    plain, asked, again = (
        geosynth.generate(
            labels, tmp_path / f"{name}.tif", model, SETTINGS, style=style, look=name if not style else None
        )
        for name, model, style in (
            ("plain", told_model, replace(look, asked=None)),
            ("asked", told_model, look),
            ("mine", kept, None),
        )
    )
    np.testing.assert_array_equal(pixels_of(asked), pixels_of(again))
    assert (pixels_of(asked) != pixels_of(plain)).any()


def test_what_does_not_go_together_is_refused(
    write_raster: Write, tmp_path: Path, told_model: GeneratorModel, tiny_model: GeneratorModel
) -> None:
    codes = draw_labels(64, 64)
    labels, like = write_raster(codes), write_raster(coloured(codes), "like.tif")
    off = write_raster(codes, "off.tif", transform=NORTH_UP @ NORTH_UP.translation(0.5, 0))
    far = write_raster(codes, "far.tif", transform=NORTH_UP @ NORTH_UP.translation(1000, 0))
    empty = write_raster(np.zeros_like(coloured(codes)), "empty.tif", nodata=0)
    thin, nothing = write_raster(coloured(codes)[:, :7], "thin.tif"), write_raster(np.zeros_like(codes), "nothing.tif")

    def refused(error: type[Exception], words: str, model: GeneratorModel = told_model, **options: Any) -> None:
        with pytest.raises(error, match=words):
            geosynth.generate(labels, tmp_path / "no.tif", model, SETTINGS, **options)
        assert not (tmp_path / "no.tif").exists()

    refused(SettingsError, "no look 'x'; its looks are dim, bright", look="x")
    refused(SettingsError, "no look 'x'; it has no looks", tiny_model, look="x")
    refused(SettingsError, "give one of them", look="dim", style=like)
    refused(SettingsError, "no image to take it from", style_labels=labels)
    refused(SettingsError, "1 label raster for 2 images", style=[like, like], style_labels=labels)
    with pytest.raises(SettingsError, match="no image to take a look from"):
        geosynth.add_look("none", [], tmp_path / "no.safetensors", told_model.path)
    refused(SettingsError, "is conditioned on looks", style=torch.zeros(4))
    refused(GridError, "off.tif", style=like, style_labels=off)
    refused(GridError, "no pixel in common", style=like, style_labels=far)
    for image in (empty, thin):  # rows of 7 px have no square of 8
        refused(DataError, "no square of 8 px that has data everywhere, to take a look from", style=image)
    refused(DataError, "no pixel with a class to take a look from", style=like, style_labels=nothing)
    other = write_raster(np.where(codes == 1, 77, codes), "other.tif")
    refused(LegendError, r"other.tif: codes .* not know: 77 \(.*looks add", style=like, style_labels=other)
    with pytest.raises(OutputError, match="is also an input"):
        geosynth.generate(labels, like, told_model, SETTINGS, style=like, overwrite=True)
    with pytest.raises(SettingsError, match="not conditioned on looks"):
        geosynth.add_look("mine", like, tmp_path / "no.safetensors", tiny_model.path)
    with pytest.raises(SettingsError, match=r"^a look's name consists of letters, digits"):  # before an image is read
        geosynth.add_look("my place", tmp_path / "none.tif", tmp_path / "no.safetensors", told_model.path)


@pytest.mark.parametrize("place", ["folder.safetensors", "/proc/look.safetensors"])
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    tmp_path: Path, told_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.safetensors").mkdir()
    if not Path(place).parent.exists():
        pytest.skip("a system without /proc")
    with pytest.raises(OutputError, match=f"^{place}: cannot be written: "):
        geosynth.add_look("mine", "no_image.tif", place, told_model.path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.safetensors"]


def test_a_look_that_is_not_whole_is_a_damaged_file(tmp_path: Path, told_model: GeneratorModel) -> None:
    from safetensors.torch import save_file

    damaged = tmp_path / "damaged.safetensors"
    tensors = load_file(told_model.path)
    for change, words in (
        ({"look.dim.mean": None}, "look 'dim' is not whole: look.dim.mean is missing"),
        ({"look.bright.asked": torch.zeros(6, 11)}, "look 'bright' is not one of 6 classes and 4 bands"),
        ({"look.bright.mean": torch.zeros(5, 12)}, "look 'bright' is not one of 6 classes and 4 bands"),
    ):
        kept = {name: value for name, value in (tensors | change).items() if value is not None}
        save_file(kept, damaged, metadata=told_model.card.to_metadata())
        with pytest.raises(CheckpointError, match=words):
            load_generator(damaged)

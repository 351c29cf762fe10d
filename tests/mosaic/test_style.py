"""Styles that users choose: lengths in metres, and the encoder's view of an image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from odc.geo.geobox import GeoBox

import geosynth
from geosynth.checkpoint import GeneratorModel, load_generator, save_generator
from geosynth.config import EncoderSettings, GenerateSettings, GeneratorSettings
from geosynth.errors import DataError, SettingsError
from geosynth.models.encoder import StyleEncoder
from geosynth.models.looks.look import Look
from geosynth.mosaic.style import (
    chosen_style,
    packed,
    style_digest,
    style_files,
    style_from_image,
    style_length_pixels,
    unpacked,
)
from rasters import NORTH_UP, draw_labels, random_image

Write = Callable[..., Path]
SIDE = 128  # of the encoder's windows, with five convolutions


@pytest.fixture(scope="module")
def model(tiny_model: GeneratorModel) -> GeneratorModel:
    """The tiny model with a random encoder, loud enough to tell images apart."""
    torch.manual_seed(1)
    encoder = StyleEncoder(EncoderSettings(num_bands=4, base_width=4, latent_size=4, num_layers=5))
    with torch.no_grad():
        encoder.mean.weight.mul_(50)
    return replace(tiny_model, encoder=encoder.eval().requires_grad_(False))


def encoded(model: GeneratorModel, *images: np.ndarray) -> np.ndarray:
    """Mean of z, one image at a time."""
    assert model.encoder is not None
    each = [model.encoder(torch.from_numpy(image / 127.5 - 1).float().unsqueeze(0))[0][0] for image in images]
    return torch.stack(each).mean(0).numpy()


@pytest.mark.parametrize(
    ("transform", "crs", "metres", "pixels"),
    [
        (Affine.scale(0.6, -0.6), "EPSG:26917", 1200, 2000),
        (Affine.rotation(30) @ Affine.scale(2, -2), "EPSG:26917", 100, 50),
        (Affine.scale(1, -1), "EPSG:2263", 30.48, 100),  # feet
        (Affine.scale(1e-5, -1e-5), "EPSG:4326", 700, 700),
        (Affine.scale(3, -3), None, 700, 700),
        (Affine.scale(10, -10), "EPSG:26917", 1, 1),
        (Affine.scale(10, -10), "EPSG:26917", 0, 0),
    ],
)
def test_lengths_on_the_ground(transform: Affine, crs: str | None, metres: float, pixels: int) -> None:
    network = GeneratorSettings(num_classes=6, num_bands=4)
    assert style_length_pixels(metres, GeoBox((9, 9), transform, crs), network) == pixels


def test_a_style_drifts_as_far_as_its_network_can(linear_model: GeneratorModel, told_model: GeneratorModel) -> None:
    """By itself: not within one window of a linear start; a look's less far than a whole image's."""
    grid = GeoBox((9, 9), Affine.scale(0.5, -0.5), "EPSG:26917")
    kinds = (linear_model.card.settings, told_model.card.settings, GeneratorSettings(num_classes=6, num_bands=4))
    assert [style_length_pixels(None, grid, kind) for kind in kinds] == [0, 512, 4096]


def test_a_style_travels_whole_and_has_a_name_of_its_own(told_model: GeneratorModel) -> None:
    latent, look = torch.tensor([0.5, -1.0, 2.0]), told_model.look("bright")
    assert look is not None
    back = unpacked(packed(latent))
    assert isinstance(back, torch.Tensor)
    assert torch.equal(back, latent)
    again = unpacked(packed(look))
    assert isinstance(again, Look)
    assert all(torch.equal(again.tensors()[name], values) for name, values in look.tensors().items())
    assert unpacked(packed(None)) is None
    assert len({style_digest(style) for style in (None, latent, latent + 1, look, told_model.look("dim"))}) == 5
    assert style_digest(back) == hashlib.sha256(latent.numpy().tobytes()).hexdigest()
    tensors = b"".join(values.numpy().tobytes() for values in look.tensors().values())
    assert style_digest(look) == hashlib.sha256(tensors).hexdigest()
    assert style_digest(again) == style_digest(look)


def test_the_style_is_the_mean_over_whole_windows(
    model: GeneratorModel, write_raster: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geosynth.mosaic.style._BATCH", 4)
    assert model.encoder is not None
    batches: list[int] = []
    hook = model.encoder.register_forward_pre_hook(lambda _, images: batches.append(len(images[0])))
    image = random_image(0, 2 * SIDE + 40, 3 * SIDE + 7)
    image[:, :SIDE, SIDE : 2 * SIDE] //= 3  # or all windows look alike
    with hook:
        style = style_from_image(write_raster(image), model)
    assert batches == [4, 2]
    windows = [image[:, r : r + SIDE, c : c + SIDE] for r in (0, SIDE) for c in (0, SIDE, 2 * SIDE)]
    np.testing.assert_allclose(style.numpy(), encoded(model, *windows), rtol=1e-4, atol=1e-5)
    assert np.abs(style.numpy() - encoded(model, windows[1])).max() > 0.01


def test_windows_without_data_do_not_count(model: GeneratorModel, write_raster: Write) -> None:
    image = random_image(0, SIDE, 2 * SIDE)
    image[:, 5, SIDE + 5] = 0
    style = style_from_image(write_raster(image, nodata=0), model)
    np.testing.assert_allclose(style.numpy(), encoded(model, image[:, :, :SIDE]), rtol=1e-4, atol=1e-5)
    image[:, 5, 5] = 0
    with pytest.raises(DataError, match="no window of 128 x 128 px has data everywhere"):
        style_from_image(write_raster(image, nodata=0), model)
    with pytest.raises(DataError, match="no window"):
        style_from_image(write_raster(image[:, :100]), model)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_style_is_that_of_the_image_with_north_up(model: GeneratorModel, write_raster: Write) -> None:
    image = random_image(0, SIDE, 2 * SIDE)
    image[:, : SIDE // 2] //= 3
    south_up = NORTH_UP @ NORTH_UP.translation(0, SIDE) @ NORTH_UP.scale(1, -1)
    north, south = write_raster(image, "north.tif"), write_raster(image[:, ::-1], "south.tif", transform=south_up)
    assert torch.equal(style_from_image(north, model), style_from_image(south, model))
    nowhere = write_raster(image[:, ::-1], "nowhere.tif", transform=Affine.identity(), crs=None)
    assert (style_from_image(nowhere, model) - style_from_image(north, model)).abs().max() > 0.01


def test_large_images_are_sampled_evenly(
    model: GeneratorModel, write_raster: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geosynth.mosaic.style._MAX_WINDOWS", 3)
    image = random_image(0, SIDE, 7 * SIDE)
    style = style_from_image(write_raster(image), model)
    windows = [image[:, :, column * SIDE : (column + 1) * SIDE] for column in (0, 3, 6)]
    np.testing.assert_allclose(style.numpy(), encoded(model, *windows), rtol=1e-4, atol=1e-5)


def test_bands_are_found_by_name(model: GeneratorModel, write_raster: Write) -> None:
    image = random_image(0, SIDE, SIDE, bands=5)
    path = write_raster(image)
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("nir", "cirrus", "blue", "green", "red")
    np.testing.assert_allclose(
        style_from_image(path, model).numpy(), encoded(model, image[[4, 3, 2, 0]]), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (
            random_image(0, SIDE, SIDE, bands=3),
            "its bands are red, green, blue; the model's are red, green, blue, nir",
        ),
        (random_image(0, SIDE, SIDE, dtype="uint16"), "holds uint16 values; the model's are uint8"),
    ],
    ids=["bands", "dtype"],
)
def test_images_of_another_kind_are_refused(
    model: GeneratorModel, write_raster: Write, image: np.ndarray, complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint):
        style_from_image(write_raster(image), model)


def test_another_scale_is_told(model: GeneratorModel, write_raster: Write, caplog: pytest.LogCaptureFixture) -> None:
    path = write_raster(random_image(0, SIDE, SIDE), transform=Affine(0.5, 0, 0, 0, -0.5, 0))
    style_from_image(path, model)
    assert "pixels of 0.5 m; the model was trained on 1 m" in caplog.text


def test_what_users_say_of_styles(model: GeneratorModel, told_model: GeneratorModel, write_raster: Write) -> None:
    plain, latent, look = GenerateSettings(), torch.ones(4), told_model.look("bright")
    bright, dark = write_raster(random_image(0, SIDE, SIDE), "a.tif"), write_raster(random_image(1, SIDE, SIDE) // 4)
    assert style_files(bright, None, latent, look, [dark, "c.tif"]) == [bright, dark, "c.tif"]
    assert chosen_style(None, None, model, plain) is None
    assert chosen_style([], [], model, plain) is None
    assert chosen_style([], None, told_model, GenerateSettings(look="dim")) is None
    assert chosen_style(None, None, told_model, GenerateSettings(look="dim")) is None, "the painter's to know"
    assert chosen_style(latent, None, model, plain) is latent
    assert chosen_style(look, None, told_model, plain) is look
    each = [style_from_image(image, model) for image in (bright, dark)]
    found = chosen_style([bright, dark], None, model, plain)
    assert isinstance(found, torch.Tensor)
    torch.testing.assert_close(found, (each[0] + each[1]) / 2)
    for style, labels, one, settings, said in (
        (bright, None, told_model, GenerateSettings(look="dim"), "look: 'dim' and a style are given; give one of them"),
        (None, [dark], told_model, plain, "labels of a style are given, but no image to take it from"),
        (latent, [dark], model, plain, "labels of a style are given, but no image to take it from"),
        (bright, [dark], model, plain, "tiny.safetensors: its styles describe whole images; leave out the labels"),
    ):
        with pytest.raises(SettingsError, match=said):
            chosen_style(style, labels, one, settings)


def test_a_model_without_encoder_says_so(tiny_model: GeneratorModel, write_raster: Write) -> None:
    with pytest.raises(SettingsError, match="has no style encoder"):
        style_from_image(write_raster(random_image(0, SIDE, SIDE)), tiny_model)


def test_an_image_in_the_style_of_another(model: GeneratorModel, write_raster: Write, tmp_path: Path) -> None:
    """One style everywhere, that of the encoder, kept in the model file; noise is still the seed's."""
    path = save_generator(
        tmp_path / "with.safetensors", model.generator, model.card, model.encoder, dtype=torch.float32
    )
    labels = write_raster(draw_labels(96, 96))
    like = write_raster(random_image(0, SIDE, SIDE), "like.tif")
    other = write_raster(random_image(0, SIDE, SIDE) // 4, "other.tif")
    settings = GenerateSettings(precision="fp32")

    def paint(name: str, style: Path | torch.Tensor | None) -> np.ndarray:
        with rasterio.open(
            geosynth.generate(labels, tmp_path / f"image_{name}.tif", path, settings, style=style)
        ) as image:
            assert ("GEOSYNTH_STYLE_SHA256" in image.tags()) == (style is not None)
            return np.asarray(image.read())

    images = {name: paint(name, style) for name, style in (("like", like), ("other", other), ("none", None))}
    np.testing.assert_array_equal(images["like"], paint("latent", style_from_image(like, load_generator(path))))
    for first, second in (("like", "other"), ("like", "none")):
        assert (images[first] != images[second]).mean() > 0.3

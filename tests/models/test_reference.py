"""Weights in the reference's layout: the same images and styles; what shapes tell; what is refused."""

import pytest
import reference_layout as layout
import torch
from label_maps import assert_within, label_map
from torch.nn import functional as F

from geosynth.config import GeneratorSettings
from geosynth.errors import CheckpointError, SettingsError
from geosynth.models.generator import SpadeGenerator
from geosynth.models.reference import read_encoder, read_generator

LABELS, BANDS, NGF, HIDDEN, LATENT = 5, 4, 4, 8, 6


def reference(depth="normal", crop=128, latent=LATENT):
    return layout.trained(layout.Generator(LABELS, BANDS, NGF, HIDDEN, depth, crop, latent))


def one_hot(labels):
    return F.one_hot(labels, LABELS + 1)[..., :-1].permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("depth", ["normal", "more", "most"])
def test_linear_start_paints_what_the_reference_does(depth):
    theirs = reference(depth)
    ours = read_generator(theirs.state_dict(), "G.pth", depth=None if depth == "most" else depth)
    expected = GeneratorSettings.reference(
        LABELS, BANDS, crop_size=128, base_width=NGF, hidden_channels=HIDDEN, latent_size=LATENT, depth=depth
    )
    assert ours.settings == expected
    labels = label_map("lines", (2, 128, 128), LABELS, holes=True)
    z = torch.randn((2, LATENT), generator=torch.Generator().manual_seed(4))
    image = theirs(one_hot(labels), z)
    assert 0.1 < image.std() < 0.9
    assert_within(ours(labels, z), image)


@pytest.mark.parametrize("depth", ["normal", "more", "most"])
def test_convolutional_start_paints_what_the_reference_does(depth):
    theirs = reference(depth, latent=None)
    ours = read_generator(theirs.state_dict(), "G.pth", depth=depth)
    assert ours.settings.start == "convolution"
    labels = label_map("lines", (1, 128, 128), LABELS)
    assert_within(ours(labels), theirs(one_hot(labels)))


@pytest.mark.parametrize(("layers", "size"), [(5, 128), (6, 256)])
def test_encoder_gives_the_references_styles(layers, size):
    theirs = layout.trained(layout.Encoder(BANDS, 4, LATENT, layers))
    ours = read_encoder(theirs.state_dict(), "E.pth")
    assert ours.settings.num_layers == layers
    image = torch.randn((2, BANDS, size, size), generator=torch.Generator().manual_seed(0))
    for found, expected in zip(ours(image), theirs(image), strict=True):
        assert expected.std() > 0.1
        assert_within(found, expected)


@pytest.mark.parametrize("depth", ["normal", "more", "most"])
def test_an_encoded_reference_generator_has_the_same_layers_as_ours(depth):
    """Names and shapes of all weights, at the published size, counted without memory."""
    with torch.device("meta"):
        theirs = layout.Generator(6, 3, 64, 128, depth, 256, 256)
        ours = SpadeGenerator(GeneratorSettings.reference(6, 3, depth=depth))
    count = sum(value.numel() for value in theirs.parameters())
    assert sum(value.numel() for value in ours.parameters()) == count
    if depth == "normal":
        assert count == 108_935_875


def test_crop_size_tells_the_depth():
    state = reference("normal", 128).state_dict()
    assert read_generator(state, "G", crop_size=128).settings.depth == "normal"
    more = read_generator(state, "G", crop_size=256).settings
    assert (more.depth, more.crop_size) == ("more", 256)


@pytest.mark.parametrize(
    ("depth", "latent", "said", "words"),
    [
        ("normal", LATENT, {}, r"give normal or more, or the crop size: 128 \(normal\) or 256 \(more\) px"),
        ("normal", None, {}, "give normal or more"),
        ("normal", None, {"crop_size": 128}, "give normal or more"),
        ("normal", LATENT, {"crop_size": 100}, r"crops of 128 px \(normal\) or 256 px \(more\), not of 100 px"),
        ("normal", LATENT, {"depth": "most"}, "'most' does not fit its blocks; it is normal or more"),
        ("normal", LATENT, {"depth": "more", "crop_size": 128}, "not of 128 px as more"),
        ("most", LATENT, {"depth": "normal"}, "it is most"),
    ],
)
def test_depth_that_is_not_told_or_contradicted(depth, latent, said, words):
    state = reference(depth, latent=latent).state_dict()
    with pytest.raises(SettingsError, match=words) as caught:
        read_generator(state, "G.pth", **said)
    assert str(caught.value).startswith("G.pth: ")
    assert "\n" not in str(caught.value)


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


def test_other_weights_are_refused_in_one_line():
    state = reference().state_dict()
    wide = {**state, "conv_img.weight": torch.zeros(4, 2 * NGF, 3, 3)}
    big = {**state, "up_0.norm_0.mlp_gamma.weight": torch.zeros(16 * NGF, HIDDEN, 5, 5)}
    vectors = {**state, "up_0.conv_0.weight_v": torch.zeros(7)}
    oblong = {**state, "fc.weight": torch.zeros(16 * NGF * 12, LATENT), "fc.bias": torch.zeros(16 * NGF * 12)}
    for wrong, words in (
        ({}, "fc.weight is missing"),
        (without(state, "G_middle_1.conv_1.weight_u"), "G_middle_1.conv_1.weight_u is missing"),
        (without(state, "up_2.norm_s.param_free_norm.running_var"), "running_var is missing"),
        (wide, "to_image.weight"),
        (big, "up_0.norm_0: gamma and beta differ in shape"),
        (vectors, "up_0.conv_0: its spectral norm's vectors"),
        (oblong, "12 cells, no square"),
    ):
        with pytest.raises(CheckpointError, match=words) as caught:
            read_generator(wrong, "G.pth", depth="normal")
        assert "\n" not in str(caught.value)
    encoder = layout.Encoder(BANDS, 2, LATENT, 6).state_dict()
    with pytest.raises(CheckpointError, match=r"layer3.0.weight_orig is missing"):
        read_encoder(without(encoder, "layer3.0.weight_orig"), "E.pth")


def test_weights_without_spectral_norm_and_without_counters_are_taken_as_they_are():
    state = {
        name: value for name, value in reference().state_dict().items() if not name.endswith("num_batches_tracked")
    }
    plain = dict(state)
    folded = read_generator(state, "G", depth="normal")
    for name in [name for name in state if name.endswith("weight_orig")]:
        layer = name.removesuffix(".weight_orig")
        for kind in ("orig", "u", "v"):
            del plain[f"{layer}.weight_{kind}"]
        plain[f"{layer}.weight"] = folded.blocks.get_submodule(layer).weight
    again = read_generator(plain, "G", depth="normal")
    for name, value in folded.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)

"""Modulation by table = densely = a plain implementation; values, gradients and running statistics."""

import copy
import operator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from label_maps import KINDS, assert_within, label_map, load_plain_spade, randomise

from geosynth.models import affine
from geosynth.models.affine import LayerNoise, PixelRows, affine_by_pixel
from geosynth.models.modulation import SpadeNorm
from geosynth.models.patterns import LabelPatterns
from geosynth.models.zoom import Zoom

plain_spade = load_plain_spade()
PADDINGS = ("replicate", "zeros")
CHANNELS, HIDDEN = 5, 16


def build(num_classes, padding, *, training):
    layer = SpadeNorm(CHANNELS, num_classes, HIDDEN, padding)
    randomise(layer)
    return layer.train(training)


def features_for(labels):
    batch, height, width = labels.shape
    rng = torch.Generator().manual_seed(1)
    return torch.randn((batch, CHANNELS, height, width), generator=rng) * 1.5 + 0.3


def run(layer, labels, call):
    """Output, gradients by name (of the features too), and running statistics after one forward and backward pass."""
    layer.zero_grad()
    features = features_for(labels).requires_grad_()
    output = call(features)
    (output * torch.randn(output.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    gradients = {name: value.grad for name, value in layer.named_parameters()}
    statistics = {name: value.clone().float() for name, value in layer.named_buffers()}
    return output, {"features": features.grad, **gradients}, statistics


def run_form(layer, labels, num_classes, padding, form):
    layer.modulation.form = form
    return run(layer, labels, lambda features: layer(features, LabelPatterns(labels, num_classes, padding)))


def assert_same_run(actual, expected):
    assert_within(actual[0], expected[0])
    for part in (1, 2):
        assert actual[part].keys() == expected[part].keys()
        for name in actual[part]:
            assert_within(actual[part][name], expected[part][name])


def compare_forms(labels, num_classes, padding, *, training):
    runs = [
        run_form(build(num_classes, padding, training=training), labels, num_classes, padding, form)
        for form in ("table", "dense")
    ]
    assert_same_run(*runs)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("num_classes", [1, 2, 6, 20])
@pytest.mark.parametrize("kind", KINDS)
def test_table_equals_dense(kind, num_classes, padding, training):
    batch = 1 + num_classes % 3
    labels = label_map(kind, (batch, 37, 22), num_classes, holes=num_classes > 1)
    compare_forms(labels, num_classes, padding, training=training)


@pytest.mark.parametrize("shape", [(1, 2, 1), (3, 1, 5), (1, 3, 3), (2, 64, 33)])
@pytest.mark.parametrize("padding", PADDINGS)
def test_table_equals_dense_at_odd_sizes(shape, padding):
    compare_forms(label_map("noise", shape, 4, seed=3), 4, padding, training=True)


@pytest.mark.parametrize("padding", PADDINGS)
def test_table_equals_dense_with_so_many_classes_that_codes_are_sorted(padding):
    compare_forms(label_map("noise", (1, 12, 15), 200, holes=True), 200, padding, training=True)


@settings(max_examples=25)
@given(
    st.integers(1, 8).flatmap(
        lambda classes: st.tuples(
            st.just(classes),
            hnp.arrays(
                "int64", st.tuples(*[st.integers(1, size) for size in (2, 9, 9)]), elements=st.integers(0, classes)
            ),
            st.sampled_from(PADDINGS),
        )
    )
)
def test_table_equals_dense_on_any_map(case):
    num_classes, labels, padding = case
    compare_forms(torch.from_numpy(labels), num_classes, padding, training=False)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("form", ["table", "dense"])
def test_both_forms_equal_a_plain_implementation(form, padding, training):
    labels = label_map("lines", (2, 24, 19), 6, holes=True)
    layer = build(6, padding, training=training)
    plain = plain_spade.PlainSpade(CHANNELS, 6, HIDDEN, padding).train(training)
    plain_spade.copy_weights(plain, layer.state_dict())
    one_hot = torch.stack([labels == index for index in range(6)], dim=1).float()

    output, gradients, statistics = run_form(layer, labels, 6, padding, form)
    expected, plain_gradients, plain_statistics = run(plain, labels, lambda features: plain(features, one_hot))
    joined = {
        "features": plain_gradients["features"],
        "modulation.shared.weight": plain_gradients["shared.weight"],
        "modulation.shared.bias": plain_gradients["shared.bias"],
        **{
            f"modulation.gamma_beta.{what}": torch.cat(
                [plain_gradients[f"{kind}.{what}"] for kind in ("gamma", "beta")]
            )
            for what in ("weight", "bias")
        },
    }
    assert_same_run((output, gradients, statistics), (expected, joined, plain_statistics))


def test_folded_batch_norm_equals_normalising_first():
    """In evaluation mode the norm lives in the weights; in training mode with the same statistics it does not."""
    labels = label_map("patches", (2, 20, 20), 3)
    layer = build(3, "replicate", training=False)
    patterns = LabelPatterns(labels, 3)
    features = features_for(labels)
    scale, shift = layer.modulation.maps(patterns).chunk(2, dim=1)
    assert_within(layer(features, patterns), layer.norm(features) * scale + shift)


def test_the_cheaper_form_is_chosen(monkeypatch):
    layer = build(20, "replicate", training=False)
    taken = []
    for form in ("rows", "maps"):
        original = getattr(layer.modulation, form)
        monkeypatch.setattr(
            layer.modulation, form, lambda *args, form=form, original=original: taken.append(form) or original(*args)
        )
    for kind in ("uniform", "noise"):
        labels = label_map(kind, (1, 32, 32), 20)
        layer.train()(features_for(labels), LabelPatterns(labels, 20))
        for stride in (1, 32):  # in evaluation it must not depend on the labels
            layer.eval()(features_for(labels), LabelPatterns(labels, 20, stride=stride))
    assert taken == ["rows", "rows", "maps", "maps", "rows", "maps"]


@pytest.mark.parametrize("form", ["table", "dense"])
def test_weights_kept_between_calls_follow_changes(form):
    labels = label_map("patches", (1, 16, 16), 3)
    layer = build(3, "replicate", training=False)
    layer.modulation.form = form
    features, patterns = features_for(labels), LabelPatterns(labels, 3)
    with torch.no_grad():
        layer(features, patterns)
        layer.modulation.gamma_beta.weight.mul_(2)
        layer.norm.running_mean.add_(1)
        kept = layer(features, patterns)
    fresh = layer(features, patterns)  # with gradients nothing is kept
    assert_within(kept, fresh.detach())


def test_kept_weights_stay_where_they_are_whatever_else_is_asked_for():
    """A recorded graph goes on reading them: of another form, as in a kernel's trial, or in 16 bits."""
    layer = build(3, "replicate", training=False)
    with torch.no_grad():
        kept = layer.modulation._prepared(layer.norm, "dense")
        layer.modulation._prepared(layer.norm, "kernel")
        with torch.autocast("cpu", torch.bfloat16):
            assert layer.modulation._prepared(layer.norm, "dense")[0].dtype == torch.bfloat16
        assert all(map(operator.is_, layer.modulation._prepared(layer.norm, "dense"), kept))
        other = copy.deepcopy(layer)
        assert other.modulation._prepared(other.norm, "dense")[0] is not kept[0]


@pytest.mark.parametrize("slope", [1.0, 0.2])
@pytest.mark.parametrize("form", ["table", "dense"])
def test_activation_is_that_of_torch(form, slope):
    labels = label_map("patches", (2, 40, 40), 4, holes=True)
    layer = build(4, "zeros", training=True)
    layer.modulation.form = form
    patterns = LabelPatterns(labels, 4, "zeros")
    plain = run(layer, labels, lambda features: torch.nn.functional.leaky_relu(layer(features, patterns), slope))
    layer = build(4, "zeros", training=True)
    layer.modulation.form = form
    assert_same_run(run(layer, labels, lambda features: layer(features, patterns, slope)), plain)


def test_pieces_of_any_size_give_the_same(monkeypatch):
    labels = label_map("lines", (2, 24, 19), 6, holes=True)
    runs = []
    for size in (CHANNELS, 7 * CHANNELS, 1 << 20):
        monkeypatch.setattr("geosynth.models.affine._PIECE", size)
        runs.append(run_form(build(6, "zeros", training=True), labels, 6, "zeros", "table"))
    for other in runs[1:]:
        assert_same_run(other, runs[0])


def test_forms_agree_in_bfloat16():
    labels = label_map("patches", (2, 48, 48), 6)
    layer = build(6, "replicate", training=False)
    features, patterns = features_for(labels), LabelPatterns(labels, 6)
    layer.modulation.form = "dense"
    exact = layer(features, patterns)
    for form in ("table", "dense"):
        layer.modulation.form = form
        with torch.autocast("cpu", torch.bfloat16):
            rough = layer(features, patterns).float()
        # bfloat16 keeps 8 bits: relative steps of 2^-8 a rounding, a few roundings
        assert float((rough - exact).detach().abs().mean() / exact.detach().abs().mean()) < 4 * 2**-8


@pytest.mark.parametrize("slope", [0.2, 1.0])
@pytest.mark.parametrize("types", [(torch.float64, torch.float64), (torch.float32, torch.bfloat16)])
def test_scale_shift_and_activation_have_the_gradients_of_autograd(types, slope):
    torch.manual_seed(0)
    features = torch.randn(2, 5, 4, 3, dtype=types[0]).contiguous(memory_format=torch.channels_last).requires_grad_()
    maps = torch.randn(2, 10, 4, 3).to(types[1]).contiguous(memory_format=torch.channels_last).requires_grad_()
    wanted = torch.randn(2, 5, 4, 3, dtype=types[0])
    seen = []
    for ours in (True, False):
        if ours:
            values = affine_by_pixel(features, maps, slope)
        else:
            scale, shift = maps.chunk(2, dim=1)
            values = torch.nn.functional.leaky_relu(torch.addcmul(shift, features, scale), slope)
        seen.append((values, *torch.autograd.grad((values * wanted).sum(), (features, maps))))
    for one, other in zip(*seen, strict=True):
        assert one.dtype == other.dtype
        assert one.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("by_cell", [False, True])
def test_painting_in_one_go_equals_one_step_after_the_other(padding, by_cell, monkeypatch):
    """Upsampling, looks, noise, norm and modulation, over several pieces, against what training does."""
    monkeypatch.setattr(affine, "_PIECE", 64 * CHANNELS)
    layer = build(4, padding, training=False)
    layer.modulation.form = "table"
    labels = label_map("lines", (2, 22, 30), 4, holes=True)
    rng = torch.Generator().manual_seed(3)
    coarse, drawn = torch.randn(2, CHANNELS, 14, 18, generator=rng), torch.randn(2, 1, 22, 30, generator=rng)
    noise = LayerNoise(drawn, torch.rand(5, CHANNELS, generator=rng))
    rows = labels if by_cell else None
    told = PixelRows(torch.randn(5 if by_cell else labels.numel(), 2 * CHANNELS, generator=rng), rows)

    def painted():
        own = told._replace(table=told.table.clone())
        return layer(coarse.clone(), LabelPatterns(labels, 4, padding), 0.2, True, noise, own, Zoom(2, 3))

    with torch.no_grad():
        found = painted()
    assert_within(found, painted())

"""Label patterns against a pixel-by-pixel search."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from label_maps import KINDS, label_map
from torch.nn import functional as F

from geosynth.models import patterns as patterns_module
from geosynth.models.patterns import LabelPatterns, LabelPyramid, repeat_edges

PADDINGS = ("replicate", "zeros")


def naive_pattern(labels, row, column, num_classes, padding):
    """The 3x3 labels around a pixel of one map, as a list; outside: the nearest pixel's, or `num_classes`."""
    height, width = labels.shape
    found = []
    for y in range(row - 1, row + 2):
        for x in range(column - 1, column + 2):
            inside = 0 <= y < height and 0 <= x < width
            if inside or padding == "replicate":
                found.append(int(labels[min(max(y, 0), height - 1), min(max(x, 0), width - 1)]))
            else:
                found.append(num_classes)
    return found


def check_against_naive(labels, num_classes, padding):
    patterns = LabelPatterns(labels, num_classes, padding)
    found = patterns.found
    rows = found.labels.tolist()
    assert len({tuple(row) for row in rows}) == len(rows) == patterns.num_patterns
    assert [rows[index] for index in found.uniform] == [[label] * 9 for label in range(num_classes + 1)]

    taps = dict(zip(found.border.tolist(), found.taps[len(found.uniform) :].tolist(), strict=True))
    _, height, width = labels.shape
    for flat in range(labels.numel()):
        sample, rest = divmod(flat, height * width)
        row, column = divmod(rest, width)
        around = []
        for y in range(row - 1, row + 2):
            for x in range(column - 1, column + 2):
                inside = 0 <= y < height and 0 <= x < width
                if inside or padding == "replicate":
                    nearest = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
                    around.append(naive_pattern(labels[sample], *nearest, num_classes, padding))
                else:
                    around.append(None)
        is_interior = all(pattern == [int(labels[sample, row, column])] * 9 for pattern in around)
        assert (flat in taps) != is_interior
        if not is_interior:
            assert [rows[tap] if tap < len(rows) else None for tap in taps[flat]] == around


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_patterns_match_a_pixel_by_pixel_search(kind, padding):
    check_against_naive(label_map(kind, (2, 11, 14), 3, holes=kind != "uniform"), 3, padding)


@settings(max_examples=30)
@given(
    st.integers(1, 4).flatmap(
        lambda classes: st.tuples(
            st.just(classes),
            hnp.arrays("int64", hnp.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.integers(0, classes)),
            st.sampled_from(PADDINGS),
        )
    )
)
def test_patterns_of_any_map(case):
    num_classes, labels, padding = case
    check_against_naive(torch.from_numpy(labels), num_classes, padding)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_sorting_finds_what_the_presence_table_finds(kind, padding, monkeypatch):
    labels = label_map(kind, (2, 17, 13), 6, holes=True)
    by_table = LabelPatterns(labels, 6, padding).found
    monkeypatch.setattr(patterns_module, "_MAX_PRESENCE_TABLE", 0)
    by_sorting = LabelPatterns(labels, 6, padding).found
    for name in by_table._fields:
        assert torch.equal(getattr(by_table, name), getattr(by_sorting, name)), name


def test_one_hot_is_zero_where_there_is_no_class():
    labels = label_map("noise", (2, 9, 7), 4, holes=True)
    one_hot = LabelPatterns(labels, 4).one_hot()
    assert one_hot.shape == (2, 4, 9, 7)
    assert torch.equal(one_hot.sum(1) == 0, labels == 4)
    assert torch.equal(one_hot.argmax(1)[labels < 4], labels[labels < 4])


@pytest.mark.parametrize("stride", [1, 2, 8, 32])
def test_pyramid_resizes_labels_as_nearest_neighbour_does(stride):
    labels = label_map("patches", (2, 64, 96), 5)
    pyramid = LabelPyramid(labels, 5, "replicate")
    size = (64 // stride, 96 // stride)
    expected = F.interpolate(labels[:, None].float(), size=size, mode="nearest")[:, 0].long()
    assert torch.equal(pyramid.at(stride).labels, expected)
    assert pyramid.at(stride) is pyramid.at(stride)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 3), (2, 4, 6, 7)])
def test_repeated_edges_are_replicate_padding(shape):
    values = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    expected = F.pad(values if len(shape) == 4 else values.unsqueeze(1), (1, 1, 1, 1), mode="replicate")
    assert torch.equal(repeat_edges(values), expected if len(shape) == 4 else expected.squeeze(1))


@pytest.mark.parametrize("shape", [(1, 2, 1, 1), (2, 3, 1, 4), (2, 4, 6, 7)])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_of_repeated_edges_is_that_of_replicate_padding(shape, form):
    rng = torch.Generator().manual_seed(0)
    values = torch.rand(shape, generator=rng).contiguous(memory_format=form)
    weights = torch.rand((*shape[:2], shape[2] + 2, shape[3] + 2), generator=rng)
    gradients = []
    for pad in (repeat_edges, lambda each: F.pad(each, (1, 1, 1, 1), mode="replicate")):
        leaf = values.clone().requires_grad_()
        padded = pad(leaf)
        (padded * weights).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)
    if max(shape[2:]) > 1:  # one pixel is contiguous in every format
        assert repeat_edges(values).is_contiguous(memory_format=form)

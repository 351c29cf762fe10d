"""Counts and means against scikit-learn and torchmetrics; the interval against simulated truth."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, jaccard_score
from torchmetrics.functional.classification import multiclass_jaccard_index

from geosynth.config import SegmentSettings
from geosynth.segmentation.scores import Confusion, Scores, SegmentReport, iou, mean_iou, miou_estimate

CLASSES = 4


@st.composite
def label_pairs(draw):
    """(labels with some of no class, predictions), which need not hold all classes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    known = draw(st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=CLASSES))
    labels = rng.choice([*known, CLASSES], shape).astype(np.uint8)
    return labels, rng.integers(0, CLASSES, shape).astype(np.uint8)


@given(label_pairs())
@settings(max_examples=30)
@np.errstate(all="raise")
def test_counts_and_means_are_those_of_scikit_learn(pair):
    labels, predicted = pair
    counted = Confusion(CLASSES)
    for row, guess in zip(labels, predicted, strict=True):  # in parts
        counted.add(row, guess)
    known = labels < CLASSES
    if not known.any():
        assert np.isnan(counted.miou())
        assert np.isnan(counted.accuracy())
        return
    truth, guess = labels[known], predicted[known]
    matrix = confusion_matrix(truth, guess, labels=range(CLASSES)).tolist()
    assert json.dumps(counted.to_values()) == json.dumps(matrix)
    either = np.union1d(truth, guess)
    expected = jaccard_score(truth, guess, labels=either, average=None)
    np.testing.assert_allclose(counted.iou()[either], expected)
    assert np.isnan(np.delete(counted.iou(), either)).all()
    assert counted.miou() == pytest.approx(jaccard_score(truth, guess, labels=np.unique(truth), average="macro"))
    assert counted.accuracy() == pytest.approx((truth == guess).mean())


def test_the_mean_is_that_of_torchmetrics_where_all_classes_occur():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, CLASSES + 1, (50, 50)), rng.integers(0, CLASSES, (50, 50))
    counted = Confusion(CLASSES)
    counted.add(labels, predicted)
    expected = multiclass_jaccard_index(
        torch.from_numpy(predicted), torch.from_numpy(labels), CLASSES, average="macro", ignore_index=CLASSES
    )
    assert counted.miou() == pytest.approx(float(expected))


def test_a_class_that_is_only_predicted_costs_those_it_is_taken_from():
    counted = Confusion(3)
    counted.add(np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1]))
    assert counted.miou() == pytest.approx((1 / 2 + 1) / 2)


def place_of(share, pixels=1000):
    """A place where `share` of the pixels of each of two classes is found."""
    counted = Confusion(2)
    right = round(share * pixels)
    counted.matrix[:] = [[right, pixels - right], [pixels - right, right]]
    return counted


def counts_of(*shares):
    return [place_of(share).matrix for share in shares]


def test_few_places_make_no_interval():
    few = miou_estimate([counts_of(0.5, 0.9)])
    assert few.value == pytest.approx((place_of(0.5) + place_of(0.9)).miou())
    assert (few.low, few.high, few.n) == (None, None, 2)
    enough = miou_estimate([counts_of(0.5, 0.9, 0.7)])
    assert None not in (enough.low, enough.high)


def test_equal_places_leave_no_doubt_and_the_seed_decides():
    found = miou_estimate([counts_of(*[0.8] * 5)])
    assert (found.low, found.high) == pytest.approx((place_of(0.8).miou(),) * 2)
    places = counts_of(*np.linspace(0.5, 0.9, 8))
    assert miou_estimate([places], seed=1) == miou_estimate([places], seed=1) != miou_estimate([places], seed=2)


def test_models_are_averaged_and_differences_drawn_place_by_place():
    good, poor = (counts_of(*np.linspace(0.5, 0.9, 8) + more) for more in (0.05, 0.0))
    both = miou_estimate([good, poor])
    assert both.value == pytest.approx((miou_estimate([good]).value + miou_estimate([poor]).value) / 2)
    more = miou_estimate([good], [poor])
    assert more.value == pytest.approx(miou_estimate([good]).value - miou_estimate([poor]).value)
    # Places differ by far more than the models do, which differ about equally everywhere.
    assert 0 < more.low < more.high < 0.1 < miou_estimate([good]).high - miou_estimate([good]).low
    same = miou_estimate([good, poor], [poor, good])
    assert (same.value, same.low, same.high) == (0, 0, 0)


@pytest.mark.parametrize("places", [3, 5, 25])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(places):
    """Percentiles of the draws would in 76, 82 and 92 of a hundred cases."""
    rng = np.random.default_rng(0)
    truth = place_of(0.7, 10**6).miou()  # places of a Beta(7, 3): 0.7 on average
    hits = 0
    for _ in range(120):
        found = miou_estimate([counts_of(*rng.beta(7, 3, places))])
        hits += found.low <= truth <= found.high
    assert 0.88 <= hits / 120 <= 0.99


def test_classes_that_do_not_occur_are_no_number_without_a_warning() -> None:
    matrix = np.zeros((3, 3))
    matrix[0, 0], matrix[1, 0] = 3, 1
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(iou(matrix), [0.75, 0, np.nan])
        assert np.isnan(mean_iou(np.zeros((2, 3, 3)))).all()


def test_counts_as_plain_values_are_whole_numbers() -> None:
    counts = Confusion(2)
    counts.matrix[1, 0] += 7
    assert counts.to_values() == ((0, 0), (7, 0))
    assert all(type(count) is int for row in counts.to_values() for count in row)


@given(st.integers(0, 2**32), st.integers(3, 6))
@settings(max_examples=6)
def test_intervals_stay_among_what_a_mean_iou_and_a_difference_can_be(seed, places):
    rng = np.random.default_rng(seed)
    good, poor = (counts_of(*rng.choice([0, 0.2, 1], places)) for _ in range(2))
    for found, least in ((miou_estimate([good]), 0), (miou_estimate([good], [poor]), -1)):
        assert least <= found.low <= found.value <= found.high <= 1


def report_of(**changes):
    values = {"miou": 0.51234, "miou_low": 0.4, "miou_high": 0.6, "test_places": 3, "test_tiles": 1, "accuracy": 0.9}
    values |= {"class_iou": {"water": 0.75, "built": None}, "confusion": ((3, 1), (0, 0)), "weights": "scratch"}
    values |= {"real_tiles": 2, "synthetic_tiles": 0, "coarse_tiles": 0, "train_fold": "train", "test_fold": "test"}
    return SegmentReport(**{**values, "settings": SegmentSettings(), "data": "", "seconds": 1.0, **changes})


def test_a_report_keeps_all_digits_and_a_segmenters_file_four(tmp_path):
    report = report_of(class_iou={"water": 1 / 7, "built": None})
    report.save(tmp_path / "report.json")
    assert SegmentReport.load(tmp_path / "report.json") == report
    four = {"miou": 0.5123, "class_iou": {"water": 0.1429, "built": None}}
    assert report.scores() == Scores(fold="test", tiles=1, places=3, **four)


def test_the_summary_tells_what_was_found_and_from_what():
    assert report_of().summary() == [
        ("mean IoU", "0.512 [0.400, 0.600]", "on 1 real test tile of 3 places"),
        ("accuracy", "0.900", "trained on 2 real and 0 synthetic tiles, encoder from scratch"),
        ("IoU water", "0.750", ""),
        ("IoU built", "-", ""),
    ]
    assert repr(report_of()).splitlines()[:3] == ["SegmentReport:", "mean IoU: 0.512 [0.400, 0.600]", "accuracy: 0.900"]
    judged = {"synthetic_tiles": 1, "left_out": 0.125, "coarse_tiles": 4, "init": "5e9", "weights": "a.file"}
    (_, mean, _), (_, _, trained), *_ = report_of(miou_low=None, miou_high=None, **judged).summary()
    assert mean == "0.512"
    assert trained == (
        "trained on 2 real and 1 synthetic tile without 12.5% of their pixels, 4 with coarse labels, on from a.file"
    )

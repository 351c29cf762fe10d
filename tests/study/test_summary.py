"""Intervals over seeds, against scipy's own and against what they promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from geosynth.study.report import summarise

VALUES = st.lists(st.floats(0, 1), min_size=2, max_size=12)


@given(VALUES)
def test_the_interval_is_that_of_the_t_test(values):
    found = summarise(values)
    if np.std(values) > 1e-6:
        expected = stats.ttest_1samp(values, 0.5).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(np.mean(values))
    assert found.n == len(values)


def test_one_seed_has_no_interval():
    found = summarise([0.25])
    assert (found.mean, found.low, found.high, found.n) == (0.25, None, None, 1)
    assert found.text() == "0.250"


def test_intervals_of_three_seeds_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    trials = 2000
    found = [summarise(draw) for draw in rng.normal(0.4, 0.05, (trials, 3))]
    covered = sum(one.low <= 0.4 <= one.high for one in found)
    assert stats.binomtest(covered, trials, 0.95).pvalue > 1e-3


def test_points_have_a_sign():
    assert summarise([0.012, 0.012]).text(scale=100, sign="+") == "+1.2 [+1.2, +1.2]"
    assert summarise([-0.5]).text(scale=100, sign="+") == "-50.0"

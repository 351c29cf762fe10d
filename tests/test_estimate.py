"""Estimates: intervals over places against what they promise and a slow bootstrap, over seeds against scipy's own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from geosynth.errors import SettingsError
from geosynth.estimate import (
    MIN_PLACES,
    NUM_DRAWS,
    Estimate,
    draw_places,
    estimate_from_draws,
    estimate_over_places,
    mean_over_places,
    mean_over_seeds,
    number,
)

VALUES = st.lists(st.floats(0, 1), min_size=2, max_size=12)
Floats = npt.NDArray[np.float64]


def of_chosen(statistic: Callable[[npt.NDArray[np.int64]], float]) -> Callable[[Floats], list[float]]:
    """A statistic of chosen tiles, each as often as it counts."""
    return lambda weights: [statistic(np.repeat(np.arange(len(row)), row.astype(int))) for row in weights]


@pytest.mark.parametrize(("num_places", "each"), [(8, 2), (30, 3)])
def test_95_percent_intervals_cover_95_percent_of_the_time(num_places: int, each: int) -> None:
    rng = np.random.default_rng(num_places + each)
    places = np.repeat(np.arange(num_places), each)
    trials, covered = 300, 0
    for seed in range(trials):
        # tiles of a place share most of what they are
        values = 5 + rng.normal(size=num_places)[places] + 0.3 * rng.normal(size=len(places))
        found = mean_over_places(values, places, seed)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 5 <= found.high
    # three binomial standard errors, and what 200 draws add
    assert covered / trials == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / trials) + 0.01)


def test_counting_neighbours_one_by_one_would_be_too_narrow() -> None:
    rng = np.random.default_rng(0)
    places = np.repeat(np.arange(10), 20)
    values = rng.normal(size=10)[places]
    whole, single = (mean_over_places(values, unit, 0) for unit in (places, np.arange(200)))
    assert whole.high - whole.low > 3 * (single.high - single.low)
    assert (whole.n, single.n) == (10, 200)


def test_the_same_seed_gives_the_same_interval_whatever_places_are_called() -> None:
    values = np.random.default_rng(1).normal(size=30)
    places = np.repeat(np.arange(10), 3)
    first, again, renamed, other = (
        estimate_over_places(of_chosen(lambda at: np.median(values[at])), unit, seed)
        for unit, seed in ((places, 0), (places, 0), (places * 7 + 3, 0), (places, 1))
    )
    assert first == again == renamed
    assert first.value == other.value
    assert first.low != other.low


def test_the_interval_is_that_of_a_slow_bootstrap() -> None:
    """Places drawn by number, one after the other, as reports of earlier versions state them."""
    values, places = np.random.default_rng(2).gamma(2, size=40), np.repeat(np.arange(10), 4)
    chosen = np.random.default_rng(5).integers(10, size=(200, 10))
    drawn = [np.mean([values[places == place].mean() for place in row]) for row in chosen]
    reach = stats.t.ppf(0.975, 9) * np.std(drawn, ddof=1) * np.sqrt(10 / 9)
    found = mean_over_places(values, places, 5)
    assert (found.value, found.low, found.high) == pytest.approx(
        (values.mean(), values.mean() - reach, values.mean() + reach)
    )
    bounded = mean_over_places(values, places, 5, least=values.mean(), most=values.mean() + reach / 2)
    assert (bounded.low, bounded.high) == pytest.approx((values.mean(), values.mean() + reach / 2))


def test_tiles_of_a_place_come_together_as_often_as_it_is_drawn() -> None:
    places = np.array([3, 0, 3, 1, 1, 1, 7, 8, 9, 10, 11, 12])
    seen = []

    def statistic(weights: Floats) -> Floats:
        seen.append(weights)
        return np.zeros(len(weights))

    estimate_over_places(statistic, places, 0)
    ((first, *others),) = seen
    assert np.array_equal(first, np.ones(len(places)))
    assert len(others) == NUM_DRAWS
    for counts in others:
        for place in np.unique(places):
            assert len(set(counts[places == place])) == 1
        assert sum(counts[places == place][0] for place in np.unique(places)) == len(np.unique(places))


def test_draws_follow_the_seed_and_keep_the_number_of_places() -> None:
    first, again, other = (draw_places(12, seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (1 + NUM_DRAWS, 12)
    assert (first.sum(axis=1) == 12).all()
    assert (first[0] == 1).all()


def test_what_cannot_be_known_has_no_interval() -> None:
    few_places = mean_over_places(np.ones(MIN_PLACES - 1), np.arange(MIN_PLACES - 1), 0)
    assert (few_places.value, few_places.low, few_places.high, few_places.n) == (1.0, None, None, MIN_PLACES - 1)
    undefined = mean_over_places(np.full(20, np.nan), np.arange(20), 0)
    assert (undefined.value, undefined.low) == (None, None)
    half = estimate_from_draws([1.0, 1.0, np.nan, np.nan, np.nan], 20)
    assert (half.low, half.high) == (None, None)
    bounded = estimate_from_draws([1.0, 0.0, 4.0, 8.0], 20, least=0.0)
    assert bounded.low == 0
    assert bounded.high is not None
    assert bounded.high > 1
    with pytest.raises(SettingsError, match="an interval needs tiles"):
        mean_over_places(np.array([]), np.array([], dtype=np.int64), 0)


@pytest.mark.parametrize(
    ("drawn", "places", "has_interval"),
    [
        ([1, 2, 3, 4], 8, True),
        ([1, 2, 3, 4], 7, False),
        ([1, 2, np.nan, np.nan], 8, True),  # just half of them
        ([1, np.nan, np.nan, np.nan], 8, False),
        ([1, 2, np.inf, np.nan, np.nan], 8, False),
        ([1, 2], 8, True),
        ([1], 8, False),  # no spread of one
        ([1, np.nan], 8, False),
    ],
)
def test_where_intervals_begin(drawn: list[float], places: int, *, has_interval: bool) -> None:
    found = estimate_from_draws([2.0, *drawn], places)
    assert (found.value, found.n) == (2, places)
    known = np.array(drawn)[np.isfinite(drawn)]
    if has_interval:  # by the formula of the docstring, written once more
        reach = stats.t(places - 1).ppf(0.975) * np.std(known, ddof=1) * (places / (places - 1)) ** 0.5
        assert (found.low, found.high) == pytest.approx((2 - reach, 2 + reach))
    else:
        assert (found.low, found.high) == (None, None)


@given(VALUES)
def test_the_interval_over_seeds_is_that_of_the_t_test(values: list[float]) -> None:
    found = mean_over_seeds(values)
    if np.std(values) > 1e-6:
        expected = stats.ttest_1samp(values, 0.5).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.value == pytest.approx(np.mean(values))
    assert found.n == len(values)


def test_one_seed_has_no_interval() -> None:
    found = mean_over_seeds([0.25])
    assert (found.value, found.low, found.high, found.n) == (0.25, None, None, 1)
    assert f"{found:.3f}" == "0.250"


def test_intervals_of_three_seeds_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    trials = 2000
    found = [mean_over_seeds(draw) for draw in rng.normal(0.4, 0.05, (trials, 3))]
    covered = sum(one.low <= 0.4 <= one.high for one in found)
    assert stats.binomtest(covered, trials, 0.95).pvalue > 1e-3


def test_it_is_shown_with_its_interval_and_comes_back_from_json() -> None:
    whole, bare, nothing = Estimate(value=0.51234, low=0.48, high=0.5437, n=9), Estimate(value=1234.5), Estimate()
    assert [str(one) for one in (whole, bare, nothing)] == ["0.512 [0.48, 0.544]", "1234", "-"]
    assert f"{whole:+.1f}" == "+0.5 [+0.5, +0.5]"
    assert f"{nothing:.3f}" == "-"
    for one in (whole, bare, nothing):
        assert Estimate.model_validate_json(one.model_dump_json()) == one
    assert [str(Estimate(value=1, low=low, high=high)) for low, high in ((0.5, None), (None, 2))] == ["1", "1"]
    undefined = Estimate(value=float("nan"), low=-np.inf, high=np.float64(3))
    assert undefined == Estimate(high=3)
    # reports of earlier versions did not say on how many places an interval rests
    assert Estimate.model_validate({"value": 1, "low": None, "high": None}) == Estimate(value=1)


@given(st.floats(0.001, 1e7))
@example(999.7)
def test_a_number_has_three_digits_and_all_before_the_point(value: float) -> None:
    last = 10 ** min(0, np.floor(np.log10(value)) - 2)  # what its last digit is worth
    for one in (value, -value):
        assert "e" not in number(one)
        assert float(number(one)) == pytest.approx(one, rel=1e-12, abs=last / 2)
    assert [number(one) for one in (999.4, -999.5, 1234.5, None)] == ["999", "-1000", "1234", "-"]


def test_other_units_are_those_of_all_numbers() -> None:
    assert Estimate(value=0.5, low=0.25, high=1, n=9).times(100) == Estimate(value=50, low=25, high=100, n=9)
    assert Estimate(value=0, n=2).times(3) == Estimate(value=0, n=2)
    assert Estimate().times(3) == Estimate()

from __future__ import annotations

import numpy as np
import pytest

from geosynth.errors import SettingsError
from geosynth.evaluation.statistics import MIN_PLACES, bounds, place_interval


@pytest.mark.parametrize(("num_places", "each"), [(8, 2), (30, 3)])
def test_95_percent_intervals_cover_95_percent_of_the_time(num_places: int, each: int) -> None:
    rng = np.random.default_rng(num_places + each)
    places = np.repeat(np.arange(num_places), each)
    trials, covered = 300, 0
    for seed in range(trials):
        # tiles of a place share most of what they are
        values = 5 + rng.normal(size=num_places)[places] + 0.3 * rng.normal(size=len(places))
        found = place_interval(lambda chosen, values=values: values[chosen].mean(), places, seed)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 5 <= found.high
    # three binomial standard errors, and what 200 draws add
    assert covered / trials == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / trials) + 0.01)


def test_counting_neighbours_one_by_one_would_be_too_narrow() -> None:
    rng = np.random.default_rng(0)
    places = np.repeat(np.arange(10), 20)
    values = rng.normal(size=10)[places]
    whole, single = (place_interval(lambda at: values[at].mean(), unit, 0) for unit in (places, np.arange(200)))
    assert whole.high - whole.low > 3 * (single.high - single.low)
    assert (whole.num_tiles, whole.num_places) == (200, 10)
    assert single.num_places == 200


def test_the_same_seed_gives_the_same_interval_whatever_places_are_called() -> None:
    values = np.random.default_rng(1).normal(size=30)
    places = np.repeat(np.arange(10), 3)
    first, again, renamed, other = (
        place_interval(lambda at: np.median(values[at]), unit, seed)
        for unit, seed in ((places, 0), (places, 0), (places * 7 + 3, 0), (places, 1))
    )
    assert first == again == renamed
    assert first.value == other.value
    assert first.low != other.low


def test_tiles_of_a_place_come_together_as_often_as_it_is_drawn() -> None:
    places = np.array([3, 0, 3, 1, 1, 1, 7, 8, 9, 10, 11, 12])
    seen = []

    def statistic(chosen: np.ndarray) -> float:
        seen.append(chosen)
        return 0.0

    place_interval(statistic, places, 0, num_draws=20)
    assert np.array_equal(seen[0], np.arange(len(places)))
    for chosen in seen[1:]:
        counts = np.bincount(chosen, minlength=len(places))
        for place in np.unique(places):
            assert len(set(counts[places == place])) == 1
        assert sum(counts[places == place][0] for place in np.unique(places)) == len(np.unique(places))


def test_what_cannot_be_known_has_no_interval() -> None:
    few_places = place_interval(lambda at: 1.0, np.arange(MIN_PLACES - 1), 0)
    assert (few_places.value, few_places.low, few_places.high) == (1.0, None, None)
    undefined = place_interval(lambda at: float("nan"), np.arange(20), 0)
    assert undefined.low is None
    assert bounds(1.0, np.array([1.0, np.nan, np.nan, np.nan]), 20) == (None, None)
    low, high = bounds(1.0, np.array([0.0, 4.0, 8.0]), 20, least=0.0)
    assert low == 0
    assert high is not None
    assert high > 1
    with pytest.raises(SettingsError, match="an interval needs tiles"):
        place_interval(lambda at: 1.0, np.array([], dtype=np.int64), 0)

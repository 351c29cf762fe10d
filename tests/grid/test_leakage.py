"""Leaks between folds, against distances of all pairs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geosynth.errors import SettingsError
from geosynth.grid import Window, leakage
from geosynth.grid.leakage import Places, find_leaks
from strategies import few, windows

places = st.lists(windows(reach=200), min_size=1, max_size=25)


def as_places(these: list[Window], letter: str) -> Places:
    boxes = [shapely.box(w.column, w.row, w.right, w.bottom) for w in these]
    return Places(np.array(boxes), [f"{letter}{index}" for index in range(len(these))])


def gap(one: Window, other: Window) -> float:
    down = max(one.row - other.bottom, other.row - one.bottom, 0)
    across = max(one.column - other.right, other.column - one.right, 0)
    return float(np.hypot(down, across))


@pytest.fixture(scope="module", params=[4, 256])
def batch(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leakage, "_BATCH", request.param)
        yield


@pytest.mark.usefixtures("batch")
@few
@given(places, places, st.integers(0, 60))
def test_pairs_are_counted_as_all_distances_say(first: list[Window], second: list[Window], distance: int) -> None:
    gaps = np.array([[gap(one, other) for other in second] for one in first])
    leaks = (gaps < distance) | (gaps == 0)
    (leak,) = find_leaks({"train": as_places(first, "a"), "test": as_places(second, "b")}, distance)
    assert leak.num_pairs == leaks.sum()
    assert leak.num_first == leaks.any(axis=1).sum()
    assert leak.num_second == leaks.any(axis=0).sum()
    assert leak.smallest == pytest.approx(gaps.min())
    for one, other, apart in leak.examples:
        assert apart == pytest.approx(gaps[int(one[1:]), int(other[1:])])
        assert leaks[int(one[1:]), int(other[1:])]
    nearest = np.sort(gaps.min(axis=1)[leaks.any(axis=1)])[:5]
    assert [apart for *_, apart in leak.examples] == pytest.approx(nearest)


def test_touching_is_a_leak_a_pixel_between_is_none_and_a_rounded_distance_is_kept() -> None:
    one = as_places([Window(0, 0, 10, 10)], "a")
    for column, distance, leaks in ((10, 0, 1), (11, 0, 0), (30, 20, 0), (30, 20.01, 1)):
        other = as_places([Window(0, column, 10, 10)], "b")
        assert find_leaks({"train": one, "test": other}, distance)[0].num_pairs == leaks
    rounded = Places(np.array([shapely.box(29.9999999, 0, 40, 10)]), ["b0"])
    assert find_leaks({"train": one, "test": rounded}, 20)[0].num_pairs == 0


def test_each_pair_of_folds_is_measured() -> None:
    folds = {name: as_places([Window(0, 20 * index, 10, 10)], name) for index, name in enumerate("abc")}
    found = find_leaks(folds, 15)
    assert [(leak.folds, leak.smallest, leak.num_pairs) for leak in found] == [
        (("a", "b"), 10, 1),
        (("a", "c"), 30, 0),
        (("b", "c"), 10, 1),
    ]
    assert [str(leak) for leak in (found[0], find_leaks(folds, 15, "m")[1])] == [
        "a and b leak: 1 pair nearer than 15 or touching, the smallest distance is 10 (as a0 and b0, 10 apart)",
        "a and c are 30 m apart",
    ]
    touching = {"a": folds["a"], "b": as_places([Window(0, 10, 10, 10)], "b")}
    assert "1 pair touching, the smallest distance is 0 px (" in str(find_leaks(touching, unit="px")[0])
    assert found[0].to_values()["examples"] == (("a0", "b0", 10),)


@pytest.mark.parametrize("distance", [-1, float("nan")])
def test_what_cannot_be_measured(distance: float) -> None:
    one = as_places([Window(0, 0, 10, 10)], "a")
    with pytest.raises(SettingsError, match="distance"):
        find_leaks({"train": one, "test": one}, distance)
    with pytest.raises(SettingsError, match="only train has places"):
        find_leaks({"train": one, "test": Places(np.array([]), [])})
    with pytest.raises(SettingsError, match=r"^leakage is between two folds, and none has places"):
        find_leaks({})

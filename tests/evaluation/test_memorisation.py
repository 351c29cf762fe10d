from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from geosynth.errors import DataError
from geosynth.evaluation.neighbours import closest_pairs, memorisation


def test_copied_tiles_are_found() -> None:
    rng = np.random.default_rng(0)
    train, synthetic = rng.normal(size=(50, 8)), rng.normal(size=(20, 8))
    synthetic[4], synthetic[11] = train[17], train[40] + 1e-4
    pairs = closest_pairs(synthetic, train)
    assert pairs[0] == (0, 4, 17)
    assert pairs[1][1:] == (11, 40)
    assert pairs[2][0] > 100 * pairs[1][0]
    assert len(pairs) == 8


def test_a_generator_of_copies_is_nearer_to_train_and_one_that_has_learnt_is_not() -> None:
    rng = np.random.default_rng(1)
    train, other, fresh = rng.normal(size=(80, 6)), rng.normal(size=(80, 6)), rng.normal(size=(80, 6))
    places = np.arange(80)
    copies = memorisation(train + 0.01 * rng.normal(size=train.shape), train, other, places, places + 80, seed=0)
    assert copies.share_nearer_train.value > 0.95
    assert 0 <= copies.distance_ratio.low < copies.distance_ratio.value < 0.1
    assert copies.membership_auc.value > 0.95
    honest = memorisation(fresh, train, other, places, places + 80, seed=0)
    assert honest.share_nearer_train.low is not None
    assert honest.share_nearer_train.high is not None
    assert honest.share_nearer_train.low < 0.5 < honest.share_nearer_train.high
    assert honest.distance_ratio.value == pytest.approx(1, abs=0.15)
    assert honest == memorisation(fresh, train, other, places, places + 80, seed=0)


@pytest.mark.parametrize(("shift", "share"), [(0.0, 7 / 8), (50.0, 1 / 8)])
def test_shares_and_their_intervals_stay_between_none_and_all(shift: float, share: float) -> None:
    """Train tiles lie on all others but one, or far from all but one."""
    other = 20 * np.arange(8.0)[:, None] * [1, 1]
    train = other + np.array([0, 0.1 + shift])
    train[3] = other[3] + np.array([0, 0.1 + 50 - shift])
    found = memorisation(other, train, other, np.arange(8), np.arange(8), seed=0)
    for estimate in (found.share_nearer_train, found.control):
        assert estimate.value == pytest.approx(share, abs=0.1)
        assert (estimate.low == 0, estimate.high == 1) == (share < 0.5, share > 0.5)


@pytest.mark.parametrize(("far", "share"), [(7, 7 / 8), (1, 1 / 8)])
def test_the_attacker_s_interval_ends_with_none_or_all(far: int, share: float) -> None:
    other = np.array([[5.0]] * far + [[0.1]] * (8 - far))
    found = memorisation(np.zeros((1, 1)), np.array([[1.0], [-1.0]]), other, np.array([99]), np.arange(8), seed=0)
    assert found.membership_auc.value == share
    assert (found.membership_auc.low == 0, found.membership_auc.high == 1) == (share < 0.5, share > 0.5)


def test_the_ratio_is_a_mean_over_twenty_subsets() -> None:
    """Of one tile each: half as far as the others, or five times."""
    train, other = np.array([[1.0], [10.0]]), np.array([[2.0], [-2.0]])
    found = memorisation(np.zeros((1, 1)), train, other, np.array([99]), np.arange(2), seed=0)
    of_near = 20 * (5 - found.distance_ratio.value) / (5 - 0.5)
    assert 0 < of_near < 20
    assert of_near == pytest.approx(round(of_near))
    assert found.share_nearer_train.value == pytest.approx(of_near / 20)


def test_a_ratio_is_never_below_zero() -> None:
    tiles, offset = 1000 * np.arange(8.0)[:, None], np.repeat([[0.01], [100.0]], 4, axis=0)
    found = memorisation(tiles, tiles + offset, tiles, np.arange(8), np.arange(8), seed=0)
    assert found.distance_ratio.low == 0
    assert found.distance_ratio.high > found.distance_ratio.value > 0


def test_an_attacker_by_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    train, other, synthetic = rng.normal(size=(30, 3)), rng.normal(size=(20, 3)), rng.normal(size=(12, 3))
    synthetic[:6] = train[:6].round(1)  # half of them nearly copies
    found = memorisation(synthetic, train, other, np.full(12, 99), np.arange(20), seed=0)  # of no other's place
    real = np.concatenate([train, other])
    scores = -np.linalg.norm(real[:, None] - synthetic, axis=2).min(axis=1)
    expected = roc_auc_score(np.arange(50) < 30, scores)
    assert found.membership_auc.value == pytest.approx(expected)
    assert found.membership_auc.low < expected < found.membership_auc.high
    one = memorisation(synthetic[:1], train, other, np.array([99]), np.arange(20), seed=0)
    assert (one.num_synthetic, one.share_nearer_train.n) == (1, 1)
    assert expected > 0.55


@pytest.mark.parametrize("alike", [True, False])
def test_where_nothing_was_memorised_an_attacker_guesses(alike: bool) -> None:
    """Also if synthetic tiles look like the real ones of their own places, whose labels they were painted for."""
    places, found = np.arange(60), []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        train, other = rng.normal(size=(60, 4)), rng.normal(size=(60, 4))
        synthetic = other + 0.01 * rng.normal(size=other.shape) if alike else rng.normal(size=other.shape)
        found.append(memorisation(synthetic, train, other, places, places, seed).membership_auc.value)
    assert np.mean(found) == pytest.approx(0.5, abs=4 * np.std(found) / np.sqrt(len(found)))
    assert np.std(found) < 0.15


@pytest.mark.parametrize(("num_train", "num_other"), [(120, 8), (8, 120)])
def test_unequal_numbers_do_not_count(num_train: int, num_other: int) -> None:
    rng = np.random.default_rng(2)
    shares = []
    for seed in range(30):
        sets = (rng.normal(size=(count, 4)) for count in (20, num_train, num_other))
        found = memorisation(*sets, np.zeros(20, np.int64), 1 + np.arange(num_other), seed)
        assert found.num_train == found.num_other == min(num_train, num_other - 1)
        shares.append(found.share_nearer_train.value)
    assert np.mean(shares) == pytest.approx(0.5, abs=4 * np.std(shares) / np.sqrt(len(shares)))


def test_tiles_of_the_own_place_do_not_count_as_others() -> None:
    rng = np.random.default_rng(3)
    places = np.repeat(np.arange(12), 3)
    train = 3 * rng.normal(size=(12, 4))[places] + rng.normal(size=(36, 4))
    other = 3 * rng.normal(size=(12, 4))[places] + rng.normal(size=(36, 4))
    synthetic = other + 0.01 * rng.normal(size=other.shape)  # equal labels, so much the same
    blind = memorisation(synthetic, train, other, places, places + 100, seed=0)
    assert blind.share_nearer_train.value < 0.1
    fair = memorisation(synthetic, train, other, places, places, seed=0)
    assert fair == memorisation(synthetic, train, other, places, places, seed=0)
    assert fair.num_train == 33
    assert fair.share_nearer_train.value == pytest.approx(fair.control.value, abs=0.05)
    assert fair.control.value == pytest.approx(0.5, abs=0.25)
    # the same as taking the place's tiles away by hand
    for place in (0, 7):
        own = places == place
        alone = memorisation(synthetic[own], train[:33], other[~own], places[own], places[~own], seed=0)
        found = memorisation(synthetic[own], train[:33], other, places[own], places, seed=0)
        assert alone.num_train == 30  # one more place might be the own one
        by_hand = np.linalg.norm(synthetic[own][:, None] - other[~own], axis=2).min(axis=1)
        to_train = np.linalg.norm(synthetic[own][:, None] - train[:33], axis=2).min(axis=1)
        assert found.share_nearer_train.value == pytest.approx((to_train < by_hand).mean())
        assert found.distance_ratio.value == pytest.approx(np.median(to_train) / np.median(by_hand))


def test_pairs_of_fewer_tiles_are_fewer() -> None:
    tiles = np.arange(6.0).reshape(3, 2)
    pairs = closest_pairs(tiles, tiles[::-1] + 0.5)
    assert [pair[1:] for pair in pairs] == [(0, 2), (1, 1), (2, 0)]


def test_constant_images_are_defined_and_bad_features_are_one_line() -> None:
    same = np.ones((9, 3))
    with np.errstate(all="raise"):
        found = memorisation(same, same, same, np.arange(9), np.arange(9), seed=0)
    assert found.share_nearer_train.value == found.membership_auc.value == 0.5  # ties count half
    assert found.distance_ratio.value is None
    with pytest.raises(
        DataError, match=r"^synthetic tiles: 0 of them, but at least 1 are needed: there is nothing to look"
    ):
        memorisation(same[:0], same, same, np.arange(0), np.arange(9), seed=0)
    with pytest.raises(DataError, match=r"^train tiles: 1 of them, but at least 2 are needed: one tile to be nearest"):
        memorisation(same, same[:1], same, np.arange(9), np.arange(9), seed=0)
    with pytest.raises(
        DataError, match=r"^other real tiles: 1 of them, but at least 2 are needed: one tile to be nearest"
    ):
        memorisation(same, same, same[:1], np.arange(9), np.arange(1), seed=0)
    with pytest.raises(DataError, match="other real tiles: 9 of 9 have features that are not finite"):
        memorisation(same, same, same * np.nan, np.arange(9), np.arange(9), seed=0)
    with pytest.raises(DataError, match="cannot be compared"):
        memorisation(same, same, same[:, :2], np.arange(9), np.arange(9), seed=0)
    with pytest.raises(DataError, match="all other real tiles lie in one place"):
        memorisation(same, same, same, np.arange(9), np.zeros(9, np.int64), seed=0)

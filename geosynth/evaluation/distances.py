"""Frechet distance between sets of feature vectors, and draws of places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geosynth.evaluation.histograms import Floats

_NUM_DRAWS = 200
ROUNDING = 1e-9  # of the traces: what roots leave where two covariances are equal


def gaussian(features: Floats, weights: Floats | None = None) -> tuple[Floats, Floats]:
    """Mean (d,) and unbiased covariance (d, d) of `features` (n, d); `weights` (n,) say how often each counts."""
    weights = np.ones(len(features)) if weights is None else weights
    total = weights.sum()
    mean = weights @ features / total
    centred = features - mean
    return mean, (centred * weights[:, None]).T @ centred / (total - 1)


def frechet(first: tuple[Floats, Floats], second: tuple[Floats, Floats]) -> float:
    """Squared Frechet distance of two Gaussians, each given by mean (d,) and covariance (d, d).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Dowson and Landau 1982). The trace of the root is the sum of the
    singular values of C1^(1/2) C2^(1/2), which needs no root of an unsymmetric matrix.
    """
    (first_mean, first_covariance), (second_mean, second_covariance) = first, second
    roots = _square_root(first_covariance) @ _square_root(second_covariance)
    overlap = np.linalg.svd(roots, compute_uv=False).sum()
    total = np.trace(first_covariance) + np.trace(second_covariance)
    spread = total - 2 * overlap
    if spread < ROUNDING * total:
        spread = 0.0  # equal covariances, but for the rounding of their roots
    return float(((first_mean - second_mean) ** 2).sum() + spread)


def _square_root(covariance: Floats) -> Floats:
    """The symmetric root of a symmetric positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)


@dataclass(frozen=True)
class Bootstrap:
    """Draws of places with replacement (Efron 1979), the same ones for every statistic.

    A drawn place brings its real and its synthetic pixels: the comparison is paired.

    Attributes:
        weights: (draws, units): how often each unit (a tile or a group of neighbouring tiles) is drawn.
    """

    weights: Floats

    @classmethod
    def draw(cls, num_units: int, seed: int) -> Bootstrap:
        """As many units a draw as there are."""
        rng = np.random.default_rng(seed)
        chances = np.full(num_units, 1 / num_units)
        return cls(rng.multinomial(num_units, chances, size=_NUM_DRAWS).astype(np.float64))

"""Small scenes for the evaluation tests."""

from __future__ import annotations

import numpy as np


def blobs(rng: np.random.Generator, height: int, width: int, num_classes: int = 3) -> np.ndarray:
    """(1, height, width) codes 1 .. num_classes in 16 px squares."""
    coarse = rng.integers(1, num_classes + 1, size=(-(-height // 16), -(-width // 16)), dtype=np.uint8)
    return np.kron(coarse, np.ones((16, 16), dtype=np.uint8))[None, :height, :width]


def textured(rng: np.random.Generator, codes: np.ndarray, bands: int = 4) -> np.ndarray:
    """(bands, height, width): noise around a mean that depends on class and band."""
    means = 60 + 40 * codes.astype(np.float64) + 7 * np.arange(bands)[:, None, None]
    return np.clip(np.rint(means + rng.normal(0, 12, size=means.shape)), 0, 255).astype(np.uint8)

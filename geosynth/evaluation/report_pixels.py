"""Parts of the report on pixels: distributions, band statistics, spectra, seams."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """Base of all parts of a report: immutable, no unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(Part):
    """A number and its 95 % interval; None where it is not defined or too few places hold it."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "-"
        return f"{self.value:.3g}" + (f" [{self.low:.3g}, {self.high:.3g}]" if self.low is not None else "")


class Comparison(Part):
    """One quantity (a band in DN, or NDVI) over one class.

    Attributes:
        quantity: name of the band, or "ndvi".
        pixels: compared; for NDVI those of the real image where it is defined.
        real_mean .. synthetic_std: population moments.
        real_quantiles, synthetic_quantiles: the 5 %, 50 % and 95 % quantiles.
        wasserstein: Wasserstein-1 distance of the two distributions, in units of the quantity; 0 is best.
        variance_ratio: synthetic over real; 1 is best, below 1 the synthetic image is too uniform.
    """

    quantity: str
    pixels: int
    real_mean: float | None
    real_std: float | None
    synthetic_mean: float | None
    synthetic_std: float | None
    real_quantiles: tuple[float | None, ...]
    synthetic_quantiles: tuple[float | None, ...]
    wasserstein: Estimate
    variance_ratio: Estimate


class ClassComparison(Part):
    """One class: name, colour ("#rrggbb"), pixels compared, their share, and a comparison per band and of NDVI."""

    name: str
    colour: str
    pixels: int
    share: float
    bands: tuple[Comparison, ...]
    ndvi: Comparison | None


class Headline(Part):
    """Means over classes and bands, weighted by pixels.

    Attributes:
        wasserstein: Wasserstein-1 distance within classes, in DN.
        variance_ratio: variance within classes, synthetic over real.
        ndvi_wasserstein: Wasserstein-1 distance of NDVI within classes.
    """

    wasserstein: Estimate
    variance_ratio: Estimate
    ndvi_wasserstein: Estimate


class FrechetComparison(Part):
    """Squared Frechet distances between tiles in a simple feature space. Not comparable with FID (Inception features).

    Features are measured in standard deviations over the real tiles.

    Attributes:
        feature_space, num_features: see `geosynth.evaluation.features.band_statistics`.
        num_tiles, min_tiles: tiles, not overlapping, of which every pixel is compared; how many are needed.
        distance: real against synthetic, over all tiles, each place in both sets.
        halves_real: real tiles of one half of the area against real tiles of the other: the scale.
        halves_across: real tiles of one half against synthetic ones of the other (mean of both ways): compare this with
            `halves_real`, from which it differs only by what is synthetic.
        reason: why there are no numbers.
    """

    feature_space: str
    num_features: int
    num_tiles: int
    min_tiles: int
    distance: Estimate
    halves_real: float | None
    halves_across: float | None
    reason: str | None


class SpectrumComparison(Part):
    """Radially averaged power spectra, synthetic over real.

    Attributes:
        num_tiles: as in `FrechetComparison`.
        frequencies: ring centres, cycles per pixel.
        ratio: per band, one number a ring; 1 is best, below 1 detail of that size is missing.
        fine_detail: the same for all bands and all frequencies of 0.25 to 0.5 cycles per pixel.
        reason: why there are no numbers.
    """

    num_tiles: int
    frequencies: tuple[float, ...]
    ratio: dict[str, tuple[float | None, ...]]
    fine_detail: float | None
    reason: str | None


class SeamComparison(Part):
    """Mean absolute step across block lines over the mean step elsewhere; 1 without seams.

    Attributes:
        block_size: pixels; lines stand on multiples of it, counted from the synthetic raster's corner.
            None where there is no such raster.
        num_pairs: pixel pairs across lines in the synthetic image.
        synthetic, real: the score of either image on the same lines.
        reason: why there are no numbers.
    """

    block_size: int | None
    num_pairs: int
    synthetic: float | None
    real: float | None
    reason: str | None


def number(value: float | None) -> str:
    """Three digits, or a dash."""
    return "-" if value is None else f"{value:.3g}"


def known(value: Any) -> float | None:
    """A number as a report holds it: None where it is not defined."""
    return float(value) if np.isfinite(value) else None

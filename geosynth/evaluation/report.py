"""Report: the numbers of an evaluation, as plain values that go to JSON and come back equal."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

# --- Parts of the report on pixels: distributions, band statistics, spectra, seams.


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
        feature_space, num_features: see `geosynth.evaluation.textures.band_statistics`.
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


# --- Parts of the report on networks: distances between features, memorisation, diversity, segmentation consistency.


class Distance(Part):
    """A distance between two sets of tiles, and its scale.

    Attributes:
        estimate: real against synthetic, all places in both sets.
        real: real tiles of half of the places against those of the other half: mean over ten draws of halves, and the
            least and largest of them. What a perfect synthetic image of another place would have.
        across: real tiles of one half against synthetic ones of the other, in the same draws: compare this with `real`,
            from which it differs only by what is synthetic.
        num_halves: tiles in either set of these two; a Frechet distance depends on it.
        note: why there is no number, or what to mind about it.
    """

    estimate: Estimate = Estimate(value=None)
    real: Estimate = Estimate(value=None)
    across: Estimate = Estimate(value=None)
    num_halves: int = 0
    note: str | None = None


class FeatureComparison(Part):
    """Two sets of tiles in the feature space of a network trained on ImageNet.

    Attributes:
        feature_space: "inception-v3-compat" (its Frechet distance is the FID) or "efficientnet-lite0" (never called
            FID); with the three bands that the network saw, where these are not red, green and blue.
        num_features: of a tile.
        reference: the fold of the real tiles; "area" where rasters were compared.
        num_real, num_synthetic, num_places: tiles of either set, and places of the synthetic ones.
        frechet: squared Frechet distance (Heusel et al. 2017); 0 is best. Biased upwards for few tiles.
        kid: kernel distance (Binkowski et al. 2018), unbiased; 0 is best, and chance makes it negative as often as not.
        precision, recall: shares of synthetic tiles among the real ones, and the reverse (Kynkaanniemi et al. 2019).
        density, coverage: the same, robust against outliers (Naeem et al. 2020); a perfect set has 1 and nearly 1.
        note: why there are no such shares.
        reason: why there are no numbers.
    """

    feature_space: str
    num_features: int
    reference: str
    num_real: int
    num_synthetic: int
    num_places: int
    frechet: Distance = Distance()
    kid: Distance = Distance()
    precision: Estimate = Estimate(value=None)
    recall: Estimate = Estimate(value=None)
    density: Estimate = Estimate(value=None)
    coverage: Estimate = Estimate(value=None)
    note: str | None = None
    reason: str | None = None

    @property
    def frechet_name(self) -> str:
        """What people call `frechet` in this space."""
        return "FID" if self.feature_space == "inception-v3-compat" else f"Frechet, {self.feature_space}"

    @property
    def kid_name(self) -> str:
        """What people call `kid` in this space."""
        return "KID" if self.feature_space == "inception-v3-compat" else f"kernel distance, {self.feature_space}"


class ClosestPair(Part):
    """A synthetic tile and the train tile nearest to it.

    Attributes:
        distance: between their features.
        synthetic, train: where they lie, in words.
        synthetic_window, train_window: row, column, height and width on the store's grid.
    """

    distance: float
    synthetic: str
    train: str
    synthetic_window: tuple[int, int, int, int]
    train_window: tuple[int, int, int, int]


class MemorisationComparison(Part):
    """Whether synthetic tiles are nearer to the tiles the generator was trained on than to others.

    Attributes:
        feature_space: of the distances.
        num_synthetic, num_train, num_other: tiles; train and other tiles are equally many.
        other: the fold of the other real tiles.
        share_nearer_train: of synthetic tiles whose nearest real tile is a train tile, with real tiles of their own
            place left out; about `control` if nothing is memorised.
        distance_ratio: median distance to the nearest train tile over that to the nearest other tile; about 1 likewise.
        control: the share of the other real tiles, which nobody has memorised.
        closest: the pairs of synthetic and train tiles with the smallest distances, of all train tiles looked at.
        reason: why there are no numbers.
    """

    feature_space: str | None = None
    num_synthetic: int = 0
    num_train: int = 0
    num_other: int = 0
    other: str | None = None
    share_nearer_train: Estimate = Estimate(value=None)
    distance_ratio: Estimate = Estimate(value=None)
    control: Estimate = Estimate(value=None)
    closest: tuple[ClosestPair, ...] = ()
    reason: str | None = None


class DiversityComparison(Part):
    """How much images of equal labels differ when their latents do.

    Attributes:
        num_latents: images of each tile.
        num_tiles: looked at.
        pixels: mean absolute difference, DN.
        feature_space: of `features`.
        features: mean distance of features.
        reason: why there are no numbers.
    """

    num_latents: int = 1
    num_tiles: int = 0
    pixels: Estimate = Estimate(value=None)
    feature_space: str | None = None
    features: Estimate = Estimate(value=None)
    reason: str | None = None


class ConsistencyComparison(Part):
    """Whether a segmenter trained on real tiles finds the labels again in the synthetic image.

    Attributes:
        segmenter: its file.
        num_tiles, num_places: looked at.
        real, synthetic: mIoU on the real and on the synthetic tiles.
        difference: synthetic minus real; 0 is as good as real.
        class_iou: of each class that occurs: real and synthetic.
        reason: why there are no numbers.
    """

    segmenter: str | None = None
    num_tiles: int = 0
    num_places: int = 0
    real: Estimate = Estimate(value=None)
    synthetic: Estimate = Estimate(value=None)
    difference: Estimate = Estimate(value=None)
    class_iou: dict[str, tuple[float | None, float | None]] = Field(default_factory=dict)
    reason: str | None = None


class ClassSpectrum(Part):
    """Texture inside of one class.

    Attributes:
        name: of the class.
        num_windows: looked at, wholly inside of the class, the same ones of both images.
        ratio: per band, synthetic over real power in each octave, coarse to fine; 1 is best.
    """

    name: str
    num_windows: int
    ratio: dict[str, tuple[float | None, ...]]


class ClassSpectraComparison(Part):
    """Power spectra of the insides of classes, where labels say nothing.

    Attributes:
        window_size: pixels.
        octaves: lowest and highest frequency of each, cycles per pixel.
        classes: that have windows.
        reason: why there are no numbers.
    """

    window_size: int
    octaves: tuple[tuple[float, float], ...]
    classes: tuple[ClassSpectrum, ...] = ()
    reason: str | None = None


class SummaryRow(NamedTuple):
    """One line of the table for a terminal."""

    measure: str
    value: str
    meaning: str


class Places(Part):
    """What is drawn with replacement for the 95 % intervals: each place with its real and its synthetic pixels.

    Attributes:
        kind: what a place is, in words.
        count: that hold pixels.
    """

    kind: str
    count: int


class Report(Part):
    """Everything `evaluate` measured.

    Attributes:
        software: name and version.
        real, synthetic, labels: the files or stores, as given.
        fold: of the store; None where rasters were compared.
        legend: name.
        bands: names.
        area: of rasters, first row, first column, height, width of the common pixels on the grid of the real one.
        pixels: compared: with a class, and with data in both images.
        tile_size, seed: as given.
        places: what intervals rest on.
        headline, classes, frechet, spectrum, class_spectra, seams: the results; classes without a pixel are left out.
        ndvi_reason: why there is no NDVI.
        features: distances in each feature space, to the real tiles of each reference.
        features_reason, inception_reason: why there are none, or none that are called FID and KID.
        memorisation, diversity, consistency: each says itself why it has no numbers.
    """

    software: str
    real: str
    synthetic: tuple[str, ...]
    labels: str
    fold: str | None
    legend: str
    bands: tuple[str, ...]
    area: tuple[int, int, int, int] | None
    pixels: int
    tile_size: int
    seed: int
    places: Places
    headline: Headline
    classes: tuple[ClassComparison, ...]
    ndvi_reason: str | None
    frechet: FrechetComparison
    spectrum: SpectrumComparison
    class_spectra: ClassSpectraComparison
    seams: SeamComparison
    features: tuple[FeatureComparison, ...]
    features_reason: str | None
    inception_reason: str | None
    memorisation: MemorisationComparison
    diversity: DiversityComparison
    consistency: ConsistencyComparison

    def to_json(self) -> str:
        """Indented JSON; `Report.model_validate_json` reads it."""
        return self.model_dump_json(indent=2) + "\n"

    def summary(self) -> tuple[SummaryRow, ...]:
        """The headline numbers, in words."""
        return (*self._pixel_rows(), *self._feature_rows(), *self._further_rows())

    def _pixel_rows(self) -> list[SummaryRow]:
        frechet, seams = self.frechet, self.seams
        scale = f"real against real, halves of the area: {number(frechet.halves_real)}"
        tiles = f"{frechet.num_tiles} tiles; {frechet.feature_space}"
        power, step = "power, synthetic / real; 1 is best", f"1 is best; real on the same lines: {number(seams.real)}"
        return [
            SummaryRow("Wasserstein-1 within classes", f"{self.headline.wasserstein} DN", "0 is best"),
            SummaryRow("variance within classes", f"{self.headline.variance_ratio}", "synthetic / real; 1 is best"),
            SummaryRow("Wasserstein-1 of NDVI", f"{self.headline.ndvi_wasserstein}", self.ndvi_reason or "0 is best"),
            SummaryRow("Frechet, all places", f"{frechet.distance}", frechet.reason or tiles),
            SummaryRow("Frechet, across halves", number(frechet.halves_across), frechet.reason or scale),
            SummaryRow("fine detail", number(self.spectrum.fine_detail), self.spectrum.reason or power),
            SummaryRow("seams", number(seams.synthetic), seams.reason or step),
        ]

    def _feature_rows(self) -> list[SummaryRow]:
        """Natural colours only; the report has the rest."""
        rows = []
        if self.features_reason:
            rows.append(SummaryRow("distances of features", "-", self.features_reason))
        if self.inception_reason:
            rows.append(SummaryRow("FID and KID", "-", self.inception_reason))
        for one in self.features:
            if "(" in one.feature_space:
                continue
            tiles = f"n {one.num_real}, {one.num_synthetic}"
            for name, distance in ((one.frechet_name, one.frechet), (one.kid_name, one.kid)):
                told = tiles
                if distance.real.value is not None:
                    told += f"; halves: real to real {distance.real}, real to synthetic {distance.across}"
                if distance.estimate.value is None:
                    told = one.reason or distance.note or ""
                rows.append(SummaryRow(f"{name}, to {one.reference}", f"{distance.estimate}", told))
            shares = (one.precision, one.recall, one.density, one.coverage)
            for name, share in zip(("precision", "recall", "density", "coverage"), shares, strict=True):
                why = one.reason or one.note or one.feature_space
                rows.append(SummaryRow(f"{name}, {one.reference}", f"{share}", why))
        return rows

    def _further_rows(self) -> list[SummaryRow]:
        near, many, found = self.memorisation, self.diversity, self.consistency
        half = f"real tiles: {near.control}; {near.num_synthetic} tiles, {near.num_train} of train, {near.num_other} of"
        return [
            SummaryRow("nearer to train", f"{near.share_nearer_train}", near.reason or f"{half} {near.other}"),
            SummaryRow(
                "diversity", f"{many.pixels} DN", many.reason or f"{many.num_latents} latents, {many.num_tiles} tiles"
            ),
            SummaryRow(
                "mIoU, synthetic - real",
                f"{found.difference}",
                found.reason or f"{found.synthetic} and {found.real}; {found.num_tiles} tiles",
            ),
        ]

"""The parts of a report: the results of each measure of `evaluate`, as plain values, and their lines in the summary."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from geosynth.errors import counted
from geosynth.estimate import Estimate, FiniteOrNone, number

Ratios = dict[str, tuple[FiniteOrNone, ...]]  # by band


class SummaryRow(NamedTuple):
    """One line of the table for a terminal."""

    measure: str
    value: str
    meaning: str


class Part(BaseModel):
    """Base of all parts of a report: immutable, without unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MeasuredPart(Part):
    """A part that may have no numbers."""

    reason: str | None = None
    """Why there are no numbers; None if there are."""


class BandLevels(Part):
    """The 256 levels in which a band is seen."""

    band: str
    """Name of the band."""
    low: float
    """Value of the first level: the 0.1 percentile of the real imagery."""
    high: float
    """Value of the last level: the 99.9 percentile."""
    real_beyond: float
    """Share of the real pixels that are lower or higher, and are seen as the first or the last level."""
    synthetic_beyond: float
    """The same share of the synthetic pixels."""


class ImageLevels(Part):
    """How imagery of more than 8 bits is seen."""

    dtype: str
    bands: tuple[BandLevels, ...]

    def rows(self) -> list[SummaryRow]:
        """Its lines in the summary."""
        bands = ", ".join(f"{one.band} {one.low:g} to {one.high:g}" for one in self.bands)
        real, synthetic = (
            number(100 * max(getattr(one, f"{image}_beyond") for one in self.bands)) for image in ("real", "synthetic")
        )
        meaning = f"{bands}; share of values outside, in the band with most: real {real} %, synthetic {synthetic} %"
        return [SummaryRow("seen in 256 levels", self.dtype, meaning)]


class Comparison(Part):
    """One quantity (a band in DN, or NDVI) over one class. Means and deviations are population moments."""

    quantity: str
    """Name of the band, or "ndvi"."""
    pixels: int
    """Number of compared pixels; for NDVI, those of the real image where it is defined."""
    real_mean: FiniteOrNone
    real_std: FiniteOrNone
    synthetic_mean: FiniteOrNone
    synthetic_std: FiniteOrNone
    real_quantiles: tuple[FiniteOrNone, ...]
    """The 5 %, 50 % and 95 % quantiles."""
    synthetic_quantiles: tuple[FiniteOrNone, ...]
    wasserstein: Estimate
    """Wasserstein-1 distance of the two distributions, in units of the quantity; 0 is best."""
    variance_ratio: Estimate
    """Synthetic over real; 1 is best, below 1 synthetic pixels are too uniform; undefined if real values are equal."""


class ClassComparison(Part):
    """One class of the legend."""

    name: str
    colour: str
    """Colour as "#rrggbb"."""
    pixels: int
    share: float
    """Share of the class among all compared pixels."""
    bands: tuple[Comparison, ...]
    ndvi: Comparison | None


class Headline(Part):
    """Means over classes and bands, weighted by pixels."""

    wasserstein: Estimate
    """Wasserstein-1 distance within classes, in DN: bands with a larger range count more."""
    variance_ratio: Estimate
    """Variance within classes, in levels, synthetic over real; so bands of more than 8 bits count equally."""
    ndvi_wasserstein: Estimate
    """Wasserstein-1 distance of NDVI within classes."""


class FrechetComparison(MeasuredPart):
    """Squared Frechet distances between tiles in a simple feature space. Not comparable with FID (Inception features).

    Features are measured in standard deviations over the real tiles.
    """

    feature_space: str
    """See `geosynth.evaluation.textures.band_statistics`."""
    num_features: int
    num_tiles: int
    """Number of tiles, without overlap, of which every pixel is compared."""
    min_tiles: int
    """Number of tiles that the distance needs."""
    distance: Estimate = Estimate()
    """Real against synthetic, over all tiles, with each place in both sets."""
    halves_real: float | None = None
    """Real tiles of one half of the area against real tiles of the other: the scale."""
    halves_across: float | None = None
    """Real tiles of one half against synthetic ones of the other (mean of both ways).

    Compare it with `halves_real`, from which it differs only by what is synthetic.
    """

    def rows(self) -> list[SummaryRow]:
        """Its lines in the summary."""
        tiles = f"{counted(self.num_tiles, 'tile')}; {self.feature_space}"
        scale = f"real against real, halves of the area: {number(self.halves_real)}"
        return [
            SummaryRow("Frechet, all places", str(self.distance), self.reason or tiles),
            SummaryRow("Frechet, across halves", number(self.halves_across), self.reason or scale),
        ]


class SpectrumComparison(MeasuredPart):
    """Radially averaged power spectra, synthetic over real."""

    num_tiles: int
    """Number of whole tiles, as in `FrechetComparison`."""
    frequencies: tuple[float, ...]
    """Centres of the rings, in cycles per pixel."""
    ratio: Ratios
    """A number for each ring; 1 is best, below 1 detail of that size is missing."""
    fine_detail: FiniteOrNone
    """Ratio of the power of all bands at all frequencies from 0.25 to 0.5 cycles per pixel."""

    def rows(self) -> list[SummaryRow]:
        """Its lines in the summary."""
        best = "power, synthetic / real; 1 is best"
        return [SummaryRow("fine detail", number(self.fine_detail), self.reason or best)]


class SeamComparison(MeasuredPart):
    """Mean absolute step across block lines over the mean step elsewhere; 1 without seams."""

    block_size: int | None = None
    """In pixels; lines are at its multiples, counted from the origin of the CRS. None if no rasters are compared."""
    num_pairs: int = 0
    """Number of pixel pairs across lines in the synthetic image."""
    synthetic: FiniteOrNone = None
    """The score of the synthetic image."""
    real: FiniteOrNone = None
    """The score of the real image on the same lines."""

    def rows(self) -> list[SummaryRow]:
        """Its lines in the summary."""
        best = f"1 is best; real on the same lines: {number(self.real)}"
        return [SummaryRow("seams", number(self.synthetic), self.reason or best)]


class Distance(Part):
    """A distance between two sets of tiles, and its scale."""

    estimate: Estimate = Estimate()
    """Real against synthetic, with all places in both sets."""
    real: Estimate = Estimate()
    """Real tiles of half of the places against those of the other half: what a perfect synthetic image would have.

    Mean over ten draws of halves, with the smallest and largest of them instead of an interval.
    """
    across: Estimate = Estimate()
    """Real tiles of one half against synthetic ones of the other, in the same draws.

    Compare it with `real`, from which it differs only by what is synthetic.
    """
    turned: Estimate = Estimate()
    """Real tiles of one half against those of the other turned by 90 degrees, in the same draws.

    By how much it exceeds `real` shows how far the judge reacts to the direction of light, and of rows and roads.
    """
    num_halves: int = 0
    """Number of tiles in each set of these three; a Frechet distance depends on it."""
    note: str | None = None
    """Why there is no number, or a caveat about it."""


class FeatureComparison(MeasuredPart):
    """Two sets of tiles in the feature space of a judge."""

    feature_space: str
    """The judge: "inception-v3-compat" (only its Frechet distance is the FID), "efficientnet-lite0", "wavelets", ...

    Followed by the three bands that a network saw, if these are not red, green and blue.
    """
    num_features: int
    reference: str
    """The fold of the real tiles; "area" if rasters were compared."""
    num_real: int
    num_synthetic: int
    num_places: int
    """Number of places of the synthetic tiles."""
    frechet: Distance = Distance()
    """Squared Frechet distance (Heusel et al. 2017); 0 is best. Biased upwards for few tiles."""
    kid: Distance = Distance()
    """Kernel distance (Binkowski et al. 2018); 0 is best; chance may make it negative.

    It is unbiased for independent tiles; tiles of one place resemble each other, as `Distance.real` shows. The two
    images of one tile are not compared with each other, as they show the same labels (Gretton et al. 2012).
    """
    precision: Estimate = Estimate()
    """Share of the synthetic tiles in the manifold of the real ones (Kynkaanniemi et al. 2019)."""
    recall: Estimate = Estimate()
    """Share of the real tiles in the manifold of the synthetic ones (the same)."""
    density: Estimate = Estimate()
    """`precision`, robust against outliers (Naeem et al. 2020); a perfect set has 1."""
    coverage: Estimate = Estimate()
    """`recall`, robust likewise; a perfect set has nearly 1."""
    note: str | None = None
    """Why there are no such shares."""
    in_training: bool | None = None
    """Whether a loss of the generator used this network, which then is not impartial; None if that is not known."""

    @property
    def mark(self) -> str:
        """The mark after names of numbers that do not come from an impartial judge."""
        return {True: " *", False: "", None: " ?"}[self.in_training]

    @property
    def frechet_name(self) -> str:
        """The usual name of `frechet` in this space."""
        return "FID" if self.feature_space == "inception-v3-compat" else f"Frechet, {self.feature_space}"

    @property
    def kid_name(self) -> str:
        """The usual name of `kid` in this space."""
        return "KID" if self.feature_space == "inception-v3-compat" else f"kernel distance, {self.feature_space}"

    @property
    def shares(self) -> dict[str, Estimate]:
        """Precision, recall, density and coverage by name."""
        return {name: getattr(self, name) for name in ("precision", "recall", "density", "coverage")}

    def rows(self) -> list[SummaryRow]:
        """Its lines in the summary."""
        rows: list[SummaryRow] = []
        for name, distance in ((self.frechet_name, self.frechet), (self.kid_name, self.kid)):
            meaning = f"n {self.num_real}, {self.num_synthetic}"
            if distance.real.value is not None:
                meaning += f"; halves: real to real {distance.real}, real to synthetic {distance.across}"
                meaning += f", real to turned {distance.turned}"
            if distance.estimate.value is None:
                meaning = self.reason or distance.note or ""
            rows.append(SummaryRow(f"{name}, to {self.reference}{self.mark}", str(distance.estimate), meaning))
        why = self.reason or self.note or self.feature_space
        shares = self.shares.items()
        return [*rows, *(SummaryRow(f"{name}, {self.reference}{self.mark}", str(one), why) for name, one in shares)]


class Nearness(MeasuredPart):
    """How far real and synthetic tiles of one place are from imagery of another one, the target.

    Kernel distances between features of EfficientNet-Lite0, in natural colours or, if there is near infrared, the mean
    of that and the distance in near infrared, red, green; see `evaluation.nearness`.
    """

    real: FiniteOrNone = None
    """Kernel distance of the real tiles to the target's."""
    synthetic: FiniteOrNone = None
    """Kernel distance of the synthetic tiles to the target's."""
    nearer: Literal["real", "synthetic"] | None = None
    """The tiles on which a segmenter for the target is better trained."""
    num_target: int = 0
    """Number of tiles of the target."""

    def rows(self) -> list[SummaryRow]:
        """Its lines in the summary."""
        return [SummaryRow("nearer to the target", self.nearer or "-", self.words)]

    @property
    def words(self) -> str:
        """The distances and the advice in words, or why there are none."""
        if self.nearer is None:
            return str(self.reason)
        return (
            f"kernel distance of {counted(self.num_target, 'tile')} to real ones {number(self.real)}, to synthetic ones"
            f" {number(self.synthetic)}: train on the {self.nearer} ones"
        )


class ClosestPair(Part):
    """A synthetic tile and the train tile nearest to it. Windows: row, column, height, width on the store's grid."""

    distance: float
    """Distance between their features."""
    synthetic: str
    """Place of the synthetic tile, in words."""
    train: str
    synthetic_window: tuple[int, int, int, int]
    train_window: tuple[int, int, int, int]


class MemorisationComparison(MeasuredPart):
    """Whether synthetic tiles are nearer to the tiles of the generator's training than to others."""

    feature_space: str | None = None
    """The feature space in which distances are measured."""
    num_synthetic: int = 0
    num_train: int = 0
    """Number of train tiles that are compared at once, equal to the number of others."""
    num_other: int = 0
    other: str | None = None
    """The fold of the other real tiles."""
    share_nearer_train: Estimate = Estimate()
    """Share of the synthetic tiles whose nearest real tile is a train tile; about `control` if nothing is memorised.

    A tie counts half. Real tiles of a synthetic tile's own place are left out.
    """
    distance_ratio: Estimate = Estimate()
    """Median distance to the nearest train tile over that to the nearest other one.

    About 1 if nothing is memorised, near 0 for copies; undefined if the other tiles are copied.
    """
    control: Estimate = Estimate()
    """`share_nearer_train` of the other real tiles, which cannot be memorised: about 0.5, unless their places resemble
    each other more, or less, than those of train."""
    membership_auc: Estimate = Estimate()
    """Area under the ROC curve of an attacker who guesses, from the distance of a real tile to the nearest synthetic
    one, whether it was trained on: 0.5 if that reveals nothing, 1 if everything (membership inference). The interval
    comes from draws of the other tiles only."""
    closest: tuple[ClosestPair, ...] = ()
    """The pairs with the smallest distances among all train tiles used; closest first."""

    def rows(self) -> list[SummaryRow]:
        """Its lines in the summary."""
        tiles = f"{counted(self.num_synthetic, 'tile')}, {self.num_train} of train, {self.num_other} of {self.other}"
        near = self.reason or f"real tiles: {self.control}; {tiles}"
        meaning = self.reason or "0.5: tiles that were trained on cannot be told from others"
        return [
            SummaryRow("nearer to train", str(self.share_nearer_train), near),
            SummaryRow("membership inference, AUC", str(self.membership_auc), meaning),
        ]


class DiversityComparison(MeasuredPart):
    """How much images of the same labels differ if their latents do."""

    num_latents: int = 1
    """Number of images of each tile."""
    num_tiles: int = 0
    pixels: Estimate = Estimate()
    """Mean absolute difference in DN."""
    feature_space: str | None = None
    """The feature space of `features`."""
    features: Estimate = Estimate()
    """Mean distance between features."""

    def rows(self) -> list[SummaryRow]:
        """Its lines in the summary."""
        images = f"{self.num_latents} latents, {counted(self.num_tiles, 'tile')}"
        return [SummaryRow("diversity", self.pixels.in_unit("DN"), self.reason or images)]


class ConsistencyComparison(MeasuredPart):
    """Whether a segmenter trained on real tiles finds the labels in the synthetic image.

    `synthetic` is the GAN-test of Shmelkov et al. (2018).
    """

    segmenter: str | None = None
    """The segmenter's file."""
    num_tiles: int = 0
    num_places: int = 0
    real: Estimate = Estimate()
    """mIoU on the real tiles."""
    synthetic: Estimate = Estimate()
    """mIoU on the synthetic tiles."""
    difference: Estimate = Estimate()
    """Synthetic minus real; 0 is as good as real."""
    class_iou: dict[str, tuple[FiniteOrNone, FiniteOrNone]] = Field(default_factory=dict)
    """IoU of each class that occurs, on real and on synthetic tiles."""

    def rows(self) -> list[SummaryRow]:
        """Its lines in the summary."""
        both = f"{self.synthetic} and {self.real}; {counted(self.num_tiles, 'tile')}"
        return [SummaryRow("mIoU, synthetic - real", str(self.difference), self.reason or both)]


class ClassSpectrum(Part):
    """Texture in the interior of one class."""

    name: str
    num_windows: int
    """Number of windows entirely in the class, the same in both images."""
    ratio: Ratios
    """Synthetic over real power in each octave, from coarse to fine; 1 is best."""


class ClassSpectraComparison(MeasuredPart):
    """Power spectra in the interior of classes, where labels have no structure."""

    window_size: int
    """Pixels."""
    octaves: tuple[tuple[float, float], ...]
    """Lowest and highest frequency of each octave, in cycles per pixel."""
    classes: tuple[ClassSpectrum, ...] = ()
    """The classes that have windows."""


class Places(Part):
    """Places, drawn with replacement for the 95 % intervals, each with its real and its synthetic pixels."""

    kind: str
    """What a place is, in words."""
    count: int
    """Number of places with pixels."""

"""The parts of a report: what each measure of `evaluate` found, as plain values, and its lines of the summary."""

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
    """Base of all parts of a report: immutable, no unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MeasuredPart(Part):
    """A part that may have no numbers."""

    reason: str | None = None
    """Why there are no numbers; None where there are."""


class BandLevels(Part):
    """The 256 levels in which a band is seen."""

    band: str
    """Name of the band."""
    low: float
    """Value of the first level: the 0.1 percentile of the real imagery."""
    high: float
    """Value of the last one: the 99.9 percentile."""
    real_beyond: float
    """Share of the real pixels that lie below or above, and are seen as the first or the last level."""
    synthetic_beyond: float
    """The same share of the synthetic pixels."""


class ImageLevels(Part):
    """How imagery of more than 8 bits is seen."""

    dtype: str
    bands: tuple[BandLevels, ...]

    def rows(self) -> list[SummaryRow]:
        """Its lines of the summary."""
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
    """Compared; for NDVI those of the real image where it is defined."""
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
    """Synthetic over real; 1 is best, below 1 the synthetic image is too uniform; none where no real value differs."""


class ClassComparison(Part):
    """One class of the legend."""

    name: str
    colour: str
    """As "#rrggbb"."""
    pixels: int
    share: float
    """Pixels of the class over all pixels compared."""
    bands: tuple[Comparison, ...]
    ndvi: Comparison | None


class Headline(Part):
    """Means over classes and bands, weighted by pixels."""

    wasserstein: Estimate
    """Wasserstein-1 distance within classes, in DN: bands of a larger range count more."""
    variance_ratio: Estimate
    """Variance within classes, synthetic over real, of levels: bands of more than 8 bits count alike."""
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
    """Tiles that do not overlap and of which every pixel is compared."""
    min_tiles: int
    """Tiles that the distance needs."""
    distance: Estimate = Estimate()
    """Real against synthetic, over all tiles, each place in both sets."""
    halves_real: float | None = None
    """Real tiles of one half of the area against real tiles of the other: the scale."""
    halves_across: float | None = None
    """Real tiles of one half against synthetic ones of the other (mean of both ways).

    Compare it with `halves_real`, from which it differs only by what is synthetic.
    """

    def rows(self) -> list[SummaryRow]:
        """Its lines of the summary."""
        tiles = f"{counted(self.num_tiles, 'tile')}; {self.feature_space}"
        scale = f"real against real, halves of the area: {number(self.halves_real)}"
        return [
            SummaryRow("Frechet, all places", str(self.distance), self.reason or tiles),
            SummaryRow("Frechet, across halves", number(self.halves_across), self.reason or scale),
        ]


class SpectrumComparison(MeasuredPart):
    """Radially averaged power spectra, synthetic over real."""

    num_tiles: int
    """Whole tiles, as in `FrechetComparison`."""
    frequencies: tuple[float, ...]
    """Ring centres, cycles per pixel."""
    ratio: Ratios
    """One number a ring; 1 is best, below 1 detail of that size is missing."""
    fine_detail: FiniteOrNone
    """Ratio of the power of all bands and all frequencies of 0.25 to 0.5 cycles per pixel."""

    def rows(self) -> list[SummaryRow]:
        """Its lines of the summary."""
        best = "power, synthetic / real; 1 is best"
        return [SummaryRow("fine detail", number(self.fine_detail), self.reason or best)]


class SeamComparison(MeasuredPart):
    """Mean absolute step across block lines over the mean step elsewhere; 1 without seams."""

    block_size: int | None = None
    """Pixels; lines stand on its multiples, counted from the origin of the CRS. None without such a raster."""
    num_pairs: int = 0
    """Pixel pairs across lines in the synthetic image."""
    synthetic: FiniteOrNone = None
    """The score of the synthetic image."""
    real: FiniteOrNone = None
    """The score of the real image on the same lines."""

    def rows(self) -> list[SummaryRow]:
        """Its lines of the summary."""
        best = f"1 is best; real on the same lines: {number(self.real)}"
        return [SummaryRow("seams", number(self.synthetic), self.reason or best)]


class Distance(Part):
    """A distance between two sets of tiles, and its scale."""

    estimate: Estimate = Estimate()
    """Real against synthetic, all places in both sets."""
    real: Estimate = Estimate()
    """Real tiles of half of the places against those of the other half: what a perfect synthetic image would have.

    Mean over ten draws of halves, with the least and largest of them instead of an interval.
    """
    across: Estimate = Estimate()
    """Real tiles of one half against synthetic ones of the other, in the same draws.

    Compare it with `real`, from which it differs only by what is synthetic.
    """
    turned: Estimate = Estimate()
    """Real tiles of one half against those of the other turned a quarter, in the same draws.

    As far as it exceeds `real` the judge sees where the light comes from, and which way rows and roads run.
    """
    num_halves: int = 0
    """Tiles in either set of these three; a Frechet distance depends on it."""
    note: str | None = None
    """Why there is no number, or what to mind about it."""


class FeatureComparison(MeasuredPart):
    """Two sets of tiles in the feature space of a judge."""

    feature_space: str
    """The judge: "inception-v3-compat", whose Frechet distance alone is the FID, "efficientnet-lite0", "wavelets", ...

    With the three bands that a network saw, where these are not red, green and blue.
    """
    num_features: int
    reference: str
    """The fold of the real tiles; "area" where rasters were compared."""
    num_real: int
    num_synthetic: int
    num_places: int
    """Places that the synthetic tiles lie in."""
    frechet: Distance = Distance()
    """Squared Frechet distance (Heusel et al. 2017); 0 is best. Biased upwards for few tiles."""
    kid: Distance = Distance()
    """Kernel distance (Binkowski et al. 2018), unbiased; 0 is best, and chance makes it negative as often as not.

    Of two images of the same tiles, those of one tile are no pair, as they show the same labels (Gretton et al. 2012).
    """
    precision: Estimate = Estimate()
    """Share of the synthetic tiles among the real ones (Kynkaanniemi et al. 2019)."""
    recall: Estimate = Estimate()
    """Share of the real tiles among the synthetic ones (the same)."""
    density: Estimate = Estimate()
    """`precision`, robust against outliers (Naeem et al. 2020); a perfect set has 1."""
    coverage: Estimate = Estimate()
    """`recall`, likewise; a perfect set has nearly 1."""
    note: str | None = None
    """Why there are no such shares."""
    in_training: bool | None = None
    """Whether a loss of the generator used this network, which then is no impartial judge; None: not known."""

    @property
    def mark(self) -> str:
        """Stands after the names of what an impartial judge did not tell."""
        return {True: " *", False: "", None: " ?"}[self.in_training]

    @property
    def frechet_name(self) -> str:
        """What people call `frechet` in this space."""
        return "FID" if self.feature_space == "inception-v3-compat" else f"Frechet, {self.feature_space}"

    @property
    def kid_name(self) -> str:
        """What people call `kid` in this space."""
        return "KID" if self.feature_space == "inception-v3-compat" else f"kernel distance, {self.feature_space}"

    @property
    def shares(self) -> dict[str, Estimate]:
        """Precision, recall, density and coverage by name."""
        return {name: getattr(self, name) for name in ("precision", "recall", "density", "coverage")}

    def rows(self) -> list[SummaryRow]:
        """Its lines of the summary."""
        rows: list[SummaryRow] = []
        for name, distance in ((self.frechet_name, self.frechet), (self.kid_name, self.kid)):
            told = f"n {self.num_real}, {self.num_synthetic}"
            if distance.real.value is not None:
                told += f"; halves: real to real {distance.real}, real to synthetic {distance.across}"
                told += f", real to turned {distance.turned}"
            if distance.estimate.value is None:
                told = self.reason or distance.note or ""
            rows.append(SummaryRow(f"{name}, to {self.reference}{self.mark}", str(distance.estimate), told))
        why = self.reason or self.note or self.feature_space
        shares = self.shares.items()
        return [*rows, *(SummaryRow(f"{name}, {self.reference}{self.mark}", str(one), why) for name, one in shares)]


class Nearness(MeasuredPart):
    """How far real and synthetic tiles of one place are from imagery of another one, the target.

    Kernel distances in the features of EfficientNet-Lite0: of natural colours or, where there is near infrared, the
    mean of these and that of near infrared, red, green; see `evaluation.nearness`.
    """

    real: FiniteOrNone = None
    """Kernel distance of the real tiles to the target's."""
    synthetic: FiniteOrNone = None
    """Kernel distance of the synthetic tiles to the target's."""
    nearer: Literal["real", "synthetic"] | None = None
    """The tiles that a segmenter for the target is better trained on."""
    num_target: int = 0
    """Tiles of the target."""

    def rows(self) -> list[SummaryRow]:
        """Its lines of the summary."""
        return [SummaryRow("nearer to the target", self.nearer or "-", self.words)]

    @property
    def words(self) -> str:
        """The distances, and what to do, or why there are none."""
        if self.nearer is None:
            return str(self.reason)
        return (
            f"kernel distance of {counted(self.num_target, 'tile')} to real ones {number(self.real)}, to synthetic ones"
            f" {number(self.synthetic)}: train on the {self.nearer} ones"
        )


class ClosestPair(Part):
    """A synthetic tile and the train tile nearest to it. Windows: row, column, height, width on the store's grid."""

    distance: float
    """Between their features."""
    synthetic: str
    """Where it lies, in words."""
    train: str
    synthetic_window: tuple[int, int, int, int]
    train_window: tuple[int, int, int, int]


class MemorisationComparison(MeasuredPart):
    """Whether synthetic tiles are nearer to the tiles the generator was trained on than to others."""

    feature_space: str | None = None
    """The feature space that distances are measured in."""
    num_synthetic: int = 0
    num_train: int = 0
    """Tiles of train that are compared at once, as many as others."""
    num_other: int = 0
    other: str | None = None
    """The fold of the other real tiles."""
    share_nearer_train: Estimate = Estimate()
    """Of the synthetic tiles, those whose nearest real tile is a train tile; about `control` if nothing is memorised.

    A tie counts half. Real tiles of a synthetic tile's own place are left out.
    """
    distance_ratio: Estimate = Estimate()
    """Median distance to the nearest train tile over that to the nearest other one.

    About 1 if nothing is memorised, near 0 of copies; undefined where the other tiles are copied.
    """
    control: Estimate = Estimate()
    """`share_nearer_train` of the other real tiles, which nobody has memorised: about 0.5, unless their places
    resemble each other more, or less, than they do those of train."""
    membership_auc: Estimate = Estimate()
    """Area under the ROC curve of an attacker who guesses, by the distance of a real tile to the nearest synthetic one,
    whether it was trained on: 0.5 if that tells nothing, 1 if it tells all (membership inference). The interval
    resamples the other tiles only."""
    closest: tuple[ClosestPair, ...] = ()
    """The pairs with the smallest distances, of all train tiles looked at; closest first."""

    def rows(self) -> list[SummaryRow]:
        """Its lines of the summary."""
        tiles = f"{counted(self.num_synthetic, 'tile')}, {self.num_train} of train, {self.num_other} of {self.other}"
        near = self.reason or f"real tiles: {self.control}; {tiles}"
        told = self.reason or "0.5: tiles that were trained on cannot be told from others"
        return [
            SummaryRow("nearer to train", str(self.share_nearer_train), near),
            SummaryRow("membership inference, AUC", str(self.membership_auc), told),
        ]


class DiversityComparison(MeasuredPart):
    """How much images of equal labels differ when their latents do."""

    num_latents: int = 1
    """Images of each tile."""
    num_tiles: int = 0
    pixels: Estimate = Estimate()
    """Mean absolute difference, DN."""
    feature_space: str | None = None
    """The feature space of `features`."""
    features: Estimate = Estimate()
    """Mean distance of features."""

    def rows(self) -> list[SummaryRow]:
        """Its lines of the summary."""
        images = f"{self.num_latents} latents, {counted(self.num_tiles, 'tile')}"
        return [SummaryRow("diversity", f"{self.pixels} DN", self.reason or images)]


class ConsistencyComparison(MeasuredPart):
    """Whether a segmenter trained on real tiles finds the labels again in the synthetic image.

    `synthetic` is what Shmelkov et al. (2018) call GAN-test.
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
        """Its lines of the summary."""
        both = f"{self.synthetic} and {self.real}; {counted(self.num_tiles, 'tile')}"
        return [SummaryRow("mIoU, synthetic - real", str(self.difference), self.reason or both)]


class ClassSpectrum(Part):
    """Texture inside of one class."""

    name: str
    num_windows: int
    """Wholly inside of the class, the same ones of both images."""
    ratio: Ratios
    """Synthetic over real power in each octave, coarse to fine; 1 is best."""


class ClassSpectraComparison(MeasuredPart):
    """Power spectra of the insides of classes, where labels say nothing."""

    window_size: int
    """Pixels."""
    octaves: tuple[tuple[float, float], ...]
    """Lowest and highest frequency of each, cycles per pixel."""
    classes: tuple[ClassSpectrum, ...] = ()
    """Those that have windows."""


class Places(Part):
    """What is drawn with replacement for the 95 % intervals: each place with its real and its synthetic pixels."""

    kind: str
    """What a place is, in words."""
    count: int
    """Number of places that hold pixels."""

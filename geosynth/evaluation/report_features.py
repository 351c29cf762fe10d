"""Parts of the report on networks: distances between features, memorisation, diversity, segmentation consistency."""

from __future__ import annotations

from pydantic import Field

from geosynth.evaluation.report_pixels import Estimate, Part


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

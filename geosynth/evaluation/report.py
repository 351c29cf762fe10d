"""Report: everything that `evaluate` measures, as plain values that survive a round trip through JSON."""

from __future__ import annotations

from geosynth.evaluation.measures import (
    ClassComparison,
    ClassSpectraComparison,
    ConsistencyComparison,
    DiversityComparison,
    FeatureComparison,
    FrechetComparison,
    Headline,
    ImageLevels,
    MemorisationComparison,
    Nearness,
    Part,
    Places,
    SeamComparison,
    SpectrumComparison,
    SummaryRow,
)

_NOT_KNOWN = "the synthetic imagery does not say whether a loss of its generator used this network"


class Report(Part):
    """Everything that `evaluate` has measured."""

    software: str
    """Name and version."""
    real: str
    """The image file, or the store, as given."""
    synthetic: tuple[str, ...]
    """The image file, or the twins."""
    look: str | None = None
    """Name of the look that was painted, if it is one of the model's, according to the synthetic imagery."""
    labels: str
    fold: str | None
    """Fold of the store; None if rasters were compared."""
    legend: str
    """Name of the legend."""
    bands: tuple[str, ...]
    levels: ImageLevels | None = None
    """The levels in which features, textures, spectra and pictures see the imagery, also the steps of all distributions
    except NDVI's; None for uint8, which is seen as it is."""
    area: tuple[int, int, int, int] | None
    """For rasters: first row, first column, height, width of the common pixels on the grid of the real one."""
    pixels: int
    """Number of compared pixels: with a class, and with data in both images."""
    tile_size: int
    seed: int
    places: Places
    """The places on which intervals rest."""
    headline: Headline
    classes: tuple[ClassComparison, ...]
    """The classes with pixels."""
    ndvi_reason: str | None
    """Why there is no mean distance of NDVI."""
    frechet: FrechetComparison
    spectrum: SpectrumComparison
    class_spectra: ClassSpectraComparison
    seams: SeamComparison
    features: tuple[FeatureComparison, ...]
    """Distances in each feature space, to the real tiles of each reference."""
    features_reason: str | None
    """Why there are none."""
    inception_reason: str | None
    """Why there are no FID and KID."""
    memorisation: MemorisationComparison
    diversity: DiversityComparison
    consistency: ConsistencyComparison
    nearness: Nearness
    """Which tiles are nearer to the imagery of another place, for which segmenters are needed."""

    def to_json(self) -> str:
        """Indented JSON; `Report.model_validate_json` reads it."""
        return self.model_dump_json(indent=2) + "\n"

    def __repr__(self) -> str:
        return "\n".join([f"{type(self).__name__}:", *(f"{row.measure}: {row.value}" for row in self.summary())])

    def summary(self) -> tuple[SummaryRow, ...]:
        """The headline numbers, in words."""
        look = [SummaryRow("look", self.look, "of the model, that was painted")] if self.look else []
        return (
            *look,
            *(self.levels.rows() if self.levels else ()),
            *self._headline_rows(),
            *self.frechet.rows(),
            *self.spectrum.rows(),
            *self.seams.rows(),
            *self._feature_rows(),
            *self.memorisation.rows(),
            *self.diversity.rows(),
            *self.consistency.rows(),
            *self.nearness.rows(),
        )

    def _headline_rows(self) -> list[SummaryRow]:
        head = self.headline
        flat = head.variance_ratio.value is None
        varies = "no band of the real image varies within a class" if flat else "synthetic / real; 1 is best"
        return [
            SummaryRow("Wasserstein-1 within classes", head.wasserstein.in_unit("DN"), "0 is best"),
            SummaryRow("variance within classes", str(head.variance_ratio), varies),
            SummaryRow("Wasserstein-1 of NDVI", str(head.ndvi_wasserstein), self.ndvi_reason or "0 is best"),
        ]

    def _feature_rows(self) -> list[SummaryRow]:
        """Rows of natural colours only; the report has the rest."""
        rows: list[SummaryRow] = []
        if self.features_reason:
            rows.append(SummaryRow("distances of features", "-", self.features_reason))
        if self.inception_reason:
            rows.append(SummaryRow("FID and KID", "-", self.inception_reason))
        for one in self.features:
            if "(" not in one.feature_space:
                rows += one.rows()
        return [*rows, *self.partial_judges]

    @property
    def partial_judges(self) -> tuple[SummaryRow, ...]:
        """Explanation of the marks that occur: the mark, the feature spaces and a sentence."""
        meanings = {" *": "a loss of the generator used this network", " ?": _NOT_KNOWN}
        rows = []
        for mark, meaning in meanings.items():
            if names := dict.fromkeys(one.feature_space for one in self.features if one.mark == mark):
                rows.append(SummaryRow(mark.strip(), ", ".join(names), meaning))
        return tuple(rows)

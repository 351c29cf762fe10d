"""Report: the numbers of an evaluation, as plain values that go to JSON and come back equal."""

from __future__ import annotations

from typing import NamedTuple

from geosynth.evaluation.report_features import (
    ClassSpectraComparison,
    ConsistencyComparison,
    DiversityComparison,
    FeatureComparison,
    MemorisationComparison,
)
from geosynth.evaluation.report_pixels import (
    ClassComparison,
    FrechetComparison,
    Headline,
    Part,
    SeamComparison,
    SpectrumComparison,
    number,
)


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

"""How well a segmenter does: how predicted classes agree with the true ones, and the report of `segment`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from geosynth.config import SegmentSettings
from geosynth.config.base import Settings
from geosynth.errors import DataError, counted
from geosynth.estimate import Estimate, FiniteOrNone, Floats, draw_places, estimate_from_draws
from geosynth.files import write_whole

Counts = tuple[tuple[int, ...], ...]
"""A confusion matrix as plain values."""

_NUM_DRAWS = 2000
# Less than an evaluation asks for: scenes to test on mostly lie in few places, for which no squares of tiles stand in
# here, and of three the interval of a mean IoU holds the truth as often as it says: a test draws some.
_MIN_PLACES = 3


class Confusion:
    """Pixels by true and predicted class.

    Args:
        num_classes: of the legend; labels from it on have no class and are left out.

    Attributes:
        matrix: (num_classes, num_classes) int64: rows are true classes, columns predicted ones.
    """

    def __init__(self, num_classes: int) -> None:
        self.matrix: npt.NDArray[np.int64] = np.zeros((num_classes, num_classes), dtype=np.int64)

    def add(self, labels: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> None:
        """Count the pixels of two arrays of class indices of one shape."""
        classes = len(self.matrix)
        known = labels < classes
        codes = labels[known].astype(np.int64) * classes + predicted[known]
        self.matrix += np.bincount(codes, minlength=classes**2).reshape(classes, classes)

    def __add__(self, other: Confusion) -> Confusion:
        total = Confusion(len(self.matrix))
        total.matrix = self.matrix + other.matrix
        return total

    def iou(self) -> Floats:
        """(num_classes,): intersection over union; NaN of a class that is neither true nor predicted anywhere."""
        return iou(self.matrix.astype(np.float64))

    def miou(self) -> float:
        """Mean IoU over the classes that occur among the true labels; NaN if none does.

        The classes follow from the labels alone, so that models tested on the same tiles are compared on the same
        classes; what a model predicts of other classes is missing from the IoU of those that are true.
        """
        return float(mean_iou(self.matrix.astype(np.float64)))

    def to_values(self) -> Counts:
        """The matrix as plain values."""
        return tuple(map(tuple, self.matrix.tolist()))

    def accuracy(self) -> float:
        """Share of pixels whose class is right; NaN if there is no pixel."""
        total = int(self.matrix.sum())
        return float(np.trace(self.matrix)) / total if total else float("nan")


def miou_estimate(models: Sequence[npt.ArrayLike], baselines: Sequence[npt.ArrayLike] = (), seed: int = 0) -> Estimate:
    """The mean IoU of all pixels, and its 95 % interval from draws of independent places, see `estimate_from_draws`.

    Args:
        models: of each model the counts at each place (places, classes, classes), see `Confusion.matrix`, tested on the
            same places. The estimate is the mean of their mean IoUs. Fewer than three places make no interval.
        baselines: of as many other models, tested on the same places: the estimate is how much less these reach, drawn
            place by place together.
        seed: of the 2,000 draws.
    """
    num_places = len(np.asarray(models[0]))
    weights = draw_places(num_places, seed, _NUM_DRAWS)

    def drawn(counts: Sequence[npt.ArrayLike]) -> Floats:
        matrices = np.asarray(counts, dtype=np.float64)
        means: Floats = mean_iou(np.einsum("dp,mpij->mdij", weights, matrices)).mean(axis=0)
        return means

    values, least = (drawn(models) - drawn(baselines), -1) if baselines else (drawn(models), 0)
    return estimate_from_draws(values, num_places, least=least, most=1, min_places=_MIN_PLACES)


def iou(matrices: Floats) -> Floats:
    """IoU (..., classes) of counts (..., classes, classes); NaN of a class that is neither true nor predicted."""
    both = np.diagonal(matrices, axis1=-2, axis2=-1)
    either = matrices.sum(axis=-1) + matrices.sum(axis=-2) - both
    shares: Floats = np.divide(both, either, out=np.full(both.shape, np.nan), where=either > 0)
    return shares


def mean_iou(matrices: Floats) -> Floats:
    """Mean (...) of the IoU of the classes that occur among the true labels; NaN if none does."""
    occurs = matrices.sum(axis=-1) > 0
    sums, counts = np.where(occurs, iou(matrices), 0).sum(axis=-1), occurs.sum(axis=-1)
    means: Floats = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return means


class Scores(Settings):
    """What the test of a segmenter found, as its file tells it: four digits of what `SegmentReport` holds."""

    fold: str
    """Of the data that it was tested on."""
    tiles: int
    """Of it, all real."""
    places: int
    """Number of clusters of touching test scenes."""
    miou: FiniteOrNone
    """Mean IoU over the classes that occur in the test labels, 0..1."""
    class_iou: dict[str, FiniteOrNone]
    """By class name; None where a class is neither true nor predicted in the test."""


class SegmentReport(BaseModel):
    """What `segment` found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    miou: float
    """Mean IoU over the classes that occur in the test labels, 0..1."""
    miou_low: float | None
    """Lower end of its 95 % interval over test places; None for fewer than three."""
    miou_high: float | None
    """Upper end of that interval."""
    test_places: int
    """Number of clusters of touching test scenes: what the interval resamples."""
    class_iou: dict[str, FiniteOrNone]
    """Intersection over union by class name; None where a class is neither true nor predicted in the test."""
    accuracy: float
    """Share of test pixels whose class is right."""
    confusion: Counts
    """Numbers of test pixels: a row for each true class, a column for each predicted one, in the legend's order."""
    place_confusions: tuple[Counts, ...] = ()
    """The confusion of each test place; none in reports of before they were kept."""
    real_tiles: int
    """Real tiles that were trained on."""
    synthetic_tiles: int
    """Synthetic tiles that were trained on."""
    coarse_tiles: int
    """Tiles with coarse labels that were trained on."""
    test_tiles: int
    """Tiles that were tested on, all real."""
    weights: str
    """What the encoder started from: "scratch", "imagenet", or the name of a file; of a segmenter's, see `init`."""
    weights_sha256: str | None = None
    """SHA-256 of that file; None for none."""
    init: str | None = None
    """SHA-256 of the segmenter's file that the training went on from; None for a new network."""
    judge: str | None = None
    """SHA-256 of the segmenter's file that synthetic pixels were judged by; None if all counted."""
    left_out: float | None = None
    """Share of the synthetic pixels with a class that the judge left out."""
    train_fold: str
    """The fold of the data that was trained on."""
    test_fold: str
    """The fold of the data that was tested on."""
    settings: SegmentSettings
    """All settings of the training."""
    data: str
    """SHA-256 of what was trained and tested on, see `SegmentData`."""
    seconds: float
    """Time that training and test took, over all runs."""

    def scores(self) -> Scores:
        """For the segmenter's file."""
        rounded = {name: None if iou is None else round(iou, 4) for name, iou in self.class_iou.items()}
        counts = {"fold": self.test_fold, "tiles": self.test_tiles, "places": self.test_places}
        return Scores(**counts, miou=round(self.miou, 4), class_iou=rounded)

    def to_json(self) -> str:
        """For a file; ends with a line feed."""
        return self.model_dump_json(indent=1) + "\n"

    def save(self, path: Path) -> None:
        """Write it as JSON, under a temporary name until it is whole.

        Raises:
            OutputError: if it cannot be written.
        """
        write_whole(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Self:
        """The inverse of `save`.

        Raises:
            DataError: if the file is no such report.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValidationError) as error:
            raise DataError(f"{path}: not a report of `segment`; delete it, or choose another folder") from error

    def summary(self) -> list[tuple[str, str, str]]:
        """(measure, value, meaning) for people."""
        interval = "" if self.miou_low is None else f" [{self.miou_low:.3f}, {self.miou_high:.3f}]"
        trained = f"{self.real_tiles} real and {counted(self.synthetic_tiles, 'synthetic tile')}"
        start = "encoder" if self.init is None else "on"
        if self.left_out is not None:
            trained += f" without {self.left_out:.1%} of their pixels"
        if self.coarse_tiles:
            trained += f", {self.coarse_tiles} with coarse labels"
        rows = [
            (
                "mean IoU",
                f"{self.miou:.3f}{interval}",
                f"on {counted(self.test_tiles, 'real test tile')} of {counted(self.test_places, 'place')}",
            ),
            (
                "accuracy",
                f"{self.accuracy:.3f}",
                f"trained on {trained}, {start} from {self.weights}",
            ),
        ]
        rows += [(f"IoU {name}", "-" if iou is None else f"{iou:.3f}", "") for name, iou in self.class_iou.items()]
        return rows

"""How good a segmenter is: the agreement of predicted and true classes, and the report of `segment`."""

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
# Fewer than for an evaluation: test scenes are mostly in few places, which here are not replaced by squares of tiles,
# and with three the interval of a mean IoU contains the truth as often as it should, which a test checks.
_MIN_PLACES = 3


class Confusion:
    """Number of pixels by true and predicted class.

    Args:
        num_classes: of the legend; labels of this value and above have no class and are left out.

    Attributes:
        matrix: (num_classes, num_classes) int64: rows are true classes, columns predicted ones.
    """

    def __init__(self, num_classes: int) -> None:
        self.matrix: npt.NDArray[np.int64] = np.zeros((num_classes, num_classes), dtype=np.int64)

    def add(self, labels: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> None:
        """Count the pixels of two arrays of class indices with the same shape."""
        classes = len(self.matrix)
        known = labels < classes
        codes = labels[known].astype(np.int64) * classes + predicted[known]
        self.matrix += np.bincount(codes, minlength=classes**2).reshape(classes, classes)

    def __add__(self, other: Confusion) -> Confusion:
        total = Confusion(len(self.matrix))
        total.matrix = self.matrix + other.matrix
        return total

    def iou(self) -> Floats:
        """Intersection over union (num_classes,); NaN for a class that is neither true nor predicted anywhere."""
        return iou(self.matrix.astype(np.float64))

    def miou(self) -> float:
        """Mean IoU over the classes that occur in the true labels; NaN if none does.

        The classes depend only on the labels, so that models tested on the same tiles are compared on the same classes;
        pixels predicted as other classes lower the IoU of the true ones.
        """
        return float(mean_iou(self.matrix.astype(np.float64)))

    def to_values(self) -> Counts:
        """The matrix as plain values."""
        return tuple(map(tuple, self.matrix.tolist()))

    def accuracy(self) -> float:
        """Share of pixels whose class is right; NaN if there are no pixels."""
        total = int(self.matrix.sum())
        return float(np.trace(self.matrix)) / total if total else float("nan")


def miou_estimate(models: Sequence[npt.ArrayLike], baselines: Sequence[npt.ArrayLike] = (), seed: int = 0) -> Estimate:
    """The mean IoU of all pixels, and its 95 % interval from draws of independent places, see `estimate_from_draws`.

    Args:
        models: for each model the counts at each place (places, classes, classes), see `Confusion.matrix`, all tested
            on the same places. The estimate is the mean of their mean IoUs. Fewer than three places give no interval.
        baselines: of as many other models, tested on the same places: the estimate is the difference to these, with the
            same draws of places.
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
    """IoU (..., classes) from counts (..., classes, classes); NaN for a class that is neither true nor predicted."""
    both = np.diagonal(matrices, axis1=-2, axis2=-1)
    either = matrices.sum(axis=-1) + matrices.sum(axis=-2) - both
    shares: Floats = np.divide(both, either, out=np.full(both.shape, np.nan), where=either > 0)
    return shares


def mean_iou(matrices: Floats) -> Floats:
    """Mean (...) of the IoU of the classes that occur in the true labels; NaN if none does."""
    occurs = matrices.sum(axis=-1) > 0
    sums, counts = np.where(occurs, iou(matrices), 0).sum(axis=-1), occurs.sum(axis=-1)
    means: Floats = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return means


class Scores(Settings):
    """Test results in a segmenter's file: the numbers of `SegmentReport`, with four digits."""

    fold: str
    """Fold on which it was tested."""
    tiles: int
    """Number of test tiles, all real."""
    places: int
    """Number of clusters of touching test scenes."""
    miou: FiniteOrNone
    """Mean IoU over the classes that occur in the test labels, 0 to 1."""
    class_iou: dict[str, FiniteOrNone]
    """IoU by class name; None if a class is neither true nor predicted in the test."""


class SegmentReport(BaseModel):
    """The results of `segment`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    miou: float
    """Mean IoU over the classes that occur in the test labels, 0 to 1."""
    miou_low: float | None
    """Lower end of its 95 % interval over test places; None for fewer than three."""
    miou_high: float | None
    """Upper end of that interval."""
    test_places: int
    """Number of clusters of touching test scenes, which are drawn for the interval."""
    class_iou: dict[str, FiniteOrNone]
    """Intersection over union by class name; None if a class is neither true nor predicted in the test."""
    accuracy: float
    """Share of test pixels whose class is right."""
    confusion: Counts
    """Numbers of test pixels: a row for each true class, a column for each predicted one, in the legend's order."""
    place_confusions: tuple[Counts, ...] = ()
    """The confusion matrix of each test place; empty in old reports without them."""
    real_tiles: int
    """Number of real train tiles."""
    synthetic_tiles: int
    """Number of synthetic train tiles."""
    coarse_tiles: int
    """Number of train tiles with coarse labels."""
    test_tiles: int
    """Number of test tiles, all real."""
    weights: str
    """Initial weights of the encoder: "scratch", "imagenet", or the name of a file; for a segmenter, see `init`."""
    weights_sha256: str | None = None
    """SHA-256 of that file; None for none."""
    init: str | None = None
    """SHA-256 of the file of the segmenter that was trained further; None for a new network."""
    judge: str | None = None
    """SHA-256 of the file of the segmenter that judged synthetic pixels; None if all counted."""
    left_out: float | None = None
    """Share of the synthetic pixels with a class that the judge left out."""
    train_fold: str
    """The fold with the train tiles."""
    test_fold: str
    """The fold with the test tiles."""
    settings: SegmentSettings
    """All settings of the training."""
    data: str
    """SHA-256 of the train and test data, see `SegmentData`."""
    seconds: float
    """Time of training and test, over all runs."""

    def scores(self) -> Scores:
        """The scores for the segmenter's file."""
        rounded = {name: None if iou is None else round(iou, 4) for name, iou in self.class_iou.items()}
        counts = {"fold": self.test_fold, "tiles": self.test_tiles, "places": self.test_places}
        return Scores(**counts, miou=round(self.miou, 4), class_iou=rounded)

    def to_json(self) -> str:
        """The report as JSON, with a line feed at the end."""
        return self.model_dump_json(indent=1) + "\n"

    def save(self, path: Path) -> None:
        """Write the report as JSON, under a temporary name until it is complete.

        Raises:
            OutputError: if it cannot be written.
        """
        write_whole(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Self:
        """The inverse of `save`.

        Raises:
            DataError: if the file is not such a report.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValidationError) as error:
            raise DataError(f"{path}: not a report of `segment`; delete it, or choose another folder") from error

    def __repr__(self) -> str:
        return "\n".join([f"{type(self).__name__}:", *(f"{measure}: {value}" for measure, value, _ in self.summary())])

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

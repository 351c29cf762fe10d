"""SegmentReport: how well a segmenter does, as plain values that go to JSON and come back equal."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from geosynth.config import SegmentSettings
from geosynth.errors import DataError
from geosynth.outputs import write_whole


class SegmentReport(BaseModel):
    """What `segment` found.

    Attributes:
        miou: mean IoU over the classes that occur in the test labels, 0..1.
        miou_low, miou_high: its 95 % interval over test places; None for fewer than three.
        test_places: clusters of touching test scenes: what the interval resamples.
        class_iou: IoU by class name; None where a class is neither true nor predicted in the test.
        accuracy: share of test pixels whose class is right.
        confusion: test pixels: a row for each true class, a column for each predicted one, in the legend's order.
        real_tiles, synthetic_tiles, coarse_tiles: that were trained on.
        test_tiles: that were tested on, all real.
        weights: what the encoder started from: "scratch", "imagenet", or the name of a file.
        train_fold, test_fold: of the data.
        settings: of the training.
        data: sha256 of what was trained and tested on, see `geosynth.segmentation.data`.
        seconds: that training and test took, over all runs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    miou: float
    miou_low: float | None
    miou_high: float | None
    test_places: int
    class_iou: dict[str, float | None]
    accuracy: float
    confusion: tuple[tuple[int, ...], ...]
    real_tiles: int
    synthetic_tiles: int
    coarse_tiles: int
    test_tiles: int
    weights: str
    train_fold: str
    test_fold: str
    settings: SegmentSettings
    data: str
    seconds: float

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
        trained = f"{self.real_tiles} real and {self.synthetic_tiles} synthetic tiles"
        if self.coarse_tiles:
            trained += f", {self.coarse_tiles} with coarse labels"
        rows = [
            (
                "mean IoU",
                f"{self.miou:.3f}{interval}",
                f"on {self.test_tiles} real test tiles of {self.test_places} places",
            ),
            ("accuracy", f"{self.accuracy:.3f}", f"trained on {trained}, encoder from {self.weights}"),
        ]
        rows += [(f"IoU {name}", "-" if iou is None else f"{iou:.3f}", "") for name, iou in self.class_iou.items()]
        return rows

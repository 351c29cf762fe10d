"""Scene: one source raster pair on a grid; and counting classes by fold."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from geosynth.grid import SpatialSplit, Window
from geosynth.grid.split import FOLDS
from geosynth.legend import Legend

FoldPixels = dict[str, list[int]]  # of a fold: pixels of each class, in the legend's order


@dataclass(frozen=True, slots=True)
class Scene:
    """One source raster pair in a store.

    Attributes:
        name: by which messages call it.
        window: on the store's grid.
        class_pixels: pixels of each class that have imagery too, in the legend's order.
        image_sha256, labels_sha256: of the source files; empty where they are not local.
        image, labels: the source files.
        date: of the imagery, as its source says it.
    """

    name: str
    window: Window
    class_pixels: tuple[int, ...]
    image_sha256: str
    labels_sha256: str
    image: str = ""
    labels: str = ""
    date: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether each pixel has imagery and a class."""
        return sum(self.class_pixels) == self.window.height * self.window.width

    def to_values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_values`."""
        return cls(**{**values, "window": Window(**values["window"]), "class_pixels": tuple(values["class_pixels"])})


def count_by_fold(
    indices: npt.NDArray[np.uint8], window: Window, split: SpatialSplit, legend: Legend
) -> dict[str, list[int]]:
    """Pixels of each class in each fold that has a part in the window, and under "all" in the whole window.

    Args:
        indices: (height, width) class indices of the window.
        window: on the split's grid.
        split: the folds.
        legend: of the indices.
    """
    parts = {"all": indices}
    for fold in FOLDS:
        if split.meets(window, fold):
            parts[fold] = indices if split.holds(window, fold) else indices[split.mask(window, fold)]
    classes = legend.num_classes
    return {fold: np.bincount(part.ravel(), minlength=classes + 1)[:classes].tolist() for fold, part in parts.items()}


def add_pixels(total: FoldPixels, part: FoldPixels) -> None:
    """Add the counts of a part."""
    for fold, pixels in part.items():
        total[fold] = [a + b for a, b in zip(total.get(fold, [0] * len(pixels)), pixels, strict=True)]

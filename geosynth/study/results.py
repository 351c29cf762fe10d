"""CellResult: what a finished cell leaves behind."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from geosynth.errors import DataError


class CellResult(BaseModel):
    """A finished cell. Attributes as in `verbs.Score` and `verbs.Likeness`, and

    Attributes:
        frechet, diversity, num_compared: None where nothing was compared.
        model_sha256: of the generator; None without synthetic tiles.
        seconds: of the segmenter and the comparison.
    """  # noqa: D415

    model_config = ConfigDict(frozen=True, extra="forbid")

    miou: float
    class_iou: dict[str, float | None]
    num_real: int
    num_synthetic: int
    num_test: int
    weights: str
    frechet: dict[str, float] | None = None
    diversity: float | None = None
    num_compared: int | None = None
    model_sha256: str | None = None
    seconds: float

    @classmethod
    def read(cls, path: Path) -> CellResult | None:
        """From `result.json`; None if there is none.

        Raises:
            DataError: if the file is damaged.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (ValidationError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: damaged; delete it to have the cell done again") from error

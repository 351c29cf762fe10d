"""Cards: the metadata of model and segmenter files, as one entry in the header of a safetensors file.

Only one entry, because safetensors writes entries in random order, and equal models shall be equal files.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, ClassVar, Self

from pydantic import AfterValidator, Field
from safetensors import SafetensorError, safe_open

from geosynth.config import BandSettings
from geosynth.config.base import Settings
from geosynth.errors import CheckpointError, SettingsError, one_line
from geosynth.grid.lengths import meant
from geosynth.legend import Legend

if TYPE_CHECKING:
    from torch import Tensor

_SHA256 = "sha256"  # key in the entry: SHA-256 of the tensors
_KINDS = {"geosynth": "a generator", "geosynth_segmenter": "a segmenter"}  # by name of the entry


class Card(Settings):
    """What all cards have in common; each kind of file has its own class, which adds `settings`."""

    entry: ClassVar[str]
    """Name of the entry in the header."""
    kind: ClassVar[str]
    """What the file is, for messages."""
    maker: ClassVar[str]
    """The command that makes such files."""
    version: ClassVar[int] = 1
    """The version that is written, the only one that is read."""

    settings: Settings
    """The settings of the network."""
    legend: Legend
    """The classes of the label rasters that it was trained on."""
    bands: BandSettings
    """The bands of the imagery."""
    gsd: Annotated[float, AfterValidator(meant)] | None
    """Ground sampling distance of the training imagery, in metres per pixel; None if its CRS does not give it.

    Rounding in the files' transforms is removed, also for models that were written with it.
    """
    provenance: dict[str, Any] = Field(default_factory=dict)
    """Facts of any kind: the software's version, data, steps, seed."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """The card in a file; reads only the header.

        Raises:
            CheckpointError: if the file is missing, of another kind or version, or damaged.
        """
        values = cls._values(path)
        values.pop(_SHA256, None)
        try:
            return cls.parse(values)
        except SettingsError as error:
            raise CheckpointError(f"{path}: damaged {cls.kind} description ({error})") from error

    @classmethod
    def _values(cls, path: Path) -> dict[str, Any]:
        """The values of the entry in a file's header, without the version."""
        if path.is_dir():
            raise CheckpointError(f"{path}: a folder without model.safetensors, which `{cls.maker}` writes at its end")
        if not path.is_file():
            raise CheckpointError(f"{path}: no such {cls.kind} file")
        metadata = _metadata(path)
        if cls.entry not in metadata:
            found = next((what for entry, what in _KINDS.items() if entry in metadata), "a safetensors file")
            raise CheckpointError(f"{path}: {found}, but not a {cls.kind}; make one with `{cls.maker}`")
        try:
            values: dict[str, Any] = json.loads(metadata[cls.entry])
            found = values.pop("version")
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: damaged {cls.kind} description ({error})") from error
        if found != cls.version:
            raise CheckpointError(f"{path}: {cls.kind} version {found}; this geosynth reads {cls.version}")
        return values

    @classmethod
    def is_in(cls, path: Path) -> bool:
        """Whether a file is of this kind."""
        try:
            return cls.entry in _metadata(path)
        except CheckpointError:
            return False

    def to_metadata(self, sha256: str | None = None) -> dict[str, str]:
        """The entry for the header of a file.

        Args:
            sha256: of the tensors, for `verify`; None as in files of older versions.
        """
        values = {"version": self.version, **self.model_dump(mode="json"), **({_SHA256: sha256} if sha256 else {})}
        return {self.entry: json.dumps(values, sort_keys=True)}

    def to_bytes(self, tensors: dict[str, Tensor]) -> bytes:
        """The bytes of a file with the tensors (on the CPU, contiguous) and this card."""
        from safetensors.torch import save

        return save(tensors, metadata=self.to_metadata(_digest(io.BytesIO(save(tensors)))))

    @classmethod
    def verify(cls, path: Path) -> bool:
        """Verify the tensors of a file by the checksum in its card.

        Returns:
            False if there is no checksum, as in files of older versions.

        Raises:
            CheckpointError: if the file is damaged, or as from `read`.
        """
        wanted = cls._values(path).get(_SHA256)
        with path.open("rb") as file:
            if wanted is not None and _digest(file) != wanted:
                raise CheckpointError(f"{path}: is damaged: its tensors are not those that were written")
        return wanted is not None


def _metadata(path: Path) -> dict[str, str]:
    """The entries in the header of a safetensors file."""
    try:
        with safe_open(str(path), framework="np") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a safetensors file: {one_line(error)}") from error


def _digest(file: BinaryIO) -> str:
    """SHA-256 of the tensors in a safetensors file: their names, types and shapes, then the values of all."""
    table = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    table.pop("__metadata__", None)
    digest = hashlib.sha256(json.dumps(table, sort_keys=True).encode())
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()

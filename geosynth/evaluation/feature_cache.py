"""Features of images on disk, by what they are features of."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from geosynth.evaluation.extractors import Extractor
from geosynth.evaluation.histograms import Floats
from geosynth.outputs import write_whole


class FeatureCache:
    """A folder of feature arrays, one file a batch of images.

    A file's name is the sha256 of the images' bytes and the extractor's digest: it can be missing or damaged, but not
    out of date. Several processes may share the folder. A damaged file is computed again.

    Args:
        folder: made when first needed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def embed(self, extractor: Extractor, rgb: npt.NDArray[np.uint8]) -> Floats:
        """As `extractor.embed`: read, or computed and kept.

        Raises:
            DataError: as `extractor.embed`.
            OutputError: if the folder cannot be written.
        """
        shape = (len(rgb), extractor.num_features)
        path = self.folder / f"{_key(extractor, rgb)}.npz"
        features = _read(path, shape)
        if features is None:
            features = extractor.embed(rgb)
            packed = io.BytesIO()
            np.savez(packed, features=features)
            write_whole(path, packed.getvalue())
        return features


def _key(extractor: Extractor, rgb: npt.NDArray[np.uint8]) -> str:
    digest = hashlib.sha256(f"{extractor.name} {extractor.digest} {rgb.dtype} {rgb.shape}".encode())
    digest.update(np.ascontiguousarray(rgb).data)
    return digest.hexdigest()


def _read(path: Path, shape: tuple[int, int]) -> Floats | None:
    """The array, which a checksum of the archive vouches for; None if the file is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            features: Floats = archive["features"]
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile):
        return None
    return features if features.dtype == np.float64 and features.shape == shape else None

"""Features of tiles, from extractors, cached by content, in several feature spaces at once."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from geosynth.errors import SettingsError
from geosynth.estimate import Floats, Indices
from geosynth.evaluation.extractors import Extractor, ExtractorName, load_extractor
from geosynth.files import write_whole
from geosynth.grid import Window
from geosynth.locks import alone_in, drop_lock

_JUDGES = ("efficientnet-lite2", "dinov2", "wavelets")  # besides the networks with options of their own


class FeatureCache:
    """A folder of feature arrays, one file per batch of images.

    A file's name is the SHA-256 of the images' bytes and the extractor's digest, so it can be missing or damaged, but
    not out of date. Several processes may share the folder. A damaged file is computed again; what a kill left of one
    goes with the next run.

    Args:
        folder: created when first needed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        drop_lock(self.folder)

    def embed(self, extractor: Extractor, rgb: npt.NDArray[np.uint8]) -> Floats:
        """The result of `extractor.embed`, read from the cache, or computed and kept.

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
            with alone_in(self.folder, wait=True):
                write_whole(path, packed.getvalue())
        return features


def _key(extractor: Extractor, rgb: npt.NDArray[np.uint8]) -> str:
    digest = hashlib.sha256(f"{extractor.name} {extractor.digest} {rgb.dtype} {rgb.shape}".encode())
    digest.update(np.ascontiguousarray(rgb).data)
    return digest.hexdigest()


def _read(path: Path, shape: tuple[int, int]) -> Floats | None:
    """The array in a file, verified by the archive's checksum; None if the file is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            features: Floats = archive["features"]
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile):
        return None
    return features if features.dtype == np.float64 and features.shape == shape else None


@dataclass(frozen=True)
class Space:
    """A feature space: an extractor, and the bands of tiles that it sees (as red, green, blue if there are three)."""

    name: str
    """Name in reports."""
    extractor: Extractor
    bands: tuple[int, ...]
    """Indices of these bands."""
    cache: FeatureCache | None

    def embed(self, images: npt.NDArray[np.uint8]) -> Floats:
        """Features (n, d) of tiles (n, bands, height, width), from the cache if there is one."""
        rgb = images[:, list(self.bands)]
        return self.extractor.embed(rgb) if self.cache is None else self.cache.embed(self.extractor, rgb)


def open_spaces(
    bands: tuple[str, ...], inception: str | None, judges: Sequence[str], device: str, cache: Path | None
) -> list[Space]:
    """The feature spaces of an evaluation: Inception, if wanted, EfficientNet-Lite0, then further judges.

    EfficientNet-Lite0 sees natural colours and, if there is near infrared, also near infrared, red, green.

    Args:
        bands: names of the bands.
        inception: a file of weights, or "download"; None for none.
        judges: further spaces, "NAME" or "NAME=FILE", as for `load_extractor`; networks see natural colours.
        device: of the networks.
        cache: folder for features; None for none.

    Raises:
        CheckpointError: if weights are not available.
        SettingsError: if there is no such judge, or if one is named twice.
    """
    from geosynth.models.perceptual import composites

    kept = None if cache is None else FeatureCache(cache)
    (_, natural), *others = composites(bands).items()
    spaces = []
    if inception is not None:
        fetch = inception == "download"
        network = load_extractor("inception", None if fetch else inception, device, download=fetch)
        spaces.append(Space(network.name, network, natural, kept))
    network = load_extractor("efficientnet-lite0", device=device)
    spaces.append(Space(network.name, network, natural, kept))
    spaces += [Space(f"{network.name} ({name})", network, indices, kept) for name, indices in others]
    for judge in judges:
        name, _, file = judge.partition("=")
        if name not in _JUDGES or name in {space.name for space in spaces}:
            what = f"got {judge!r}; choose from efficientnet-lite2, dinov2=FILE, wavelets, each once"
            raise SettingsError(what, setting="judges")
        one = load_extractor(cast(ExtractorName, name), file or None, device, num_bands=len(bands))
        spaces.append(Space(one.name, one, tuple(range(len(bands))) if name == "wavelets" else natural, kept))
    return spaces


class TileFeatures:
    """Features of a growing set of tiles in several spaces.

    Args:
        spaces: the feature spaces.

    Attributes:
        windows: of the tiles.
    """

    def __init__(self, spaces: Sequence[Space]) -> None:
        self._spaces = spaces
        self.windows: list[Window] = []
        self._places: list[int] = []
        self._parts = {space.name: [np.empty((0, space.extractor.num_features))] for space in spaces}

    def __len__(self) -> int:
        return len(self.windows)

    def add(self, windows: Sequence[Window], places: Sequence[int], images: npt.NDArray[np.uint8]) -> None:
        """Embed the images (n, bands, height, width) of tiles with the given windows and numbers of places."""
        self.windows += windows
        self._places += places
        for space in self._spaces:
            self._parts[space.name].append(space.embed(images))

    @property
    def places(self) -> Indices:
        """Numbers of the tiles' places, (n,)."""
        return np.asarray(self._places, dtype=np.int64)

    def of(self, space: str) -> Floats:
        """Features in the space of this name, (n, d)."""
        return np.concatenate(self._parts[space])

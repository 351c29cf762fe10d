"""Realisations of one image, each in a Zarr store, joined along the dimension `sample` of one store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from odc.geo.geobox import GeoBox

from geosynth.grid import Window
from geosynth.raster.tags import describe_zarr_image
from geosynth.raster.zarr_image import ZarrImageWriter


def join_samples(parts: Sequence[Path], out: Path, geobox: GeoBox) -> Path:
    """Copy images of one grid into one store, shard by shard; it appears when it is whole.

    Args:
        parts: stores made by `ZarrImageWriter`, in the order of the samples.
        out: the store of all.
        geobox: their grid.

    Raises:
        OutputError: if it cannot be written.
    """
    told = [describe_zarr_image(part) for part in parts]
    seeds = [int(one["tags"]["GEOSYNTH_SEED"]) for one in told]
    bands = told[0]["bands"]
    writer = ZarrImageWriter(
        out,
        geobox,
        [band["name"] for band in bands],
        dtype=bands[0]["dtype"],
        tags=told[0]["tags"] | {"GEOSYNTH_SAMPLE_SEEDS": json.dumps(seeds)},
        num_samples=len(parts),
    )
    with writer:
        for sample, part in enumerate(parts):
            writer.copy(_Part(part).read, sample)
    return out


class _Part:
    def __init__(self, path: Path) -> None:
        group = zarr.open_group(str(path), mode="r")
        self._image: Any = group["image"]
        self._valid: Any = group["valid"]

    def read(self, window: Window) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        return self._image[:, *window.slices], self._valid[window.slices]

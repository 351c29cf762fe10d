"""Assemble touching scenes of one fold of a store into two rasters: real.tif and labels.tif.

    python examples/assemble_cluster.py ohio.zarr --fold test --out cluster

takes the largest cluster of the fold. Pixels between scenes, and those without a class, are masked in both rasters, so
that they can be used directly with `geosynth generate` and `geosynth evaluate`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from odc.geo.geobox import GeoBox

from geosynth.grid import Window
from geosynth.grid.groups import touching_groups
from geosynth.raster.cog import CogWriter
from geosynth.raster.stores.source import Scene
from geosynth.raster.stores.store import Store


def main() -> None:
    """Parse arguments, choose the cluster, write both rasters."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--fold", default="test")
    parser.add_argument("--rank", type=int, default=0, help="0 for the largest cluster, 1 for the next, ...")
    parser.add_argument("--out", type=Path, required=True, help="folder for real.tif and labels.tif")
    arguments = parser.parse_args()

    store = Store(arguments.store)
    scenes = store.scenes_in(arguments.fold)
    groups = sorted(touching_groups([scene.window for scene in scenes]), key=len, reverse=True)
    chosen = [scenes[index] for index in groups[arguments.rank]]
    arguments.out.mkdir(parents=True, exist_ok=True)
    window = bounding_window(chosen)
    write(store, chosen, window, arguments.out)
    print(f"{len(chosen)} scenes, {window.height} x {window.width} px, in {arguments.out}")


def bounding_window(scenes: list[Scene]) -> Window:
    """The smallest window around all scenes."""
    top, left = min(s.window.row for s in scenes), min(s.window.column for s in scenes)
    bottom, right = max(s.window.bottom for s in scenes), max(s.window.right for s in scenes)
    return Window(top, left, bottom - top, right - left)


def write(store: Store, scenes: list[Scene], window: Window, out: Path) -> None:
    """Copy image and labels of the scenes; pixels between them get no data."""
    affine = store.geobox.affine
    geobox = GeoBox(
        (window.height, window.width), affine @ affine.translation(window.column, window.row), store.geobox.crs
    )
    tags = {"SOURCE": ", ".join(scene.name for scene in scenes)}
    with (
        CogWriter(
            out / "real.tif", geobox, store.band_names, dtype=str(store.image.dtype), masked=True, tags=tags
        ) as real,
        CogWriter(
            out / "labels.tif",
            geobox,
            ["land cover"],
            dtype=str(store.labels.dtype),
            masked=True,
            tags=tags,
            overviews="mode",
        ) as labels,
    ):
        for scene in scenes:
            place = scene.window.shift(-window.row, -window.column)
            indices = store.read_labels(scene.window)
            valid = indices < store.legend.num_classes
            codes = store.legend.decode(indices)
            real.write(place, store.read_image(scene.window), valid)
            labels.write(place, codes[np.newaxis], valid)


if __name__ == "__main__":
    main()

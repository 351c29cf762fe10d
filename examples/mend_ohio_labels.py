"""Corrects label tiles of ohio_naip: woods that were drawn as water, and a field that was drawn as a building.

    python examples/mend_ohio_labels.py DATA/images DATA/labels OUT

In four tiles (26833, 26834, 27204 and 27574, all in the fold "train") some outlines of trees have the code of water.
Water is the rarest class, so from these a generator learns that every other pond is green. Water is black in near
infrared and trees are bright, so the rule is: if a fifth of a tile's water is brighter than `BRIGHT`, that part is
forest.

In tile 39777, of the same fold, a harvested field has the code of buildings, from which a generator learns brown roofs.
It has 13,471 pixels, the largest building 4,701, so more than `LARGEST` connected pixels are bare land. All other tiles
are copied unchanged.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import rasterio
from scipy import ndimage

WATER, FOREST, BUILDING, BARE = 5, 4, 1, 3  # codes of the labels
NIR = 4  # number of the band
BRIGHT = 120  # DN; nineteen of twenty pixels of real ponds and rivers are below
LARGEST = 10_000  # pixels
SUSPICIOUS = 0.2  # share of a tile's water; in correct tiles it is below 0.1


def main(images: Path, labels: Path, out: Path) -> None:
    """Write corrected tiles to `out`, a new folder, and print what was changed."""
    if out.exists():
        sys.exit(f"error: {out}: already exists; choose another folder")
    out.mkdir(parents=True)
    for path in sorted(labels.glob("*.tif")):
        mended = out / path.name
        shutil.copyfile(path, mended)
        with rasterio.open(images / path.name) as image, rasterio.open(mended, "r+") as tile:
            codes = tile.read(1)
            water = codes == WATER
            bright = water & (image.read(NIR) > BRIGHT)
            if bright.sum() > SUSPICIOUS * water.sum():
                codes[bright] = FOREST
                tile.write(codes, 1)
                print(f"{path.name}: {bright.sum():,} of {water.sum():,} pixels of water are forest")
            regions, _ = ndimage.label(codes == BUILDING)
            large = (np.bincount(regions.flat) > LARGEST)[regions] & (codes == BUILDING)
            if large.any():
                codes[large] = BARE
                tile.write(codes, 1)
                print(f"{path.name}: {large.sum():,} pixels of buildings are bare land")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

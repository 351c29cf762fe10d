"""Label tiles of ohio_naip, with woods that were drawn as water given back to the woods.

    python examples/mend_ohio_labels.py DATA/images DATA/labels OUT

In four tiles (26833, 26834, 27204 and 27574, all in the fold "train") some outlines of trees carry the code of water.
Water is the rarest class, so a generator learns from them that every other pond is green. Water is black in near
infrared and trees are bright, so the rule is: in a tile where a fifth of the water is brighter than `BRIGHT`, that part
is forest. All other tiles are copied as they are.
"""

import shutil
import sys
from pathlib import Path

import rasterio

WATER, FOREST, NIR = 5, 4, 4  # codes of the labels; the number of the band
BRIGHT = 120  # DN; nineteen of twenty pixels of real ponds and rivers are below
SUSPICIOUS = 0.2  # share of a tile's water; in tiles that are right it is below 0.1


def main(images: Path, labels: Path, out: Path) -> None:
    """Write mended tiles to `out`, a new folder, and print what was changed."""
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


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

"""Corrects labels of the West Virginia patches: woods that are labelled as low vegetation become tree canopy.

    python examples/mend_west_virginia_labels.py SUMMER LABELS OUT

SUMMER and LABELS contain tiles with the same names: NAIP imagery of summer, and Chesapeake land cover. In patches 3 and
7 whole woods are labelled as low vegetation; in a look measured there, every other meadow would be a wood. Meadows are
bright in red and woods dark, so low vegetation becomes tree canopy where red, averaged over a square of `SIDE` pixels,
is at most `DARK`.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import rasterio
from scipy import ndimage

CANOPY, LOW_VEGETATION = 2, 3  # codes of the labels
RED = 1  # number of the band
SIDE = 9  # pixels
DARK = 83  # DN; nineteen of twenty pixels of canopies are below


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
            dark = ndimage.uniform_filter(image.read(RED).astype(np.float64), SIDE) <= DARK
            woods = (codes == LOW_VEGETATION) & dark
            codes[woods] = CANOPY
            tile.write(codes, 1)
            print(f"{path.name}: {woods.sum():,} pixels of low vegetation are tree canopy")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

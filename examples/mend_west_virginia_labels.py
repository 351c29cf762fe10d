"""Labels of the West Virginia patches, with woods that are labelled as low vegetation given back to the canopies.

    python examples/mend_west_virginia_labels.py SUMMER LABELS OUT

SUMMER and LABELS hold tiles of the same names: NAIP imagery of summer, and Chesapeake land cover. In patches 3 and 7
whole woods are labelled as low vegetation; from them a look learns that every other meadow is a wood. Meadows are
bright in red and woods dark, so low vegetation is tree canopy where red, as a mean of `SIDE` pixels, is at most `DARK`.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import rasterio
from scipy import ndimage

CANOPY, LOW_VEGETATION = 2, 3  # codes of the labels
RED = 1  # the number of the band
SIDE = 9  # pixels
DARK = 83  # DN; nineteen of twenty pixels of canopies are below


def main(images: Path, labels: Path, out: Path) -> None:
    """Write mended tiles to `out`, a new folder, and print what was changed."""
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

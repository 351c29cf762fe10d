"""Join the dubai_rgb parts to scenes for `geosynth ingest`: images, masks and a list of both.

    python examples/dubai_scenes.py dubai_rgb --test scene_1 --out scenes

`ingest` needs to know where a raster is, but these parts have no georeference, so their relative positions are unknown.
Here the 3 x 3 parts of a scene become one raster; masks, even those with palettes, become colours of the classes.
Scenes are side by side on one local grid: a unit is a pixel, there is no CRS, and there is nothing between scenes.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from PIL import Image

SIDE = 3  # parts in a row, and rows in a scene
GAP = 1024  # pixels between two scenes, so that they do not count as neighbours

Bytes = npt.NDArray[np.uint8]


def main() -> None:
    """Parse arguments, write the scenes and their list, print a summary."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of scene_*/images/*.jpg and scene_*/masks/*.png")
    parser.add_argument("--test", required=True, help="name of the scene to keep from training")
    parser.add_argument("--out", type=Path, required=True, help="folder for images/, labels/ and scenes.csv")
    arguments = parser.parse_args()

    folders = sorted(arguments.data.glob("scene_*"))
    if arguments.test not in [folder.name for folder in folders]:
        raise SystemExit(f"{arguments.data}: has no scene {arguments.test!r}")
    left, rows = GAP, []
    for folder in folders:
        image, mask = join_parts(folder / "images"), join_parts(folder / "masks")
        place = Affine(1, 0, left, 0, -1, 0)
        write(arguments.out / "images" / f"{folder.name}.tif", image, place)
        write(arguments.out / "labels" / f"{folder.name}.tif", mask, place)
        fold = "test" if folder.name == arguments.test else "train"
        rows.append([f"images/{folder.name}.tif", f"labels/{folder.name}.tif", folder.name, fold])
        left += image.shape[1] + GAP
        print(f"{folder.name}: {image.shape[0]} x {image.shape[1]} px, {fold}")
    with (arguments.out / "scenes.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["image", "labels", "name", "fold"], *rows])


def join_parts(folder: Path) -> Bytes:
    """The nine parts of a scene, which are numbered row by row, as one image (height, width, 3).

    Raises:
        SystemExit: if there are not nine parts.
    """
    parts = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("image_part_*"))]
    if len(parts) != SIDE**2:
        raise SystemExit(f"{folder}: holds {len(parts)} parts, not {SIDE**2}")
    rows = [np.concatenate(parts[start : start + SIDE], axis=1) for start in range(0, SIDE**2, SIDE)]
    return np.concatenate(rows)


def write(path: Path, values: Bytes, place: Affine) -> None:
    """A tiled GeoTIFF of values (height, width, bands) without a CRS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, count = values.shape
    shape = {"count": count, "height": height, "width": width, "dtype": values.dtype}
    with rasterio.open(path, "w", driver="GTiff", transform=place, tiled=True, compress="deflate", **shape) as dataset:
        dataset.write(np.moveaxis(values, -1, 0))


if __name__ == "__main__":
    main()

"""Make the dubai_rgb parts into scenes that `geosynth ingest` reads: images, class codes and a list of both.

    python examples/dubai_scenes.py dubai_rgb --legend examples/dubai_rgb_legend.yaml --test scene_1 --out scenes

`ingest` reads class codes and needs to know where a raster lies. These masks tell classes by colour, some in RGB, some
by palettes that differ from file to file; and the parts have no georeference, so that nothing tells their places among
each other. Here colours become the legend's codes, and the 3 x 3 parts of a scene one raster. Scenes stand side by side
on one local grid: a unit is a pixel, there is no CRS, and what lies between scenes is empty.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from PIL import Image

from geosynth.legend import Legend

SIDE = 3  # parts in a row, and rows in a scene
GAP = 1024  # pixels between two scenes, so that they do not count as neighbours
UNLABELLED = ("#000000", "#9B9B9B")

Bytes = npt.NDArray[np.uint8]


def main() -> None:
    """Parse, write the scenes and their list, say what there is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of scene_*/images/*.jpg and scene_*/masks/*.png")
    parser.add_argument("--legend", type=Path, required=True, help="its colours are those of the masks")
    parser.add_argument("--test", required=True, help="name of the scene to keep from training")
    parser.add_argument("--out", type=Path, required=True, help="folder for images/, labels/ and scenes.csv")
    arguments = parser.parse_args()

    legend = Legend.load(arguments.legend)
    folders = sorted(arguments.data.glob("scene_*"))
    if arguments.test not in [folder.name for folder in folders]:
        raise SystemExit(f"{arguments.data}: has no scene {arguments.test!r}")
    left, rows = GAP, []
    for folder in folders:
        image = join_parts(folder / "images")
        codes = codes_of_colours(join_parts(folder / "masks"), legend, folder.name)
        place = Affine(1, 0, left, 0, -1, 0)
        write(arguments.out / "images" / f"{folder.name}.tif", np.moveaxis(image, -1, 0), place)
        write(arguments.out / "labels" / f"{folder.name}.tif", codes[np.newaxis], place, nodata=legend.nodata_code)
        fold = "test" if folder.name == arguments.test else "train"
        rows.append([f"images/{folder.name}.tif", f"labels/{folder.name}.tif", folder.name, fold])
        left += image.shape[1] + GAP
        labelled = (codes != legend.nodata_code).mean()
        print(f"{folder.name}: {image.shape[0]} x {image.shape[1]} px, {labelled:.1%} labelled, {fold}")
    with (arguments.out / "scenes.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["image", "labels", "name", "fold"], *rows])


def join_parts(folder: Path) -> Bytes:
    """The nine parts of a scene as one image (height, width, 3); they are numbered row by row.

    Raises:
        SystemExit: if there are not nine.
    """
    parts = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("image_part_*"))]
    if len(parts) != SIDE**2:
        raise SystemExit(f"{folder}: holds {len(parts)} parts, not {SIDE**2}")
    rows = [np.concatenate(parts[start : start + SIDE], axis=1) for start in range(0, SIDE**2, SIDE)]
    return np.concatenate(rows)


def codes_of_colours(mask: Bytes, legend: Legend, source: str) -> Bytes:
    """The legend's codes (height, width) of a mask's colours (height, width, 3).

    Raises:
        SystemExit: if a colour is neither a class's nor one of `UNLABELLED`; `source` names the mask.
    """
    codes = {int(entry.colour[1:], 16): entry.code for entry in legend.classes}
    codes |= {int(colour[1:], 16): legend.nodata_code for colour in UNLABELLED}
    packed = mask.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)
    colours, position = np.unique(packed, return_inverse=True)
    unknown = [f"#{colour:06X}" for colour in colours.tolist() if colour not in codes]
    if unknown:
        raise SystemExit(f"{source}: colours that {legend.name} does not know: {', '.join(unknown[:12])}")
    table = np.array([codes[colour] for colour in colours.tolist()], dtype=np.uint8)
    return table[position].reshape(packed.shape)


def write(path: Path, values: npt.NDArray[Any], place: Affine, nodata: int | None = None) -> None:
    """A tiled GeoTIFF of values (bands, height, width) without a CRS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    shape = {"count": count, "height": height, "width": width, "dtype": values.dtype, "nodata": nodata}
    with rasterio.open(path, "w", driver="GTiff", transform=place, tiled=True, compress="deflate", **shape) as dataset:
        dataset.write(values)


if __name__ == "__main__":
    main()

"""Draws figures of README.md, docs/how_it_works.md and docs/adapting.md: examples/md_lc.tif, by the embedded model.

    python docs/images/how_it_works.py

About two minutes on one core.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import rasterio
import rioxarray
from rasterio.windows import Window

import geosynth

mpl.use("Agg")
from matplotlib import pyplot as plt
from PIL import Image, ImageColor

from geosynth.legend import CHESAPEAKE

HERE = Path(__file__).parent
LABELS = HERE.parents[1] / "examples/md_lc.tif"
SIDE = 256
Array = npt.NDArray[Any]


def show(axes: Any, image: Array, title: str) -> None:
    """Draw bands (3, y, x) or one (y, x)."""
    axes.imshow(image if image.ndim == 2 else np.moveaxis(image, 0, -1), cmap="gray", interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.axis("off")


def draw_seams(labels: Any, west: int = 256, north: int = 160) -> None:
    """Four windows painted alone, the same by `generate`, and where they differ."""
    whole = labels.isel(y=slice(north, north + 2 * SIDE), x=slice(west, west + 2 * SIDE))
    painted = geosynth.generate(labels, seed=3).isel(y=slice(north, north + 2 * SIDE), x=slice(west, west + 2 * SIDE))
    alone = np.zeros_like(painted.values)
    for row in (0, SIDE):
        for column in (0, SIDE):
            place = np.s_[:, row : row + SIDE, column : column + SIDE]
            alone[place] = geosynth.generate(whole[place[1:]].drop_attrs().rio.write_crs(labels.rio.crs), seed=3).values
    difference = np.abs(alone.astype(int) - painted.values).max(0)
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
    show(axes[0], alone[:3], "windows painted alone")
    show(axes[1], painted.values[:3], "with the halo")
    show(axes[2], np.minimum(4 * difference, 255), "difference, times 4")
    figure.savefig(HERE / "seams.jpg", dpi=110, pil_kwargs={"quality": 85})


def patterns_of(codes: Array) -> Array:
    """A number for the labels of the 3 x 3 pixels around each inner pixel; equal numbers are equal labels."""
    rows, columns = codes.shape[0] - 2, codes.shape[1] - 2
    number = np.zeros((rows, columns), np.int64)
    for row in range(3):
        for column in range(3):
            number = 16 * number + codes[row : row + rows, column : column + columns]
    return number


def draw_patterns(codes: Array) -> float:
    """Different patterns against pixels; gives the share of pixels with one class in the 5 x 5 around."""
    sides = [32, 64, 128, 256, 512, min(codes.shape)]
    rng = np.random.default_rng(0)
    counts = []
    for side in sides:
        draws = [rng.integers(0, np.array(codes.shape) - side + 1) for _ in range(8)]
        counts.append(np.mean([len(np.unique(patterns_of(codes[y : y + side, x : x + side]))) for y, x in draws]))
    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    pixels = [side**2 for side in sides]
    axes.loglog(pixels, pixels, color="0.7", label="pixels")
    axes.loglog(pixels, counts, marker="o", label="different 3 x 3 patterns")
    axes.set_xlabel("pixels of a window")
    axes.legend(frameon=False)
    figure.savefig(HERE / "patterns.png", dpi=110)
    around = np.lib.stride_tricks.sliding_window_view(codes, (5, 5)).reshape(codes.shape[0] - 4, codes.shape[1] - 4, -1)
    return float((around.min(-1) == around.max(-1)).mean())


def draw_styles(labels: Any) -> None:
    """One place in three seeds."""
    figure, axes = plt.subplots(2, 3, figsize=(9, 6.2), layout="constrained")
    for column, seed in enumerate((1, 4, 9)):
        painted = geosynth.generate(labels, seed=seed, style_length=0.0)
        image = painted.isel(y=slice(480, 480 + SIDE), x=slice(550, 550 + SIDE)).values
        show(axes[0, column], image[:3], f"seed {seed}")
        show(axes[1, column], image[[3, 0, 1]], "near infrared, red, green")
    figure.savefig(HERE / "styles.jpg", dpi=110, pil_kwargs={"quality": 85})


def save_beside(images: list[Array], name: str, scale: int = 1) -> None:
    """Images (3, y, x) side by side, made smaller `scale` times."""
    whole = Image.fromarray(np.moveaxis(np.concatenate(images, 2), 0, -1))
    whole.reduce(scale).save(HERE / name, quality=88)


def draw_example(labels: Any, codes: Array) -> None:
    """Labels, colours and near infrared of the whole example; white where there is no data."""
    painted = geosynth.generate(labels).values
    colours = np.full((3, *codes.shape), 255, np.uint8)
    for entry in CHESAPEAKE.classes:
        colours[:, codes == entry.code] = np.array(ImageColor.getrgb(entry.colour), np.uint8)[:, None]
    painted[:, ~np.isin(codes, [entry.code for entry in CHESAPEAKE.classes])] = 255
    save_beside([colours, painted[:3], painted[[3, 3, 3]]], "example.jpg", 2)


def draw_looks(labels: Any, north: int = 100, west: int = 150, side: int = 400) -> None:
    """One place in each look of the embedded model."""
    place = np.s_[:3, north : north + side, west : west + side]
    names = geosynth.info("chesapeake-small")["looks"]
    save_beside([geosynth.generate(labels, look=name).values[place] for name in names], "looks.jpg")


def main() -> None:
    """Write the pictures; print what the page says in numbers."""
    labels = rioxarray.open_rasterio(LABELS).squeeze("band", drop=True)
    with rasterio.open(LABELS) as raster:
        codes = raster.read(1, window=Window(0, 0, raster.width, raster.height))
    print(f"one class in the 5 x 5 pixels around: {draw_patterns(codes):.1%}")
    draw_seams(labels)
    draw_styles(labels)
    draw_example(labels, codes)
    draw_looks(labels)


if __name__ == "__main__":
    main()

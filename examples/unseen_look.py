"""How far a model follows the look of a place: class means of what it paints, against the real images.

    python examples/unseen_look.py IMAGES LABELS --take NAME ... [--model FILE] [--legend FILE] [--out DIR]

IMAGES and LABELS are folders with files of equal names. The look is taken from the images that `--take` names (with
their labels, and without any), the labels of the others are painted in it, and each class is compared: mean over bands
of the absolute difference of the mean values, in DN. "model's own" is the model's first look, for comparison. DIR gets
the painted images, and picture.png: real, with labels, without labels, the model's own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from PIL import Image

import geosynth
from geosynth.checkpoint import load_generator
from geosynth.legend import Legend
from geosynth.mosaic.looks import look_from_images

_FEW_PIXELS = 400  # of a class: its means tell nothing


def main() -> None:
    """Print a table of classes, and one row of differences a look."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("images", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--take", nargs="+", required=True, help="file names whose look is taken")
    parser.add_argument("--model", help="a model file; without it the embedded one")
    parser.add_argument("--legend", default="chesapeake", help="of the labels")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    model, legend = load_generator(options.model), Legend.load(options.legend)
    taken = [options.images / name for name in options.take]
    labels = [options.labels / name for name in options.take]
    others = [path for path in sorted(options.images.glob("*.tif")) if path.name not in options.take]
    looks = {
        "with labels": look_from_images(taken, labels, model, legend),
        "without labels": look_from_images(taken, [], model),
        "model's own": model.look(),
    }
    real = np.stack([_pixels(path) for path in others])
    codes = np.stack([_pixels(options.labels / path.name)[0] for path in others])
    rows = [real]
    print(f"{'':16}", *(f"{entry.name[:12]:>14}" for entry in legend.classes))
    print(f"{'share':16}", *(f"{(codes == code).mean():14.1%}" for code in legend.codes))
    for name, look in looks.items():
        painted = [options.out / f"{path.stem} {name}.tif" for path in others]
        for path, out in zip(others, painted, strict=True):
            geosynth.generate(
                options.labels / path.name, out, model, legend=legend, style=look, preview=False, overwrite=True
            )
        rows.append(np.stack([_pixels(out) for out in painted]))
        print(f"{name:16}", *(f"{_difference(real, rows[-1], codes == code):>14}" for code in legend.codes))
    picture = np.concatenate([np.concatenate([*tiles[:, :3]], axis=2) for tiles in rows], axis=1)
    Image.fromarray(picture.transpose(1, 2, 0)).save(options.out / "picture.png")


def _pixels(path: Path) -> npt.NDArray[np.uint8]:
    with rasterio.open(path) as dataset:
        values: npt.NDArray[np.uint8] = dataset.read()
    return values


def _difference(real: npt.NDArray[np.uint8], painted: npt.NDArray[np.uint8], where: npt.NDArray[np.bool_]) -> str:
    """Of the means of a class's pixels, mean over bands."""
    if where.sum() < _FEW_PIXELS:
        return "-"
    means = [image.transpose(0, 2, 3, 1)[where].mean(axis=0) for image in (real, painted)]
    return f"{np.abs(means[0] - means[1]).mean():.1f}"


if __name__ == "__main__":
    main()

"""How well a model follows the look of a place: class means in what it paints, compared with the real images.

    python examples/unseen_look.py IMAGES LABELS [--take NAME ...] --out PICTURE.png [--model FILE] [--legend FILE]

IMAGES and LABELS are folders with files of the same names. The look is taken from the images that `--take` names (with
and without their labels), the labels of the others are painted in it, and each class is compared: mean over bands of
the absolute difference of the mean values, in DN. Without `--take`, the look is taken from all images and painted on
all labels. Tones are drawn for each place, so means are over 16 seeds. For comparison, "model's own" is the model's
first look, and "taken" are the real images that the look was taken from. Images may lack the model's last bands. The
picture has a row each for: real, with labels, without labels, the model's own look.
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
from geosynth.legend import ClassIndices, Legend
from geosynth.mosaic.looks import look_from_images
from geosynth.raster.labels import LabelRaster

_FEW_PIXELS = 400  # of a class; with fewer, its mean says nothing
_SEEDS = range(16)  # of a desert, single seeds are up to 40 DN off in roads, which differ much from place to place


def main() -> None:
    """Print a table with columns of classes and a row of differences for each look."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("images", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--take", nargs="+", help="file names whose look is taken; without it all")
    parser.add_argument("--model", help="a model file; without it the embedded one")
    parser.add_argument("--legend", default="chesapeake", help="of the labels")
    parser.add_argument("--out", type=Path, required=True, help="picture, .png")
    options = parser.parse_args()

    model, legend = load_generator(options.model), Legend.load(options.legend)
    images = sorted(options.images.glob("*.tif"))
    taken = [options.images / name for name in options.take] if options.take else images
    labels = [options.labels / path.name for path in taken]
    others = [path for path in images if path not in taken] or images
    looks = {
        "with labels": look_from_images(taken, labels, model, legend),
        "without labels": look_from_images(taken, [], model),
        "model's own": model.look(),
    }
    real, known = (np.stack([_pixels(path) for path in paths]) for paths in (others, taken))
    classes, known_classes = (
        np.stack([_classes(options.labels / path.name, legend) for path in paths]) for paths in (others, taken)
    )
    indices = range(legend.num_classes)
    means = [_mean(real, classes == index) for index in indices]
    rows = [real]
    print(f"{'':16}", *(f"{entry.name[:12]:>14}" for entry in legend.classes))
    print(f"{'share':16}", *(f"{(classes == index).mean():14.1%}" for index in indices))
    print(f"{'taken':16}", *(_difference(means[index], known, known_classes == index) for index in indices))
    for name, look in looks.items():
        painted = np.stack(
            [
                geosynth.generate(options.labels / path.name, model=model, legend=legend, style=look, seed=seed).values[
                    : real.shape[1]
                ]
                for seed in _SEEDS
                for path in others
            ]
        )
        where = np.concatenate([classes] * len(_SEEDS))
        print(f"{name:16}", *(_difference(means[index], painted, where == index) for index in indices))
        rows.append(painted[: len(others)])
    picture = np.concatenate([np.concatenate([*tiles[:, :3]], axis=2) for tiles in rows], axis=1)
    Image.fromarray(picture.transpose(1, 2, 0)).save(options.out)


def _pixels(path: Path) -> npt.NDArray[np.uint8]:
    with rasterio.open(path) as dataset:
        values: npt.NDArray[np.uint8] = dataset.read()
    return values


def _classes(path: Path, legend: Legend) -> ClassIndices:
    labels = LabelRaster(path, legend)
    return labels.read_known(labels.raster.window)


def _mean(images: npt.NDArray[np.uint8], where: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64] | None:
    """Mean of a class's pixels, (bands,); None if there are few."""
    if where.sum() < _FEW_PIXELS:
        return None
    means: npt.NDArray[np.float64] = images.transpose(0, 2, 3, 1)[where].mean(axis=0)
    return means


def _difference(
    mean: npt.NDArray[np.float64] | None, images: npt.NDArray[np.uint8], where: npt.NDArray[np.bool_]
) -> str:
    """Absolute difference of the means of a class, averaged over bands, as text."""
    other = _mean(images, where)
    return f"{'-' if mean is None or other is None else f'{np.abs(mean - other).mean():.1f}':>14}"


if __name__ == "__main__":
    main()

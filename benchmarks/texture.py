"""Texture in the interior of wide areas of one class, painted and real.

    python benchmarks/texture.py STORE [--model FILE] [--size 64] [--out FILE.png] [--json FILE]

STORE is made by `geosynth ingest`. Real windows with only one class (of its test and val folds, else of all) are
compared with as many windows that `generate` paints inside wide areas of that class.
Keys: `spectrum_ratio`: by class, painted power over real power in four bands of spatial frequency, coarse to fine
(1 is right, 0 is flat); `periodicity`: by class, the largest autocorrelation of the painted texture at a shift of
whole strides, where a generator without noise in space repeats itself (real in brackets in the table). The picture
shows painted windows of each class, and the spectra of both.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from affine import Affine
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr
from rich.console import Console
from rich.table import Table
from torch import Tensor

from geosynth.checkpoint import GeneratorModel, load_generator
from geosynth.mosaic.generate import generate
from geosynth.raster.stores.open import open_sources
from geosynth.raster.stores.source import PatchSource
from last_line import print_result

NUM_WINDOWS, MIN_WINDOWS = 40, 3


def real_windows(source: PatchSource, index: int, size: int) -> Tensor:
    """Raster values (n, bands, size, size) of windows with only one class; n may be 0."""
    found = []
    scenes = [*source.scenes_in("test"), *source.scenes_in("val")] or list(source.scenes)
    for scene in scenes:
        labels, image = source.read_labels(scene.window), source.read_image(scene.window)
        for row in range(0, labels.shape[0] - size + 1, size // 2):
            for column in range(0, labels.shape[1] - size + 1, size // 2):
                place = (slice(row, row + size), slice(column, column + size))
                if (labels[place] == index).all():
                    found.append(torch.from_numpy(image[(slice(None), *place)].astype("float32")))
    order = np.random.default_rng(0).permutation(len(found))[:NUM_WINDOWS]
    return torch.stack([found[place] for place in order]) if found else torch.empty(0)


def painted_windows(model: GeneratorModel, index: int, count: int, size: int) -> Tensor:
    """The same number of painted windows, each with its own seed, surrounded by the same class."""
    gsd = model.card.gsd or 1.0
    geobox = GeoBox((size, size), Affine.scale(gsd, -gsd), "EPSG:26917")
    labels = wrap_xr(np.full((size, size), model.card.legend.codes[index]), geobox)
    images = [generate(labels, model=model, seed=seed).to_numpy() for seed in range(count)]
    return torch.from_numpy(np.stack(images).astype("float32"))


def power(windows: Tensor) -> Tensor:
    """Mean power in four octaves of spatial frequency, from coarse to fine, without the mean, (4,)."""
    size = windows.shape[-1]
    values = windows - windows.mean((2, 3), keepdim=True)
    energy = (torch.fft.fft2(values, norm="ortho").abs() ** 2).mean((0, 1))
    frequency = torch.fft.fftfreq(size).abs()
    radius = torch.sqrt(frequency[:, None] ** 2 + frequency[None] ** 2)
    edges = (1 / size / 2, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
    return torch.stack([energy[(radius >= low) & (radius < high)].mean() for low, high in pairwise(edges)])


def spectrum(windows: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Radially averaged power over cycles per pixel, without the mean."""
    size = windows.shape[-1]
    values = windows - windows.mean((2, 3), keepdim=True)
    energy = (torch.fft.fft2(values, norm="ortho").abs() ** 2).mean((0, 1)).numpy()
    frequency = np.fft.fftfreq(size)
    rings = np.rint(np.hypot(frequency[:, None], frequency) * size).astype(int).ravel()
    power_of_ring = np.bincount(rings, energy.ravel()) / np.bincount(rings)
    return np.arange(1, size // 2) / size, power_of_ring[1 : size // 2]


def draw(windows: dict[str, tuple[Tensor, Tensor]], path: Path) -> None:
    """A row for each class: painted windows in natural colours, and the spectra of real and painted ones."""
    figure = Figure(figsize=(11, 1.9 * len(windows)), layout="constrained")
    axes = figure.subplots(len(windows), 2, width_ratios=(3, 1), squeeze=False)
    for (left, right), (name, (real, fake)) in zip(axes, windows.items(), strict=True):
        strip = torch.cat(list(fake[:6, :3]), dim=2).clamp(0, 255).byte().permute(1, 2, 0).numpy()
        left.imshow(strip, interpolation="nearest")
        left.set_axis_off()
        left.set_title(f"{name}, painted", fontsize=9, loc="left")
        for values, label in ((real, "real"), (fake, "painted")):
            right.loglog(*spectrum(values), label=label, linewidth=1)
        right.tick_params(labelsize=7)
        right.xaxis.set_minor_formatter(NullFormatter())
        right.legend(fontsize=7)
        right.set_title("power over cycles per pixel", fontsize=9)
    figure.savefig(path, dpi=100)


def periodicity(windows: Tensor, stride: int) -> float:
    """Largest mean autocorrelation at shifts of a whole stride along either axis, 1 if the texture repeats exactly."""
    values = windows - windows.mean((2, 3), keepdim=True)
    scale = values.square().mean((2, 3)).clamp(min=1e-6)
    shifts = []
    for axis in (2, 3):
        length = values.shape[axis] - stride
        product = values.narrow(axis, 0, length) * values.narrow(axis, stride, length)
        shifts.append(float((product.mean((2, 3)) / scale).mean()))
    return max(shifts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store")
    parser.add_argument("--model", help="a model file; the embedded one if not said")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--out", type=Path, help="picture: painted windows and spectra, class by class")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    arguments = parser.parse_args()
    model, source = load_generator(arguments.model), open_sources(arguments.store)[0]
    stride = model.generator.settings.stride
    ratios, repeats, windows = {}, {}, {}
    table = Table("class", "windows", "power, painted / real: coarse", "", "", "fine", "repeats (real)")
    for index, name in enumerate(source.legend.names):
        real = real_windows(source, index, arguments.size)
        if len(real) < MIN_WINDOWS:
            continue
        fake = painted_windows(model, model.card.legend.names.index(name), len(real), arguments.size)
        ratio = power(fake) / power(real)
        ratios[name] = [round(float(value), 3) for value in ratio]
        repeats[name] = round(periodicity(fake, stride), 3)
        table.add_row(
            name, str(len(real)), *map(str, ratios[name]), f"{repeats[name]} ({periodicity(real, stride):.3f})"
        )
        windows[name] = real, fake
    Console().print(table)
    if arguments.out and windows:
        draw(windows, arguments.out)
    print_result({"spectrum_ratio": ratios, "periodicity": repeats}, arguments.json)


if __name__ == "__main__":
    main()

"""The generator compared with a plain implementation: same weights, same inputs, alternately in one run.

    python benchmarks/generator.py [--quick] [--device cuda] [--compile] [--json FILE]

The peer is `plain_spade.py`: dense modulation, float32, contiguous, eager, with torch's defaults. The network is that
of Park et al. (linear start, five doublings) at base width 64, 256 px, batch 4; --quick uses width 8, 64 px and batch
2. Labels are real land-cover tiles if available (GEOSYNTH_DATA or ../shared/data), else drawn ones of about the same
texture. Building the pattern tables is part of each call.

On CUDA float32 is torch's default: convolutions may use TF32 (10 bits of mantissa), but matrix products, by which the
pattern tables are made, do not. Outputs are compared without TF32, times are measured with it. A call ends when the GPU
has finished.

Keys: `speedup_fp32` and `speedup_bf16` are the peer's median time in float32 over ours in float32 and in bfloat16. In
`speedup_*_same_memory` (not on CUDA) the peer has our memory setting, in `speedup_bf16_vs_bf16` it runs in bfloat16,
too. On a CPU without bfloat16, which emulates it slowly, only ours is run in it. `convolutions_fp32` and
`convolutions_bf16` are the peer's time over that of only the convolutions of the blocks, a limit that no modulation can
exceed. `images_per_second_*` are the peer's in float32 ("plain") and ours ("fp32", "bf16"). With --compile,
`speedup_compile` is the gain of the peer by torch.compile alone (without the time of compiling; our network has other
shapes for each set of labels and would be compiled again and again). `seconds_*` are the rungs of `levers.py`, each
with one more lever.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from geosynth.checkpoint import GeneratorModel, ModelCard
from geosynth.config import GeneratorSettings
from geosynth.models.device import uses_bfloat16
from geosynth.models.generator import SpadeGenerator
from geosynth.models.patterns import LabelPatterns
from geosynth.models.process_settings import full_float32
from last_line import print_result
from levers import LAST_RUNG, WARM_UPS, Network, ladder, machine_facts, seconds_of
from plain_spade import PlainGenerator, copy_weights

NUM_CLASSES, NUM_BANDS, LATENT_SIZE = 6, 4, 256

Contenders = dict[str, tuple[Network, bool]]  # network, and whether it runs with kept memory


def real_files(kind: str, count: int) -> list[Path]:
    """Some real tiles, spread evenly: their "images" or "labels"; empty if there are none."""
    data = Path(os.environ.get("GEOSYNTH_DATA", Path(__file__).parents[2] / "shared" / "data"))
    files = sorted((data / "ohio_naip" / kind).glob("*.tif"))
    return files[:: max(1, len(files) // count)][:count]


def label_tiles(size: int, count: int) -> tuple[Tensor, str]:
    """Class indices (count, size, size), and where they come from."""
    files = real_files("labels", count)
    if not files:
        return drawn_tiles(size, count), "drawn"
    import rasterio  # only here: drawn labels need no GDAL

    tiles = []
    for path in files:
        with rasterio.open(path) as raster:
            tiles.append(torch.from_numpy(raster.read(1)[:size, :size].astype("int64")))
    return torch.stack(tiles), "ohio_naip"


def drawn_tiles(size: int, count: int) -> Tensor:
    """Patches of a few frequent and some rare classes, and a road: about as many patterns and borders as real tiles."""
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn((count, NUM_CLASSES, size // 64 + 1, size // 64 + 1), generator=rng)
    frequency = torch.tensor([0.0, -2.2, -2.2, -1.1, 0.0, -1.1]).view(1, -1, 1, 1)
    labels = (F.interpolate(noise, size=(size, size), mode="bilinear") + frequency).argmax(1)
    labels[:, :, size // 3 : size // 3 + 10] = 2
    return labels


def build(width: int, size: int, device: str) -> tuple[SpadeGenerator, PlainGenerator]:
    """Both generators on the device with equal random weights, large enough for every part to show in the output."""
    torch.manual_seed(0)
    settings = GeneratorSettings.reference(NUM_CLASSES, NUM_BANDS, crop_size=size, base_width=width)
    ours = SpadeGenerator(settings).eval().requires_grad_(False)
    for name, value in ours.named_parameters():
        value.normal_(std=value[0].numel() ** -0.5 if value.ndim > 1 else 0.1)
        if name.startswith("to_image"):
            value.mul_(0.3)  # away from the flat ends of tanh
    for name, buffer in ours.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    plain = PlainGenerator(NUM_CLASSES, NUM_BANDS, base_width=width, crop_size=size).eval().requires_grad_(False)
    copy_weights(plain, ours.state_dict())
    return ours.to(device).to(memory_format=torch.channels_last), plain.to(device)


def base_model(like: GeneratorModel) -> GeneratorModel:
    """An untrained network of the reference's width, for the legend and bands of a model and on its device."""
    settings = GeneratorSettings(num_classes=like.card.settings.num_classes, num_bands=like.card.settings.num_bands)
    generator = SpadeGenerator(settings).to(next(like.generator.parameters()).device)
    generator = generator.to(memory_format=torch.channels_last).eval().requires_grad_(False)
    card = ModelCard(settings=settings, legend=like.card.legend, bands=like.card.bands, gsd=like.card.gsd)
    return GeneratorModel(generator, card, like.path)


def in_bfloat16(network: Network) -> Network:
    """Under autocast."""

    def call(labels: Tensor, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, torch.bfloat16):
            return network(labels, z).float()

    return call


def bare_convolutions(generator: SpadeGenerator, size: int) -> Network:
    """Only the convolutions of the blocks, on features of the right sizes."""
    work: list[tuple[torch.nn.Conv2d, int]] = []
    for stage in generator.settings.stages:
        block = generator.blocks[stage.name]
        layers = [layer for layer in block.children() if isinstance(layer, torch.nn.Conv2d)]
        work += [(layer, size // stage.stride) for layer in layers]
    work.append((generator.to_image, size))
    features: dict[tuple[int, int, int], Tensor] = {}

    def call(labels: Tensor, z: Tensor) -> Tensor:
        dtype = torch.bfloat16 if torch.is_autocast_enabled(z.device.type) else torch.float32
        for layer, cells in work:
            shape = (layer.in_channels, cells, int(dtype == torch.bfloat16))
            if shape not in features:
                values = torch.randn(len(labels), layer.in_channels, cells, cells, dtype=dtype, device=z.device)
                features[shape] = values.contiguous(memory_format=torch.channels_last)
            result: Tensor = layer(features[shape])
        return result

    return call


def measure(width: int, size: int, batch: int, seconds: float, device: str, compiled: bool) -> dict[str, Any]:
    """Run one batch through every contender, in rounds, until `seconds` are over, at least three times."""
    ours, plain = build(width, size, device)  # not in inference mode: geosynth folds such weights anew at each call
    tiles, source = label_tiles(size, 4 * batch)
    tiles = tiles.to(device)
    z = torch.randn((batch, LATENT_SIZE), generator=torch.Generator().manual_seed(1)).to(device)
    has_bfloat16 = uses_bfloat16("auto", device)
    contenders = gather(ours, plain, size, device, bfloat16=has_bfloat16, compiled=compiled)
    with torch.inference_mode():
        with full_float32():
            exact = plain(tiles[:batch], z)
            differences = check(contenders, exact, tiles[:batch], z)
        medians, rounds = time_rounds(contenders, tiles, z, seconds, device)

    show(medians, differences)
    patterns = [LabelPatterns(tile[None], NUM_CLASSES, "zeros") for tile in tiles]
    fp32, bf16 = medians[LAST_RUNG[device]], medians["+ bfloat16"]
    result = {
        "speedup_fp32": medians["plain"] / fp32,
        "speedup_bf16": medians["plain"] / bf16,
        "images_per_second_plain": batch / medians["plain"],
        "images_per_second_fp32": batch / fp32,
        "images_per_second_bf16": batch / bf16,
        "convolutions_fp32": medians["plain"] / medians["bare convolutions"],
        "max_abs_diff_fp32": float(differences[LAST_RUNG[device]].max()),
        "mean_abs_diff_bf16": float(differences["+ bfloat16"].mean()),
        "output_std": float(exact.std()),
        **{f"seconds_{name.strip('+ ').replace(' ', '_')}": value for name, value in medians.items()},
        "rounds": rounds,
        "base_width": width,
        "size": size,
        "batch": batch,
        "labels": source,
        "patterns_per_tile": statistics.mean(each.num_patterns for each in patterns),
        "border_share": statistics.mean(len(each.found.border) / each.num_pixels for each in patterns),
        **machine_facts(device),
    }
    if device == "cpu":
        same_memory = medians["plain with kept memory"]
        result |= {"speedup_fp32_same_memory": same_memory / fp32, "speedup_bf16_same_memory": same_memory / bf16}
    if has_bfloat16:
        result |= {
            "speedup_bf16_vs_bf16": medians["plain bfloat16"] / bf16,
            "convolutions_bf16": medians["plain"] / medians["bare convolutions bfloat16"],
            "mean_abs_diff_bf16_plain": float(differences["plain bfloat16"].mean()),
        }
    if compiled:
        result["speedup_compile"] = medians["plain"] / medians["plain compiled"]
    return result


def gather(
    ours: SpadeGenerator, plain: PlainGenerator, size: int, device: str, *, bfloat16: bool, compiled: bool
) -> Contenders:
    """All contenders; with `bfloat16`, also the peer and the bare convolutions in it."""
    bare = bare_convolutions(ours, size)
    contenders: Contenders = {
        **ladder(plain, ours, device),
        # A copy: a layer keeps its folded weights in one number format.
        "+ bfloat16": (in_bfloat16(copy.deepcopy(ours)), True),
        "bare convolutions": (bare, True),
    }
    if device == "cpu":
        contenders["plain with kept memory"] = plain, True
    if bfloat16:
        contenders["plain bfloat16"] = in_bfloat16(plain), False
        contenders["bare convolutions bfloat16"] = in_bfloat16(bare), True
    if compiled:
        contenders["plain compiled"] = torch.compile(plain), False
    return contenders


def check(contenders: Contenders, exact: Tensor, labels: Tensor, z: Tensor) -> dict[str, Tensor]:
    """Absolute differences of each image from the peer's, by name; refuses large ones."""
    images = {name: call(labels, z) for name, (call, _) in contenders.items() if not name.startswith("bare")}
    differences = {name: (image - exact).abs() for name, image in images.items()}
    largest = {name: float(value.max()) for name, value in differences.items()}
    same = all(value <= 1e-3 for name, value in largest.items() if "bfloat16" not in name)
    if not same or not differences["+ bfloat16"].mean() <= 0.05:
        raise SystemExit(f"outputs differ: {largest}")
    return differences


def time_rounds(
    contenders: Contenders, tiles: Tensor, z: Tensor, seconds: float, device: str
) -> tuple[dict[str, float], int]:
    """Median seconds of a call, by name, and the number of rounds."""

    def go_round(number: int) -> dict[str, float]:
        first = number * len(z) % len(tiles)
        labels = tiles[first : first + len(z)]
        return {
            name: seconds_of(partial(call, labels, z), device, kept=kept) for name, (call, kept) in contenders.items()
        }

    for number in range(WARM_UPS[device]):
        go_round(number)
    rounds: list[dict[str, float]] = []
    started = time.perf_counter()
    while len(rounds) < 3 or time.perf_counter() - started < seconds:
        rounds.append(go_round(len(rounds)))
    return {name: statistics.median(each[name] for each in rounds) for name in contenders}, len(rounds)


def show(medians: dict[str, float], differences: dict[str, Tensor]) -> None:
    table = Table("generator", "median ms", "times plain", "mean difference", "max difference")
    for name, seconds in medians.items():
        ratio = medians["plain"] / seconds
        gap = differences.get(name)
        gaps = ("", "") if gap is None else (f"{float(value):.1e}" for value in (gap.mean(), gap.max()))
        table.add_row(name, f"{seconds * 1000:.0f}", f"{ratio:.2f}", *gaps)
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="base width 8, 64 px, batch 2; within half a minute")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--compile", action="store_true", help="torch.compile on the peer, too; needs a C++ compiler")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    arguments = parser.parse_args()
    size = (8, 64, 2) if arguments.quick else (64, 256, 4)
    seconds = 1.0 if arguments.quick else 15.0 if arguments.device == "cuda" else 240.0
    result = measure(*size, seconds, arguments.device, arguments.compile)
    print_result(result, arguments.json, digits=7)


if __name__ == "__main__":
    main()

"""The generator against a plain implementation of the same network: same weights, same inputs, alternately in one run.

    python benchmarks/generator.py [--quick] [--compile] [--json FILE]

The peer is `plain_spade.py`: dense modulation, float32, contiguous, eager, with torch as it comes. The network is Park
et al.'s (linear start, five doublings) at base width 64, 256 px, batch 4; --quick takes width 32, 128 px and batch 2.
Labels are real land-cover tiles if they are there (GEOSYNTH_DATA or ../shared/data), else drawn ones of about the same
texture. Building the pattern tables is part of each call.

Keys: `speedup_fp32` and `speedup_bf16` are the peer's median time over ours in float32 and in bfloat16, the peer in
float32; `speedup_*_same_memory` has the peer with the memory setting of ours, `speedup_bf16_vs_bf16` in bfloat16 too;
on a processor without bfloat16, which emulates it slowly, only ours is run in it; `convolutions_fp32`,
`convolutions_bf16` are the peer's time over that of the bare convolutions of the blocks: what no modulation, however
fast, can pass. With --compile, `speedup_compile` is what torch.compile alone makes of the peer (its compilation not
counted; our network has other shapes for each set of labels and would be compiled again and again). `seconds_*` are the
rungs of `levers.py`, each lever on top of the ones before.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import rasterio
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from geosynth.config import GeneratorSettings
from geosynth.models.generator import SpadeGenerator
from geosynth.models.patterns import LabelPatterns
from geosynth.models.precision import uses_bfloat16
from levers import Network, ladder, use_memory
from plain_spade import PlainGenerator, copy_weights

NUM_CLASSES, NUM_BANDS, LATENT_SIZE = 6, 4, 256


def label_tiles(size: int, count: int) -> tuple[Tensor, str]:
    """(count, size, size) class indices, and where they come from."""
    data = Path(os.environ.get("GEOSYNTH_DATA", Path(__file__).parents[2] / "shared" / "data"))
    files = sorted((data / "ohio_naip" / "labels").glob("*.tif"))
    if not files:
        return drawn_tiles(size, count), "drawn"
    tiles = []
    for path in files[:: max(1, len(files) // count)][:count]:
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


def build(width: int, size: int) -> tuple[SpadeGenerator, PlainGenerator]:
    """Both generators with equal random weights, large enough for every part to show in the output."""
    torch.manual_seed(0)
    settings = GeneratorSettings.reference(NUM_CLASSES, NUM_BANDS, crop_size=size, base_width=width)
    ours = SpadeGenerator(settings).eval().requires_grad_(False)
    for name, value in ours.named_parameters():
        value.normal_(std=value[0].numel() ** -0.5 if value.ndim > 1 else 0.1)
        if name.startswith("to_image"):
            value.mul_(0.3)  # away from the flat ends of tanh
    for name, value in ours.named_buffers():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    plain = PlainGenerator(NUM_CLASSES, NUM_BANDS, base_width=width, crop_size=size).eval().requires_grad_(False)
    copy_weights(plain, ours.state_dict())
    return ours.to(memory_format=torch.channels_last), plain


def in_bfloat16(network: Network) -> Network:
    def call(labels: Tensor, z: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network(labels, z).float()

    return call


def bare_convolutions(generator: SpadeGenerator, size: int) -> Network:
    """The convolutions of the blocks on features of the right sizes, and nothing else."""
    work: list[tuple[torch.nn.Conv2d, int]] = []
    for stage in generator.settings.stages:
        block = generator.blocks[stage.name]
        layers = [layer for layer in block.children() if isinstance(layer, torch.nn.Conv2d)]
        work += [(layer, size // stage.stride) for layer in layers]
    work.append((generator.to_image, size))
    features: dict[tuple[int, int, int], Tensor] = {}

    def call(labels: Tensor, z: Tensor) -> Tensor:
        dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
        for layer, cells in work:
            shape = (layer.in_channels, cells, int(dtype == torch.bfloat16))
            if shape not in features:
                values = torch.randn(len(labels), layer.in_channels, cells, cells, dtype=dtype)
                features[shape] = values.contiguous(memory_format=torch.channels_last)
            result = layer(features[shape])
        return result

    return call


def measure(width: int, size: int, batch: int, seconds: float, compiled: bool) -> dict[str, float | int | str]:
    """Rounds of one batch through every contender until `seconds` are over, at least three."""
    ours, plain = build(width, size)
    tiles, source = label_tiles(size, 4 * batch)
    z = torch.randn((batch, LATENT_SIZE), generator=torch.Generator().manual_seed(1))
    has_bfloat16 = uses_bfloat16("auto", "cpu")
    rungs = ladder(plain, ours)
    bare = bare_convolutions(ours, size)
    contenders: dict[str, tuple[Network, bool]] = {
        **rungs,
        "+ bfloat16": (in_bfloat16(ours), True),
        "plain with kept memory": (plain, True),
        "bare convolutions": (bare, True),
        **(
            {"plain bfloat16": (in_bfloat16(plain), False), "bare convolutions bfloat16": (in_bfloat16(bare), True)}
            if has_bfloat16
            else {}
        ),
        **({"plain compiled": (torch.compile(plain), False)} if compiled else {}),
    }
    exact = plain(tiles[:batch], z)
    differences: dict[str, Tensor] = {}
    for name, (call, kept) in contenders.items():  # warms up, too
        use_memory(kept=kept)
        image = call(tiles[:batch], z)
        if not name.startswith("bare"):
            differences[name] = (image - exact).abs()
    worst = max(float(value.max()) for name, value in differences.items() if "bfloat16" not in name)
    if worst > 1e-3 or differences["+ bfloat16"].mean() > 0.05:
        raise SystemExit(f"outputs differ: { ({name: float(value.max()) for name, value in differences.items()}) }")

    times: dict[str, list[float]] = {name: [] for name in contenders}
    started, rounds = time.perf_counter(), 0
    while rounds < 3 or time.perf_counter() - started < seconds:
        first = rounds * batch % len(tiles)
        labels = tiles[first : first + batch]
        for name, (call, kept) in contenders.items():
            use_memory(kept=kept)
            before = time.perf_counter()
            call(labels, z)
            times[name].append(time.perf_counter() - before)
        rounds += 1

    medians = {name: statistics.median(values) for name, values in times.items()}
    show(medians, differences)
    patterns = [LabelPatterns(tile[None], NUM_CLASSES, "zeros") for tile in tiles]
    fp32, bf16 = medians["+ kept memory"], medians["+ bfloat16"]
    return {
        "speedup_fp32": medians["plain"] / fp32,
        "speedup_bf16": medians["plain"] / bf16,
        "speedup_fp32_same_memory": medians["plain with kept memory"] / fp32,
        "speedup_bf16_same_memory": medians["plain with kept memory"] / bf16,
        **({"speedup_compile": medians["plain"] / medians["plain compiled"]} if compiled else {}),
        "convolutions_fp32": medians["plain"] / medians["bare convolutions"],
        **(
            {
                "speedup_bf16_vs_bf16": medians["plain bfloat16"] / bf16,
                "convolutions_bf16": medians["plain"] / medians["bare convolutions bfloat16"],
                "mean_abs_diff_bf16_plain": float(differences["plain bfloat16"].mean()),
            }
            if has_bfloat16
            else {}
        ),
        "max_abs_diff_fp32": float(differences["+ kept memory"].max()),
        "mean_abs_diff_bf16": float(differences["+ bfloat16"].mean()),
        "output_std": float(exact.std()),
        **{f"seconds_{name.strip('+ ').replace(' ', '_')}": value for name, value in medians.items()},
        "rounds": rounds,
        "base_width": width,
        "size": size,
        "batch": batch,
        "labels": source,
        "patterns_per_tile": statistics.mean(each.num_patterns for each in patterns),
        "border_share": statistics.mean(len(each.border) / each.num_pixels for each in patterns),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }


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
    parser.add_argument("--quick", action="store_true", help="base width 32, 128 px, batch 2; within a minute")
    parser.add_argument("--compile", action="store_true", help="torch.compile on the peer, too; needs a C++ compiler")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    arguments = parser.parse_args()
    size = (32, 128, 2, 15.0) if arguments.quick else (64, 256, 4, 240.0)
    with torch.inference_mode():
        result = measure(*size, arguments.compile)
    line = json.dumps({name: round(value, 7) if isinstance(value, float) else value for name, value in result.items()})
    if arguments.json:
        arguments.json.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()

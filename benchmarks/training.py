"""The training step compared with a plain form of the reference's: same networks, weights and batch, alternately.

    python benchmarks/training.py [--quick] [--device cuda] [--json FILE]
    python benchmarks/training.py --preset NAME [--device cuda]

The peer is `plain_spade.py`: dense modulation, float32, contiguous, eager, with a second fake and a second pass of the
discriminator for its update. The networks are those of Park et al. (linear start, five doublings, VAE) at base widths
32 and 64, 256 px, one patch per step (four on CUDA); --quick uses width 8, 128 px and one patch. First, the losses of
the first step of both must agree in float32. On CUDA that is checked without TF32, while times are measured with
torch's default, see `generator.py`. Labels and images are real tiles if available (GEOSYNTH_DATA or ../shared/data),
else drawn.

Keys: `speedup_step` is the peer's median time over ours (bfloat16 where the processor has it) at the largest width,
`speedup_step_32` at width 32, `speedup_step_fp32` with ours in float32 too. `images_per_second_*_WIDTH` are the peer's
in float32 ("plain") and ours ("fp32" and, where the processor has it, "bf16"). `seconds_*` are rungs, each with the
levers of the ones before. --preset measures one preset of `geosynth train` instead, without its perceptual loss:
parameters, peak memory of the process ("memory") and, on CUDA, of torch's tensors on the GPU ("memory_gpu"), both in
GiB, and seconds a step.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import rasterio
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from generator import NUM_BANDS, NUM_CLASSES, label_tiles, real_files
from geosynth.config import TrainSettings
from geosynth.loop import open_fabric
from geosynth.models.adversary import PatchAdversary
from geosynth.models.device import uses_bfloat16
from geosynth.models.looks.look import Look
from geosynth.models.looks.styles import style_size
from geosynth.models.perceptual import composites
from geosynth.models.process_settings import full_float32
from geosynth.training.draws import TrainBatch
from geosynth.training.networks import SpadeNetworks
from geosynth.training.step import SpadeStep
from last_line import print_result
from levers import WARM_UPS, machine_facts, seconds_of, set_form
from plain_spade import PlainDiscriminator, PlainEncoder, PlainGenerator, PlainTrainer, add_spectral_norm, copy_weights

BANDS = ("red", "green", "blue", "nir")
Step = Callable[[], object]


def images(size: int, count: int) -> Tensor:
    """(count, NUM_BANDS, size, size) in [-1, 1], of the same places as `label_tiles`."""
    files = real_files("images", count)
    if not files:
        return torch.rand((count, NUM_BANDS, size, size), generator=torch.Generator().manual_seed(0)) * 2 - 1
    tiles = []
    for path in files:
        with rasterio.open(path) as raster:
            tiles.append(torch.from_numpy(raster.read()[:, :size, :size].astype("float32")) / 127.5 - 1)
    return torch.stack(tiles)


def reference_settings(width: int, size: int, batch: int, precision: str) -> TrainSettings:
    """The step of the preset "reference", without the perceptual loss, at one width."""
    values = TrainSettings.presets()["reference"].values
    changes = {
        "base_width": width,
        "discriminator_width": 64,
        "crop_size": size,
        "batch_size": batch,
        "precision": precision,
        "perceptual_weight": 0.0,
    }
    return TrainSettings.parse({**values, **changes})


def build_step(settings: TrainSettings, device: str) -> SpadeStep:
    """On the device, without a loop around it; a generator conditioned on looks gets one look."""
    looks = [drawn_look()] if settings.style_lengths else []
    networks = SpadeNetworks(settings, NUM_CLASSES, NUM_BANDS, looks=looks, num_pictures=len(composites(BANDS)))
    return SpadeStep(networks, settings, BANDS, open_fabric(settings.precision, device))


def drawn_look() -> Look:
    """Of three tiles with two objects of each class."""
    departures = torch.randn((3, NUM_CLASSES, 2, style_size(NUM_BANDS)), generator=torch.Generator().manual_seed(0))
    return Look(torch.zeros(NUM_CLASSES, style_size(NUM_BANDS)), 0.1 * departures, torch.ones(NUM_CLASSES))


def draw(step: SpadeStep, image: Tensor, labels: Tensor, number: int = 0) -> TrainBatch:
    """What a step takes, on the device."""
    batch = step.draw(number, image, labels)
    return batch.apply(lambda values: values.to(step.fabric.device))


def build_plain(
    step: SpadeStep,
    *,
    channels_last: bool = False,
    one_fake: bool = False,
    dtype: torch.dtype = torch.float32,
    capturable: bool = False,
) -> PlainTrainer:
    """The peer with the weights of a step, on its device."""
    settings, networks = step.settings, step.networks
    layers = 6 if settings.crop_size >= 256 else 5
    generator = PlainGenerator(NUM_CLASSES, NUM_BANDS, base_width=settings.base_width, crop_size=settings.crop_size)
    add_spectral_norm(generator)
    copy_weights(generator, networks.generator.state_dict())
    encoder = PlainEncoder(NUM_BANDS, num_layers=layers)
    assert networks.encoder is not None
    assert isinstance(networks.adversary, PatchAdversary)
    encoder.load_state_dict(networks.encoder.state_dict())
    discriminator = PlainDiscriminator(NUM_CLASSES, NUM_BANDS)
    values = networks.adversary.discriminator.state_dict().values()
    discriminator.load_state_dict(dict(zip(discriminator.state_dict(), values, strict=True)))
    form = torch.channels_last if channels_last else torch.contiguous_format
    for network in (generator, encoder, discriminator):
        network.to(step.fabric.device).to(memory_format=form)
    return PlainTrainer(generator, encoder, discriminator, one_fake=one_fake, dtype=dtype, capturable=capturable)


def take_step(step: SpadeStep, image: Tensor, labels: Tensor) -> None:
    """Draw, learn and read the losses."""
    torch.stack(list(step.update(0, draw(step, image, labels)).values())).tolist()


def check(width: int, size: int, image: Tensor, labels: Tensor) -> dict[str, float]:
    """Relative differences between the losses of the first step, both in float32; refuses large ones."""
    step = build_step(reference_settings(width, size, len(image), "fp32"), image.device.type)
    plain = build_plain(step)
    batch = draw(step, image, labels)
    with full_float32():
        theirs = plain.step(batch.image.contiguous(), batch.mask, batch.latents)
        ours = {name: float(value) for name, value in step.update(0, batch).items()}
    gaps = {name: abs(ours[name] - value) / max(1e-2, abs(value)) for name, value in theirs.items()}
    if not all(gap <= 1e-2 for gap in gaps.values()):
        raise SystemExit(f"losses differ: {ours} against {theirs}")
    return gaps


def rungs(width: int, size: int, image: Tensor, labels: Tensor) -> dict[str, tuple[Step, bool]]:
    """By name, each step and whether it keeps freed memory; each has all levers of those before; last, ours in float32.

    On a CPU without bfloat16, which would emulate it very slowly, rungs with bfloat16 remain in float32.
    """
    batch, device = len(image), image.device.type
    has_bfloat16 = uses_bfloat16("auto", device)
    dtype = torch.bfloat16 if has_bfloat16 else torch.float32
    table, dense = (
        build_step(reference_settings(width, size, batch, "bf16" if has_bfloat16 else "fp32"), device) for _ in range(2)
    )
    set_form(dense.networks, "dense")
    normal = torch.randn((batch, 256), generator=torch.Generator().manual_seed(1)).to(device)

    def plain(*, one_fake: bool = True, dtype: torch.dtype = torch.float32, channels_last: bool = False) -> Step:
        trainer = build_plain(table, one_fake=one_fake, dtype=dtype, channels_last=channels_last)
        form = torch.channels_last if channels_last else torch.contiguous_format
        mine = image.contiguous(memory_format=form)
        return lambda: trainer.step(mine, labels, normal)

    def ours(which: SpadeStep) -> Step:
        return lambda: take_step(which, image, labels)

    exact = build_step(reference_settings(width, size, batch, "fp32"), device)
    return {
        "plain": (plain(one_fake=False), False),
        "+ one fake": (plain(), False),
        "+ bf16" if has_bfloat16 else "(no bf16 here)": (plain(dtype=dtype), False),
        "+ channels_last": (plain(dtype=dtype, channels_last=True), False),
        "+ fused layers and one look": (ours(dense), False),  # on CUDA all of ours, replayed
        **({"+ pattern table": (ours(table), False), "+ kept memory": (ours(table), True)} if device == "cpu" else {}),
        "ours fp32": (ours(exact), True),
    }


def measure(width: int, size: int, batch: int, seconds: float, device: str) -> dict[str, float]:
    """Median seconds of each rung; rounds through all of them until `seconds` are over, at least one."""
    labels, image = label_tiles(size, batch)[0].to(device), images(size, batch).to(device)
    check(width, size, image, labels)
    steps = rungs(width, size, image, labels)
    for step, _ in [*steps.values()] * WARM_UPS[device]:
        step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    started, rounds = time.perf_counter(), 0
    while not rounds or time.perf_counter() - started < seconds:
        for name, (step, kept) in steps.items():
            times[name].append(seconds_of(step, device, kept=kept))
        rounds += 1
    medians = {name: statistics.median(values) for name, values in times.items()}
    table = Table(f"width {width}, {size} px, batch {batch}", "median s", "times plain", title_justify="left")
    for name, value in medians.items():
        table.add_row(name, f"{value:.3f}", f"{medians['plain'] / value:.2f}")
    Console().print(table)
    return medians


def figures(width: int, size: int, batch: int, seconds: float, device: str) -> dict[str, float | int | str]:
    """What `measure` finds at one width, as keys of the result."""
    medians = measure(width, size, batch, seconds, device)
    ours = medians["+ kept memory" if device == "cpu" else "+ fused layers and one look"]
    bf16 = {f"images_per_second_bf16_{width}": batch / ours} if uses_bfloat16("auto", device) else {}
    return {
        f"speedup_step_{width}": medians["plain"] / ours,
        "speedup_step": medians["plain"] / ours,
        "speedup_step_fp32": medians["plain"] / medians["ours fp32"],
        f"images_per_second_plain_{width}": batch / medians["plain"],
        f"images_per_second_fp32_{width}": batch / medians["ours fp32"],
        **bf16,
        "size": size,
        "batch": batch,
        **machine_facts(device),
        **{f"seconds_{name.strip('+ ').replace(' ', '_')}": value for name, value in medians.items()},
    }


def measure_preset(name: str, device: str) -> dict[str, float | int | str]:
    """Parameters, peak memory (GiB) and seconds a step of one preset."""
    values = {**TrainSettings.presets()[name].values, "perceptual_weight": 0.0}
    settings = TrainSettings.parse(values)
    step = build_step(settings, device)
    size, batch = settings.crop_size, settings.batch_size
    labels, image = label_tiles(size, batch)[0].to(device), images(size, batch).to(device)
    rounds = {"cpu": 3, "cuda": 20}[device]
    times = [
        seconds_of(partial(take_step, step, image, labels), device, kept=True) for _ in range(WARM_UPS[device] + rounds)
    ]
    seconds = statistics.median(times[WARM_UPS[device] :])
    weights = (*step.networks.painting_weights(), *step.networks.judging_weights())
    return {
        "preset": name,
        "parameters": sum(value.numel() for value in weights),
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        **({"memory_gpu": torch.cuda.max_memory_allocated() / 2**30} if device == "cuda" else {}),
        "seconds_per_step": seconds,
        "images_per_second": len(image) / seconds,
        **machine_facts(device),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="base width 8, 128 px; within half a minute")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--preset", choices=TrainSettings.presets(), help="measure this preset instead")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    arguments = parser.parse_args()
    device = arguments.device
    result: dict[str, float | int | str] = {}
    if arguments.preset:
        result = measure_preset(arguments.preset, device)
    elif arguments.quick:
        result = figures(8, 128, 1, 0.0, device)
    else:
        for width, seconds in ((32, 90.0), (64, 180.0)):
            result |= figures(width, 256, *((4, 15.0) if device == "cuda" else (1, seconds)), device)
    print_result(result, arguments.json, digits=4)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()

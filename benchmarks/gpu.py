"""Checks all claims about GPUs, what matters most first, and says which bars are reached.

    python benchmarks/gpu.py [--minutes 12] [--only NAMES] [--side PIXELS] [--json FILE]
    python benchmarks/gpu.py --device cpu --quick

Each part is a separate process, which goes on after an error: the others get their numbers even if the driver fails or
a part hangs. With --json each number is in the file as soon as it is known, under "part/name", with what failed and,
at the end, the bars. No part takes time that the parts after it are expected to need. The second form tries the
scripts, in a minute or two, with tiny networks on the processor; its numbers mean nothing. The exit code is 1 if
anything failed.

Times are medians of milliseconds between GPU events around a few calls in a row, as in training and painting. "plain"
is `plain_spade.py` with torch's defaults (float32, convolutions in TF32); "captured" runs as a recorded graph, as ours
does. Labels are real tiles if available (see `generator.py`).

The roofline of painting is the sum, over convolutions, norms and additions, of what takes longer at this card's
ceilings: arithmetic, or reading and writing features once; modulation costs nothing. That of a training step is the
arithmetic of all its products alone.

Parts, in their order:
    right       kernels against the dense form, GPU against CPU, painting replayed against eager, nothing waits
    painting    the generator of Park et al. 2019 at base width 64, 256 px, batch 4, 16 and 64
    training    the step of the reference at base widths 32 and 64, batch 4; presets "base" and "small"
    generate    a label raster of SIDE x SIDE px (--side; before that, one of a quarter of the side), from file to COG
    learning    steps replayed against eager, nothing waits
    cells       512 px cells as `generate` paints them: the embedded model and the untrained "base"
    ceilings    copy, products and convolutions, and what starting an operation costs
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch

import gpu_checks
import gpu_speed
from gpu_bench import FULL, QUICK, Bench, Numbers, Sizes, numbers_in, write_numbers


class Part(NamedTuple):
    """Of the benchmark."""

    run: Callable[[Bench], None]
    seconds: float
    """That it is expected to take."""


PARTS = {
    "right": Part(gpu_checks.right, 80),
    "painting": Part(gpu_speed.painting, 90),
    "training": Part(gpu_speed.training, 100),
    "generate": Part(gpu_speed.generate, 120),
    "learning": Part(gpu_checks.learning, 60),
    "cells": Part(gpu_speed.cells, 50),
    "ceilings": Part(gpu_speed.ceilings, 25),
}
_LEAST = 10.0  # seconds; a part that would get less is left out


class Bar(NamedTuple):
    """What a number should be."""

    name: str
    number: float
    is_least: bool = True

    def verdict(self, numbers: Numbers) -> str:
        """Whether it is reached: "yes", "no" or "not measured"."""
        found = numbers.get(self.name)
        if not isinstance(found, float):
            return "not measured"
        return "yes" if (found >= self.number if self.is_least else found <= self.number) else "no"


def bars(sizes: Sizes) -> Iterator[Bar]:
    """All of them."""
    yield Bar("right/kernel against dense, float32, most", 1e-4, is_least=False)
    yield Bar("right/a kernel failed its trial", 0, is_least=False)
    for precision in ("fp32", "bf16"):
        most = {"fp32": 1, "bf16": 16}[precision]  # as far as rounding to 8 bits takes them apart
        yield Bar(f"right/{precision} auto: most steps of uint8 from the CPU", most, is_least=False)
        yield Bar(f"right/{precision} painting is replayed", 1)
        yield Bar(f"right/{precision} replayed against eager, most", 1, is_least=False)
    yield Bar("right/painting waits", 0, is_least=False)
    for name in gpu_checks.TRAININGS:
        yield Bar(f"learning/{name} is replayed", 1)
        yield Bar(f"learning/{name}: replayed steps against eager, largest relative gap", 0.01, is_least=False)
        yield Bar(f"learning/{name} waits", 0, is_least=False)
    for how in ("", " captured"):
        for batch in sizes.batches:
            yield Bar(f"painting/{batch} ours bf16 over plain{how}", 4)
            yield Bar(f"painting/{batch} ours fp32 over plain{how}", 3)
            yield Bar(f"painting/{batch} ours fp32 no TF32 over plain no TF32{how}", 3)
        for width, least in zip(sizes.trained, (5, 4), strict=True):
            yield Bar(f"training/{width} ours over plain{how}", least)
    yield Bar(f"training/{sizes.presets[1]} steps/s", 10)
    yield Bar(f"generate/{sizes.raster} px: Mpx/s", 30)


def limit(left: float, names: list[str]) -> float:
    """Seconds that the first of these parts may take: what the others are not expected to need, at least its own."""
    later = sum(PARTS[name].seconds for name in names[1:])
    return min(left, max(PARTS[names[0]].seconds, left - later))


def run_apart(name: str, seconds: float, arguments: argparse.Namespace) -> str:
    """Run a part in a separate process, which adds its numbers to the file as it finds them; returns what failed."""
    command = [sys.executable, __file__, "--part", name, "--device", arguments.device, "--json", str(arguments.json)]
    command += ["--side", str(arguments.side)] if arguments.side else []
    command += ["--quick"] if arguments.quick else []
    try:
        code = subprocess.run(command, timeout=seconds, check=False).returncode
    except subprocess.TimeoutExpired:
        return f"stopped after {seconds:.0f} s"
    return f"ended with code {code}" if code else ""


def run_part(name: str, arguments: argparse.Namespace, sizes: Sizes) -> None:
    """In this process."""
    bench = Bench(name, arguments.device, sizes, arguments.json)
    bench.attempt("as a whole", PARTS[name].run, bench)


def run_all(names: list[str], arguments: argparse.Namespace, sizes: Sizes) -> int:
    """Run parts one after another, then show what failed and the bars; returns the exit code."""
    device = torch.cuda.get_device_name() if arguments.device == "cuda" else "the processor: a trial"
    print(f"{device}, torch {torch.__version__}", flush=True)
    started, failures = time.perf_counter(), Numbers()
    for place, name in enumerate(names):
        gone = time.perf_counter() - started
        seconds = limit(60 * arguments.minutes - gone, names[place:])
        print(f"{name}, {gone:.0f} s gone, {seconds:.0f} s at most", flush=True)
        failure = run_apart(name, seconds, arguments) if seconds >= _LEAST else "left out: no time"
        if failure:
            failures[f"{name}/failed"] = failure
    numbers = numbers_in(arguments.json)
    numbers = {name: value for name, value in numbers.items() if not name.startswith("bar/")} | failures
    told = [bar for bar in bars(sizes) if bar.name.split("/")[0] in names]
    numbers |= {f"bar/{bar.name}": bar.verdict(numbers) for bar in told}
    write_numbers(arguments.json, numbers)
    failed = {name: value for name, value in numbers.items() if name.endswith(" failed") or name in failures}
    print(f"\n{len(failed)} failed" + "".join(f"\n    {name}: {value}" for name, value in failed.items()))
    print("\nreached       bar        found      number")
    for bar in told:
        found, sign = numbers.get(bar.name, float("nan")), ">=" if bar.is_least else "<="
        print(f"{bar.verdict(numbers):13} {sign} {bar.number:<7g} {found:<10.4g} {bar.name}")
    print(f"over after {time.perf_counter() - started:.0f} s")
    return 1 if failed else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=12.0, help="for all parts together")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--side", type=int, help="of the raster of `generate`, pixels")
    parser.add_argument("--json", type=Path, help="keep the numbers here; those of parts that do not run stay")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny networks, to try the scripts")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else FULL
    sizes = sizes._replace(raster=arguments.side or sizes.raster)
    if arguments.part:
        run_part(arguments.part, arguments, sizes)
        return
    names = arguments.only.split(",")
    if unknown := set(names) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory() as folder:
        arguments.json = arguments.json or Path(folder) / "gpu.json"
        sys.exit(run_all(names, arguments, sizes))


if __name__ == "__main__":
    main()

"""One training on several devices: a process each, the same weights in all, gradients averaged.

The process that calls `train` is rank 0; it starts the others, which run `train` with the same arguments. So it works
alike from the command line, a notebook and a test, and callbacks stay in the caller's process.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

import torch
from lightning.fabric.plugins import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed, nn

from geosynth.errors import TrainingError


@dataclass(frozen=True)
class Rank:
    """Which of the processes this is, and where they meet."""

    index: int = 0
    count: int = 1
    port: int = 0

    def strategy(self) -> DDPStrategy:
        """For Lightning's trainer."""
        return _Replicas(cluster_environment=_Processes(self))


class _Processes(ClusterEnvironment):
    """Tells Lightning of processes that we start ourselves, on this machine."""

    def __init__(self, rank: Rank) -> None:
        self.rank = rank

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        return self.rank.port

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self.rank.count

    def set_world_size(self, size: int) -> None:
        pass

    def global_rank(self) -> int:
        return self.rank.index

    def set_global_rank(self, rank: int) -> None:
        pass

    def local_rank(self) -> int:
        return self.rank.index

    def node_rank(self) -> int:
        return 0


class _Replicas(DDPStrategy):
    """DDP without its wrapper: the two losses of a step share a graph, so the task averages gradients itself."""

    def configure_ddp(self) -> None:
        pass


@contextmanager
def workers(count: int, arguments: dict[str, Any]) -> Iterator[Rank]:
    """Start ranks 1 to `count` - 1 as `python -m geosynth.training.worker`; the value is rank 0.

    They end when this process does. Torch's threads are shared out.

    Args:
        count: of processes.
        arguments: what the others need to know, as plain values.

    Raises:
        TrainingError: if one of them failed, with its last line.
    """
    if count == 1:
        yield Rank()
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threads = torch.get_num_threads()
    others: list[_Worker] = []
    try:
        ranks = [asdict(Rank(index, count, port)) for index in range(1, count)]
        others += [_Worker(max(1, threads // count)) for _ in ranks]
        for worker, rank in zip(others, ranks, strict=True):  # a large message waits until its reader is up
            worker.send({**arguments, "rank": rank})
        torch.set_num_threads(max(1, threads // count))
        yield Rank(0, count, port)
        for worker in others:
            worker.join(seconds=600)
    except RuntimeError as error:  # what a collective call raises when a peer is gone
        for worker in others:
            with suppress(subprocess.TimeoutExpired):
                worker.join(seconds=5)
        raise error
    finally:
        torch.set_num_threads(threads)
        for worker in others:
            worker.end()


class _Worker:
    """A process that reads its arguments, one line of JSON, and then waits for the end of its input to die."""

    def __init__(self, threads: int) -> None:
        self.messages = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `end`
        self.process = subprocess.Popen(
            [sys.executable, "-m", "geosynth.training.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self.messages,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )

    def send(self, arguments: dict[str, Any]) -> None:
        """Tell it what to do."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(arguments) + "\n")
        self.process.stdin.flush()

    def join(self, seconds: float) -> None:
        """Wait for its end."""
        if code := self.process.wait(seconds):
            self.messages.seek(0)
            lines = self.messages.read().strip().splitlines() or [f"exit code {code}"]
            raise TrainingError(f"a worker failed: {lines[-1]}")

    def end(self) -> None:
        """Kill it if it lives."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.messages.close()


def end_with_parent() -> None:
    """End this process at once when the one at the other end of its standard input does."""

    def watch() -> None:
        # Not sys.stdin.read(): it would hold a lock that processes forked meanwhile, to load data, wait for for ever.
        while os.read(0, 1024):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def leave_group() -> None:
    """Forget the other processes; what follows is done alone."""
    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


def rank_index() -> int:
    """Which of the processes this is; 0 if it is alone."""
    return distributed.get_rank() if distributed.is_initialized() else 0


@torch.no_grad()
def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Each gradient becomes its mean over all processes; one that a process has not got counts as zero."""
    if not distributed.is_initialized():
        return
    gradients = []
    for value in parameters:
        if value.grad is None:
            value.grad = torch.zeros_like(value)
        gradients.append(value.grad)
    flat = torch.cat([gradient.flatten() for gradient in gradients])  # one message instead of hundreds
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    means = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view(gradient.shape))


@torch.no_grad()
def total(values: Tensor) -> Tensor:
    """Sum over all processes."""
    if distributed.is_initialized():
        values = values.clone()
        distributed.all_reduce(values)
    return values


@torch.no_grad()
def gathered(values: Tensor) -> Tensor:
    """Rows of all processes, in the order of their ranks; all have as many."""
    if not distributed.is_initialized():
        return values
    parts = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, values.contiguous())
    return torch.cat(parts)


def agreed(*values: float, device: torch.device) -> list[float]:
    """The first process's values, on all."""
    if not distributed.is_initialized():
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.broadcast(tensor, 0)
    return [float(value) for value in tensor]

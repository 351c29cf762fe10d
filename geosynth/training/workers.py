"""One training on several devices of this machine: a process for each, all of which run the same function.

The calling process is the first and starts the others. So it works in the same way from the command line, a notebook
and a test, and callbacks and Ctrl-C stay with the caller. Fabric's own launchers run the caller's script again in each
process, or move the first process into a child; here `LocalRank` tells Fabric of processes that already exist.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from torch import distributed

from geosynth.errors import GeosynthError, TrainingError
from geosynth.parallel import end_with_parent


class LocalRank(LightningEnvironment):
    """Tells Fabric which of the processes this is, and where they meet.

    Args:
        index: number of this process; 0 for the caller's.
        count: number of processes.
        port: of this machine, where the processes meet.
    """

    def __init__(self, index: int = 0, count: int = 1, port: int = 0) -> None:
        super().__init__()
        self.index, self.count, self.port = index, count, port

    @property
    def creates_processes_externally(self) -> bool:
        """True, so that Fabric starts none."""
        return True

    @property
    def main_address(self) -> str:
        """Address of the first process."""
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        """Port of the first process."""
        return self.port

    def local_rank(self) -> int:
        """Number of this process."""
        return self.index

    def node_rank(self) -> int:
        """0, as all processes are on one machine."""
        return 0


@contextmanager
def workers(count: int, function: Callable[..., Any], *arguments: Any) -> Iterator[LocalRank]:
    """A context in which `count` - 1 new processes call `function(rank, *arguments)`; its value is this one's rank.

    They end when this process does. Torch's threads are divided among them.

    Args:
        count: number of processes, including this one.
        function: a function of a module.
        arguments: picklable arguments.

    Raises:
        TrainingError: if one of them fails, with its last line.
    """
    if count == 1:
        yield LocalRank()
        return
    # Its port is chosen and taken in one step; torch's own store (multi-tenant too) finds that this process serves it.
    meeting = distributed.TCPStore(  # type: ignore[attr-defined]
        "127.0.0.1", 0, is_master=True, wait_for_workers=False, multi_tenant=True
    )
    port = meeting.port
    threads = torch.get_num_threads()
    share = max(1, threads // count)
    others: list[_Worker] = []
    try:
        others += [_Worker((function, LocalRank(index, count, port), arguments), share) for index in range(1, count)]
        torch.set_num_threads(share)
        yield LocalRank(0, count, port)
        _leave_group()
        for worker in others:
            worker.join(seconds=600)
    except RuntimeError:  # raised by a collective call if a peer is gone
        for worker in others:
            with suppress(subprocess.TimeoutExpired):
                worker.join(seconds=5)
        raise
    finally:
        torch.set_num_threads(threads)
        for worker in others:
            worker.end()
        if distributed.is_initialized():
            distributed.destroy_process_group()


class _Worker:
    """A process that reads its work from its standard input, and ends itself when that closes."""

    def __init__(self, task: tuple[Callable[..., Any], LocalRank, tuple[Any, ...]], threads: int) -> None:
        self.messages = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from geosynth.training.workers import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self.messages,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it is dead already, which `join` reports
            pickle.dump(task, self.process.stdin)
            self.process.stdin.flush()

    def join(self, seconds: float) -> None:
        """Wait until it ends."""
        if code := self.process.wait(seconds):
            self.messages.seek(0)
            lines = self.messages.read().decode(errors="replace").strip().splitlines() or [f"exit code {code}"]
            raise TrainingError(f"a worker failed: {lines[-1]}")

    def end(self) -> None:
        """Kill it if it is alive."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.messages.close()


def main() -> None:
    """The entry point of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process decides
    function, rank, arguments = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this
    end_with_parent()
    try:
        function(rank, *arguments)
        _leave_group()
    except (GeosynthError, MemoryError) as error:
        sys.exit(str(error) or "out of memory")


def _leave_group() -> None:
    """Leave the group of processes, to work alone."""
    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()

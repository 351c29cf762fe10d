"""One training on several devices of this machine: a process each, all of which run the same function.

The calling process is the first; it starts the others. So it works alike from the command line, a notebook and a test,
and callbacks and Ctrl-C stay with the caller. Fabric's own launchers run the caller's script once more in each process,
or move the first one into a child; here Fabric is told (`LocalRank`) of processes that are there already.
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
        index: 0 for the caller's.
        count: of processes.
        port: of this machine.
    """

    def __init__(self, index: int = 0, count: int = 1, port: int = 0) -> None:
        super().__init__()
        self.index, self.count, self.port = index, count, port

    @property
    def creates_processes_externally(self) -> bool:
        """Yes: Fabric starts none."""
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
        """Which process this is."""
        return self.index

    def node_rank(self) -> int:
        """All are on one machine."""
        return 0


@contextmanager
def workers(count: int, function: Callable[..., Any], *arguments: Any) -> Iterator[LocalRank]:
    """Call `function(rank, *arguments)` in `count` - 1 new processes; the value is the rank of this one.

    They end when this process does. Torch's threads are shared out.

    Args:
        count: of processes, with this one.
        function: of a module.
        arguments: what can be pickled.

    Raises:
        TrainingError: if one of them failed, with its last line.
    """
    if count == 1:
        yield LocalRank()
        return
    # Its port is chosen and taken in one step; torch's own, of several tenants too, finds that this process serves it.
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
    except RuntimeError:  # what a collective call raises when a peer is gone
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
    """A process that reads what to do from its standard input, and then waits for the end of that to die."""

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
        with suppress(BrokenPipeError):  # it is dead already: `join` will tell
            pickle.dump(task, self.process.stdin)
            self.process.stdin.flush()

    def join(self, seconds: float) -> None:
        """Wait for its end."""
        if code := self.process.wait(seconds):
            self.messages.seek(0)
            lines = self.messages.read().decode(errors="replace").strip().splitlines() or [f"exit code {code}"]
            raise TrainingError(f"a worker failed: {lines[-1]}")

    def end(self) -> None:
        """Kill it if it lives."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.messages.close()


def main() -> None:
    """What a worker runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process decides
    function, rank, arguments = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this
    end_with_parent()
    try:
        function(rank, *arguments)
        _leave_group()
    except (GeosynthError, MemoryError) as error:
        sys.exit(str(error) or "out of memory")


def _leave_group() -> None:
    """Forget the other processes; what follows is done alone."""
    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()

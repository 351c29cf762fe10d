"""Tasks on a Dask cluster: connecting to it, and what is sent to its workers."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import pickle
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import cached_property
from typing import Any
from weakref import WeakSet

from dask.system import CPU_COUNT
from distributed import Client, LocalCluster, Worker, WorkerPlugin, get_worker

from geosynth.errors import ClusterError, GeosynthError, one_line

_PATIENCE = "30s"  # to wait for a scheduler's answer, and for its first worker
_ATTEMPTS = 3  # to start a client on an overloaded machine


@contextlib.contextmanager
def connect(scheduler: str | None, workers: int | None) -> Iterator[Client]:
    """A client of a running cluster, or of worker processes that are started on this machine and stopped afterwards.

    Args:
        scheduler: address of a running cluster, such as tcp://host:8786; it keeps running afterwards.
        workers: without `scheduler`, the number of processes to start, which share this machine's cores.

    Raises:
        ClusterError: if no scheduler answers at the address, or it has no workers; if no processes can be started.
    """
    with contextlib.ExitStack() as stack:
        where: Any = scheduler
        if scheduler is None:
            where = stack.enter_context(_local_cluster(workers))
        try:
            client = stack.enter_context(_client(where))
        except (OSError, TimeoutError, ValueError) as error:
            raise ClusterError(f"{scheduler}: no Dask scheduler answers there; check the address") from error
        try:
            client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError as error:
            raise ClusterError(f"{scheduler}: has no workers; start some (dask worker {scheduler})") from error
        yield client


def _local_cluster(workers: int | None) -> LocalCluster:
    # Each process imports the script that started it; one that asks for workers at its top would ask there again.
    rule = 'a script must ask for workers below `if __name__ == "__main__":`, since each of them imports it'
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # while it imports
        raise ClusterError(rule)
    threads = max(1, CPU_COUNT // (workers or 1))
    # Stopping workers have nothing to lose, so no messages about how long they take.
    options = {"dashboard_address": None, "silence_logs": logging.ERROR}
    try:
        return LocalCluster(n_workers=workers, threads_per_worker=threads, **options)
    except RuntimeError as error:
        raise ClusterError(f"worker processes do not start ({one_line(error)}); {rule}") from error


def _client(where: Any) -> Client:
    for _ in range(_ATTEMPTS):
        client = Client.__new__(Client)  # so that it can be closed if its start fails
        try:
            client.__init__(where, timeout=_PATIENCE, set_as_default=False)
        except AssertionError:  # from Dask, if its thread has not begun after 10 s
            continue
        except BaseException:
            # The garbage collector might close it at any time, even while another client starts and holds the lock
            # that closing waits for.
            with contextlib.suppress(Exception):
                client.close()
            raise
        return client
    raise TimeoutError


class GoneError(Exception):
    """The scheduler was lost, and with it the tasks."""


class Tasks:
    """Calls of one function on the workers of a cluster.

    Args:
        client: of the cluster.
        function: a function of a module; called with `shared` and the key of a task.
        shared: what all tasks need. It is sent once to each worker, including those that join later.

    All methods but `close` raise `GoneError`.
    """

    def __init__(self, client: Client, function: Callable[[Any, Any], Any], shared: Any) -> None:
        self._client, self._handout = client, Handout(function, shared)
        self._asked: WeakSet[Any] = WeakSet()
        with _asking():
            client.register_plugin(self._handout, name=self._handout.name)

    def threads(self) -> list[int]:
        """Number of threads of each present worker; workers come and go."""
        with _asking():
            return list(self._client.nthreads().values())

    def begin(self, key: Any) -> Future[Any]:
        """Start a task; returns a future that is done however the task ends.

        A future of Dask's own executor would never be done if the scheduler were lost while the result is sent.
        """
        with _asking():
            asked = self._client.submit(work, self._handout.name, key, pure=False)
        self._asked.add(asked)
        answer: Future[Any] = Future()

        async def tell() -> None:
            try:
                answer.set_result(await asked)
            except BaseException as error:
                answer.set_exception(error if asked.status == "error" else GoneError(f"{error}"))

        self._client.loop.add_callback(tell)
        return answer

    def close(self) -> None:
        """Cancel unfinished tasks; nothing stays with the workers."""
        with contextlib.suppress(Exception):  # if the scheduler is lost
            self._client.cancel(list(self._asked))
            self._client.unregister_worker_plugin(self._handout.name)


@contextlib.contextmanager
def _asking() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Dask raises many kinds
        raise GoneError(f"{error}") from error


class Handout(WorkerPlugin):  # type: ignore[misc]
    """Sends what all tasks need to the workers, where it is unpickled at the first task."""

    def __init__(self, function: Callable[[Any, Any], Any], shared: Any) -> None:
        self.name = f"geosynth-{uuid.uuid4().hex}"
        self._parcel = pickle.dumps((function, shared))

    def setup(self, worker: Worker) -> None:
        """Called on each worker."""
        self.threads = worker.state.nthreads

    @cached_property
    def parts(self) -> tuple[Callable[[Any, Any], Any], Any]:
        """Function and shared argument."""
        parts: tuple[Callable[[Any, Any], Any], Any] = pickle.loads(self._parcel)  # noqa: S301 - our own
        return parts


class Failed:
    """An error in place of a result; raised on the worker, it would fill its log with a traceback."""

    def __init__(self, error: GeosynthError) -> None:
        self.error = error


def work(name: str, key: Any) -> Any:
    """The task on a worker."""
    handout: Handout = get_worker().plugins[name]
    try:
        function, shared = handout.parts
        if (torch := sys.modules.get("torch")) is not None:
            # Nannies set OMP_NUM_THREADS=1; the number is kept per thread, hence here.
            torch.set_num_threads(handout.threads)
        return function(shared, key)
    except GeosynthError as error:
        return Failed(error)

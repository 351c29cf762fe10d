"""Many tasks at a time, on threads of this process or on a Dask cluster; a function in a separate process; forks."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from geosynth.errors import ClusterError, SettingsError

if TYPE_CHECKING:
    from distributed import Client

Shared = TypeVar("Shared")
Key = TypeVar("Key")
Result = TypeVar("Result")

_AHEAD = 2  # tasks in flight for each thread: the present one and the next one
_GLANCE = 10.0  # seconds without a result after which the cluster is checked
_ALONE = 300.0  # seconds to wait while there is no worker


def open_client(
    client: Client | None = None, scheduler: str | None = None, workers: int | None = None
) -> AbstractContextManager[Client | None]:
    """A client of the cluster that a user's options describe; None without any, to use threads of this process.

    Args:
        client: of a running cluster.
        scheduler: address of a running cluster, such as tcp://host:8786; it keeps running afterwards.
        workers: number of processes to start on this machine, which share its cores and are stopped afterwards.

    Raises:
        SettingsError: at once, if more than one of the three is given, or one of them cannot be used.
        ClusterError: when the context is entered, if no scheduler answers at the address, or it has no workers.
    """
    if sum(way is not None for way in (client, scheduler, workers)) > 1:
        raise SettingsError("client, scheduler and workers are three ways to choose workers; give one of them")
    if client is not None and not hasattr(client, "scheduler_info"):
        raise SettingsError(f"a distributed.Client is needed, not {type(client).__name__}", setting="client")
    if workers is not None and workers < 1:
        raise SettingsError(f"must be greater than or equal to 1 (got {workers})", setting="workers")
    return nullcontext(client) if scheduler is None and workers is None else _connected(scheduler, workers)


@contextmanager
def _connected(scheduler: str | None, workers: int | None) -> Iterator[Client]:
    from geosynth.cluster import connect  # takes a second to import

    with connect(scheduler, workers) as client:
        yield client


def stream(
    function: Callable[[Shared, Key], Result],
    shared: Shared,
    keys: Iterable[Key | None],
    *,
    name: str | Path,
    client: Client | None = None,
    threads: int | None = None,
    one_a_worker: bool = False,
    killed: Callable[[Key], Result] | None = None,
) -> Generator[tuple[Key, Result], None, None]:
    """Call `function(shared, key)` for each key, and yield keys and results as they arrive, in any order.

    Only a few tasks are in flight at a time. After the iterator has ended, raised an error or been closed
    (`contextlib.closing`), no task of this process is running.

    Args:
        function: for a cluster, one that workers can import by its name. Networks in it run on the threads that Dask
            gives the worker.
        shared: what all tasks need. It is sent once to each worker, including those that join later.
        keys: should be small, as one is sent with each task. None among them means that the next key will be available
            only after one of the results to come.
        name: of the output, for messages.
        client: of a cluster whose workers see the same files; None for threads.
        threads: number of threads, without a client; None for one per processor.
        one_a_worker: give a worker of the cluster only one task at a time, on all its threads.
        killed: makes the result of a task that killed one worker after another; None for a ClusterError.

    Raises:
        GeosynthError: raised by a task, here or on a worker.
        ClusterError: if the scheduler is lost, if there are no workers for minutes, or if one task kills workers again
            and again.
    """
    results = (
        _by_threads(function, shared, keys, threads or os.cpu_count() or 1)
        if client is None
        else _by_workers(client, function, shared, keys, name, one_a_worker, killed)
    )
    with closing(results):
        yield from results


def _by_threads(
    function: Callable[[Shared, Key], Result], shared: Shared, keys: Iterable[Key | None], count: int
) -> Generator[tuple[Key, Result], None, None]:
    pool = ThreadPoolExecutor(count, "geosynth")

    def begin(key: Key) -> Future[Result]:
        return pool.submit(function, shared, key)

    try:
        for key, future in _in_flight(begin, keys, lambda: _AHEAD * count):
            yield key, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _by_workers(
    client: Client,
    function: Callable[[Shared, Key], Result],
    shared: Shared,
    keys: Iterable[Key | None],
    name: str | Path,
    one_a_worker: bool,
    killed: Callable[[Key], Result] | None,
) -> Generator[tuple[Key, Result], None, None]:
    """As `stream`, on a cluster. If a worker dies, others do its tasks."""
    from distributed import KilledWorker

    from geosynth.cluster import Failed, GoneError, Tasks

    seen = time.monotonic()  # when there was a worker last
    try:
        with closing(Tasks(client, function, shared)) as tasks:

            def room() -> int:
                nonlocal seen
                if threads := tasks.threads():
                    seen = time.monotonic()
                elif time.monotonic() > seen + _ALONE:
                    raise ClusterError(
                        f"{name}: the cluster has no workers any more; start some and run again to go on"
                    )
                return max(1, len(threads) if one_a_worker else _AHEAD * sum(threads))

            for key, future in _in_flight(tasks.begin, keys, room):
                try:
                    result = future.result()
                except KilledWorker as error:
                    if killed is None:
                        message = f"{name}: workers died repeatedly on one part; do they have enough memory?"
                        raise ClusterError(message) from error
                    result = killed(key)
                if isinstance(result, Failed):
                    raise result.error
                yield key, result
    except GoneError as error:
        raise ClusterError(f"{name}: the Dask scheduler went away; run again to go on") from error


def _in_flight(
    begin: Callable[[Key], Future[Result]], keys: Iterable[Key | None], room: Callable[[], int]
) -> Iterator[tuple[Key, Future[Result]]]:
    """Keep as many calls in flight as there is room for, and yield each when it has ended."""
    left = iter(keys)
    running: dict[Future[Result], Key] = {}

    def top_up() -> None:
        for _ in range(room() - len(running)):
            if (key := next(left, None)) is None:
                return
            running[begin(key)] = key

    top_up()
    while running:
        done = wait(running, _GLANCE, FIRST_COMPLETED).done
        for future in [each for each in running if each in done]:  # in the order of the calls
            key = running.pop(future)
            top_up()  # before the caller uses the result, which may take long
            yield key, future
        top_up()  # with keys that the caller's work has made available; also checks that the cluster still exists


def ahead(function: Callable[[Key], Result], items: Iterable[Key], threads: int | None = None) -> Iterator[Result]:
    """The function's results in the order of the items; meanwhile other threads make the next ones.

    The caller's thread makes the first, for which it would have to wait anyway: to open a raster, another thread would
    first have to load PROJ's database (15 ms).
    """
    remaining, waiting = iter(items), deque[Future[Result]]()
    threads = threads or min(32, (os.cpu_count() or 1) + 4)  # as the pool itself chooses
    with ThreadPoolExecutor(threads, "geosynth-ahead") as pool:
        try:
            for first in islice(remaining, 1):
                waiting.extend(pool.submit(function, item) for item in islice(remaining, threads))
                yield function(first)
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in islice(remaining, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()


def behind(function: Callable[[Key], object], items: Iterator[Key]) -> None:
    """Call a function with each item in another thread, while the caller's thread is at most two items ahead."""
    with ThreadPoolExecutor(1, "geosynth-behind") as pool, closing(items):  # type: ignore[type-var]
        for called in one_behind(pool.submit(function, item) for item in items):
            called.result()


def one_behind(items: Iterable[Key]) -> Iterator[Key]:
    """The items, each one after the next one has been made."""
    former: list[Key] = []
    for item in items:
        yield from former
        former = [item]
    yield from former


def apart(function: Callable[..., None], *arguments: Any) -> None:
    """Call a function in a separate process, so that Ctrl-C and SIGTERM work even while it is deep in a library.

    The process is killed when this one is interrupted, and ends when this one does.

    Args:
        function: a function of a module.
        arguments: picklable arguments.

    Raises:
        Exception: what the function raises.
    """
    where = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", "from geosynth.parallel import _apart; _apart()"]
    with subprocess.Popen(  # noqa: S603 - ourselves
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=where, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with suppress(BrokenPipeError):  # it is dead already
                pickle.dump((function, arguments), process.stdin)
                process.stdin.flush()
            answer = process.stdout.read()
        except BaseException:
            process.kill()
            process.wait()  # after Ctrl-C, leaving the context would do so for a quarter of a second only
            raise
    if not answer:
        raise OSError(f"the process that made it ended with code {process.returncode}; does it have enough memory?")
    if (error := pickle.loads(answer)) is not None:  # noqa: S301 - our own
        raise error


def _apart() -> None:
    """The entry point of the process."""
    function, arguments = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this
    end_with_parent()
    try:
        function(*arguments)
        raised = None
    except Exception as error:  # the waiting process raises it again
        raised = error
    sys.stdout.buffer.write(pickle.dumps(raised))
    sys.stdout.flush()
    os._exit(0)


@cache
def after_fork(function: Callable[[], object]) -> None:
    """Call a function in each process that is forked from this one from now on.

    For libraries that compute with threads: a fork has none of them, and the library would wait for them forever.
    """
    if hasattr(os, "register_at_fork"):  # where processes can fork
        os.register_at_fork(after_in_child=function)


def end_with_parent() -> None:
    """End this process at once when the one at the other end of its standard input does."""

    def watch() -> None:
        # Not sys.stdin.read(), which holds a lock that processes forked meanwhile to load data would wait for forever.
        while os.read(0, 1024):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

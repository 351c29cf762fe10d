"""Many small tasks through Dask: by threads of this process, or on a distributed cluster."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

import dask
from dask.callbacks import Callback

from geosynth.errors import SettingsError

Argument = TypeVar("Argument")
Key = TypeVar("Key")
Result = TypeVar("Result")

_IN_FLIGHT = 2  # tasks a thread of the cluster: one to work on, one to come
_TIMEOUT = 10  # seconds, to reach the scheduler


def work(
    function: Callable[[Argument, Key], Result],
    argument: Argument,
    keys: Sequence[Key],
    done: Callable[[Key, Result], None],
    scheduler: str | None = None,
) -> None:
    """Call `function(argument, key)` for each key, in any order.

    After an error, or an interrupt, no task of this process is at work any more when this returns.

    Args:
        function: importable by name on the workers.
        argument: sent once to each worker.
        keys: small, for they travel with each task.
        done: told each key and its result, in the caller's thread, as soon as it is there.
        scheduler: address of a distributed scheduler, as tcp://host:8786; None for threads.

    Raises:
        SettingsError: if the scheduler cannot be reached, has no workers, or a worker died of a task.
    """
    if not keys:
        return
    if scheduler is None:
        _by_threads(function, argument, keys, done)
    else:
        _on_cluster(function, argument, keys, done, scheduler)


def _by_threads(
    function: Callable[[Argument, Key], Result],
    argument: Argument,
    keys: Sequence[Key],
    done: Callable[[Key, Result], None],
) -> None:
    tasks = {f"task-{number}": key for number, key in enumerate(keys)}
    # Partials, because Dask would look for its collections in the argument, and take it apart.
    calls = [
        dask.delayed(functools.partial(function, argument, key), pure=False)(dask_key_name=name)
        for name, key in tasks.items()
    ]

    def tell(name: str, result: Any, *_: Any) -> None:
        if name in tasks:
            done(tasks[name], result)

    # A pool of our own: after an error or Ctrl-C nobody may go on writing behind the caller's back.
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        with Callback(posttask=tell):
            dask.compute(*calls, scheduler="threads", pool=pool, optimize_graph=False)
    finally:
        pool.shutdown(cancel_futures=True)


def _on_cluster(
    function: Callable[[Argument, Key], Result],
    argument: Argument,
    keys: Sequence[Key],
    done: Callable[[Key, Result], None],
    scheduler: str,
) -> None:
    from distributed import Client, KilledWorker, as_completed  # takes a while

    try:
        client = Client(scheduler, timeout=_TIMEOUT, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise SettingsError(f"scheduler {scheduler}: cannot be reached: {error}") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_TIMEOUT)
        except TimeoutError as error:
            raise SettingsError(f"scheduler {scheduler}: has no workers; start some (dask worker)") from error
        shared = client.scatter(argument, broadcast=True, hash=False)
        left = iter(keys)
        running: dict[Any, Key] = {}

        def submit(number: int) -> list[Any]:
            futures = []
            for key in islice(left, number):
                futures.append(client.submit(function, shared, key, pure=False))
                running[futures[-1].key] = key
            return futures

        finished = as_completed(submit(_IN_FLIGHT * sum(client.nthreads().values())), loop=client.loop)
        try:
            for future in finished:
                result = future.result()
                done(running.pop(future.key), result)
                finished.update(submit(1))
        except KilledWorker as error:
            raise SettingsError(f"scheduler {scheduler}: a worker died, perhaps out of memory; see its log") from error
        finally:
            client.cancel(list(finished.futures))

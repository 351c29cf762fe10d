"""Locks: one process alone writes an output. The system frees the lock of a process that ends, however it ends."""

from __future__ import annotations

import errno
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from geosynth.errors import OutputError
from geosynth.files import delete, parents_of, writing

_LOCK = ".lock"  # in a folder that is an output
_ATTEMPTS = 1000  # to lock a file that others keep removing
_WAIT = 0.2  # seconds between looks at a lock that another process holds


@contextmanager
def locked(lock: Path, what: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep other processes out.

    Args:
        lock: the file that is locked; made if it is not there, and removed when the context is left.
        what: is being made; named in messages.
        wait: for another process that holds the lock.

    Raises:
        OutputError: if another process holds it and `wait` is not said, or the file cannot be made.
    """
    with writing(what):
        while (hold := _hold(lock)) is None:
            if not wait:
                raise OutputError(f"{what}: another process is writing it")
            time.sleep(_WAIT)
    held, number = hold
    try:
        yield
    finally:
        with suppress(OSError):
            if lock.stat().st_ino == number:  # not if somebody removed ours, and another process has made one
                lock.unlink()
        held.release()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from writing into a folder that is an output; the lock stands in it.

    What a kill left half-written goes first; a folder that is new goes at last if nothing has come into it.

    Raises:
        OutputError: if another process does so already, or the folder cannot be written.
    """
    lock = folder / _LOCK
    with parents_of(lock), locked(lock, folder):
        for leftover in folder.glob(".*.partial*"):
            delete(leftover)
        yield


def is_unfinished(folder: Path) -> bool:
    """Whether a process is `alone_in` a folder, or was killed while it was."""
    return (folder / _LOCK).exists()


def drop_lock(folder: Path) -> None:
    """Remove the lock that a kill left in a folder that is whole; not one that a process holds."""
    if is_unfinished(folder):
        with suppress(OutputError), alone_in(folder):
            pass


def _hold(lock: Path) -> tuple[filelock.BaseFileLock, int] | None:
    """The lock on a file, and the file's number; None if another process holds it."""
    for attempt in itertools.count():
        held = filelock.FileLock(lock)
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            lock.touch()
            before = lock.stat().st_ino
            held.acquire(blocking=False)
            # Another process may have removed the file, or its folder, between any two of these lines. Then what is
            # locked is not the file that the next process finds.
            if lock.stat().st_ino == before:
                return held, before
        except filelock.Timeout:
            return None
        except NotImplementedError as error:
            raise OSError(errno.ENOSYS, "its file system has no locks") from error
        except (FileNotFoundError, FileExistsError):  # the second: of a folder that is removed while it is looked at
            if attempt == _ATTEMPTS:
                raise
        held.release()
    raise AssertionError("unreachable")

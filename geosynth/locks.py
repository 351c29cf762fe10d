"""Locks, so that only one process writes an output. The system releases them when the process ends, however it ends."""

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
_WAIT = 0.2  # seconds between attempts while another process holds the lock


@contextmanager
def locked(lock: Path, what: Path, *, wait: bool = False) -> Iterator[None]:
    """A context in which this process holds a lock.

    Args:
        lock: the file that is locked; created if needed, and removed at the end of the context.
        what: the output that is being made, for messages.
        wait: wait for another process that holds the lock.

    Raises:
        OutputError: if another process holds it and `wait` is False, or if the file cannot be created.
    """
    with writing(what):
        while (hold := _hold(lock)) is None:
            if not wait:
                raise OutputError(f"{what}: another process or thread is writing it")
            time.sleep(_WAIT)
    held, number = hold
    try:
        yield
    finally:
        with suppress(OSError):
            if lock.stat().st_ino == number:  # not if ours was removed and another process has created one
                lock.unlink()
        held.release()


@contextmanager
def alone_in(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """A context in which only this process writes into a folder that is an output; the lock is in the folder.

    First, half-written leftovers of a kill are removed; at the end, a new folder is removed if it is still empty.

    Args:
        folder: created if needed.
        wait: wait for another process that is writing there.

    Raises:
        OutputError: if another process is writing there and `wait` is False, or the folder cannot be written.
    """
    lock = folder / _LOCK
    with parents_of(lock), locked(lock, folder, wait=wait):
        for leftover in folder.glob(".*.partial*"):
            delete(leftover)
        yield


def is_unfinished(folder: Path) -> bool:
    """Whether a process is `alone_in` a folder, or was killed while it was."""
    return (folder / _LOCK).exists()


def drop_lock(folder: Path) -> None:
    """Remove the lock that a kill left in a complete folder, but not one that a process holds."""
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
            # Another process may have removed the file, or its folder, between any two of these lines. Then the locked
            # file is not the one that the next process finds.
            if lock.stat().st_ino == before:
                return held, before
        except filelock.Timeout:
            return None
        except NotImplementedError as error:
            raise OSError(errno.ENOSYS, "its file system has no locks") from error
        except (FileNotFoundError, FileExistsError):  # the second if the folder is removed meanwhile
            if attempt == _ATTEMPTS:
                raise
        held.release()
    raise AssertionError("unreachable")

"""Unfinished work: what is done of an output so far, kept over interruptions of any kind.

Beside an output that is being made stands a hidden folder, `.NAME.unfinished`. It holds

- `lock`: held by the process at work, and the last file to be removed;
- `job.json`: all that the parts depend on;
- `parts/`: a file for each finished part, whole or not at all;
- `result`: the output itself while it is being made, if it is a folder;
- whatever else its maker needs meanwhile.
"""

from __future__ import annotations

import errno
import itertools
import json
import logging
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Self

import filelock

from geosynth.errors import OutputError
from geosynth.files import check_output, delete, parents_of, replace, restore, writing

_LOG = logging.getLogger(__name__)

_SUFFIX = ".unfinished"
_LOCK, _JOB, _PARTS, _RESULT, _FINISHED = "lock", "job.json", "parts", "result", "finished"
_ATTEMPTS = 1000  # to lock a file that others keep removing
_WAIT = 0.2  # seconds between looks at a lock that another process holds


class UnfinishedWork:
    """One output that is being made, part by part.

    Use `open`, and in it `record` or `write` for each part that is finished. Processes that see the folder may write
    parts too, without opening it.

    Args:
        out: the file or folder to come; it names the work, also in messages.

    Attributes:
        folder: of the work; it is there while the work is open, and afterwards if the work was interrupted.
        result: a place in it where an output that is a folder can be made, see `finish`.
        parts_are: what messages call the parts.
    """

    parts_are = "parts"

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out.absolute().with_name(f".{out.name}{_SUFFIX}")
        self.result = self.folder / _RESULT

    def check(self, *, overwrite: bool) -> None:
        """As `check_output`; mends what a kill left that came while the work was being finished.

        Raises:
            OutputError: one line, if the output exists already, or its place cannot be written.
        """
        if (self.folder / _FINISHED).exists():
            with suppress(OutputError), self._locked():
                if self._is_finished():
                    self._remove()
                else:
                    restore(self.out)
        check_output(self.out, overwrite=overwrite)

    @contextmanager
    def open(self, job: Mapping[str, Any], total: int | None = None) -> Iterator[Self]:
        """Take the work for this process; parts of another job are thrown away, and a warning says what differs.

        When the context is left without an error, the folder goes. After an error or an interrupt it stays, and a
        warning says so, unless no part is finished.

        Args:
            job: all that the parts depend on, by the names that users know, as plain values of JSON.
            total: number of parts; for the warning.

        Raises:
            OutputError: if another process is at work, the folder cannot be written, or one of its name is not ours.
        """
        with parents_of(self.out), self._locked():
            self._refuse_foreign()
            try:
                with writing(self.out):
                    self._begin(json.loads(json.dumps(job)))
                yield self
            except BaseException:
                self._keep(total)
                raise
            self._remove()

    def _keep(self, total: int | None) -> None:
        """What an error or an interrupt leaves: finished parts, also of unfinished works within this one."""
        if kept := len(self.done()):
            of_all = "" if total is None else f" of {total}"
            message = "%s: stopped; %d%s %s are kept in %s, and the same command goes on from there"
            _LOG.warning(message, self.out, kept, of_all, self.parts_are, self.folder)
        elif not any(self.folder.glob(f".*{_SUFFIX}")):
            self._remove()

    def done(self) -> set[str]:
        """Names of the finished parts."""
        return {path.name for path in (self.folder / _PARTS).glob("*") if path.suffix != ".partial"}

    def path_of(self, part: str) -> Path:
        """The file of a part."""
        return self.folder / _PARTS / part

    @contextmanager
    def write(self, part: str) -> Iterator[BinaryIO]:
        """A file for what is to be kept of a part, which is finished when the context is left without an error.

        Args:
            part: its name, one that a file can have.

        Raises:
            OutputError: if it cannot be written.
        """
        partial = self.path_of(f"{uuid.uuid4().hex}.partial")  # two processes may write one part
        with writing(self.out):
            try:
                with partial.open("wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(self.path_of(part))
            finally:
                partial.unlink(missing_ok=True)

    def record(self, part: str, value: Any = None) -> None:
        """Finish a part of which a value of JSON is all there is to keep; `records` gives it back.

        Raises:
            OutputError: if it cannot be written.
        """
        with self.write(part) as file:
            file.write(json.dumps(value).encode())

    def records(self) -> dict[str, Any]:
        """What `record` kept, by part.

        Raises:
            OutputError: if one is damaged.
        """
        found = {}
        for part in self.done():
            try:
                found[part] = json.loads(self.path_of(part).read_bytes())
            except ValueError as error:
                self.path_of(part).unlink()
                raise OutputError(
                    f"{self.out}: its finished part {part} is damaged; run again to replace it"
                ) from error
        return found

    def discard(self) -> None:
        """Forget all parts, as where an error makes them useless."""
        with writing(self.out):
            self._empty()

    def finish(self) -> None:
        """Let `result` take the output's place; what was there is lost only after that.

        Raises:
            OutputError: if it cannot be moved there; what was there still is.
        """
        mark = self.folder / _FINISHED
        with writing(self.out):
            mark.touch()
            try:
                replace(self.result, self.out)
            except BaseException:
                mark.unlink()
                raise

    def _is_finished(self) -> bool:
        """Whether a kill came between `finish` and the removal of the folder."""
        return (self.folder / _FINISHED).exists() and not self.result.exists()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with locked(self.folder / _LOCK, self.out):
                yield
        finally:
            with suppress(OSError):  # it may hold something, or be another's already
                self.folder.rmdir()

    def _refuse_foreign(self) -> None:
        names = {path.name for path in self.folder.iterdir()} - {_LOCK}
        if names and _PARTS not in names:
            raise OutputError(f"{self.folder}: is in the way, and not unfinished work of geosynth; move it")

    def _begin(self, job: dict[str, Any]) -> None:
        known = self._known_job()
        if known == job and not self._is_finished():
            (self.folder / _FINISHED).unlink(missing_ok=True)
            for leftover in [*self.folder.glob("*.partial*"), *(self.folder / _PARTS).glob("*.partial")]:
                delete(leftover)  # half-written
            return
        if known is not None and self.done() and not self._is_finished():
            differing = _differences(known, job)
            _LOG.warning("%s: unfinished work with other %s is thrown away; starting afresh", self.out, differing)
        self._empty()
        partial = self.folder / f"{_JOB}.partial"
        partial.write_text(json.dumps(job, indent=1, sort_keys=True), encoding="utf-8")
        partial.replace(self.folder / _JOB)

    def _known_job(self) -> dict[str, Any] | None:
        """Of the parts; empty if its description is damaged, None if there is none, as while a folder is emptied."""
        try:
            known: dict[str, Any] = json.loads((self.folder / _JOB).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            return {}
        return known

    def _empty(self) -> None:
        (self.folder / _JOB).unlink(missing_ok=True)  # first: without it nothing else counts
        for path in self.folder.iterdir():
            if path.name not in (_LOCK, _PARTS):
                delete(path)
        delete(self.folder / _PARTS)  # last: it tells that the folder is ours
        (self.folder / _PARTS).mkdir()

    def _remove(self) -> None:
        """But for the lock and the folder itself, which go when the lock is let go of."""
        with suppress(OSError):
            self._empty()
            (self.folder / _PARTS).rmdir()


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Names of the values that differ; of a value that is a mapping, the first of its names too."""
    found = []
    for name in sorted({*old, *new}):
        before, now = old.get(name), new.get(name)
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            inner = [key for key in {**before, **now} if before.get(key) != now.get(key)]
            name += f" ({', '.join(inner[:3])}{', ...' if len(inner) > 3 else ''})"
        found.append(name)
    return ", ".join(found)


@contextmanager
def locked(lock: Path, what: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep other processes out. The system frees the lock of a process that ends, however it ends.

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
            raise OSError(errno.ENOSYS, "its file system knows no locks") from error
        except (FileNotFoundError, FileExistsError):  # the second: of a folder that is removed while it is looked at
            if attempt == _ATTEMPTS:
                raise
        held.release()
    raise AssertionError("unreachable")

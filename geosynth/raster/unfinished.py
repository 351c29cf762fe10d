"""Journal: what a long work has done so far, so that a killed one goes on where it was."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import uuid
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import filelock
import numpy as np
import numpy.typing as npt

from geosynth.errors import OutputError
from geosynth.files import writing
from geosynth.grid import BlockPlan, Window

# --- Scratch: finished blocks of an image under construction, kept over interruptions, whole or not at all.

_JOB = "job.json"
_LOCK = "lock"


class Scratch:
    """The finished blocks of one image.

    Args:
        out: the image to come; names the folder and appears in messages.
        plan: its blocks.
        num_bands: of the pixels.
        dtype: of the pixels.
    """

    def __init__(self, out: Path, plan: BlockPlan, num_bands: int, dtype: str) -> None:
        self.out = out
        self.folder = out.absolute().with_name(f".{out.name}.scratch")
        self.plan = plan
        self.num_bands = num_bands
        self.dtype = dtype

    @contextlib.contextmanager
    def open(self, job: Mapping[str, Any]) -> Iterator[list[str]]:
        """Take the folder for this process; made if need be, and emptied if it holds blocks of another job.

        The folder goes when the context is left without an error, or on an error if no block is finished.

        Args:
            job: all that decides the blocks, by name, as plain values of JSON.

        Yields:
            the names of what differs in the job whose blocks were thrown away; empty if none were.

        Raises:
            OutputError: if the folder cannot be written, or another process has it.
        """
        new_folders = [folder for folder in self.folder.parents if not folder.exists()]
        lock = filelock.FileLock(self.folder / _LOCK)
        with writing(self.out):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(blocking=False)
            except filelock.Timeout:
                raise OutputError(f"{self.out}: another process is writing it") from None
        try:
            with writing(self.out):
                yielded = self._begin(json.loads(json.dumps(job)))
            yield yielded
        except BaseException:
            keep = bool(self.done())
            raise
        else:
            keep = False
        finally:
            lock.release()
            if not keep:
                self._remove(new_folders)

    def done(self) -> set[int]:
        """Numbers of the finished blocks."""
        return {int(file.stem) for file in self.folder.glob("*.npz")}

    def write(self, index: int, pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> None:
        """Finish a block: (bands, height, width), and where there is data, (height, width).

        Raises:
            OutputError: if it cannot be written.
        """
        partial = self.folder / f"{uuid.uuid4().hex}.partial"  # two processes may write one block
        with writing(self.out):
            try:
                with partial.open("wb") as file:
                    # No compression: blocks are read back once. The zip format brings checksums.
                    np.savez(file, pixels=np.where(valid, pixels, 0).astype(self.dtype), valid=np.packbits(valid))
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(self._file(index))
            finally:
                partial.unlink(missing_ok=True)

    def load(self, index: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """A finished block, as it was written; zeros where there is no data.

        Raises:
            OutputError: if it cannot be read, or is damaged.
        """
        window = self.plan[index]
        shape = (window.height, window.width)
        try:
            with np.load(self._file(index)) as stored:
                valid = np.unpackbits(stored["valid"], count=shape[0] * shape[1]).astype(bool).reshape(shape)
                return stored["pixels"].reshape(self.num_bands, *shape), valid
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            self._file(index).unlink(missing_ok=True)  # painted again by the next run
            raise OutputError(f"{self.out}: its finished block {index} is damaged; run again to replace it") from error

    def read(self, window: Window) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """(bands, height, width) of any window, and where there is data, (height, width); zeros where there is none."""
        pixels = np.zeros((self.num_bands, window.height, window.width), dtype=self.dtype)
        valid = np.zeros((window.height, window.width), dtype=bool)
        for index in self.plan.touching(window):
            if not self._file(index).exists():
                continue
            block = self.plan[index]
            common = block.intersection(window)
            assert common is not None
            source, target = common.shift(-block.row, -block.column), common.shift(-window.row, -window.column)
            block_pixels, block_valid = self.load(index)
            pixels[:, *target.slices] = block_pixels[:, *source.slices]
            valid[target.slices] = block_valid[source.slices]
        return pixels, valid

    def _file(self, index: int) -> Path:
        return self.folder / f"{index:08d}.npz"

    def _begin(self, job: dict[str, Any]) -> list[str]:
        known = self._known_job()
        blocks = self.done()
        for entry in self.folder.iterdir():  # what an interrupted process left half-written, and blocks of another job
            if entry.name not in (_LOCK, _JOB) and (known != job or entry.suffix != ".npz"):
                entry.unlink()
        if known == job:
            return []
        partial = self.folder / f"{_JOB}.partial"
        partial.write_text(json.dumps(job, indent=1, sort_keys=True))
        partial.replace(self.folder / _JOB)
        return sorted(name for name in {*known, *job} if known.get(name) != job.get(name)) if blocks else []

    def _known_job(self) -> dict[str, Any]:
        try:
            known: dict[str, Any] = json.loads((self.folder / _JOB).read_text())
        except (OSError, ValueError):
            return {}
        return known

    def _remove(self, new_folders: Sequence[Path]) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if not self.out.exists():
            for folder in new_folders:
                with contextlib.suppress(OSError):
                    folder.rmdir()


with contextlib.suppress(ImportError):  # there is none on Windows, where two runs are not told from one another
    import fcntl

_LOG = logging.getLogger(__name__)
_NAME = "journal.jsonl"

Plan = dict[str, dict[str, Any]]


class Journal:
    """A folder for unfinished work and, in it, a line of JSON for each finished part; use it as a context manager.

    A line is written in one piece after its part is whole; of a line that a kill cut off, only its part is done again.

    Args:
        folder: made if it is not there.
        plan: what the work depends on, by topics, as plain values. A folder with another plan is emptied.

    Attributes:
        folder: for the work's files.
        records: of the finished parts, by key.

    Raises:
        OutputError: if the folder is not a journal's, or another process is at work in it.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.records: dict[str, Any] = {}
        self._plan: Plan = json.loads(json.dumps(plan))
        self._path = folder / _NAME
        if folder.exists() and not self._path.is_file() and any(folder.iterdir()):
            raise OutputError(f"{folder}: is in the way, and not a work that was interrupted; move it")

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("a+", encoding="utf-8")
        try:
            self._lock()
            lines = self._read()
            changes = _changes(lines[0], self._plan) if lines else None
            if changes:
                _LOG.warning("%s: begun with %s; starting anew", self.folder, changes)
            if lines and not changes:
                self.records = dict(lines[1:])
            else:
                self._start()
        except BaseException:
            self._file.close()
            raise
        return self

    def add(self, key: str, value: Any) -> None:
        """Note a finished part."""
        self._write([key, value])
        self.records[key] = value

    def remove(self) -> None:
        """Give up the folder and all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def _lock(self) -> None:
        if "fcntl" not in globals():
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets go of it, however we end
        except BlockingIOError as error:
            raise OutputError(f"{self.folder}: another process is at work there; wait for it") from error

    def _read(self) -> list[Any]:
        """All whole lines; what a kill left of the last one is cut off."""
        self._file.seek(0)
        text = self._file.read()
        whole = text[: text.rfind("\n") + 1]
        if len(whole) < len(text):
            self._file.truncate(len(whole.encode()))
        return [json.loads(line) for line in whole.splitlines()]

    def _start(self) -> None:
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path != self._path:
                path.unlink()
        self._file.truncate(0)
        self._write(self._plan)

    def _write(self, value: Any) -> None:
        self._file.write(json.dumps(value) + "\n")
        self._file.flush()


def _changes(old: Plan, new: Plan) -> str:
    """In words, what differs; empty if nothing does."""
    changes = []
    for topic in sorted({*old, *new}):
        before, now = old.get(topic, {}), new.get(topic, {})
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        if names:
            changes.append(f"other {topic} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
    return " and ".join(changes)

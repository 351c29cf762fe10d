"""Journal: what a long work has done so far, so that a killed one goes on where it was."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from geosynth.errors import OutputError

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

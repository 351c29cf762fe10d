"""Unfinished work: what is done of an output so far, kept over interruptions of any kind.

Beside an output that is being made stands a hidden folder, `.NAME.unfinished`. It holds

- `lock`: held by the process at work, and the last file to be removed;
- `job.json`: all that the parts depend on;
- `parts/`: a file for each finished part, whole or not at all;
- `result`: the output itself while it is being made;
- `finished`: written when all is made, and about to take its place: names of all outputs, and where they were made;
- whatever else its maker needs meanwhile.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from geosynth.errors import OutputError, first_of
from geosynth.files import (
    aside,
    check_output,
    delete,
    delete_sidecars,
    parents_of,
    refuse_foreign,
    replace,
    restore,
    writing,
)
from geosynth.locks import locked
from geosynth.parallel import Key, Shared, stream

if TYPE_CHECKING:
    from distributed import Client

_LOG = logging.getLogger(__name__)

_SUFFIX = ".unfinished"
_LOCK, _JOB, _PARTS, _RESULT, _FINISHED = "lock", "job.json", "parts", "result", "finished"


class UnfinishedWork:
    """One output that is being made, part by part.

    Use `open`, and in it `do_parts`, or `record` or `write` for each part that is finished. Processes that see the
    folder may write parts too, without opening it.

    Args:
        out: the file or folder to come; it names the work, also in messages.

    Attributes:
        folder: of the work; it is there while the work is open, and afterwards if the work was interrupted.
        result: a place in it where the output can be made, and beside it what shall stand beside the output; see
            `finish`.
        is_finished: whether the outputs of the job that was opened have taken their places already.
        parts_are: what messages call the parts.
    """

    parts_are = "parts"

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out.absolute().parent / f".{out.name}{_SUFFIX}"
        self.result = self.folder / _RESULT
        self.is_finished = False

    def check(self, *, overwrite: bool) -> None:
        """As `check_output`; mends what a kill left that came while the work was being finished.

        Raises:
            OutputError: one line, if the output already exists, or its place cannot be written.
        """
        if self.was_finishing():
            with suppress(OutputError), self.alone():
                self._remove()
        check_output(self.out, overwrite=overwrite)

    def was_finishing(self) -> bool:
        """Whether a kill came after some output had taken its place; then all others do so now.

        Where it came later, while the folder was emptied, the folder goes, and this is not told.
        """
        if not (self._is_half_removed() or (self.folder / _FINISHED).exists()):
            return False
        with suppress(OutputError), self.alone():
            if not self._is_half_removed():
                return self._mend()
            self._remove()
        return False

    def _is_half_removed(self) -> bool:
        """Whether a kill came while the folder was emptied; or a process is about to begin, which holds the lock."""
        if (self.folder / _JOB).exists():
            return False
        if (self.folder / _PARTS).exists():
            return True
        with suppress(FileNotFoundError, NotADirectoryError):  # another process may remove it meanwhile
            return [path.name for path in self.folder.iterdir()] in ([], [_LOCK])
        return False

    @contextmanager
    def open(self, job: Mapping[str, Any], total: int | None = None, *, keep_finished: bool = False) -> Iterator[Self]:
        """Take the work for this process; parts of another job are thrown away, and a warning says what differs.

        When the context is left without an error, the folder goes. After an error or an interrupt it stays, and a
        warning says so, unless no part is finished.

        Args:
            job: all that the parts depend on, by the names that users know, as plain values of JSON.
            total: number of parts; for the warning.
            keep_finished: outputs of the same job that took their places before a kill came stand, and `is_finished`
                tells so; without it they are made anew.

        Raises:
            OutputError: if another process is at work, the folder cannot be written, or one of its name is not ours.
        """
        with parents_of(self.out), self.alone():
            self._refuse_foreign()
            try:
                with writing(self.out):
                    self._begin(json.loads(json.dumps(job)), keep_finished)
                yield self
            except BaseException as error:
                self._keep(total)
                if isinstance(error, OutputError) and (named := self._named(str(error))) != str(error):
                    raise OutputError(named) from error
                raise
            self._remove()

    def _named(self, message: str) -> str:
        """A message in which what is being made is called by the name that it will get."""
        message = message.replace(str(self.result), str(self.out))
        return message.replace(str(self.result.with_suffix("")), str(self.out.with_suffix("")))

    def _keep(self, total: int | None) -> None:
        """What an error or an interrupt leaves: finished parts, also of unfinished works within this one."""
        if kept := len(self.done()):
            of_all = "" if total is None else f" of {total}"
            message = "%s: stopped; %d%s %s are kept in %s, and the same command goes on from there"
            _LOG.warning(message, self.out, kept, of_all, self.parts_are, self.folder)
        elif not any(self.folder.glob(f".*{_SUFFIX}")):
            self._remove()

    def done(self) -> set[str]:
        """Names of the finished parts; another process may be at work, or remove the folder meanwhile."""
        with suppress(FileNotFoundError):
            return {path.name for path in (self.folder / _PARTS).iterdir() if path.suffix != ".partial"}
        return set()

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

    def do_parts(
        self,
        function: Callable[[Shared, Key], Any],
        shared: Shared,
        keys: Mapping[str, Key],
        *,
        client: Client | None = None,
        threads: int | None = None,
    ) -> Generator[Key, None, None]:
        """Do the parts that are not finished yet, as `parallel.stream` does, and `record` what each gives.

        Close the iterator (`contextlib.closing`), so that no part is at work any more.

        Args:
            function: called with `shared` and the key of a part; gives a value of JSON.
            shared: what all parts need.
            keys: of all parts, by their names.
            client: of a cluster, whose workers see the same files; None for threads.
            threads: how many, without a client; None for one a processor.

        Yields:
            the key of each part that is done now, when it is finished, in any order.

        Raises:
            GeosynthError: what a part, or `stream`, raises.
            OutputError: if a part cannot be recorded.
        """
        finished = self.done()
        left = {key: part for part, key in keys.items() if part not in finished}
        with closing(stream(function, shared, left, name=self.out, client=client, threads=threads)) as results:
            for key, value in results:
                self.record(left[key], value)
                yield key

    def discard(self) -> None:
        """Forget all parts, as where an error makes them useless."""
        with writing(self.out):
            self._empty()

    def finish(self, *beside: str) -> None:
        """Let `result` take the output's place; what was there is lost only after that.

        Args:
            beside: names of more that was made beside `result`, and shall stand beside the output. A kill between two
                of them is mended by `was_finishing`.

        Raises:
            OutputError: if it cannot be moved there; what was there still is.
        """
        made = {name: self.result.with_name(name) for name in beside} | {self.out.name: self.result}
        outputs = {name: str(path.relative_to(self.folder)) for name, path in made.items()}
        mark = self.folder / _FINISHED
        with writing(self.out):
            mark.write_text(json.dumps(outputs), encoding="utf-8")
            try:
                self._move(outputs)
            except BaseException:
                if len(self._left(outputs)) == len(outputs):
                    mark.unlink()
                raise

    def _left(self, outputs: Mapping[str, str]) -> dict[Path, Path]:
        """Outputs that have not taken their places yet, and these."""
        places = {self.folder / made: self.out.with_name(name) for name, made in outputs.items()}
        return {made: place for made, place in places.items() if made.exists()}

    def _move(self, outputs: Mapping[str, str]) -> None:
        """Outputs to their places; what GDAL would believe of older ones goes."""
        for made, place in self._left(outputs).items():
            delete_sidecars(place, kept=outputs)
            replace(made, place)

    def _mend(self) -> bool:
        """Ends a `finish` that was killed when one output at least had taken its place, and tells whether there is one.

        One that had not begun to is undone.
        """
        mark = self.folder / _FINISHED
        try:
            outputs = json.loads(mark.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # the second: killed while it was written
            outputs = {}
        places = [self.out.with_name(name) for name in outputs]
        if len(self._left(outputs)) == len(outputs):
            for place in places:
                restore(place)
            mark.unlink(missing_ok=True)
            return False
        self._move(outputs)
        for place in places:
            delete(aside(place))
        return all(place.exists() for place in places)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from the output, without beginning a work.

        Raises:
            OutputError: if another process is at work, or the folder cannot be made.
        """
        try:
            with locked(self.folder / _LOCK, self.out):
                yield
        finally:
            with suppress(OSError):  # it may hold something, or be another's already
                self.folder.rmdir()

    def _refuse_foreign(self) -> None:
        names = {path.name for path in self.folder.iterdir()} - {_LOCK}
        # Threads of a library that go on for a moment after an interrupt make files anew in a work that was removed.
        if _PARTS not in names and not all(name.startswith(_RESULT) or ".partial" in name for name in names):
            raise OutputError(f"{self.folder}: is in the way, and not unfinished work of geosynth; move it")

    def _begin(self, job: dict[str, Any], keep_finished: bool) -> None:
        known, finished = self._known_job(), self._mend()
        self.is_finished = keep_finished and finished and known == job
        if known == job and finished == self.is_finished:
            for leftover in [*self.folder.glob("*.partial*"), *(self.folder / _PARTS).glob("*.partial")]:
                delete(leftover)  # half-written
            return
        if known is not None and self.done() and not finished:
            differing = _differences(known, job)
            _LOG.warning("%s: unfinished work with other %s is discarded; starting again", self.out, differing)
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


def check_place(out: str | Path, *, overwrite: bool = False, mark: str | None = None) -> None:
    """Refuse an output that exists, or whose place cannot be written, as what makes one does before any work.

    One that was about to take its place when it was killed does so now, and passes.

    Args:
        out: the file or folder to come.
        overwrite: let an existing one pass.
        mark: a file that each such folder has; another folder does not pass, unless it is empty.

    Raises:
        OutputError: one line.
    """
    out = Path(out)
    check_output(out, overwrite=UnfinishedWork(out).was_finishing() or overwrite)
    if mark is not None:
        refuse_foreign(out, mark)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Names of the values that differ; of a value that is a mapping, the first of its names too."""
    found = []
    for name in sorted({*old, *new}):
        before, now = old.get(name), new.get(name)
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            inner = [key for key in {**before, **now} if before.get(key) != now.get(key)]
            name += f" ({first_of(inner, 3)})"
        found.append(name)
    return ", ".join(found)

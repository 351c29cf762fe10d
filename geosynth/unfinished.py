"""Unfinished work: what exists of an output so far, kept over interruptions of any kind.

While an output is being made, there is a hidden folder beside it, `.NAME.unfinished`. It contains

- `lock`: held by the process at work, and the last file to be removed;
- `job.json`: everything that the parts depend on;
- `parts/`: a file for each finished part, complete or absent;
- `result`: the output itself while it is being made;
- `finished`: written when everything is made and about to take its place: the outputs and where they were made;
- whatever else is needed meanwhile.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from geosynth.errors import OutputError, first_of
from geosynth.files import (
    UNFINISHED,
    aside,
    check_output,
    delete,
    delete_sidecars,
    output_path,
    parents_of,
    refuse_foreign,
    replace,
    restore,
    writing,
)
from geosynth.locks import locked
from geosynth.parallel import Key, Shared, stream
from geosynth.progress import Progress, silent

if TYPE_CHECKING:
    from distributed import Client

_LOG = logging.getLogger(__name__)

_exists = os.path.exists  # False for a name that is too long, which `check_output` refuses
_LOCK, _JOB, _PARTS, _RESULT, _FINISHED = "lock", "job.json", "parts", "result", "finished"


class UnfinishedWork:
    """One output that is made part by part.

    Use `open`, and within it `do_parts`, or `record` or `write` for each finished part. Other processes that see the
    folder may write parts too, without opening it.

    Args:
        out: the future file or folder; it names the work, also in messages.

    Attributes:
        folder: of the work; it exists while the work is open, and afterwards if the work was interrupted.
        result: a path in it where the output can be made; files that belong beside the output are made beside it, see
            `finish`.
        is_finished: whether the outputs of the opened job have taken their places already.
        parts_are: word for the parts in messages.
    """

    parts_are = "parts"

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out.absolute().parent / f".{out.name}{UNFINISHED}"
        self.result = self.folder / _RESULT
        self.is_finished = False

    def check(self, *, overwrite: bool) -> None:
        """As `check_output`, after completing a `finish` that was killed and removing its folder.

        Raises:
            OutputError: one line, if the output already exists or cannot be written.
        """
        if self.was_finishing():
            with suppress(OutputError), self.alone():
                self._remove()
        check_output(self.out, overwrite=overwrite)

    def was_finishing(self) -> bool:
        """Whether a kill happened after some output had taken its place; then the others do so now.

        If it happened later, while the folder was emptied, the folder is removed and the result is False.
        """
        if not (self._is_half_removed() or _exists(self.folder / _FINISHED)):
            return False
        with suppress(OutputError), self.alone():
            if not self._is_half_removed():
                return self._mend()
            self._remove()
        return False

    def _is_half_removed(self) -> bool:
        """Whether a kill happened while the folder was emptied, or a process that holds the lock is about to begin."""
        if _exists(self.folder / _JOB):
            return False
        if _exists(self.folder / _PARTS):
            return True
        with suppress(OSError):  # there is none, or another process removes it meanwhile
            return [path.name for path in self.folder.iterdir()] in ([], [_LOCK])
        return False

    @contextmanager
    def open(self, job: Mapping[str, Any], total: int | None = None, *, keep_finished: bool = False) -> Iterator[Self]:
        """Open the work for this process; parts of another job are deleted, with a warning that says what differs.

        If the context ends without an error, the folder is removed. After an error or an interrupt it is kept, with a
        warning, unless no part is finished.

        Args:
            job: everything that the parts depend on, under the names that users know, as plain JSON values.
            total: number of parts; for the warning.
            keep_finished: keep outputs of the same job that took their places before a kill, and set `is_finished`;
                otherwise they are made again.

        Raises:
            OutputError: if another process is at work, the folder cannot be written, or a folder of its name is not
                one of geosynth's.
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
        """A message in which the unfinished result has the name that it will get."""
        message = message.replace(str(self.result), str(self.out))
        return message.replace(str(self.result.with_suffix("")), str(self.out.with_suffix("")))

    def _keep(self, total: int | None) -> None:
        """Keep what is useful after an error or an interrupt: finished parts, also of unfinished works in this one.

        If there is nothing, outputs that have not taken their places go, or follow the first one that has.
        """
        if kept := len(self.done()):
            of_all = "" if total is None else f" of {total}"
            message = "%s: stopped; %d%s %s are kept in %s, and the same command goes on from there"
            _LOG.warning(message, self.out, kept, of_all, self.parts_are, self.folder)
        elif not any(self.folder.glob(f".*{UNFINISHED}")):
            with suppress(OSError):
                self._mend()
            self._remove()

    def done(self) -> set[str]:
        """Names of the finished parts, even if another process is at work or removes the folder meanwhile."""
        with suppress(FileNotFoundError):
            return {path.name for path in (self.folder / _PARTS).iterdir() if path.suffix != ".partial"}
        return set()

    def path_of(self, part: str) -> Path:
        """The file of a part."""
        return self.folder / _PARTS / part

    @contextmanager
    def write(self, part: str) -> Iterator[BinaryIO]:
        """A file for a part, which is finished when the context ends without an error.

        Args:
            part: name of the part, which must be a valid file name.

        Raises:
            OutputError: if it cannot be written.
        """
        partial = self.path_of(f"{uuid.uuid4().hex}.partial")  # two processes may write the same part
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
        """Finish a part that consists of a JSON value only; `records` returns it.

        Raises:
            OutputError: if it cannot be written.
        """
        with self.write(part) as file:
            file.write(json.dumps(value).encode())

    def records(self) -> dict[str, Any]:
        """The values from `record`, by part.

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
        progress: Progress = silent,
        size: Callable[[Key], int] = lambda key: 1,
    ) -> None:
        """Do the parts that are not finished yet, by `parallel.stream`, and `record` the result of each.

        Args:
            function: called with `shared` and the key of a part; returns a JSON value.
            shared: what all parts need.
            keys: of all parts, by their names.
            client: of a cluster whose workers see the same files; None for threads.
            threads: number of threads, without a client; None for one per processor.
            progress: called with the size of the finished parts, if some are finished already, and of all.
            size: of a part, for `progress`.

        Raises:
            GeosynthError: what a part, or `stream`, raises.
            OutputError: if a part cannot be recorded.
        """
        finished = self.done()
        left = {key: part for part, key in keys.items() if part not in finished}
        total = sum(map(size, keys.values()))
        if done := total - sum(map(size, left)):
            progress(done, total)
        with closing(stream(function, shared, left, name=self.out, client=client, threads=threads)) as results:
            for key, value in results:
                self.record(left[key], value)
                done += size(key)
                progress(done, total)

    def discard(self) -> None:
        """Drop all parts, for instance if an error makes them useless."""
        with writing(self.out):
            self._empty()

    def finish(self, *beside: str) -> None:
        """Move `result` to the output's place; an old output is lost only then.

        Args:
            beside: names of further files that were made beside `result` and belong beside the output. If a kill
                happens between two of them, `was_finishing` completes the work.

        Raises:
            OutputError: if it cannot be moved; then an old output is still there.
        """
        made = {name: self.result.with_name(name) for name in beside} | {self.out.name: self.result}
        outputs = {name: str(path.relative_to(self.folder)) for name, path in made.items()}
        with writing(self.out):
            (self.folder / _FINISHED).write_text(json.dumps(outputs), encoding="utf-8")
            self._move(outputs)

    def _left(self, outputs: Mapping[str, str]) -> dict[Path, Path]:
        """Outputs that have not taken their places yet, and their places."""
        places = {self.folder / made: self.out.with_name(name) for name, made in outputs.items()}
        return {made: place for made, place in places.items() if made.exists()}

    def _move(self, outputs: Mapping[str, str]) -> None:
        """Move outputs to their places, and remove side files of older ones, which GDAL would believe."""
        for made, place in self._left(outputs).items():
            delete_sidecars(place, kept=outputs)
            replace(made, place)

    def _mend(self) -> bool:
        """Complete a `finish` that was killed after at least one output had taken its place; returns whether it did.

        A `finish` that had not moved anything is undone.
        """
        mark = self.folder / _FINISHED
        try:
            outputs = json.loads(mark.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # the second if it was being written
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
        """Keep other processes from the output, without starting work.

        Raises:
            OutputError: if another process is at work, or the folder cannot be created.
        """
        try:
            with locked(self.folder / _LOCK, self.out):
                for leftover in self.folder.glob(".*.partial*"):  # of a kill
                    delete(leftover)
                yield
        finally:
            with suppress(OSError):  # it may not be empty, or be another process's already
                self.folder.rmdir()

    def _refuse_foreign(self) -> None:
        names = {path.name for path in self.folder.iterdir()} - {_LOCK}
        # After an interrupt, threads of a library may for a moment create files in a folder that was removed.
        if _PARTS not in names and not all(name.startswith(_RESULT) or ".partial" in name for name in names):
            raise OutputError(f"{self.folder}: is in the way, and not unfinished work of geosynth; move it")

    def _begin(self, job: dict[str, Any], keep_finished: bool) -> None:
        known, finished = self._known_job(), self._mend()
        self.is_finished = keep_finished and finished and known == job
        if known == job and finished == self.is_finished:
            for leftover in [*self.folder.glob("*.partial*"), *(self.folder / _PARTS).glob("*.partial")]:
                delete(leftover)  # half written
            return
        if known is not None and self.done() and not finished:
            differing = _differences(known, job)
            _LOG.warning("%s: unfinished work with other %s is discarded; starting again", self.out, differing)
        self._empty()
        partial = self.folder / f"{_JOB}.partial"
        partial.write_text(json.dumps(job, indent=1, sort_keys=True), encoding="utf-8")
        partial.replace(self.folder / _JOB)

    def _known_job(self) -> dict[str, Any] | None:
        """The job of the parts; empty if its file is damaged, None if there is none, as in a folder being emptied."""
        try:
            known: dict[str, Any] = json.loads((self.folder / _JOB).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            return {}
        return known

    def _empty(self) -> None:
        (self.folder / _JOB).unlink(missing_ok=True)  # first, as nothing else counts without it
        for path in self.folder.iterdir():
            if path.name not in (_LOCK, _PARTS):
                delete(path)
        delete(self.folder / _PARTS)  # last, as it shows that the folder is geosynth's
        (self.folder / _PARTS).mkdir()

    def _remove(self) -> None:
        """Remove everything but the lock and the folder itself, which are removed when the lock is released."""
        with suppress(OSError):
            self._empty()
            (self.folder / _PARTS).rmdir()


@contextmanager
def making(out: Path, *beside: str) -> Iterator[Path]:
    """A place for an output of which no part is kept; from there it takes its own when the context is left.

    Beside what `files.replacing` does, another process is refused, and what a kill leaves goes with the next run.

    Args:
        out: the future file or folder.
        beside: names of further files that are made beside that place, see `UnfinishedWork.finish`.

    Raises:
        OutputError: if another process makes it, or it cannot be written.
    """
    work = UnfinishedWork(out)
    with work.open({}), writing(out):
        yield work.result
        work.finish(*beside)


def check_place(out: str | Path, *, overwrite: bool = False, mark: str | None = None) -> None:
    """Refuse an output that exists or cannot be written, as the functions that make outputs do before any work.

    An output that was about to take its place when its process was killed takes it now, and is accepted.

    Args:
        out: the future file or folder.
        overwrite: accept an existing output.
        mark: name of a file that each such folder has; other folders are refused unless they are empty.

    Raises:
        OutputError: one line.
    """
    out = output_path(out)
    check_output(out, overwrite=UnfinishedWork(out).was_finishing() or overwrite)
    if mark is not None:
        refuse_foreign(out, mark)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Names of the values that differ; for a mapping, also the first of its names that does."""
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

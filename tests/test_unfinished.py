"""UnfinishedWork: finished parts survive, half-written and foreign ones never count, one process at a time works."""

from __future__ import annotations

import itertools
import multiprocessing
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest

from forked import start
from geosynth import unfinished
from geosynth.errors import OutputError
from geosynth.locks import alone_in, drop_lock, locked
from geosynth.unfinished import UnfinishedWork, check_place

JOB = {"seed": 1, "model": "abc", "list": (1, 2)}
MANY = [f"part-{number}" for number in range(40)]


def work_in(folder: Path) -> UnfinishedWork:
    return UnfinishedWork(folder / "new" / "out.zarr")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def interrupted(work: UnfinishedWork, job: dict[str, Any], parts: range) -> None:
    """A run that finishes these parts and then stops."""
    with pytest.raises(KeyboardInterrupt), work.open(job):
        for part in parts:
            work.record(f"part-{part}", part)
        raise KeyboardInterrupt


def test_a_whole_result_takes_its_place_and_nothing_else_is_left(tmp_path: Path) -> None:
    work = work_in(tmp_path)
    with work.open(JOB) as same:
        assert same is work
        work.result.mkdir()
        (work.result / "data").write_text("whole")
        work.record("a")
        work.finish()
    assert names_in(work.out.parent) == ["out.zarr"]
    assert (work.out / "data").read_text() == "whole"


def test_after_an_interruption_the_same_job_finds_its_parts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    work = work_in(tmp_path)
    interrupted(work, JOB, range(3))
    assert f"stopped; 3 parts are kept in {work.folder}, and the same command goes on from there" in caplog.text
    (work.folder / "parts" / "0123.partial").write_bytes(b"half a part")
    (work.folder / "job.json.partial").write_text("{")
    caplog.clear()
    with work.open(dict(JOB)):
        assert work.records() == {f"part-{number}": number for number in range(3)}
        assert not list(work.folder.rglob("*.partial"))
    assert caplog.text == ""
    assert names_in(work.out.parent) == []


@pytest.mark.parametrize(
    ("job", "differing"),
    [
        (JOB | {"seed": 2}, "seed"),
        ({"seed": 1, "model": "abc"}, "list"),
        (JOB | {"files": {"a.tif": 1, "b.tif": 2}}, "files"),
    ],
    ids=str,
)
def test_parts_of_another_job_are_thrown_away_by_name(
    job: dict[str, Any], differing: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    work = work_in(tmp_path)
    interrupted(work, JOB, range(2))
    caplog.clear()
    with work.open(job):
        assert work.done() == set()
    assert caplog.messages == [f"{work.out}: unfinished work with other {differing} is discarded; starting again"]


def test_of_many_values_the_first_that_differ_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    work, names = work_in(tmp_path), [f"{name}.tif" for name in "abcdef"]
    interrupted(work, {"files": dict.fromkeys(names, 1)}, range(1))
    with work.open({"files": dict.fromkeys(names[1:], 1) | {"f.tif": 2}}):
        pass
    assert "other files (a.tif, f.tif) is discarded" in caplog.text
    interrupted(work, {"files": dict.fromkeys(names, 1)}, range(1))
    with work.open({"files": {}}):
        pass
    assert "other files (a.tif, b.tif, c.tif and 3 more) is discarded" in caplog.text


def test_a_damaged_description_is_not_trusted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    work = work_in(tmp_path)
    interrupted(work, JOB, range(2))
    (work.folder / "job.json").write_text('{"seed": 1,')
    with work.open(JOB):
        assert work.done() == set()
    assert "other list, model, seed is discarded" in caplog.text


def test_a_damaged_record_is_refused_and_made_anew(tmp_path: Path) -> None:
    work = work_in(tmp_path)
    interrupted(work, JOB, range(2))
    work.path_of("part-1").write_text("[1,")
    with pytest.raises(OutputError, match=r"out\.zarr: its finished part part-1 is damaged; run again"), work.open(JOB):
        work.records()
    assert work.done() == {"part-0"}


def test_an_error_before_the_first_part_leaves_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    interrupted(work_in(tmp_path), JOB, range(0))
    assert list(tmp_path.iterdir()) == []
    assert caplog.text == ""


def test_parts_that_are_discarded_are_not_kept(tmp_path: Path) -> None:
    work = work_in(tmp_path)
    with pytest.raises(ValueError, match="useless"), work.open(JOB):
        work.record("a")
        work.discard()
        raise ValueError("useless")
    assert list(tmp_path.iterdir()) == []


def test_parts_are_done_once_over_all_runs(tmp_path: Path) -> None:
    work, keys, called = work_in(tmp_path), {f"part-{number}": number for number in range(6)}, []

    def square(most: int, number: int) -> int:
        called.append(number)
        if number > most:
            raise OutputError(f"no {number}")
        return number**2

    def finish(most: int) -> list[tuple[int, int]]:
        told: list[tuple[int, int]] = []
        with work.open(JOB):
            work.do_parts(square, most, keys, threads=1, progress=lambda *numbers: told.append(numbers))
        return told

    with pytest.raises(OutputError, match="no"):
        finish(2)
    before = {keys[part] for part in work.done()}
    assert before
    assert before <= {0, 1, 2}
    called.clear()
    assert finish(5) == [(done, 6) for done in range(len(before), 7)]
    assert sorted(called) == sorted(set(range(6)) - before)


def test_a_full_disk_is_one_line_and_counts_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = work_in(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with work.open(JOB):
        work.record("a")
        monkeypatch.setattr("geosynth.unfinished.os.fsync", fail)
        with pytest.raises(OutputError, match=r"out\.zarr: cannot be written: No space left on device"):
            work.record("b")
        assert work.done() == {"a"}
        assert not list(work.folder.rglob("*.partial"))


@pytest.mark.parametrize("name", ["result.partial", "result", ".out.0a.partial.zarr"])
def test_what_a_library_writes_after_an_interrupt_is_not_in_the_way(tmp_path: Path, name: str) -> None:
    """As zarr's thread does, which knows nothing of the interrupt: the work has been removed by then."""
    work = work_in(tmp_path)
    with pytest.raises(KeyboardInterrupt), work.open(JOB):
        raise KeyboardInterrupt
    (work.folder / name).mkdir(parents=True)
    with work.open(JOB):
        assert {path.name for path in work.folder.iterdir()} == {"lock", "parts", "job.json"}
    assert not work.folder.exists()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    work = work_in(tmp_path)
    work.folder.mkdir(parents=True)
    (work.folder / "precious").touch()
    with pytest.raises(OutputError, match=r"\.out\.zarr\.unfinished: is in the way"), work.open(JOB):
        pass
    assert names_in(work.folder) == ["precious"]


def finished_but_for_its_folder(work: UnfinishedWork, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a kill just after `finish` leaves it."""
    with monkeypatch.context() as patch:
        patch.setattr(UnfinishedWork, "_remove", lambda self: None)
        with work.open(JOB):
            work.result.mkdir()
            work.record("a")
            work.finish()
    assert work.done() == {"a"}


def test_a_kill_after_the_last_step_leaves_no_puzzle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = work_in(tmp_path)
    finished_but_for_its_folder(work, monkeypatch)
    for _ in range(2):
        check_place(work.out)  # what makes it is asked next, and may tell that it is made
    with pytest.raises(OutputError, match="already exists"):
        work.check(overwrite=False)
    assert not work.folder.exists()
    work.check(overwrite=True)
    with pytest.raises(OutputError, match="already exists"):
        check_place(work.out)
    check_place(work.out, overwrite=True)


@pytest.mark.parametrize("left", [("lock", "parts/0"), ("lock", "parts/0", "finished"), ("lock",), ("parts/0",), ()])
def test_a_kill_during_the_removal_leaves_nothing(tmp_path: Path, left: tuple[str, ...]) -> None:
    work = work_in(tmp_path)
    work.out.parent.mkdir(parents=True, exist_ok=True)
    work.out.touch()
    for asked in (lambda: work.check(overwrite=True), work.was_finishing):
        work.folder.mkdir()
        for name in left:
            (work.folder / name).parent.mkdir(exist_ok=True)
            (work.folder / name).touch()
        assert not asked()
        assert not work.folder.exists()


@pytest.mark.parametrize("look", range(3))
@pytest.mark.parametrize("asked", [UnfinishedWork.was_finishing, UnfinishedWork.done])
def test_a_work_that_goes_while_it_is_looked_at_is_none(
    asked: Any, look: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where another process ends, after this one has seen that something of it is there."""
    work, left = work_in(tmp_path), itertools.count(look, -1)
    (work.folder / "parts").mkdir(parents=True)

    def until(look: Any) -> Any:
        def looked(self: Path) -> Any:
            found = look(self)
            if next(left) == 0:
                shutil.rmtree(work.folder)
            return found

        return looked

    for where, name in ((Path, "exists"), (Path, "is_dir"), (unfinished, "_exists")):
        monkeypatch.setattr(where, name, until(getattr(where, name)))
    assert not asked(work)


def test_the_lock_of_a_folder_that_is_whole_goes_unless_a_process_holds_it(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    drop_lock(tmp_path)
    assert not names_in(tmp_path)
    with alone_in(tmp_path):
        drop_lock(tmp_path)
        assert names_in(tmp_path) == [".lock"]


def test_parts_whose_result_has_gone_to_its_place_are_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    work = work_in(tmp_path)
    finished_but_for_its_folder(work, monkeypatch)
    with work.open(JOB):
        assert work.done() == set()
    assert caplog.text == ""


def test_a_result_that_cannot_take_its_place_loses_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = work_in(tmp_path)
    work.out.mkdir(parents=True)
    (work.out / "old").touch()
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self == work.result:
            raise OSError(13, "Permission denied")
        return rename(self, target)

    with monkeypatch.context() as patch, pytest.raises(OutputError, match="Permission denied"), work.open(JOB):
        patch.setattr(Path, "rename", fail)
        work.result.mkdir()
        (work.result / "new").touch()
        work.record("a")
        work.finish()
    assert (work.out / "old").exists()
    with work.open(JOB):
        assert work.done() == {"a"}
        work.finish()
    assert names_in(work.out) == ["new"]
    assert names_in(work.out.parent) == ["out.zarr"]


# --- Several processes.


def hold(path: Path, ready: Any) -> None:
    with work_in(path).open(JOB):
        ready.set()
        time.sleep(600)  # not an event: setting one hangs where a killed process waited for it


@pytest.fixture
def other_process(tmp_path: Path) -> Iterator[Any]:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready))
    process.start()
    assert ready.wait(600)
    yield process
    process.kill()
    process.join()


def test_two_processes_do_not_write_one_output(other_process: Any, tmp_path: Path) -> None:
    work = work_in(tmp_path)
    with pytest.raises(OutputError, match=r"^.*out\.zarr: another process or thread is writing it$"), work.open(JOB):
        pass
    assert work.folder.exists(), "the other one's work stays"
    other_process.kill()
    other_process.join()
    with work.open(JOB):  # a killed process holds nothing
        pass


def test_the_lock_outlives_the_removal_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a second process would begin in a folder that the first one is about to remove."""
    work, removed = work_in(tmp_path), []
    delete = unfinished.delete

    def while_others_try(path: Path) -> None:
        with pytest.raises(OutputError, match="another process"), work_in(tmp_path).open(JOB):
            pass
        delete(path)
        removed.append(path.name)

    with work.open(JOB):
        work.record("a")
        monkeypatch.setattr(unfinished, "delete", while_others_try)
    assert removed == ["parts"]
    assert list(tmp_path.iterdir()) == []


def test_a_lock_file_that_was_removed_while_it_was_being_locked_is_not_relied_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire, removed = filelock.FileLock.acquire, []

    def after_removal(self: Any, *arguments: Any, **keywords: Any) -> Any:
        """Locks a file that has no name any more, once."""
        held = acquire(self, *arguments, **keywords)
        if not removed:
            removed.append(Path(self.lock_file))
            removed[0].unlink()
        return held

    monkeypatch.setattr(filelock.FileLock, "acquire", after_removal)
    lock = tmp_path / "lock"
    with locked(lock, tmp_path):
        assert removed == [lock]
        with pytest.raises(OutputError, match="another process"), locked(lock, tmp_path):
            pass


def test_a_file_system_without_locks_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def acquire(self: Any, **_: Any) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock; use SoftFileLock instead")

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    said = r"out\.zarr: cannot be written: its file system has no locks$"
    with pytest.raises(OutputError, match=said), work_in(tmp_path).open(JOB):
        pass


def test_a_lock_of_another_process_is_not_removed_with_ours(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with locked(lock, tmp_path):
        lock.unlink()  # by somebody who tidies up
        others = locked(lock, tmp_path)
        others.__enter__()
    with pytest.raises(OutputError, match="another process"), locked(lock, tmp_path):
        pass
    others.__exit__(None, None, None)
    assert not lock.exists()


def test_a_kill_between_the_two_renames_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = work_in(tmp_path)
    as_old_and_result(work)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), work.open(JOB):
        work.record("a")
        patch.setattr(unfinished, "replace", aside_only)
        work.finish()
    assert not work.out.exists()
    work.check(overwrite=True)
    assert names_in(work.out) == ["old"]
    with work.open(JOB):
        assert work.done() == {"a"}
        work.finish()
    assert names_in(work.out) == ["new"]
    assert names_in(work.out.parent) == ["out.zarr"]


def test_a_kill_before_the_old_output_is_gone_leaves_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = work_in(tmp_path)
    as_old_and_result(work)

    def but_for_the_old(new: Path, path: Path) -> None:
        path.rename(path.with_name(f".{path.name}.replaced"))
        new.rename(path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), work.open(JOB):
        patch.setattr(unfinished, "replace", but_for_the_old)
        work.finish()
    work.check(overwrite=True)
    assert names_in(work.out) == ["new"]
    assert names_in(work.out.parent) == ["out.zarr"]


def as_old_and_result(work: UnfinishedWork) -> None:
    work.out.mkdir(parents=True)
    (work.out / "old").touch()
    with pytest.raises(KeyboardInterrupt), work.open(JOB):
        work.result.mkdir()
        (work.result / "new").touch()
        work.record("a")
        raise KeyboardInterrupt


def aside_only(new: Path, path: Path) -> None:
    path.rename(path.with_name(f".{path.name}.replaced"))
    raise KeyboardInterrupt


def take_turns(path: Path, name: str, rounds: int) -> None:
    """What each of the processes of the next test does."""
    work = work_in(path)
    while rounds:
        try:
            with work.open({"who": "all"}):
                assert work.done() == set()
                work.record(name)
                assert work.records() == {name: None}
                rounds -= 1
        except OutputError as error:
            if "another process or thread is writing it" not in str(error):
                raise


def test_processes_that_take_turns_never_meet(tmp_path: Path) -> None:
    parent = work_in(tmp_path).out.parent
    parent.mkdir()
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=take_turns, args=(tmp_path, name, 30)) for name in "abc"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert names_in(parent) == []


def count_up(path: Path) -> None:
    with locked(path / "lock", path, wait=True):
        number = int((path / "number").read_text())
        time.sleep(0.001)
        (path / "number").write_text(str(number + 1))


def test_a_process_can_wait_for_another(tmp_path: Path) -> None:
    (tmp_path / "number").write_text("0")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=count_up, args=(tmp_path,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert names_in(tmp_path) == ["number"]
    assert (tmp_path / "number").read_text() == "4"


def make(path: Path, last: int = len(MANY)) -> None:
    """A work of many parts, of which each adds a file to a result that takes the place of an older one.

    Args:
        path: holds the work.
        last: number of done parts beyond which it waits for its end.
    """
    work = work_in(path)
    with work.open(JOB):
        work.result.mkdir(exist_ok=True)
        for part in MANY:
            while len(work.done()) > last:
                time.sleep(1)
            if part not in work.done():
                (work.result / part).write_text(part)
                work.record(part)
        work.finish()


@pytest.mark.slow
def test_killed_at_random_points_it_is_whole_in_the_end(tmp_path: Path) -> None:
    """kill -9 when some number of parts are done, and a little later; never anything but the old or the new."""
    old, draw = work_in(tmp_path).out, random.Random(0)
    old.mkdir(parents=True)
    (old / "old").touch()
    kills = 0
    whole = sorted(MANY)
    while names_in(old) != whole:
        before = len(work_in(tmp_path).done())
        goal = before + draw.randrange(1, 7)
        # The first kills meet it within its parts, however busy the machine is; later ones may meet it at its end.
        process = start(make, tmp_path, goal + 2 if kills < 4 else len(MANY))
        while process.is_alive() and len(work_in(tmp_path).done()) < goal:
            time.sleep(0.0005)
        time.sleep(draw.random() * 0.01)
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        assert process.exitcode in (0, -signal.SIGKILL)
        aside = old.with_name(f".{old.name}.replaced")
        if old.exists():
            assert names_in(old) in (["old"], whole)
        else:  # killed between two renames: the older one is there under the other name
            assert names_in(aside) == ["old"]
            work_in(tmp_path).check(overwrite=True)
            assert names_in(old) == ["old"]
        assert len(work_in(tmp_path).done()) >= min(before, len(MANY)) or names_in(old) == whole
    assert kills >= 4
    with pytest.raises(OutputError, match="already exists"):
        work_in(tmp_path).check(overwrite=False)
    make(tmp_path)  # goes on from whatever the last kill left
    assert names_in(old) == whole
    assert names_in(old.parent) == ["out.zarr"]

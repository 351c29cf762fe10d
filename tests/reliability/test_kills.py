"""kill -9 and SIGTERM, at random and while a verb tidies up: the same command then ends as the unbroken run did."""

from __future__ import annotations

import functools
import itertools
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from verbs import TRIALS, VERBS, Ended, Running, content, differing, run, the_error

_CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate")
FEW = ("ingest", "generate", "tiles", "train")  # in the plain test suite, once each


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS if TRIALS else FEW)
def test_killed_at_random_it_ends_as_if_it_was_not(verb: str, inputs: Path, tmp_path: Path) -> None:
    """One output is killed again and again until it is whole, then the next one."""
    arguments, rng = VERBS[verb].arguments(inputs), random.Random(verb)
    folder, started = _new(tmp_path), time.monotonic()
    assert run(arguments, folder).code == 0
    seconds, whole = time.monotonic() - started, content(folder)
    folder, kills = _new(tmp_path), 0
    while kills < max(1, TRIALS):
        number = rng.choice([signal.SIGKILL, signal.SIGTERM])
        running = Running(arguments, folder)
        ended = running.end(after=rng.uniform(0.02, 1) * seconds)
        if ended is None:
            running.send(number)
            ended = running.end()
            assert ended is not None
        if ended.code in (-signal.SIGKILL, 128 + signal.SIGTERM, -signal.SIGTERM):
            kills += 1
            continue
        _check(folder, ended, whole)
        folder = _new(tmp_path)
    _check(folder, run(arguments, folder), whole)


LAST = [(verb, VERBS[verb].last) for verb in VERBS if verb != "tiles"]
LAST += [("tiles", ".json"), ("study", ".zarr"), ("study", "/result.json")]
_MOST = 60  # changes; finished blocks go one by one


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "last"), LAST if TRIALS else [("generate", "out.tif"), ("twin", "out.zarr")])
def test_killed_while_it_tidies_up_it_ends_as_if_it_was_not(
    verb: str, last: str, inputs: Path, unbroken: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    """Once at each change of the file system after a file or folder of that name is there."""
    arguments = VERBS[verb].arguments(inputs)
    for changes in range(_MOST if TRIALS else 4):
        folder = _new(tmp_path)
        ended = run(arguments, folder, before=functools.partial(_die_after, last, changes))
        if ended.code == 0:
            break
        assert ended.code == -signal.SIGKILL, ended
        _check(folder, run(arguments, folder), unbroken(verb))
    assert changes > 0


@pytest.mark.parametrize(
    ("verb", "file"), [("looks add", "out.safetensors"), ("view", "out.html"), ("evaluate", ".npz")]
)
def test_killed_before_a_file_gets_its_name_it_leaves_nothing(
    verb: str, file: str, inputs: Path, unbroken: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    arguments, folder = VERBS[verb].arguments(inputs), _new(tmp_path)
    assert run(arguments, folder, before=functools.partial(_die_before, file)).code == -signal.SIGKILL
    assert not (folder / VERBS[verb].last).exists()
    _check(folder, run(arguments, folder), unbroken(verb))


def _die_before(name: str) -> None:
    """The process dies when something is about to get a name that ends so."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and os.fsdecode(arguments[1]).endswith(name):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _die_after(name: str, changes: int) -> None:
    """The process dies when, after something got a name that ends so, the file system has changed so often."""
    left = itertools.count(changes, -1)
    there = False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal there
        if event in _CHANGES:
            if there and next(left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            there = there or (event == "os.rename" and os.fsdecode(arguments[1]).endswith(name))

    sys.addaudithook(hook)


def _new(parent: Path) -> Path:
    folder = parent / str(sum(path.is_dir() for path in parent.iterdir()))
    folder.mkdir()
    return folder


def _check(folder: Path, ended: Ended, whole: dict[str, object]) -> None:
    """It went on to the end, or there was nothing left to do: the last kill came after the output got its name."""
    assert ended.code == 0 or "already exists" in the_error(ended), ended
    assert differing(content(folder), whole) == []

"""kill -9 and SIGTERM at random moments: whatever comes, the same command goes on to the end of the unbroken run."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from verbs import TRIALS, VERBS, Ended, Running, content, differing, run, the_error

FEW = ("ingest", "generate", "tiles", "train")  # in the plain test suite, once each


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


def _new(parent: Path) -> Path:
    folder = parent / str(sum(path.is_dir() for path in parent.iterdir()))
    folder.mkdir()
    return folder


def _check(folder: Path, ended: Ended, whole: dict[str, object]) -> None:
    """It went on to the end, or there was nothing left to do: the last kill came after the output got its name."""
    assert ended.code == 0 or "exists already" in the_error(ended), ended
    assert differing(content(folder), whole) == []

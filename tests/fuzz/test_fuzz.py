"""Mutated files of every kind that users bring: read, or refused in a line; no other error, crash or hang."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mutations import mutated_file
from targets import TARGETS, Target

from forked import start
from geosynth.errors import GeosynthError

EXAMPLES = int(os.environ.get("GEOSYNTH_FUZZ", 0))
"""Mutations of each kind; many for `make fuzz`, 0 for the few of the plain test suite, the same ones each time."""
FEW = 12
_HANGS, _PATIENCE = 120, 1200 if EXAMPLES else 500  # seconds: for one mutation; for all of a kind


@pytest.mark.parametrize("kinds", [[kind] for kind in TARGETS] if EXAMPLES else [list(TARGETS)], ids=str)
def test_a_mutated_file_is_read_or_refused(kinds: list[str], tmp_path: Path) -> None:
    good = {}
    for number, kind in enumerate(kinds):
        folder = tmp_path / str(number)
        folder.mkdir()
        good[kind] = TARGETS[kind].write(folder)
    report = tmp_path / "report.txt"
    process = start(_fuzz, good, report)
    process.join(_PATIENCE)
    hangs = process.exitcode is None
    process.kill()
    told = report.read_text() if report.exists() else ""
    assert not hangs, f"hangs: {told}"
    assert process.exitcode == 0, f"exit code {process.exitcode}: {told}"


def _fuzz(good: Mapping[str, Path], report: Path) -> None:
    """In a process of its own, which may crash or hang: what is in the file then is to blame."""
    for kind, path in good.items():
        report.write_text(f"{kind}: {path}")
        try:
            _show_mutations(TARGETS[kind], path)
        except BaseException as error:
            lines = traceback.format_exception(error)
            shown = lines if len(lines) < 60 else [*lines[:30], "...\n", *lines[-30:]]
            report.write_text(f"{kind}: {path}\n" + "".join(shown))
            sys.exit(1)


def _show_mutations(target: Target, good: Path) -> None:
    target.read(good)  # unharmed
    files = sorted(path for path in good.rglob(target.mutate) if path.is_file()) if good.is_dir() else [good]
    contents = [file.read_bytes() for file in files]
    signal.signal(signal.SIGALRM, _hangs)

    @settings(
        max_examples=EXAMPLES or FEW,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # the file is there to look at; to make it smaller takes minutes
    )
    @given(
        st.integers(0, len(files) - 1).flatmap(
            lambda n: st.tuples(st.just(n), mutated_file(files[n].name, contents[n]))
        )
    )
    def one(mutated: tuple[int, bytes]) -> None:
        which, content = mutated
        files[which].write_bytes(content)
        signal.alarm(_HANGS)
        try:
            target.read(good)
        except GeosynthError:
            pass
        finally:
            signal.alarm(0)
        files[which].write_bytes(contents[which])

    one()


def _hangs(number: int, frame: object) -> None:
    raise TimeoutError(f"more than {_HANGS} s for one file")

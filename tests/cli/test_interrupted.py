"""What a stopped command says of the work that is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import geosynth
from geosynth_cli import app

COMMANDS = {  # what is kept in --out, and further arguments
    "train": ("last.ckpt", ()),
    "segment": ("last.ckpt", ()),
    "run_study": ("", ("replace",)),
}


def interrupt() -> None:
    raise KeyboardInterrupt


def terminate() -> None:
    raise SystemExit(143)


@pytest.mark.parametrize(("stop", "code"), [(interrupt, 130), (terminate, 143)])
@pytest.mark.parametrize("verb", COMMANDS)
@pytest.mark.parametrize("is_kept", [True, False])
def test_one_line_says_where_a_stopped_command_goes_on(
    verb: str,
    stop: Callable[[], None],
    code: int,
    is_kept: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    name, arguments = COMMANDS[verb]
    kept = tmp_path / "out" / name

    def work(*_: Any, **__: Any) -> None:
        if is_kept:
            kept.mkdir(parents=True)
        stop()

    monkeypatch.setattr(geosynth, verb, work)
    command = verb.removeprefix("run_")
    with pytest.raises(SystemExit) as caught:
        app([command, *arguments, "--data", "data.zarr", "--out", str(tmp_path / "out")])
    said = f"warning: {kept}: keeps what is done; the same command goes on from there\n"
    assert (caught.value.code, capfd.readouterr().err) == (code, said if is_kept else "")

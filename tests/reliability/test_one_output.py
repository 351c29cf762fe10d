"""What an output must not be: another process's, or an input. Refused in one line before any work, by every verb."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from verbs import TRIALS, VERBS, Running, content, differing, files_in, the_error
from verbs import run as run_to_the_end

from geosynth.locks import alone_in
from geosynth.unfinished import UnfinishedWork

Run = Callable[..., Any]
Unbroken = Callable[[str], dict[str, Any]]


def _is_at_work(folder: Path) -> bool:
    """Whether there is more than a lock file, which is there before it is locked."""
    return any(not name.endswith("lock") for _, _, names in os.walk(folder) for name in names)  # some may just go


LOCKED = {  # what a verb takes hold of, where that is not the output itself
    "tiles": Path("out/train"),
    "study": Path("out/replace"),
}
IN_FOLDERS = ("train", "segment", "evaluate", "study")


@pytest.mark.parametrize("verb", VERBS)
def test_what_another_process_writes_is_left_to_it(
    verb: str, inputs: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = LOCKED.get(verb, Path("out" if verb in IN_FOLDERS else VERBS[verb].last))
    with alone_in(out) if verb in IN_FOLDERS else UnfinishedWork(out).open({}):
        before = files_in(tmp_path)
        result = run(*VERBS[verb].arguments(inputs))
        assert files_in(tmp_path) == before
    assert the_error(result).endswith(f"{out}: another process or thread is writing it")
    assert not any(tmp_path.iterdir()), "nothing is left"


@pytest.mark.parametrize("out", [".", "/"])
@pytest.mark.parametrize("verb", ["rasterize", "ingest", "generate", "twin", "classify"])
def test_a_folder_without_a_name_is_no_output(
    verb: str, out: str, inputs: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    *words, last = VERBS[verb].arguments(inputs)
    assert last.startswith("out")
    assert the_error(run(*words, out)).startswith(f"error: {out}: ")
    assert not any(tmp_path.iterdir())


REPLACED = {verb: VERBS[verb].words for verb in VERBS if verb not in (*IN_FOLDERS, "tiles")}
REPLACED["split"] = "split --data {inputs}/store.zarr --by clusters --file-only --out out.gpkg"


@pytest.mark.parametrize("words", REPLACED.values(), ids=REPLACED)
def test_a_folder_of_something_else_is_not_replaced(
    words: str, inputs: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose name was mistaken for that of an earlier output."""
    monkeypatch.chdir(tmp_path)
    out = words.split()[-1]
    (tmp_path / out).mkdir()
    (tmp_path / out / "precious").touch()
    line = the_error(run(*words.format(inputs=inputs).split(), "--overwrite"))
    assert line.startswith((f"error: {out}: is ", f"error: {out}: cannot be written: a folder has this name"))
    assert files_in(tmp_path) == {f"{out}/precious": b""}


@pytest.mark.skipif(not TRIALS, reason="`make reliability` does it")
@pytest.mark.parametrize("verb", VERBS)
def test_of_two_processes_one_wins(verb: str, inputs: Path, tmp_path: Path, unbroken: Unbroken) -> None:
    """The first is halted as soon as it is at work, and goes on when the second was refused."""
    arguments = VERBS[verb].arguments(inputs)
    first = Running(arguments, tmp_path)
    while not _is_at_work(tmp_path) and first.end(after=0.01) is None:
        pass
    first.send(signal.SIGSTOP)
    second = run_to_the_end(arguments, tmp_path)
    assert the_error(second).endswith(": another process or thread is writing it")
    first.send(signal.SIGCONT)
    ended = first.end()
    assert ended is not None
    assert ended.code == 0, ended
    assert differing(content(tmp_path), unbroken(verb)) == []


INTO_AN_INPUT = {
    "tiles": "tiles --data {copy}/store.zarr --size 32 --export {copy}/store.zarr --overwrite",
    "generate": "generate --labels {copy}/labels.tif --model {copy}/generator.safetensors --overwrite"
    " --out {copy}/labels.tif",
    "generate into a model": "generate --labels {copy}/labels.tif --model {copy}/model.tif --overwrite"
    " --out {copy}/model.tif",
    "generate a folder": "generate --labels {copy}/labels.tif --model {copy}/generator.safetensors --overwrite"
    " --out-dir {copy}",
    "twin": "twin --data {copy}/store.zarr --model {copy}/generator.safetensors --overwrite --out {copy}/store.zarr",
    "train": "train --data {copy}/store.zarr --steps 1 --out {copy}/store.zarr",
    "segment": "segment --data {copy}/store.zarr --steps 1 --out {copy}/store.zarr --overwrite",
    "segment from weights": "segment --data {copy}/store.zarr --steps 1 --out {copy}/segmenter --overwrite"
    " --weights {copy}/segmenter/model.safetensors",
    "classify": "classify --image {copy}/image.tif --model {copy}/segmenter --out {copy}/image.tif --overwrite",
    "evaluate": "evaluate --data {copy}/store.zarr --model {copy}/generator.safetensors --out {copy}/store.zarr"
    " --overwrite",
    "study": "study replace --data {copy}/store.zarr --seeds 1 --tiles 2 --out {copy}/store.zarr",
}


@pytest.mark.parametrize("words", INTO_AN_INPUT.values(), ids=INTO_AN_INPUT)
def test_no_input_is_an_output(words: str, inputs: Path, run: Run, tmp_path: Path) -> None:
    copy = shutil.copytree(inputs, tmp_path / "copy")
    shutil.copy(copy / "generator.safetensors", copy / "model.tif")
    before = files_in(tmp_path)
    result = run(*(word.format(copy=copy) for word in words.split()))
    assert files_in(tmp_path) == before
    assert the_error(result).endswith(": is also an input and would be lost; choose another name")

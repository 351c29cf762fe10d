"""The command line as a user meets it: exit codes, streams, one line an error."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

import geosynth
from geosynth.checkpoint import GeneratorModel
from geosynth.unfinished import UnfinishedWork
from geosynth_cli import app
from rasters import draw_labels

Write = Callable[..., Path]


ROOT = Path(__file__).parents[2]
Run = Callable[..., Any]  # see the fixture `run`


def test_help_lists_the_verbs(run: Run) -> None:
    result = run("--help")
    assert result.code == 0
    for verb in ("ingest", "train", "generate", "evaluate", "info"):
        assert verb in result.out
        assert run(verb, "--help").code == 0


def test_version(run: Run) -> None:
    assert run("--version").out.strip() == geosynth.__version__


def test_the_installed_script_runs() -> None:
    script = Path(sys.executable).with_name("geosynth")
    result = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == geosynth.__version__


def test_generate_prints_the_path_and_warns_on_stderr(
    run: Run, write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    labels = write_raster(draw_labels(64, 64), crs=None)
    out = tmp_path / "image.tif"
    result = run("generate", "--labels", labels, "--out", out, "--model", tiny_model.path, "--seed", "3", "--preview")
    assert result.code == 0
    assert result.out.strip() == str(out)
    assert result.err.splitlines() == [f"warning: {labels}: has no CRS; the image will have none either"]
    with rasterio.open(out) as dataset:
        assert dataset.tags()["GEOSYNTH_SEED"] == "3"
    assert out.with_suffix(".png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "missing.tif"], "--labels missing.tif: no such file or folder"),
        (
            ["--labels", "labels.tif", "--model", "missing.safetensors"],
            "--model missing.safetensors: no such file or folder; known",
        ),
        (["--labels", "labels.tif", "--model", "labels.tif"], "labels.tif: not a safetensors file"),
        (
            ["--labels", "labels.tif", "--legend", "nowhere"],
            "--legend nowhere: no such file or folder; known names: chesapeake, from",
        ),
        (["--labels", "labels.tif", "--block-size", "100"], "error: --block-size: "),
        (["--labels", "labels.tif", "--device", "warp9"], "warp9"),
        (["--labels", "labels.tif", "--compress", "jpeg"], "compress"),
        (["--labels", "float.tif"], "float.tif: holds 0.5; class codes are whole numbers"),
        (["--labels", "unknown.tif"], "codes that legend 'chesapeake' does not know: 77 (4096 px)"),
        (["--labels", "labels.tif", "--out", "labels.tif"], "labels.tif: is also an input and would be lost"),
        (["--labels", "labels.tif", "--out", "float.tif"], "float.tif: already exists"),
        (["--labels", "labels.tif", "--out", "labels.tif/image.tif"], "cannot be written"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(
    arguments: list[str],
    message: str,
    run: Run,
    write_raster: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_raster(draw_labels(64, 64))
    write_raster(np.full((64, 64), 0.5, "float32"), "float.tif")
    write_raster(np.full((64, 64), 77, "uint8"), "unknown.tif")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    result = run("generate", "--out", "image.tif", *arguments)
    assert result.code == 1
    assert result.out == ""
    lines = [line for line in result.err.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_debug_shows_the_traceback(run: Run, tmp_path: Path) -> None:
    with pytest.raises(geosynth.GeosynthError):
        app(["generate", "--labels", str(tmp_path / "missing.tif"), "--out", str(tmp_path / "o.tif"), "--debug"])


def test_an_unforeseen_error_is_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(file: Path, **options: bool) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(geosynth, "info", broken)
    result = run("info", tmp_path)
    assert result.code == 1
    assert result.err.startswith("error: unexpected ZeroDivisionError: two lines;")
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize("cited", [None, "parts: not a store"])
def test_what_the_system_refuses_is_one_line(
    cited: str | None, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        try:
            raise OSError(24, "Too many open files", "parts")
        except OSError as error:
            if cited is None:
                raise
            raise geosynth.GeosynthError(cited) from error

    monkeypatch.setattr(geosynth, "info", broken)
    result = run("info", tmp_path)
    assert (result.code, result.err) == (1, "error: parts: Too many open files; --debug shows where\n")


def test_too_many_open_files_are_one_line_in_whatever_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("unable to open file </a/model> in read-only mode: Too many open files (24)")

    monkeypatch.setattr(geosynth, "info", broken)
    result = run("info", __file__)
    assert (result.code, result.err) == (1, "error: a file or folder: Too many open files; --debug shows where\n")


def test_a_current_folder_that_is_gone_is_said(
    run: Run, write_raster: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It said "a file or folder: No such file or directory", where both inputs and the folder's name are there."""
    image = write_raster(draw_labels(20, 20))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    result = run("view", image, "--out", "view.html")
    assert (result.code, result.err) == (1, "error: the current folder is no longer there; change to one that is\n")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("could not create a primitive"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        "can't start new thread",
    ],
)
def test_too_little_memory_is_one_line_wherever_it_is_cited(
    error: Any, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise geosynth.GeosynthError(f"out: cannot be written: {error}") if isinstance(error, str) else error

    monkeypatch.setattr(geosynth, "info", broken)
    assert run("info", tmp_path).err.startswith("error: out of memory; choose a smaller")


def test_a_gpu_whose_memory_others_use_is_a_matter_of_device(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise geosynth.GeosynthError("'cuda' cannot be used: CUDA error: out of memory", setting="device")

    monkeypatch.setattr(geosynth, "info", full)
    assert run("info", tmp_path).err == "error: device: 'cuda' cannot be used: CUDA error: out of memory\n"


def test_terminated_keeps_finished_blocks_and_says_so(
    write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    """SIGTERM, as a batch system sends it, while blocks are painted."""
    labels = write_raster(np.tile(draw_labels(1500, 1500), (4, 4)))  # far from done when it is stopped
    out = tmp_path / "new" / "image.tif"
    script = Path(sys.executable).with_name("geosynth")
    options = ["--model", tiny_model.path, "--block-size", "128"]
    command = [script, "generate", "--labels", labels, "--out", out, *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not UnfinishedWork(out).done():
        time.sleep(0.05)
    process.terminate()
    _, errors = process.communicate()
    assert process.returncode == 143
    assert "blocks are kept in" in errors
    assert [path.name for path in out.parent.iterdir()] == [".image.tif.unfinished"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_in_a_library_that_takes_it_for_its_own_failure(
    number: int, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torch does while it asks an object for its length."""

    def swallow(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(number)
        except (SystemExit, KeyboardInterrupt):
            raise ValueError("could not determine the shape") from None

    monkeypatch.setattr(geosynth, "info", swallow)
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs
    try:
        result = run("info", tmp_path)
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert (result.code, result.err) == (128 + number, "")


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
        app([command, *arguments, "--data", str(tmp_path), "--out", str(tmp_path / "out")])
    said = f"warning: {kept}: keeps what is done; the same command goes on from there\n"
    assert (caught.value.code, capfd.readouterr().err) == (code, said if is_kept else "")


def test_wrong_usage_is_exit_code_2(run: Run) -> None:
    assert run("generate").code == 2
    assert run("paint").code == 2


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        ("train --data a.zarr --out out --data b.zarr", "--data"),
        ("generate --labels md_lc.tif --out a.tif --labels=md_lc.tif", "--labels"),
        ("looks add there --image a.tif --model a --image b.tif --model a --out out", "--model"),
    ],
)
def test_the_last_of_several_inputs_is_not_taken_silently(run: Run, arguments: str, option: str) -> None:
    done = run(*arguments.split())
    assert done.code == 2
    assert f"{option} is given 2 times, and takes one value" in done.err


def test_info_of_model_store_and_raster(
    run: Run, write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    codes = draw_labels(128, 128)
    labels = write_raster(codes)
    image = write_raster(np.zeros((4, 128, 128), np.uint8), "image.tif")
    store = tmp_path / "store.zarr"
    bands = "red,green,blue,nir"
    shares = "1,0,0"
    made = run("ingest", "--images", image, "--labels", labels, "--out", store, "--bands", bands, "--shares", shares)
    assert made.code == 0, made.err
    assert made.out.strip() == str(store)
    kinds = {path: json.loads(run("info", path, "--json").out)["kind"] for path in (tiny_model.path, store, labels)}
    assert list(kinds.values()) == ["model", "store", "raster"]
    assert json.loads(run("info", "--json").out)["legend"]["name"] == "chesapeake"
    assert "EPSG:26918" in run("info", labels).out
    trained_from = run("info").out.partition("  init:\n")[2].splitlines()[:4]
    assert [line.split(":")[0].strip() for line in trained_from] == ["name", "sha256", "its own provenance", "software"]


@pytest.mark.parametrize(
    ("options", "whose"),
    [
        ((), "chesapeake, as none was named"),
        (("--legend", "chesapeake"), "chesapeake"),
        (("--label-legend", "chesapeake"), "chesapeake"),
    ],
)
def test_ingest_says_how_codes_were_read(
    run: Run, write_raster: Write, tmp_path: Path, options: tuple[str, ...], whose: str
) -> None:
    """Codes of another legend may be these codes too: then the classes that it names are seen to be wrong."""
    codes = np.repeat(np.array([1, 2, 6], np.uint8), [4400, 595, 5]).reshape(50, 100)
    files = "--images", write_raster(np.ones((3, 50, 100), np.uint8), "image.tif"), "--labels", write_raster(codes)
    made = run("ingest", *files, "--out", tmp_path / "store.zarr", "--bands", "red,green,blue", *options)
    *_, classes, scenes = made.err.splitlines()
    assert classes == f"classes ({whose}): water 88 %, tree canopy 12 %, impervious (roads) 0.10 %"
    assert scenes.startswith("1 scene (")


def test_from_files_to_report(run: Run, write_raster: Write, tmp_path: Path) -> None:
    """ingest, train, generate and evaluate in a row, on rasters small enough for a test."""
    codes = draw_labels(192, 192)
    rng = np.random.default_rng(0)
    pixels = (codes * 30 + rng.integers(0, 20, (4, 192, 192))).astype(np.uint8)
    labels, image = write_raster(codes), write_raster(pixels, "image.tif")
    store, model, synthetic = tmp_path / "store.zarr", tmp_path / "run", tmp_path / "synthetic.tif"
    bands = "red,green,blue,nir"
    small = [part for name in ("base_width=4", "max_multiple=2", "hidden_channels=8") for part in ("--set", name)]
    steps = [
        ("ingest", "--images", image, "--labels", labels, "--out", store, "--bands", bands, "--shares", "1,0,0"),
        ("train", "--data", store, "--out", model, "--steps", "2", "--batch-size", "2", "--crop-size", "64", *small),
        ("generate", "--labels", labels, "--model", model / "model.safetensors", "--out", synthetic),
        ("evaluate", "--real", image, "--synthetic", synthetic, "--labels", labels, "--out", tmp_path / "report"),
    ]
    for arguments in steps:
        result = run(*arguments)
        assert result.code == 0, result.err
    page = tmp_path / "report" / "report.html"
    assert page.is_file()
    assert result.out.splitlines()[-1] == str(page)  # to open in a browser
    assert json.loads((tmp_path / "report" / "report.json").read_text())


@pytest.mark.parametrize("fold", [(), ("--fold", "val")])
def test_tiles_refuse_a_folder_of_others_before_they_are_counted(
    run: Callable[..., Any], tmp_path: Path, fold: tuple[str, ...]
) -> None:
    """The store is not even opened: here there is none."""
    folder = tmp_path / "mine" if fold else tmp_path / "mine" / "val"
    folder.mkdir(parents=True)
    (folder / "notes.txt").touch()
    (tmp_path / "data").mkdir()
    code, out, err = run("tiles", "--data", tmp_path / "data", "--export", tmp_path / "mine", "--overwrite", *fold)
    assert (code, out) == (1, "")
    assert err == f"error: {folder}: is a folder that holds something else; choose another name\n"


@pytest.mark.parametrize("verb", ["train", "segment", "evaluate", "study replace", "tiles"])
def test_a_folder_that_cannot_be_one_is_refused_before_data_are_looked_at(
    verb: str, run: Callable[..., Any], tmp_path: Path
) -> None:
    taken = tmp_path / "taken"
    taken.touch()
    refused = run(*verb.split(), "--export" if verb == "tiles" else "--out", taken, "--data", tmp_path / "none")
    assert refused.code == 1
    assert f"cannot be written: {taken} is not a folder that may be written to" in refused.err

"""Going on after an interruption: to the byte what an unbroken training gives."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from trainings import (
    EVERY_STEP,
    LONGER,
    TINY,
    Interrupted,
    checkpoint_in,
    equal,
    make_store,
    start_and_break,
    steps_in,
)

from geosynth import loop as loop_module
from geosynth.config import TrainSettings
from geosynth.errors import CheckpointError, DataError, SettingsError
from geosynth.legend import CHESAPEAKE
from geosynth.loop import Checkpoint
from geosynth.training import objectives as objectives_module
from geosynth.training import train as train_module
from geosynth.training.records import Records
from geosynth.training.start import job_of, load_checkpoint
from geosynth.training.train import train

pytestmark = pytest.mark.usefixtures("ctrl_c_is_pythons")


@pytest.fixture(scope="module")
def unbroken(store, tmp_path_factory):
    """Five steps in one go."""
    out = tmp_path_factory.mktemp("unbroken")
    train(store, out, EVERY_STEP)
    return out


@pytest.mark.parametrize("step", [2, 4])
def test_a_resumed_training_is_the_unbroken_one(store, tmp_path, unbroken, step):
    """Weights, averages, optimisers, patches, noise: all of it."""
    start_and_break(store, tmp_path, EVERY_STEP, step)  # told before it is saved
    assert steps_in(tmp_path) == step - 1
    told = []
    path = train(store, tmp_path, EVERY_STEP, progress=lambda *values: told.append(values[0]))
    assert told == list(range(step, 6))
    assert path.read_bytes() == (unbroken / "model.safetensors").read_bytes()
    assert equal(checkpoint_in(tmp_path), checkpoint_in(unbroken))
    assert not list(tmp_path.glob("*partial*"))


KILLED = """
import os, signal, sys
sys.path[:0] = {paths!r}
from geosynth.raster.stores.store import Store
from geosynth.training import objectives
from geosynth.training.records import Records
from geosynth.training.train import train
from trainings import EVERY_STEP
original, calls = objectives.kl_divergence, []
def kl_divergence(mean, log_variance):
    calls.append(0)
    if len(calls) == {last_call}:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(mean, log_variance)
objectives.kl_divergence = kl_divergence
for out in {outs!r}:
    train(Store({store!r}), out, EVERY_STEP)
"""


def train_elsewhere(store, *outs, last_call=None):
    """Train in another process, one after the other; it kills itself in the middle of step `last_call`.

    Sums of floats depend on the number of threads, and on what a process has done before: what is compared to the byte
    comes from processes that are alike.
    """
    tests = Path(__file__).parents[1]
    paths = [str(tests), str(tests / "training")]
    code = KILLED.format(paths=paths, store=store.path, outs=[str(out) for out in outs], last_call=last_call)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)


@pytest.mark.slow
def test_kill_9_in_the_middle_of_a_step(store, tmp_path):
    killed, unbroken = tmp_path / "killed", tmp_path / "unbroken"
    run = train_elsewhere(store, killed, last_call=4)
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    assert steps_in(killed) == 3
    run = train_elsewhere(store, killed, unbroken)
    assert run.returncode == 0, run.stderr.decode()
    # Not compared in the assertion: pytest would print the difference of two model files.
    same = (killed / "model.safetensors").read_bytes() == (unbroken / "model.safetensors").read_bytes()
    assert same


def test_metrics_are_those_of_the_unbroken_training(store, tmp_path, unbroken):
    """The step that was done but not saved is not there twice."""
    start_and_break(store, tmp_path, EVERY_STEP, 4)
    train(store, tmp_path, EVERY_STEP)
    tables = []
    for out in (tmp_path, unbroken):
        with (out / "metrics.csv").open() as file:
            tables.append([list(row.values())[:-2] for row in csv.DictReader(file)])  # but for speed and time
    assert tables[0] == tables[1]
    assert [row[0] for row in tables[0]] == ["1", "2", "3", "4", "5"]


def test_interrupted_while_a_preview_is_written(store, tmp_path, monkeypatch):
    """It is not there by half, and its step is done again."""
    settings = EVERY_STEP.model_copy(update={"preview_every": 4})

    def save_half(image, path):
        Path(path).write_bytes(b"\x89PNG")
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", save_half)
        with pytest.raises(Interrupted):
            train(store, tmp_path, settings)
    assert not list(tmp_path.glob("previews/*"))
    train(store, tmp_path, settings)
    for step in (4, 5):
        with Image.open(tmp_path / f"previews/00000{step}.png") as image:
            image.load()


def test_interrupted_after_the_last_step(trained, store, tmp_path, monkeypatch):
    """All steps done but no model written: what is saved becomes the model that an uninterrupted training makes."""

    def fail(*args, **looks):
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "save_generator", fail)
        with pytest.raises(Interrupted):
            train(store, tmp_path, TINY)
    saved = (tmp_path / "last.ckpt").read_bytes()
    told = []
    path = train(store, tmp_path, TINY, progress=lambda *values: told.append(values))
    assert told == [(3, 3, 0.0)]
    assert path.read_bytes() == (trained[0] / "model.safetensors").read_bytes()
    assert (tmp_path / "last.ckpt").read_bytes() == saved


def test_going_on_after_the_time_is_over_adds_no_step(store, tmp_path):
    limited = TINY.model_copy(update={"steps": 10_000, "max_time": 0.01})
    path = train(store, tmp_path, limited)
    expected = path.read_bytes()
    path.unlink()
    assert train(store, tmp_path, limited).read_bytes() == expected


def test_a_checkpoint_is_due_by_time_too(store, tmp_path):
    start_and_break(store, tmp_path, LONGER.model_copy(update={"save_minutes": 1e-9}), 3)
    assert steps_in(tmp_path) == 2


def test_going_on_with_other_settings_is_refused(store, tmp_path):
    start_and_break(store, tmp_path, EVERY_STEP, 2)
    with pytest.raises(SettingsError, match="base_width=2, not 3") as caught:
        train(store, tmp_path, EVERY_STEP.model_copy(update={"base_width": 3}))
    assert "\n" not in str(caught.value)
    assert train(store, tmp_path, EVERY_STEP.model_copy(update={"steps": 2, "save_every": 7})).is_file()


@pytest.fixture(scope="module")
def unfinished(trained, tmp_path_factory):
    """A training of three steps out of five."""
    out = tmp_path_factory.mktemp("unfinished")
    shutil.copy(trained[0] / "last.ckpt", out)
    return out


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"hashes": ("c" * 64, "b" * 64)}, DataError, "other scenes"),
        ({"hashes": ("a" * 64, "c" * 64)}, DataError, "other scenes"),
        ({"folds": ("train", "train")}, DataError, "other scenes"),
        ({"bands": ("nir", "green", "blue", "red")}, DataError, "other bands"),
        ({"bands": ("red", "green")}, DataError, "other bands"),
        ({"legend": CHESAPEAKE.model_copy(update={"classes": CHESAPEAKE.classes[::-1]})}, DataError, "another legend"),
        ({"gsd": 1.2}, DataError, "another pixel size"),
        ({"folds": ("val",)}, SettingsError, "fold=train, not val"),
    ],
)
def test_going_on_with_other_data_is_refused(unfinished, tmp_path, changes, error, words):
    other = make_store(tmp_path / "other.zarr", **changes)
    fold = changes.get("folds", ("train",))[0]
    with pytest.raises(error, match=rf"last\.ckpt: was trained .*{words}; choose another folder") as caught:
        train(other, unfinished, LONGER, fold=fold)
    assert "\n" not in str(caught.value)
    assert not (unfinished / "model.safetensors").exists()


def test_going_on_with_a_copy_of_the_data_is_not_refused(unfinished, tmp_path):
    """Neither its place nor the scenes of another fold matter."""
    other = make_store(tmp_path / "other.zarr", folds=("train", "val"))
    shutil.copy(unfinished / "last.ckpt", tmp_path)
    assert train(other, tmp_path, LONGER).is_file()


def test_going_on_with_other_weights_of_the_perceptual_network_is_refused(store, tmp_path):
    """Their content counts, not where they stand."""
    last = tmp_path / "last.ckpt"

    def job(name, content):
        (tmp_path / name).write_bytes(content)
        settings = TrainSettings(perceptual_weight=1, perceptual_path=str(tmp_path / name))
        return job_of(settings, [store], "train", None)

    Checkpoint(job("vgg19.pth", b"one"), 1, 1.0, {}, {}).save(last)
    assert load_checkpoint(last, job("moved.pth", b"one")) is not None
    with pytest.raises(DataError, match=r"last\.ckpt: was trained with other weights of the perceptual network"):
        load_checkpoint(last, job("vgg19.pth", b"others"))


def test_a_checkpoint_of_other_networks_is_refused_in_one_line(unfinished, store, tmp_path):
    checkpoint = checkpoint_in(unfinished)
    del checkpoint["network"]["encoder.mean.bias"]
    torch.save(checkpoint, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match="networks for other data") as caught:
        train(store, tmp_path, LONGER)
    assert len(str(caught.value)) < 200 + len(str(tmp_path))
    assert "\n" not in str(caught.value)


def signal_in_step(monkeypatch, step, times=1):
    """Ctrl-C in the middle of a step, before any weight has moved."""
    original = objectives_module.kl_divergence
    calls = []

    def interrupt(mean, log_variance):
        calls.append(0)
        for _ in range(times if len(calls) == step else 0):
            signal.raise_signal(signal.SIGINT)
        return original(mean, log_variance)

    monkeypatch.setattr(objectives_module, "kl_divergence", interrupt)


def test_ctrl_c_keeps_the_whole_step_and_reaches_the_caller(store, tmp_path, unbroken, monkeypatch):
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        signal_in_step(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            train(store, tmp_path / "one", LONGER)
    assert signal.getsignal(signal.SIGINT) is handler
    assert steps_in(tmp_path / "one") == 3
    assert train(store, tmp_path / "one", EVERY_STEP).read_bytes() == (unbroken / "model.safetensors").read_bytes()
    assert not list(tmp_path.rglob("*partial*"))


IN_A_TERMINAL = """
import os, signal, sys
sys.path[:0] = {paths!r}
signal.signal(signal.SIGINT, signal.default_int_handler)
from geosynth.raster.stores.store import Store
from geosynth.training.train import train
from trainings import LONGER
def progress(done, total, left):
    if done == 2:
        os.killpg(0, signal.SIGINT)
train(Store({store!r}), {out!r}, LONGER.model_copy(update={{"workers": 2}}), progress=progress)
"""


def test_ctrl_c_in_a_terminal_reaches_the_loading_processes_too(store, tmp_path):
    """It goes to all processes in the foreground."""
    tests = Path(__file__).parents[1]
    code = IN_A_TERMINAL.format(
        paths=[str(tests), str(tests / "training")], store=store.path, out=str(tmp_path / "run")
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, start_new_session=True)
    assert run.stderr.splitlines()[-1] == "KeyboardInterrupt"
    assert steps_in(tmp_path / "run") == 3


def test_ctrl_c_twice_does_not_wait_and_saves_no_half_step(store, tmp_path, monkeypatch):
    handler = signal.getsignal(signal.SIGINT)
    signal_in_step(monkeypatch, 2, times=2)
    told = []
    with pytest.raises(KeyboardInterrupt):
        train(store, tmp_path, LONGER, progress=lambda *values: told.append(values))
    assert len(told) == 1
    assert not (tmp_path / "last.ckpt").exists()
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_interrupt_raised_by_progress_is_one_too(store, tmp_path):
    def progress(done, total, left):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(store, tmp_path, LONGER, progress=progress)
    assert steps_in(tmp_path) == 2


def test_ctrl_c_after_the_last_step_leaves_the_model_for_later(trained, store, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Records, "__exit__", lambda *args: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            train(store, tmp_path, TINY)
    assert train(store, tmp_path, TINY).read_bytes() == (trained[0] / "model.safetensors").read_bytes()


def test_a_handler_of_the_callers_stays_in_charge(store, tmp_path, monkeypatch):
    calls = []
    earlier = signal.signal(signal.SIGINT, lambda *args: calls.append(args))
    try:
        signal_in_step(monkeypatch, 2)
        assert train(store, tmp_path, TINY).is_file()
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert len(calls) == 1


def test_ctrl_c_saves_no_weights_that_are_not_finite(store, tmp_path, monkeypatch):
    monkeypatch.setattr(loop_module, "is_finite", lambda network: False)
    signal_in_step(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        train(store, tmp_path, LONGER)
    assert not (tmp_path / "last.ckpt").exists()


def test_a_damaged_checkpoint_is_refused(store, tmp_path):
    for content in (b"", b"no checkpoint", b"PK\x03\x04" + b"\0" * 100):
        (tmp_path / "last.ckpt").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"last\.ckpt: not a training checkpoint") as caught:
            train(store, tmp_path, TINY)
        assert "\n" not in str(caught.value)


def test_a_checkpoint_with_code_inside_is_not_run(store, tmp_path):
    torch.save({"network": {"weight": Interrupted}}, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError):
        train(store, tmp_path, TINY)

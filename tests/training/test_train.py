"""The train verb on a tiny store: repeatable, goes on after an interruption, fails in one line."""

import copy
import csv
import shutil
import signal
import warnings

import numpy as np
import pytest
import torch
from affine import Affine
from odc.geo.geobox import GeoBox

from geosynth.checkpoint import load_generator
from geosynth.config import TrainSettings
from geosynth.errors import CheckpointError, DataError, GeosynthError, OutputError, SettingsError, TrainingError
from geosynth.grid import Window
from geosynth.legend import CHESAPEAKE
from geosynth.models.discriminator import MultiscaleDiscriminator
from geosynth.models.field import random_noise
from geosynth.raster.store import Scene, Store
from geosynth.training import task as task_module
from geosynth.training import train as train_module
from geosynth.training import watch as watch_module
from geosynth.training.task import SpadeTask
from geosynth.training.train import train

TINY = TrainSettings(
    steps=3,
    batch_size=2,
    crop_size=64,
    base_width=2,
    max_multiple=2,
    hidden_channels=4,
    latent_size=3,
    noise_channels=2,
    encoder_width=2,
    discriminator_width=2,
    precision="fp32",
    preview_every=0,
)


BANDS = ("red", "green", "blue", "nir")


def make_store(
    path,
    *,
    dtype="uint8",
    size=96,
    folds=("train",),
    hashes=("a" * 64, "b" * 64),
    bands=BANDS,
    legend=CHESAPEAKE,
    gsd=0.6,
):
    """Scenes side by side: maps of bands of classes, each class with its own colour, and texture."""
    rng = np.random.default_rng(0)
    indices = np.broadcast_to(np.arange(size)[:, None] // 11 % 6, (size, size)).astype("uint8")
    colours = rng.integers(40, 200, (len(bands), 6))
    image = (colours[:, indices] + rng.integers(-20, 20, (len(bands), size, size))).astype(dtype)
    windows = [Window(0, size * index, size, size) for index in range(len(folds))]
    pixels = tuple(int((indices == index).sum()) for index in range(6))
    store = Store.create(
        path,
        GeoBox((size, size * len(folds)), Affine(gsd, 0, 500_000, 0, -gsd, 4_400_000), "EPSG:26917"),
        legend=legend,
        nodata=15,
        band_names=bands,
        dtype=np.dtype(dtype),
        scenes=[Scene("one.tif", window, fold, pixels, *hashes) for window, fold in zip(windows, folds, strict=True)],
        chunk_size=32,
    )
    for window in windows:
        store.write(window, image, legend.decode(indices, 15).astype("uint8"))
    return Store(path)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data") / "store.zarr")


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    """A finished training of three steps, and what it told of its progress."""
    told = []
    out = tmp_path_factory.mktemp("trained") / "run"
    train(store, out, TINY, progress=lambda *values: told.append(values))
    return out, told


def test_model_loads_and_paints(trained, store):
    out, _ = trained
    model = load_generator(out / "model.safetensors")
    assert model.card.legend == store.legend
    assert model.card.bands.names == store.band_names
    assert model.card.gsd == pytest.approx(0.6)
    assert model.card.settings == TINY.generator(6, 4)
    assert model.card.provenance["steps"] == 3
    assert model.card.provenance["data"] == [{"name": "one.tif", "sha256": "a" * 64}]
    assert TrainSettings.parse(model.card.provenance["training"]) == TINY
    labels = torch.randint(6, (1, 48, 64), generator=torch.Generator().manual_seed(0))
    noise = random_noise(model.card.settings, 1, 48, 64, torch.Generator().manual_seed(0))
    image = model.generator(labels, torch.zeros(1, 3), noise)
    assert image.shape == (1, 4, 48, 64)
    assert torch.isfinite(image).all()


def test_folder_holds_what_it_should(trained):
    out, told = trained
    assert sorted(path.name for path in out.iterdir()) == ["last.ckpt", "metrics.csv", "model.safetensors"]
    assert [values[:2] for values in told] == [(1, 3), (2, 3), (3, 3)]
    assert all(values[2] >= 0 for values in told)
    assert told[-1][2] == 0


def test_statistics_of_the_model_are_measured_ones(trained):
    buffers = dict(load_generator(trained[0] / "model.safetensors").generator.named_buffers())
    means = [value for name, value in buffers.items() if name.endswith("running_mean")]
    assert sum(bool(value.any()) for value in means) == len(means)


def test_same_seed_gives_the_same_bytes_and_another_does_not(trained, store, tmp_path):
    expected = load_generator(trained[0] / "model.safetensors")
    again = train(store, tmp_path / "again", TINY)
    assert again.read_bytes() == expected.path.read_bytes()
    other = load_generator(train(store, tmp_path / "other", TINY.model_copy(update={"seed": 1})))
    assert not torch.equal(other.generator.to_image.weight, expected.generator.to_image.weight)


def test_a_finished_training_is_not_overwritten(trained, store):
    with pytest.raises(OutputError, match=r"model\.safetensors: exists already"):
        train(store, trained[0], TINY)


class Interrupted(Exception):
    pass


def interrupt_at(step):
    def progress(done, total, left):
        if done == step:
            raise Interrupted

    return progress


@pytest.fixture
def every_step(monkeypatch):
    monkeypatch.setattr(watch_module, "_SAVE_EVERY", 1)


def start_and_break(store, out, settings, step):
    with pytest.raises(Interrupted):
        train(store, out, settings, progress=interrupt_at(step))
    assert not (out / "model.safetensors").exists()
    return torch.load(out / "last.ckpt", weights_only=True)


LONGER = TINY.model_copy(update={"steps": 5})


def test_an_interrupted_training_goes_on(store, tmp_path, every_step, monkeypatch):
    checkpoint = start_and_break(store, tmp_path, LONGER, 4)  # told before step 4 is saved: step 3 is
    seen = []
    original = SpadeTask.on_train_start

    def look(task):
        optimisers = [optimiser.state_dict() for optimiser in task.trainer.optimizers]
        seen.append(copy.deepcopy((dict(task.state_dict()), optimisers, task.rng.get_state())))
        original(task)

    monkeypatch.setattr(SpadeTask, "on_train_start", look)
    told = []
    path = train(store, tmp_path, LONGER, progress=lambda *values: told.append(values))
    assert [values[0] for values in told] == [4, 5]
    assert load_generator(path).card.provenance["steps"] == 5

    [(state, optimisers, rng)] = seen
    assert all(torch.equal(value, state[name]) for name, value in checkpoint["state_dict"].items())
    assert torch.equal(rng, checkpoint["geosynth"]["rng"])
    for saved, restored in zip(checkpoint["optimizer_states"], optimisers, strict=True):
        assert saved["param_groups"] == restored["param_groups"]
        for index, values in saved["state"].items():
            assert torch.equal(values["exp_avg_sq"], restored["state"][index]["exp_avg_sq"])
    assert not list(tmp_path.glob("*.partial"))


def test_going_on_draws_other_patches(store, tmp_path, every_step, monkeypatch):
    monkeypatch.setattr(task_module, "random_dihedral", lambda image, mask, rng: (image, mask))
    checkpoint = start_and_break(store, tmp_path, LONGER, 3)
    first = checkpoint["geosynth"]["recent_masks"]
    train(store, tmp_path, LONGER)
    masks = torch.load(tmp_path / "last.ckpt", weights_only=True)["geosynth"]["recent_masks"]
    assert len(first) == 2
    assert len(masks) == 5
    assert len({mask.numpy().tobytes() for mask in masks}) == 5


def test_interrupted_after_the_last_step(trained, store, tmp_path, monkeypatch):
    """All steps done but no model written: what is saved becomes the model that an uninterrupted training makes."""

    def fail(*args):
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
    limited = TINY.model_copy(update={"steps": 10_000, "max_hours": 1e-6})
    path = train(store, tmp_path, limited)
    expected = path.read_bytes()
    path.unlink()
    assert train(store, tmp_path, limited).read_bytes() == expected


def test_metrics_of_the_interrupted_run_are_kept(store, tmp_path, every_step, monkeypatch):
    monkeypatch.setattr(train_module, "_LOG_EVERY", 1)
    start_and_break(store, tmp_path, LONGER, 3)
    train(store, tmp_path, LONGER)
    with (tmp_path / "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert sorted(set(steps)) == [0, 1, 2, 3, 4]


def test_no_warnings_reach_the_user(store, tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(store, tmp_path, TINY)
    hidden = (DeprecationWarning, PendingDeprecationWarning)  # by Python's own default
    assert [str(warning.message) for warning in caught if not issubclass(warning.category, hidden)] == []


def test_going_on_with_other_settings_is_refused(store, tmp_path, every_step):
    start_and_break(store, tmp_path, LONGER, 2)
    with pytest.raises(SettingsError, match="base_width=2, not 3") as caught:
        train(store, tmp_path, LONGER.model_copy(update={"base_width": 3}))
    assert "\n" not in str(caught.value)
    assert train(store, tmp_path, LONGER.model_copy(update={"steps": 2})).is_file()


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


def older(out, path):
    """A checkpoint as it was before it told of its data."""
    checkpoint = torch.load(out / "last.ckpt", weights_only=True)
    del checkpoint["geosynth"]["data"]
    torch.save(checkpoint, path)


def test_an_older_checkpoint_goes_on(unfinished, store, tmp_path):
    older(unfinished, tmp_path / "last.ckpt")
    told = []
    train(store, tmp_path, LONGER, progress=lambda *values: told.append(values))
    assert [values[0] for values in told] == [4, 5]


def test_an_older_checkpoint_with_other_networks_is_refused_in_one_line(unfinished, tmp_path):
    older(unfinished, tmp_path / "last.ckpt")
    other = make_store(tmp_path / "other.zarr", bands=("red", "green"))
    with pytest.raises(CheckpointError, match="networks for other data") as caught:
        train(other, tmp_path, LONGER)
    assert len(str(caught.value)) < 200 + len(str(tmp_path))
    assert "\n" not in str(caught.value)


def signal_in_step(monkeypatch, step, times=1):
    """Ctrl-C in the middle of a step, before any weight has moved."""
    original = task_module.kl_divergence
    calls = []

    def interrupt(mean, log_variance):
        calls.append(0)
        for _ in range(times if len(calls) == step else 0):
            signal.raise_signal(signal.SIGINT)
        return original(mean, log_variance)

    monkeypatch.setattr(task_module, "kl_divergence", interrupt)


def equal(one, other):
    """Whether nests of dicts, lists and tensors are the same, times spent left out."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one if key != "callbacks")
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def test_ctrl_c_keeps_the_whole_step_and_reaches_the_caller(store, tmp_path, monkeypatch):
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        signal_in_step(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            train(store, tmp_path / "one", LONGER)
    assert signal.getsignal(signal.SIGINT) is handler
    with monkeypatch.context() as patch:
        patch.setattr(watch_module, "_SAVE_EVERY", 1)
        expected = start_and_break(store, tmp_path / "two", LONGER, 4)
    saved = torch.load(tmp_path / "one" / "last.ckpt", weights_only=True)
    assert int(saved["state_dict"]["steps_done"]) == 3
    assert equal(saved, expected)
    assert train(store, tmp_path / "one", LONGER).read_bytes() == train(store, tmp_path / "two", LONGER).read_bytes()
    assert not list(tmp_path.rglob("*.partial"))


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
    assert int(torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]["steps_done"]) == 2


def test_ctrl_c_after_the_last_step_leaves_the_model_for_later(trained, store, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(SpadeTask, "on_train_end", lambda task: signal.raise_signal(signal.SIGINT))
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


def spoil_weights(monkeypatch, step):
    """Weights that are no longer finite, after losses that were."""
    original = SpadeTask.training_step

    def training_step(task, batch, batch_index):
        original(task, batch, batch_index)
        if int(task.steps_done) == step:
            with torch.no_grad():
                task.encoder.mean.weight[0, 0] = float("inf")

    monkeypatch.setattr(SpadeTask, "training_step", training_step)


def test_weights_that_are_not_finite_are_not_saved(store, tmp_path, every_step, monkeypatch):
    spoil_weights(monkeypatch, 2)
    with pytest.raises(TrainingError, match=r"step 2: weights.*last\.ckpt is kept") as caught:
        train(store, tmp_path, LONGER)
    assert "\n" not in str(caught.value)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert int(saved["steps_done"]) == 1
    assert torch.isfinite(saved["encoder.mean.weight"]).all()


def test_ctrl_c_saves_no_weights_that_are_not_finite(store, tmp_path, monkeypatch):
    spoil_weights(monkeypatch, 2)
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
    torch.save({"state_dict": {"steps_done": Interrupted}}, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError):
        train(store, tmp_path, TINY)


def test_a_loss_that_is_not_finite_stops_the_training(store, tmp_path, every_step, monkeypatch):
    original = task_module.kl_divergence
    calls = []

    def diverge(mean, log_variance):
        calls.append(0)
        return original(mean, log_variance) * (float("nan") if len(calls) == 3 else 1.0)

    monkeypatch.setattr(task_module, "kl_divergence", diverge)
    with pytest.raises(TrainingError, match=r"step 3: loss 'kl' is nan.*last\.ckpt is kept") as caught:
        train(store, tmp_path, LONGER)
    assert "\n" not in str(caught.value)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert int(saved["steps_done"]) == 2
    assert all(torch.isfinite(value).all() for value in saved.values())


def test_divergence_promises_no_checkpoint_where_there_is_none(store, tmp_path, monkeypatch):
    monkeypatch.setattr(task_module, "kl_divergence", lambda mean, log_variance: mean.sum() * float("nan"))
    with pytest.raises(TrainingError, match="step 1: loss 'kl' is nan") as caught:
        train(store, tmp_path, LONGER)
    assert "kept" not in str(caught.value)
    assert not (tmp_path / "last.ckpt").exists()


@pytest.mark.parametrize("depth", ["less", "more"])
def test_smallest_crop_trains_in_bfloat16(store, tmp_path, depth):
    settings = TINY.model_copy(update={"precision": "bf16", "depth": depth, "base_width": 4})
    train(store, tmp_path, settings)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.isfinite(value).all() for value in saved.values())


def test_largest_seed_works_to_the_last_step(store, tmp_path):
    largest = TINY.model_copy(update={"seed": 2**62 - 1, "steps": 2})
    assert TrainSettings.parse(largest.model_dump()) == largest
    assert train(store, tmp_path, largest).is_file()


class SlowWay(MultiscaleDiscriminator):
    """Its weights take part in each backward pass, as they do by torch's default."""

    def requires_grad_(self, requires_grad=True):
        return self


def test_generator_update_spares_the_discriminator(trained, store, tmp_path, monkeypatch):
    """No gradient reaches its weights until its own turn, and results are those of the plain way."""
    with monkeypatch.context() as patch:
        patch.setattr(task_module, "MultiscaleDiscriminator", SlowWay)
        train(store, tmp_path / "slow", TINY)
    original = SpadeTask._update
    gradients = []

    def update(task, index, loss):
        task.discriminator.zero_grad()
        original(task, index, loss)
        gradients.append((index, {value.grad is not None for value in task.discriminator.parameters()}))

    monkeypatch.setattr(SpadeTask, "_update", update)
    train(store, tmp_path / "fast", TINY)
    assert gradients == [(0, {False}), (1, {True})] * 3
    slow, fast = (
        torch.load(tmp_path / name / "last.ckpt", weights_only=True)["state_dict"] for name in ("slow", "fast")
    )
    for name, value in slow.items():
        torch.testing.assert_close(fast[name], value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 5 bytes"),
    ],
)
def test_exhausted_memory_is_a_memory_error(store, tmp_path, monkeypatch, error):
    def fail(*args):
        raise error

    monkeypatch.setattr(task_module, "kl_divergence", fail)
    with pytest.raises(MemoryError, match="allocate"):
        train(store, tmp_path, TINY)


def test_networks_too_large_for_memory_leave_no_folder(store, tmp_path):
    with pytest.raises(MemoryError):
        train(store, tmp_path / "run", TINY.model_copy(update={"encoder_width": 10**12}))
    assert not (tmp_path / "run").exists()


def test_time_limit_ends_the_training(store, tmp_path):
    settings = TINY.model_copy(update={"steps": 10_000, "max_hours": 1e-6})
    told = []
    path = train(store, tmp_path, settings, progress=lambda *values: told.append(values))
    assert load_generator(path).card.provenance["steps"] == len(told) < 100


def test_previews_are_written(store, tmp_path):
    from PIL import Image

    train(store, tmp_path, TINY.model_copy(update={"preview_every": 2}))
    assert sorted(path.name for path in (tmp_path / "previews").iterdir()) == ["000002.png", "000003.png"]
    with Image.open(tmp_path / "previews" / "000003.png") as image:
        pixels = np.asarray(image)
    # Two rows (patches); labels, real, two fakes, near infrared real and fake; 2 px of frame.
    assert pixels.shape == (2 * 66 + 2, 6 * 66 + 2, 3)
    assert pixels.std() > 10


@pytest.mark.parametrize("changes", [{"crop_size": 128}, {}])
def test_data_that_cannot_be_used(store, tmp_path, changes):
    fold = "train" if changes else "val"
    with pytest.raises(DataError) as caught:
        train(store, tmp_path / "run", TINY.model_copy(update=changes), fold=fold)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_imagery_that_is_not_uint8_is_refused(tmp_path):
    with pytest.raises(DataError, match="uint16"):
        train(make_store(tmp_path / "store.zarr", dtype="uint16"), tmp_path / "run", TINY)


def test_places_that_cannot_be_written(store, tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(GeosynthError) as caught:
            train(store, out, TINY)
        assert isinstance(caught.value, OutputError)
        assert "\n" not in str(caught.value)


def refuse_to_write(*args, **kwargs):
    raise OSError(28, "No space left on device")


def one_line_output_error(store, out, settings=TINY):
    with pytest.raises(OutputError) as caught:
        train(store, out, settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_place_where_no_file_can_be_made_is_found_before_the_first_step(store, tmp_path, monkeypatch):
    """As in a file system that only looks writable."""
    monkeypatch.setattr(SpadeTask, "training_step", lambda *args: pytest.fail("trains"))
    monkeypatch.setattr(train_module.Path, "touch", refuse_to_write)
    assert "run: cannot be written: No space" in one_line_output_error(store, tmp_path / "run")


def test_a_dangling_link_is_no_place_for_a_model(store, tmp_path):
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "nowhere")
    assert "exists already" in one_line_output_error(store, tmp_path)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("Parent directory does not exist\nat torch")]
)
def test_a_checkpoint_that_cannot_be_written(store, tmp_path, monkeypatch, error):
    def fail(trainer, path):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(train_module.Trainer, "save_checkpoint", fail)
    assert "last.ckpt: cannot be written: " in one_line_output_error(store, tmp_path)
    assert not list(tmp_path.glob("last.ckpt*"))


def test_a_preview_that_cannot_be_written(store, tmp_path):
    (tmp_path / "previews").write_text("")
    assert "000001.png: cannot be written" in one_line_output_error(
        store, tmp_path, TINY.model_copy(update={"preview_every": 1})
    )


def test_metrics_that_cannot_be_written(store, tmp_path, monkeypatch):
    monkeypatch.setattr(train_module.CSVLogger, "save", refuse_to_write)
    assert "metrics.csv: cannot be written: No space" in one_line_output_error(store, tmp_path)

"""The train verb on a tiny store: repeatable, goes on after an interruption, fails in one line."""

import copy
import csv
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
from geosynth.models.field import random_noise
from geosynth.raster.store import Scene, Store
from geosynth.training import task as task_module
from geosynth.training import train as train_module
from geosynth.training.task import SpadeTask
from geosynth.training.train import train

TINY = TrainSettings(
    steps=3,
    batch_size=2,
    crop_size=32,
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


def make_store(path, *, dtype="uint8", size=64):
    """One train scene: a map of bands of classes, each class with its own colour, and texture."""
    rng = np.random.default_rng(0)
    indices = np.broadcast_to(np.arange(size)[:, None] // 11 % 6, (size, size)).astype("uint8")
    colours = rng.integers(40, 200, (4, 6))
    image = (colours[:, indices] + rng.integers(-20, 20, (4, size, size))).astype(dtype)
    window = Window(0, 0, size, size)
    pixels = tuple(int((indices == index).sum()) for index in range(6))
    store = Store.create(
        path,
        GeoBox((size, size), Affine(0.6, 0, 500_000, 0, -0.6, 4_400_000), "EPSG:26917"),
        legend=CHESAPEAKE,
        nodata=15,
        band_names=("red", "green", "blue", "nir"),
        dtype=np.dtype(dtype),
        scenes=[Scene("one.tif", window, "train", pixels, "a" * 64, "b" * 64)],
        chunk_size=32,
    )
    store.write(window, image, CHESAPEAKE.decode(indices, 15).astype("uint8"))
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
    monkeypatch.setattr(train_module, "_SAVE_EVERY", 1)


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


def test_interrupted_after_the_last_step(store, tmp_path, every_step, monkeypatch):
    """All steps done but no model written: what is saved becomes the model."""

    def fail(*args):
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "save_generator", fail)
        with pytest.raises(Interrupted):
            train(store, tmp_path, TINY)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    told = []
    generator = load_generator(train(store, tmp_path, TINY, progress=lambda *values: told.append(values))).generator
    assert told == [(3, 3, 0.0)]
    assert generator.blocks["head_0"].norm_0.norm.running_mean.any()
    resumed = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    for name, value in saved.items():
        if name.startswith("generator.to_image"):
            torch.testing.assert_close(resumed[name], value, rtol=0, atol=0)


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
    with pytest.raises(TrainingError, match="step 3: loss 'kl' is nan") as caught:
        train(store, tmp_path, LONGER)
    assert "\n" not in str(caught.value)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert int(saved["steps_done"]) == 2
    assert all(torch.isfinite(value).all() for value in saved.values())


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
    assert pixels.shape == (2 * 34 + 2, 6 * 34 + 2, 3)
    assert pixels.std() > 10


@pytest.mark.parametrize("changes", [{"crop_size": 96}, {}])
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

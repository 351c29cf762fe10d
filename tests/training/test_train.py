"""The train verb on a tiny store: what it makes, repeats and refuses, and how it fails: in one line."""

import itertools
import logging
import math
import warnings

import numpy as np
import pytest
import torch
from trainings import EVERY_STEP, TINY, checkpoint_in, make_store, steps_in

from geosynth.checkpoint import load_generator
from geosynth.config import TrainSettings
from geosynth.errors import DataError, GeosynthError, OutputError, SettingsError, TrainingError
from geosynth.models.field import random_noise
from geosynth.training import objectives as objectives_module
from geosynth.training import records as records_module
from geosynth.training import train as train_module
from geosynth.training.step import SpadeStep
from geosynth.training.train import train


def test_model_loads_and_paints(trained, store):
    out, _ = trained
    model = load_generator(out / "model.safetensors")
    assert model.card.legend == store.legend
    assert model.card.bands.names == store.band_names
    assert model.card.gsd == pytest.approx(0.6)
    assert model.card.settings == TINY.generator(6, 4)
    assert model.encoder is not None
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
    assert sorted(path.name for path in out.iterdir()) == [
        "last.ckpt",
        "metrics.csv",
        "model.safetensors",
        "tensorboard",
    ]
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
    with pytest.raises(OutputError, match=r"model\.safetensors: already exists"):
        train(store, trained[0], TINY)


def test_no_warnings_reach_the_user(store, tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(store, tmp_path, TINY)
    hidden = (DeprecationWarning, PendingDeprecationWarning)  # by Python's own default
    assert [str(warning.message) for warning in caught if not issubclass(warning.category, hidden)] == []


def spoil_weights(monkeypatch, step):
    """Weights that are no longer finite, after losses that were."""
    original = SpadeStep.update

    def update(own, number, batch):
        losses = original(own, number, batch)
        if number + 1 == step:
            with torch.no_grad():
                own.networks.encoder.mean.weight[0, 0] = float("inf")
        return losses

    monkeypatch.setattr(SpadeStep, "update", update)


def test_weights_that_are_not_finite_are_not_saved(store, tmp_path, monkeypatch):
    spoil_weights(monkeypatch, 2)
    with pytest.raises(TrainingError, match=r"step 2: weights.*last\.ckpt is kept") as caught:
        train(store, tmp_path, EVERY_STEP)
    assert "\n" not in str(caught.value)
    assert steps_in(tmp_path) == 1
    saved = checkpoint_in(tmp_path)["network"]
    assert torch.isfinite(saved["encoder.mean.weight"]).all()


def test_a_loss_that_is_not_finite_stops_the_training(store, tmp_path, monkeypatch):
    original = objectives_module.kl_divergence
    calls = []

    def diverge(mean, log_variance):
        calls.append(0)
        return original(mean, log_variance) * (float("nan") if len(calls) == 3 else 1.0)

    monkeypatch.setattr(objectives_module, "kl_divergence", diverge)
    with pytest.raises(TrainingError, match=r"step 3: loss 'kl' is nan.*last\.ckpt is kept") as caught:
        train(store, tmp_path, EVERY_STEP)
    assert "\n" not in str(caught.value)
    assert steps_in(tmp_path) == 2
    assert all(torch.isfinite(value).all() for value in checkpoint_in(tmp_path)["network"].values())


def test_divergence_promises_no_checkpoint_where_there_is_none(store, tmp_path, monkeypatch):
    monkeypatch.setattr(objectives_module, "kl_divergence", lambda mean, log_variance: mean.sum() * float("nan"))
    with pytest.raises(TrainingError, match="step 1: loss 'kl' is nan") as caught:
        train(store, tmp_path, EVERY_STEP)
    assert "kept" not in str(caught.value)
    assert not (tmp_path / "last.ckpt").exists()


def test_a_loss_that_explodes_stops_the_training_too(store, tmp_path):
    settings = EVERY_STEP.model_copy(update={"mean_weight": 1e7, "steps": 50})
    with pytest.raises(TrainingError, match=r"step 1: loss 'means' is .*e\+"):
        train(store, tmp_path, settings)


@pytest.mark.parametrize("depth", ["less", "more"])
def test_smallest_crop_trains_in_bfloat16(store, tmp_path, depth):
    settings = TINY.model_copy(update={"precision": "bf16", "depth": depth, "base_width": 4})
    train(store, tmp_path, settings)
    saved = checkpoint_in(tmp_path)["network"]
    assert all(torch.isfinite(value).all() for value in saved.values())


def test_largest_seed_works_to_the_last_step(store, tmp_path):
    largest = TINY.model_copy(update={"seed": 2**62 - 1, "steps": 2})
    assert TrainSettings.parse(largest.model_dump()) == largest
    assert train(store, tmp_path, largest).is_file()


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

    monkeypatch.setattr(objectives_module, "kl_divergence", fail)
    with pytest.raises(MemoryError, match="allocate"):
        train(store, tmp_path, TINY)


def test_networks_too_large_for_memory_leave_no_folder(store, tmp_path, monkeypatch):
    monkeypatch.setattr("geosynth.training.train.SpadeNetworks", lambda *arguments: torch.empty(10**16))
    with pytest.raises(MemoryError):
        train(store, tmp_path / "run", TINY)
    assert not (tmp_path / "run").exists()


def test_time_limit_ends_the_training(store, tmp_path):
    settings = TINY.model_copy(update={"steps": 10_000, "max_time": 0.01})
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


def test_other_types_of_imagery_train(tmp_path):
    """uint16, scaled by the statistics of the fold; the model says how. Reading for these is told before the steps."""
    told = []
    store = make_store(tmp_path / "store.zarr", dtype="uint16")
    path = train(store, tmp_path / "run", TINY, progress=lambda *values: told.append(values))
    blocks = len(list(store.blocks(512, "train")))
    assert [values[:2] for values in told] == [
        *((done, blocks) for done in range(1, blocks + 1)),
        *((done, TINY.steps) for done in range(1, TINY.steps + 1)),
    ]
    assert [math.isnan(left) for *_, left in told] == [True] * blocks + [False] * TINY.steps
    bands = load_generator(path).card.bands
    assert bands.dtype == "uint16"
    assert bands.low != 0


def test_a_class_that_the_fold_lacks_is_told(tmp_path, caplog):
    store = make_store(tmp_path / "store.zarr", classes=4)
    with caplog.at_level(logging.WARNING, logger="geosynth"):
        assert train(store, tmp_path / "run", TINY).is_file()
    [record] = caplog.records
    absent = [each.name for each in store.legend.classes[4:]]
    assert record.getMessage() == f"fold 'train' has no pixel of {', '.join(absent)}: the model learns nothing of that"


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_patches_are_drawn_by_class_as_far_as_is_wanted(tmp_path, monkeypatch, balance):
    weights = []
    store = make_store(tmp_path / "store.zarr")
    plain = train_module.PatchModule
    monkeypatch.setattr(
        train_module, "PatchModule", lambda *args, **kw: weights.append(kw["class_weights"]) or plain(*args, **kw)
    )
    train(store, tmp_path / "run", TINY.model_copy(update={"class_balance": balance}))
    if balance == 0:
        assert weights == [None]
        return
    [found] = weights
    pixels = dict(zip(store.legend.names, store.scenes[0].class_pixels, strict=True))
    assert len(set(pixels.values())) > 1
    # A class's say is its share to the power of 1 - balance: all alike at 1.
    for one, other in itertools.pairwise(pixels):
        assert found[one] / found[other] == pytest.approx((pixels[one] / pixels[other]) ** (1 - balance))


def test_a_class_that_is_not_there_has_no_say(tmp_path):
    store = make_store(tmp_path / "store.zarr", classes=4)
    assert train(store, tmp_path / "run", TINY.model_copy(update={"class_balance": 0.5})).is_file()


def test_more_devices_than_there_are(store, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(SettingsError, match=r"^devices: 2 are asked for; this machine has 1 GPU$"):
        train(store, tmp_path / "run", TINY.model_copy(update={"devices": 2}))


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
    monkeypatch.setattr(SpadeStep, "update", lambda *args: pytest.fail("trains"))
    monkeypatch.setattr(train_module.Path, "touch", refuse_to_write)
    assert "run: cannot be written: No space" in one_line_output_error(store, tmp_path / "run")


def test_a_dangling_link_is_no_place_for_a_model(store, tmp_path):
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "nowhere")
    assert "already exists" in one_line_output_error(store, tmp_path)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("Parent directory does not exist\nat torch")]
)
def test_a_checkpoint_that_cannot_be_written(store, tmp_path, monkeypatch, error):
    def fail(values, file):
        file.write(b"half")
        raise error

    monkeypatch.setattr(torch, "save", fail)
    assert "last.ckpt: cannot be written: " in one_line_output_error(store, tmp_path)
    assert not list(tmp_path.glob("*ckpt*"))


def test_a_preview_that_cannot_be_written(store, tmp_path):
    (tmp_path / "previews").write_text("")
    assert "000001.png: cannot be written" in one_line_output_error(
        store, tmp_path, TINY.model_copy(update={"preview_every": 1})
    )


def test_metrics_that_cannot_be_written(store, tmp_path, monkeypatch):
    monkeypatch.setattr(records_module.SummaryWriter, "add_scalar", refuse_to_write)
    assert "metrics.csv: cannot be written: No space" in one_line_output_error(store, tmp_path)

"""Going on from a model file: its weights, its networks, its data; and what does not fit it."""

import pytest
import torch
from trainings import EVERY_STEP, TINY, checkpoint_in, make_store, ready, start_and_break

from geosynth.checkpoint import ModelCard, load_generator, save_generator
from geosynth.config import TrainSettings
from geosynth.download import DEFAULT_MODEL
from geosynth.errors import CheckpointError, DataError, SettingsError
from geosynth.models.field import random_noise
from geosynth.training.start import load_initial, with_networks_of
from geosynth.training.train import train

NO_LEARNING = {"generator_rate": 1e-12, "discriminator_rate": 1e-12, "steps": 1}


@pytest.fixture(scope="module")
def model(trained):
    return trained[0] / "model.safetensors"


def from_it(model, **changes):
    """As a user who names a model and nothing of its networks."""
    networks = {"base_width", "max_multiple", "hidden_channels", "depth", "latent_size", "noise_channels"}
    values = TINY.model_dump(mode="json", exclude_defaults=True, exclude=networks | {"encoder_width"})
    return TrainSettings.parse({**values, "init": str(model), **changes})


def paint(model, mask):
    settings = model.card.settings
    noise = random_noise(settings, 1, *mask.shape[1:], torch.Generator().manual_seed(0))
    return model.generator(mask, torch.zeros(1, settings.latent_size), noise)


def test_without_learning_it_paints_what_the_model_paints(store, model, tmp_path):
    first = load_generator(model)
    path = train(store, tmp_path, from_it(model, **NO_LEARNING))
    second = load_generator(path)
    assert second.card.settings == first.card.settings
    assert second.card.encoder == first.card.encoder
    weights = dict(second.generator.named_parameters())
    for name, value in first.generator.named_parameters():
        # Spectral norms are estimates, made anew; those of so short a training are rough.
        assert torch.allclose(weights[name], value, rtol=0.15, atol=1e-4), name
    encoded = [loaded.encoder(torch.ones(1, 4, 64, 64))[0] for loaded in (first, second)]
    assert torch.allclose(*encoded, rtol=0.3, atol=1e-2)


def test_it_learns_on(store, model, tmp_path):
    first = load_generator(model)
    second = load_generator(train(store, tmp_path, from_it(model, steps=5)))
    mask = torch.randint(6, (1, 64, 64), generator=torch.Generator().manual_seed(0))
    assert not torch.equal(paint(first, mask), paint(second, mask))


def test_a_store_without_a_pixel_size_leaves_that_of_the_others_or_of_the_model(store, model, tmp_path):
    nowhere = make_store(tmp_path / "nowhere.zarr", crs=None)
    gsd = load_generator(model).card.gsd
    assert gsd is not None
    assert load_generator(train(nowhere, tmp_path / "on", from_it(model, **NO_LEARNING))).card.gsd == gsd
    settings = TrainSettings.parse({**TINY.model_dump(mode="json", exclude_defaults=True), **NO_LEARNING})
    assert load_generator(train([nowhere, store], tmp_path / "both", settings)).card.gsd == gsd
    assert load_generator(train(nowhere, tmp_path / "alone", settings)).card.gsd is None


def test_the_models_data_stand_beside_the_new(model, tmp_path):
    other = make_store(tmp_path / "other.zarr", hashes=("c" * 64, "d" * 64))
    path = train(other, tmp_path / "run", from_it(model))
    provenance = load_generator(path).card.provenance
    assert [entry["sha256"][0] for entry in provenance["data"]] == ["c", "a"]
    assert provenance["init"]["sha256"] == load_generator(model).sha256
    assert provenance["init"]["name"] == "model.safetensors"
    assert provenance["init"]["steps"] == 3
    assert "data" not in provenance["init"]
    assert str(tmp_path) not in str(provenance)


def test_resumed_it_is_the_unbroken_one(store, model, tmp_path):
    settings = from_it(model, **EVERY_STEP.model_dump(include={"steps", "save_every"}))
    unbroken = train(store, tmp_path / "unbroken", settings)
    start_and_break(store, tmp_path / "broken", with_networks_of(settings), 3)
    assert train(store, tmp_path / "broken", settings).read_bytes() == unbroken.read_bytes()


def test_another_model_under_the_same_name_is_refused(store, model, tmp_path):
    copy = tmp_path / "start.safetensors"
    copy.write_bytes(model.read_bytes())
    settings = from_it(copy, steps=5, save_every=1)
    start_and_break(store, tmp_path / "run", with_networks_of(settings), 3)
    loaded = load_generator(model)
    save_generator(copy, loaded.generator, loaded.card.model_copy(update={"provenance": {}}), loaded.encoder)
    with pytest.raises(DataError, match="was trained from another initial model; choose another folder"):
        train(store, tmp_path / "run", settings)


def test_networks_are_the_models(model):
    settings = with_networks_of(TrainSettings(init=str(model)))
    assert settings.generator(6, 4) == load_generator(model).card.settings
    assert settings.encoder_width == TINY.encoder_width
    assert with_networks_of(settings) == settings


def test_a_setting_of_other_networks_is_refused(model):
    with pytest.raises(SettingsError, match=f"^base_width: the model {model} has {TINY.base_width}, not 32; leave"):
        with_networks_of(TrainSettings(init=str(model), base_width=32))


def test_the_embedded_model_has_a_name():
    settings = with_networks_of(TrainSettings(init=DEFAULT_MODEL))
    assert settings.generator(6, 4) == load_generator().card.settings


IN_ORDER = "; name them in its order: ingest --bands red,green,blue,nir, or bands of data in place"


@pytest.mark.parametrize(
    ("change", "words", "remedy"),
    [
        ({"bands": ("nir", "Green", "blue", "red")}, "bands nir, Green, blue, red do not fit", IN_ORDER),
        ({"bands": ("nir", "green", "blue", "swir")}, "bands nir, green, blue, swir do not fit", ""),
        ({"dtype": "uint16"}, "pixel values of type uint16 do not fit", "; ingest --dtype uint8 if they fit"),
    ],
)
def test_data_that_do_not_fit_are_refused(model, store, tmp_path, change, words, remedy):
    assert load_initial(TrainSettings(init=str(model)), [store]) is not None
    other = make_store(tmp_path / "here.zarr", **change)
    with pytest.raises(DataError, match=f"here.zarr: {words} the model {model}, which has [a-z0-9, ]+{remedy}$"):
        load_initial(TrainSettings(init=str(model)), [other])


def test_other_classes_are_refused(model, store, tmp_path):
    names = [*store.legend.names[1:], store.legend.names[0]]
    entries = [entry.model_copy(update={"name": name}) for entry, name in zip(store.legend.classes, names, strict=True)]
    legend = store.legend.model_copy(update={"classes": tuple(entries)})
    with pytest.raises(DataError, match=r"here\.zarr: classes .* do not fit the model"):
        load_initial(TrainSettings(init=str(model)), [make_store(tmp_path / "here.zarr", legend=legend)])


def test_what_is_no_model_is_refused(store, tmp_path):
    with pytest.raises(CheckpointError, match="nowhere: no such model file"):
        train(store, tmp_path / "run", TrainSettings(init="nowhere"))
    assert not (tmp_path / "run").exists()


def test_the_generator_starts_slowly_where_it_knows_something():
    def rates(settings, progress):
        return ready(settings).set_rates(progress)

    fresh, initial = TINY, TINY.model_copy(update={"init": "some model"})
    full = (TINY.generator_rate, TINY.discriminator_rate)
    assert rates(fresh, 0.0) == full
    assert rates(initial, 0.0) == (0.0, full[1])
    assert rates(initial, 0.05) == pytest.approx((full[0] / 2, full[1]))
    assert rates(initial, 0.1) == rates(initial.model_copy(update={"warmup": 0.0}), 0.0) == full
    assert rates(initial, 0.75) == rates(fresh, 0.75)


def test_a_training_from_nothing_records_no_initial_model(model):
    assert isinstance(load_generator(model).card, ModelCard)
    assert checkpoint_in(model.parent)["job"]["data"].get("initial") is None

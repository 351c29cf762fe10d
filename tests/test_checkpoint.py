"""Model files: what goes in comes out; what is not one is refused in one line; nothing half-written stays."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from geosynth import download
from geosynth.checkpoint import ModelCard, load_generator, save_generator
from geosynth.config import BandSettings, EncoderSettings, GeneratorSettings
from geosynth.describe import info
from geosynth.errors import CheckpointError, OutputError, SettingsError
from geosynth.legend import CHESAPEAKE, Legend
from geosynth.models.encoder import StyleEncoder
from geosynth.models.field import random_noise
from geosynth.models.generator import SpadeGenerator

SETTINGS = GeneratorSettings(
    num_classes=6,
    num_bands=4,
    base_width=2,
    max_multiple=2,
    hidden_channels=4,
    latent_size=3,
    noise_channels=2,
    depth="less",
)
CARD = ModelCard(
    settings=SETTINGS,
    legend=CHESAPEAKE,
    bands=BandSettings(names=("red", "green", "blue", "nir"), high=200),
    gsd=0.6,
    provenance={"software": "test", "steps": 3, "data": [{"name": "a.tif", "sha256": "0" * 64}]},
)


@pytest.fixture
def generator():
    torch.manual_seed(0)
    return SpadeGenerator(SETTINGS).eval()


@pytest.fixture
def model_path(tmp_path, generator):
    return save_generator(tmp_path / "new" / "model.safetensors", generator, CARD)


def test_round_trip(model_path, generator):
    model = load_generator(model_path)
    assert model.card == CARD == ModelCard.read(model_path)
    assert model.path == model_path
    assert model.sha256 == hashlib.sha256(model_path.read_bytes()).hexdigest()
    assert not model.generator.training
    state = model.generator.state_dict()
    assert state.keys() == generator.state_dict().keys()
    buffers = {name for name, _ in generator.named_buffers()}
    for name, value in generator.state_dict().items():
        assert state[name].dtype == value.dtype
        if name in buffers:
            assert torch.equal(state[name], value)
        else:  # float16 keeps 11 bits; below 2^-14 it steps by 2^-24
            assert not state[name].requires_grad
            torch.testing.assert_close(state[name], value, rtol=2**-11, atol=2**-25)


def test_loaded_generator_paints_what_the_saved_one_does(model_path, generator):
    labels = torch.randint(7, (1, 48, 48), generator=torch.Generator().manual_seed(0))
    latent, noise = torch.ones(1, 3), random_noise(SETTINGS, 1, 48, 48, torch.Generator().manual_seed(0))
    with torch.no_grad():
        painted = load_generator(model_path).generator(labels, latent, noise)
        expected = generator(labels, latent, noise)
    assert expected.std() > 1e-3
    torch.testing.assert_close(painted, expected, rtol=0, atol=2e-3)


def test_images_are_painted_by_one_copy_of_the_generator_while_it_stays_the_same(model_path):
    model = load_generator(model_path)
    painting = model.painting(torch.bfloat16)
    assert model.painting(torch.bfloat16) is painting
    assert model.painting(torch.float32) is not painting
    with torch.no_grad():
        model.generator.start.weight.add_(1)
    changed = model.painting(torch.bfloat16).start.weight
    torch.testing.assert_close(changed, model.generator.start.weight.bfloat16())
    assert not torch.equal(changed, painting.start.weight)


def test_encoder_travels_with_the_generator(tmp_path, generator):
    torch.manual_seed(1)
    settings = EncoderSettings(num_bands=4, base_width=3, latent_size=3, num_layers=5)
    encoder = StyleEncoder(settings, spectral_norm=True).eval()
    path = save_generator(tmp_path / "model.safetensors", SpadeGenerator(SETTINGS, spectral_norm=True), CARD, encoder)
    assert ModelCard.read(path) == CARD.model_copy(update={"encoder": settings})
    model = load_generator(path)
    assert model.card.encoder == settings
    assert not model.encoder.training
    assert not any(value.requires_grad for value in model.encoder.parameters())
    image = torch.rand((2, 4, 128, 128), generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        for found, expected in zip(model.encoder(image), encoder(image), strict=True):
            assert found.dtype == torch.float32
            torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)
    again = save_generator(tmp_path / "again.safetensors", model.generator, model.card, model.encoder)
    assert again.read_bytes() == path.read_bytes()
    alone = save_generator(tmp_path / "alone.safetensors", model.generator, model.card)
    assert ModelCard.read(alone).encoder is None
    assert load_generator(alone).encoder is None


@pytest.mark.parametrize("changes", [{"num_bands": 3}, {"latent_size": 4}])
def test_encoder_must_fit_the_generator(tmp_path, generator, changes):
    encoder = StyleEncoder(EncoderSettings(**{"num_bands": 4, "base_width": 2, "latent_size": 3, **changes}))
    with pytest.raises(SettingsError, match="does not fit a generator of 4 bands and 3 latent numbers"):
        save_generator(tmp_path / "model.safetensors", generator, CARD, encoder)
    assert not list(tmp_path.iterdir())


def test_encoder_whose_weights_do_not_fit_is_refused(tmp_path, generator):
    encoder = StyleEncoder(EncoderSettings(num_bands=4, base_width=2, latent_size=3))
    path = save_generator(tmp_path / "model.safetensors", generator, CARD, encoder)
    tensors = {name: value for name, value in load_file(path).items() if name != "encoder.mean.bias"}
    rewrite(path, tensors=tensors, encoder=encoder.settings.model_dump(mode="json"))
    refused(path, "mean.bias", [load_generator])
    rewrite(path, encoder={"num_bands": 4, "num_layers": 9})
    refused(path, "num_layers")
    rewrite(path, encoder=None)  # weights that the description does not speak of
    refused(path, "encoder.", [load_generator])


def test_the_size_of_pixels_is_what_they_mean():
    """Also where a description carries the rounding of a file."""
    assert CARD.parse({**dict(CARD), "gsd": 0.6000000002999996}).gsd == 0.6
    assert load_generator().card.gsd == 0.6


def test_the_embedded_model_loads():
    model = load_generator()
    assert model.card.legend == CHESAPEAKE
    assert repr(model).endswith(
        ".safetensors', 6 classes, bands: red, green, blue, nir, looks: ohio-summer, chesapeake-summer,"
        " chesapeake-autumn)"
    )
    assert repr(model.looks["ohio-summer"]).startswith("Look(6 classes, observed in ")


def test_a_card_is_written_as_ever():
    """The embedded model's comes back whole, and what it does not use leaves no trace."""
    path = download.model_path()
    with safe_open(str(path), framework="np") as file:
        written = json.loads(file.metadata()["geosynth"])
    assert written.pop("sha256")
    assert written["looks"] == ["ohio-summer", "chesapeake-summer", "chesapeake-autumn"]
    assert json.loads(ModelCard.read(path).to_metadata()["geosynth"]) == written
    entry = json.loads(CARD.to_metadata()["geosynth"])
    assert set(entry) == {"version", "settings", "legend", "bands", "gsd", "provenance"}
    facts = {"seed": 1, "data": []}
    told = [CARD.model_copy(update={"provenance": dict(order(facts.items()))}) for order in (list, reversed)]
    assert told[0].to_metadata() == told[1].to_metadata(), "equal models are equal files"


def test_weights_can_be_kept_in_float32(tmp_path, generator):
    path = save_generator(tmp_path / "model.safetensors", generator, CARD, dtype=torch.float32)
    for name, value in load_generator(path).generator.state_dict().items():
        assert torch.equal(value, generator.state_dict()[name])


def test_loading_leaves_the_random_state_alone(model_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_generator(model_path)
    assert torch.equal(torch.rand(3), expected)


def test_same_model_gives_the_same_bytes(tmp_path, generator, model_path):
    for _ in range(5):
        again = save_generator(tmp_path / "again.safetensors", generator, CARD)
        assert again.read_bytes() == model_path.read_bytes()


def test_the_folder_of_a_training_stands_for_the_model_in_it(tmp_path, generator):
    file = save_generator(tmp_path / "run" / "model.safetensors", generator, CARD)
    assert load_generator(tmp_path / "run").path == file
    assert info(tmp_path / "run") == info(file)


def refused(path, words, readers=(ModelCard.read, load_generator)):
    for reader in readers:
        with pytest.raises(CheckpointError) as caught:
            reader(path)
        message = str(caught.value)
        assert "\n" not in message
        assert len(message) < 400 + len(str(path))
        assert str(path) in message
        assert words in message


def test_missing_file(tmp_path):
    refused(tmp_path / "none.safetensors", "no such model file")
    refused(tmp_path, "a folder without model.safetensors, which `geosynth train` writes at its end")


@pytest.mark.parametrize("content", [b"", b"\x00" * 7, b"II*\x00" + b"\x01" * 500, b"\xff" * 64], ids=range(4))
def test_not_a_safetensors_file(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    refused(path, "not a safetensors file")
    assert not ModelCard.is_in(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_of_something_else(tmp_path, metadata):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, path, metadata=metadata)
    refused(path, "a safetensors file, but not a model; make one with `geosynth train`")


@pytest.mark.parametrize("keep", [4, 100, 0.5, -1])
def test_truncated_file(model_path, keep):
    content = model_path.read_bytes()
    model_path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    refused(model_path, "not a safetensors file")


def rewrite(path, *, tensors=None, **changes):
    """The model file with some of its description replaced (None: left out)."""
    values = {**json.loads(CARD.to_metadata()["geosynth"]), **changes}
    values = {name: value for name, value in values.items() if value is not None}
    metadata = {"geosynth": json.dumps(values)}
    save_file(load_file(path) if tensors is None else tensors, path, metadata=metadata)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 99}, "model version 99"),
        ({"version": None}, "version"),
        ({"settings": {"num_classes": 6}}, "num_bands"),
        ({"settings": 5}, "settings: must be names with values"),
        ({"legend": {"name": "x", "classes": []}}, "classes"),
        ({"legend": None}, "legend"),
        ({"bands": {"names": ["red"]}}, "1 band names"),
        ({"gsd": "wide"}, "wide"),
        ({"gsd": None}, "gsd"),
        ({"provenance": 3}, "damaged model description"),
    ],
)
def test_damaged_description(model_path, changes, words):
    rewrite(model_path, **changes)
    refused(model_path, words)


def test_description_that_is_no_json(model_path):
    tensors = load_file(model_path)
    for text in ("{", "[]", "3"):
        save_file(tensors, model_path, metadata={"geosynth": text})
        refused(model_path, "damaged model description")


def test_weights_that_do_not_fit(model_path):
    tensors = load_file(model_path)
    wider = {**tensors, "to_image.weight": torch.zeros(4, 5, 3, 3)}
    missing = {name: value for name, value in tensors.items() if name != "start.bias"}
    for wrong, words in (
        (wider, "to_image.weight"),
        (missing, "start.bias"),
        ({**tensors, "extra": torch.zeros(1)}, "extra"),
    ):
        rewrite(model_path, tensors=wrong)
        refused(model_path, words, [load_generator])
    rewrite(model_path, tensors=tensors, settings={**SETTINGS.model_dump(mode="json"), "base_width": 4096})
    refused(model_path, "do not fit", [load_generator])


def test_damaged_weights_are_noticed(model_path):
    assert info(model_path, verify=True)["verified"] == {"checksums": "of the tensors"}
    whole = model_path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    for place in (start, (start + len(whole)) // 2, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        model_path.write_bytes(damaged)
        for read in (load_generator, lambda path: info(path, verify=True)):
            with pytest.raises(CheckpointError, match=r"model\.safetensors: is damaged: its tensors are not those"):
                read(model_path)


def test_models_of_older_versions_have_no_checksum(model_path):
    save_file(load_file(model_path), model_path, metadata=CARD.to_metadata())
    assert load_generator(model_path).card == CARD
    assert info(model_path, verify=True)["verified"] == {"checksums": "none"}
    assert info(verify=True)["verified"] == {"checksums": "of the tensors"}  # the embedded one's


def test_device_that_is_not_there(model_path):
    for device in ("cuda:99", "toaster"):
        with pytest.raises(CheckpointError, match=device) as caught:
            load_generator(model_path, device=device)
        assert "\n" not in str(caught.value)


def test_card_must_fit_itself():
    legend = Legend(name="two", classes=CHESAPEAKE.classes[:2])
    with pytest.raises(SettingsError, match="legend of 2 classes"):
        ModelCard.parse({**dict(CARD), "legend": legend})
    with pytest.raises(SettingsError, match="looks need a generator conditioned on looks"):
        ModelCard.parse({**dict(CARD), "looks": ("dim",)})


def test_failed_write_leaves_nothing_and_keeps_the_old_file(tmp_path, generator, monkeypatch):
    path = save_generator(tmp_path / "model.safetensors", generator, CARD)
    before = path.read_bytes()

    def no_space(self, data):
        with self.open("wb") as file:
            file.write(data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", no_space)
    with pytest.raises(OutputError, match="No space left"):
        save_generator(path, generator, CARD, dtype=torch.float32)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_unwritable_places_give_one_line(tmp_path, generator):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "model.safetensors", tmp_path / "file" / "deep" / "model.safetensors"):
        with pytest.raises(OutputError, match="cannot be written") as caught:
            save_generator(path, generator, CARD)
        assert "\n" not in str(caught.value)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        save_generator(tmp_path / "folder", generator, CARD)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("name", [None, "chesapeake-small", Path("chesapeake-small")])
def test_the_embedded_model_has_a_name(name):
    assert load_generator(name).path == download.model_path()
    assert download.model_path() != download.model_path("other.safetensors") == Path("other.safetensors")


def test_absent_default_model_says_what_to_do(monkeypatch):
    monkeypatch.setattr(download, "DEFAULT_MODEL", "no-such-model")
    with pytest.raises(CheckpointError, match="--model FILE"):
        load_generator()


LITE0, VGG = (
    {"perceptual_weight": 1.0, "perceptual_source": "efficientnet-lite0"},
    {
        "perceptual_weight": 1.0,
        "perceptual_source": "vgg19",
    },
)


@pytest.mark.parametrize(
    ("provenance", "networks"),
    [
        ({"training": LITE0}, {"efficientnet-lite0"}),
        ({"training": {"perceptual_weight": 0.0, "perceptual_source": "vgg19"}}, set()),
        ({"training": {"projected_weight": 1.0, "perceptual_weight": 0.0}}, {"efficientnet-lite0"}),
        ({"training": VGG, "init": {"training": LITE0}}, {"efficientnet-lite0", "vgg19"}),
        ({"training": {}, "init": {"average_of": [{"training": {}}, {"training": VGG}]}}, {"vgg19"}),
        ({"training": LITE0, "init": {"name": "older.safetensors"}}, None),
        ({"average_of": [{"training": LITE0}, {"imported": {}}]}, None),
        ({"average_of": 3}, None),
        ({}, None),
    ],
)
def test_the_card_tells_what_trainings_looked_through(provenance, networks):
    assert CARD.model_copy(update={"provenance": provenance}).loss_networks == networks


def test_the_embedded_model_was_trained_through_lite0():
    assert ModelCard.read(download.model_path()).loss_networks == {"efficientnet-lite0"}

"""How settings come together: defaults, presets, files, options."""

import pytest
import torch

from geosynth.config import TrainSettings
from geosynth.config.base import parse_duration
from geosynth.errors import SettingsError
from geosynth.training.networks import SpadeNetworks
from geosynth.training.start import with_networks_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90m", 5400),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1H 30M", 5400),
        ("45s", 45),
        ("1d", 86400),
        ("1.5h", 5400),
        ("20", 20),
    ],
)
def test_times(text, seconds):
    assert parse_duration(text) == seconds
    assert TrainSettings.parse({"max_time": text}).max_time == seconds


@pytest.mark.parametrize("text", ["", "soon", "1h30", "h", "-1h", "0s", "1h-2m", "nan"])
def test_what_is_no_time(text):
    with pytest.raises(SettingsError, match="max_time"):
        TrainSettings.parse({"max_time": text})


def test_each_level_goes_over_the_one_before(tmp_path):
    file = tmp_path / "train.yaml"
    file.write_text("base_width: 5\nlatent_size: 7\nmax_time: 1h\n")
    preset = TrainSettings.presets()["tiny"].values
    settings = TrainSettings.resolve(preset="tiny", config=file, latent_size="9", seed=3)
    assert settings.encoder_width == preset["encoder_width"] != TrainSettings().encoder_width
    assert settings.base_width == 5 != preset["base_width"]
    assert (settings.latent_size, settings.seed, settings.max_time) == (9, 3, 3600)
    assert settings.depth == TrainSettings().depth


def test_a_file_may_name_its_preset_and_an_option_another(tmp_path):
    file = tmp_path / "train.yaml"
    file.write_text("preset: base\nsteps: 5\n")
    presets = TrainSettings.presets()
    assert TrainSettings.resolve(config=file).base_width == presets["base"].values["base_width"]
    settings = TrainSettings.resolve(config=file, preset="tiny")
    assert settings.base_width == presets["tiny"].values["base_width"]
    assert settings.steps == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("steps: [", "cannot be read as YAML"),
        ("- steps", "one setting per line"),
        ("5: 6", "one setting per line"),
        ("stepz: 5", "stepz"),
        ("preset: huge", "preset: there is no 'huge'; choose from tiny"),
        ("precision: fp8", "precision"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, text, words):
    file = tmp_path / "train.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=words) as caught:
        TrainSettings.resolve(config=file)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there_or_no_text(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("nowhere", "binary", "."):
        with pytest.raises(SettingsError):
            TrainSettings.resolve(config=tmp_path / name)
    (tmp_path / "empty").touch()
    assert TrainSettings.resolve(config=tmp_path / "empty") == TrainSettings()


@pytest.mark.parametrize("name", TrainSettings.presets())
def test_each_preset_ends_with_a_preview(name):
    assert TrainSettings.resolve(preset=name).preview_every > 0


@pytest.mark.parametrize("name", TrainSettings.presets())
def test_presets_build_networks_of_the_size_they_tell(name):
    settings = with_networks_of(TrainSettings.resolve(preset=name, perceptual_weight=0.0))
    with torch.device("meta"):
        networks = SpadeNetworks(settings, 6, 4, num_pictures=2)
    assert sum(value.numel() for value in (*networks.painting_weights(), *networks.judging_weights())) == (
        TrainSettings.presets()[name].parameters
    )


def test_the_reference_preset_is_the_papers_generator():
    """108,935,875 parameters with 6 classes and 3 bands, in Park et al.'s implementation, the encoder's included."""
    settings = TrainSettings.resolve(preset="reference", perceptual_weight=0.0)
    assert settings.generator(6, 3).model_dump(exclude={"crop_size"}) == (
        type(settings.generator(6, 3)).reference(6, 3).model_dump(exclude={"crop_size"})
    )
    assert (settings.kl_weight, settings.feature_weight, settings.adam_betas) == (0.05, 10.0, (0.0, 0.9))
    assert (settings.generator_rate, settings.discriminator_rate) == (1e-4, 4e-4)

"""What messages are made of, and errors that name a setting."""

import pickle

import pytest

import geosynth
from geosynth import errors
from geosynth.config import GenerateSettings, TrainSettings
from geosynth.errors import GeosynthError, SettingsError, counted


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 label tiles"), (1, "1 label tile"), (2, "2 label tiles"), (11, "11 label tiles")]
)
def test_one_thing_is_no_plural(number: int, text: str) -> None:
    assert counted(number, "label tile") == text


@pytest.mark.parametrize("kind", [one for one in vars(errors).values() if isinstance(one, type)])
def test_an_error_keeps_its_setting_on_the_way_from_another_process(kind: type[GeosynthError]) -> None:
    if not issubclass(kind, GeosynthError):
        return
    error = pickle.loads(pickle.dumps(kind("is too small", setting="crop_size")))
    assert (type(error), str(error), error.setting) == (kind, "crop_size: is too small", "crop_size")
    assert str(kind("a.tif: is damaged")) == "a.tif: is damaged"


@pytest.mark.parametrize(
    ("values", "setting", "message"),
    [
        ({"steps": 0}, "steps", "steps: must be greater than or equal to 1 (got 0)"),
        ({"batch_size": 7, "devices": 2}, "batch_size", "batch_size: must be a multiple of devices x parts, 2"),
        ({"start": "linear"}, "noise_channels", "noise_channels: must be 0 for the linear start"),
        ({"stepps": 1}, "stepps", "stepps: there is no such setting; 'steps' is one"),
    ],
)
def test_errors_of_settings_know_which(values: dict[str, object], setting: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        TrainSettings.parse(values)
    assert caught.value.setting == setting
    assert str(caught.value).startswith(message)


def test_the_parts_of_a_study_are_named_with_their_part() -> None:
    for changes in ({"segment.steps": 0}, {"train.steps": 0}):
        with pytest.raises(SettingsError) as caught:
            geosynth.StudySettings.resolve("replace", **changes)
        assert caught.value.setting == next(iter(changes))


def test_a_wrong_class_of_settings_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^settings: GenerateSettings are needed, not TrainSettings$"):
        GenerateSettings.changed(TrainSettings(), {})  # type: ignore[arg-type]

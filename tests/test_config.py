"""Settings: round trips, one-line errors, and what follows from a depth."""

import ast
import inspect
import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from geosynth import config
from geosynth.config import (
    BandSettings,
    DiscriminatorSettings,
    EncoderSettings,
    EvaluateSettings,
    GenerateSettings,
    GeneratorSettings,
    ReplaceSettings,
    SegmentSettings,
    StudySettings,
    TrainSettings,
)
from geosynth.config.base import read_yaml, takes
from geosynth.errors import GeosynthError, SettingsError

DEPTHS = ("less", "normal", "more", "most")


@pytest.mark.parametrize(
    "settings",
    [
        GeneratorSettings(num_classes=6, num_bands=4, depth="less", latent_size=0),
        GeneratorSettings.reference(6, 3, crop_size=512, depth="most"),
        EncoderSettings(num_bands=4, base_width=8),
        DiscriminatorSettings(num_classes=3, num_bands=1, num_scales=3),
        BandSettings(names=("red", "nir"), low=-0.5, high=1.25),
        TrainSettings(steps=7, max_time=900.0, adam_betas=(0.0, 0.999), precision="fp32"),
        GenerateSettings(seed=2**63 - 1, block_size=256, device="cuda:1"),
    ],
    ids=lambda settings: type(settings).__name__,
)
def test_settings_come_back_equal_from_json(settings):
    text = json.dumps(settings.model_dump(mode="json"))
    assert type(settings).parse(json.loads(text)) == settings
    assert hash(type(settings).parse(json.loads(text))) == hash(settings)


def test_files_may_be_paths_and_numbers_of_numpy():
    settings = TrainSettings(init=Path("a.safetensors"), seed=np.int64(3), class_balance=np.float32(0.5))
    assert (settings.init, settings.seed, settings.class_balance) == ("a.safetensors", 3, 0.5)
    assert EvaluateSettings(judges=[Path("a")]).judges == ("a",)
    assert json.loads(settings.model_dump_json())["seed"] == 3


def test_settings_cannot_be_changed():
    with pytest.raises(SettingsError) as refused:
        TrainSettings().steps = 5
    assert (
        str(refused.value)
        == "steps: settings do not change; make others: TrainSettings.changed(settings, {'steps': 5})"
    )
    assert TrainSettings.changed(TrainSettings(seed=1), {"steps": 5}) == TrainSettings(seed=1, steps=5)


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        (TrainSettings, {"stepz": 5}, ("stepz",)),
        (TrainSettings, {"steps": 0}, ("steps: must be greater than or equal to 1 (got 0)",)),
        (TrainSettings, {"steps": "many\nlines"}, ("steps", "many")),
        (TrainSettings, {"crop_size": 32}, ("crop_size", "64", "got 32")),
        (TrainSettings, {"seed": 2**62}, ("seed",)),
        (TrainSettings, {"steps": 2**31}, ("steps",)),
        (TrainSettings, {"crop_size": 72}, ("crop_size", "multiple of 16", "'less'")),
        (TrainSettings, {"crop_size": 96, "depth": "more"}, ("crop_size", "multiple of 64")),
        (TrainSettings, {"ema_decay": 1.0}, ("ema_decay",)),
        *((TrainSettings, {name: 10**15}, (name,)) for name in ("base_width", "encoder_width", "crop_size", "workers")),
        (GenerateSettings, {"block_size": 128 * 10**12}, ("block_size",)),
        (GeneratorSettings, {"num_classes": 5, "num_bands": 10**15}, ("num_bands",)),
        (GeneratorSettings, {"num_bands": 3}, ("num_classes: is needed",)),
        (GeneratorSettings, {"num_classes": 255, "num_bands": 3}, ("num_classes", "254")),
        (GeneratorSettings, {"num_classes": 5, "num_bands": 3, "depth": "deep"}, ("depth", "'deep'")),
        (GeneratorSettings, {"num_classes": 5, "num_bands": 3, "crop_size": 256}, ("crop_size", "linear start")),
        (GenerateSettings, {"max_memory": "much"}, ("max_memory: give a size, as in 4GB or 512MiB (got 'much')",)),
        (GenerateSettings, {"block_size": 1000}, ("block_size", "128")),
        (GenerateSettings, {"seed": 2**63}, ("seed",)),
        (TrainSettings, {"batchsize": 2}, ("batchsize: there is no such setting; 'batch_size' is one",)),
        (ReplaceSettings, {"train": {"zzz": 1}}, ("train.zzz: there is no such setting",)),
        (SegmentSettings, {"stride": 0}, ("stride: must be",)),
        (BandSettings, {"names": []}, ("names",)),
        (BandSettings, {"names": ["red"], "low": 5, "high": 5}, ("low", "less than high")),
        # JSON holds only finite numbers: others would not come back.
        (BandSettings, {"names": ["red"], "high": float("nan")}, ("high", "must be a finite number")),
        (TrainSettings, {"max_time": "inf"}, ("max_time: must be a finite number (got inf)",)),
        (SegmentSettings, {"save_minutes": float("inf")}, ("save_minutes: must be a finite number",)),
    ],
)
def test_errors_are_one_line_that_names_the_setting(kind, values, words):
    with pytest.raises(SettingsError) as caught:
        kind.parse(values)
    message = str(caught.value)
    with pytest.raises(SettingsError, match=f"^{re.escape(message)}$"):
        kind(**values)
    assert "\n" not in message
    assert all(word in message for word in words), message
    assert not re.match(r"[A-Z]\w*Settings|.*Input should", message), "users know names of settings"
    assert isinstance(caught.value, GeosynthError)


def test_settings_at_their_limits_are_accepted():
    assert SegmentSettings(tile_size=64, crop_size=64).crop_size == 64
    assert SegmentSettings(real_tiles=0).coarse is None
    assert SegmentSettings(coarse="nlcd", real_tiles=1).real_tiles == 1
    assert SegmentSettings(coarse="nlcd").real_tiles is None
    assert GenerateSettings(max_memory="4GB").max_memory == 4 * 10**9
    assert GenerateSettings(max_memory="512MiB").max_memory == 512 << 20


@pytest.mark.parametrize(("weights", "file"), [("none", None), ("imagenet", None), ("a/imagenet", Path("a/imagenet"))])
def test_weights_may_name_a_file(weights, file):
    assert SegmentSettings(weights=weights).weights_file == file


def test_the_start_of_a_generator_decides_how_windows_are_joined():
    convolutional = GeneratorSettings(num_classes=5, num_bands=3, latent_size=0, depth="less")
    linear = GeneratorSettings.reference(5, 3, crop_size=128)
    assert GenerateSettings().mode(convolutional) == "exact"
    assert GenerateSettings(overlap=32).mode(linear) == "blend"
    assert GenerateSettings(mosaic="blend", overlap=32).mode(convolutional) == "blend"
    for mosaic in (None, "exact"):
        with pytest.raises(SettingsError, match=r"^overlap: no effect in an exact mosaic"):
            GenerateSettings(mosaic=mosaic, overlap=32).mode(convolutional)


def test_functions_show_the_settings_that_they_take():
    @takes(SegmentSettings)
    def function(data: str, *, out: str = "here", **changes: object) -> None:
        """Takes settings by name."""

    shown = inspect.signature(function).parameters
    assert list(shown) == ["data", "out", *SegmentSettings.model_fields]
    for name, field in SegmentSettings.model_fields.items():
        assert shown[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert (shown[name].default, shown[name].annotation) == (field.default, field.annotation)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"latent_size": 0}, "latent_size: must be 1 or more"),
        ({"crop_size": 100}, "multiple of 32"),
        ({"crop_size": 96, "depth": "more"}, "multiple of 64"),
        ({"noise_channels": 3}, "noise_channels"),
    ],
)
def test_linear_start_refuses_what_cannot_work(changes, words):
    with pytest.raises(SettingsError, match=words):
        GeneratorSettings.reference(6, 3, **changes)


@pytest.mark.parametrize("depth", DEPTHS)
def test_stages_follow_from_the_depth(depth):
    settings = GeneratorSettings(num_classes=6, num_bands=3, base_width=8, depth=depth)
    stages = settings.stages
    # Park et al. 2019: doublings are five, six ("more") or seven ("most"); "less" has four.
    assert settings.stride == 2 ** {"less": 4, "normal": 5, "more": 6, "most": 7}[depth]
    assert stages[0].stride == settings.stride
    assert stages[-1].stride == 1
    names = ["head_0", "G_middle_0", "G_middle_1", "up_0", "up_1", "up_2", "up_3"]
    assert [stage.name for stage in stages] == names + ["up_4"] * (depth == "most")
    for before, stage in pairwise(stages):
        assert stage.in_channels == before.out_channels
        assert before.stride in (stage.stride, 2 * stage.stride)
        assert stage.out_channels == before.out_channels // (2 if stage.name.startswith("up") else 1)
    assert stages[0].in_channels == stages[0].out_channels == 16 * 8


def test_max_multiple_caps_the_coarse_widths():
    widths = [
        s.out_channels for s in GeneratorSettings(num_classes=6, num_bands=3, base_width=10, max_multiple=6).stages
    ]
    assert widths == [60, 60, 60, 60, 40, 20, 10]


@pytest.mark.parametrize("depth", DEPTHS)
def test_halo_covers_the_receptive_field(depth):
    """Backwards by intervals: which label columns can reach the window [0, stride)?

    The sharp need, counted by hand for the nearest upsampling and the sampled labels of every block, lies within the
    halo and above the halo less one stride.
    """
    settings = GeneratorSettings(num_classes=6, num_bands=3, depth=depth)
    first, last = 0, settings.stride - 1
    left, right = first - 1, last + 1  # feature pixels that conv_img reads
    lowest, highest = 0, 0
    for stage in reversed(settings.stages):
        cells = left // stage.stride - 2, right // stage.stride + 2  # conv_1, conv_0
        labels = cells[0] - 2, cells[1] + 2  # gamma and beta of norm_0 and norm_s
        lowest, highest = min(lowest, labels[0] * stage.stride), max(highest, labels[1] * stage.stride)
        left, right = cells[0] * stage.stride, (cells[1] + 1) * stage.stride - 1
    start = left // settings.stride - 1, right // settings.stride + 1
    lowest, highest = min(lowest, start[0] * settings.stride), max(highest, start[1] * settings.stride)
    need = max(first - lowest, highest - last)
    assert need <= settings.halo < need + settings.stride
    assert settings.halo % settings.stride == 0


OF_THE_NETWORK = {"base_width": 6, "max_multiple": 3, "hidden_channels": 9, "depth": "normal"}


@pytest.mark.parametrize(
    ("own", "others", "ignored"),
    [
        ({"latent_size": 5, "noise_channels": 2, "stage_noise": False, "padding": "zeros"}, {}, {"style_width": 3}),
        ({"start": "linear", "noise_channels": 0, "crop_size": 96}, {}, {}),
        (
            {"style_lengths": (9, 8, 7, 6, 5, 4, 3), "style_width": 5, "style_regions": (2,), "style_gradual": (0, 6)},
            {"latent_size": 0},
            {"latent_size": 5, "crop_size": 128},
        ),
        ({"style_width": 5}, {"style_lengths": (9,) * 7, "latent_size": 0}, {"style_lengths": (9,)}),
    ],
)
def test_train_settings_describe_their_generator(own, others, ignored):
    found = TrainSettings(**OF_THE_NETWORK, **own, **ignored).generator(7, 4)
    assert found == GeneratorSettings(num_classes=7, num_bands=4, **OF_THE_NETWORK, **own, **others)


def test_a_generators_kind_decides_how_styles_drift_and_how_far_labels_count():
    """As the settings of `generate` say; in metres, and in pixels."""
    plain, looks = {"num_classes": 2, "num_bands": 3}, {"style_lengths": (9, 8), "latent_size": 0}
    reference = GeneratorSettings.reference(2, 3)
    assert (reference.drift_length, reference.look_side, reference.mosaic) == (0, 0, "blend")
    settings = GeneratorSettings(**plain)
    assert (settings.drift_length, settings.look_side, settings.mosaic) == (2048, 0, "exact")
    settings = GeneratorSettings(**plain, **looks)
    assert (settings.drift_length, settings.look_side) == (256, 32)
    assert GeneratorSettings(**plain, **looks, style_regions=(1,)).look_side == 96


@pytest.mark.parametrize(
    ("changes", "warmup"), [({}, 0), ({"init": "a"}, 0.1), ({"init": "a", "warmup": 0}, 0), ({"warmup": 0.3}, 0.3)]
)
def test_what_was_trained_before_is_warmed_up(changes, warmup):
    assert TrainSettings(**changes).generator_warmup == warmup


@pytest.mark.parametrize("new", [np.array, torch.tensor])
def test_band_scaling_maps_the_range_of_each_band_to_minus_one_and_one(new):
    bands = BandSettings(names=("red", "nir", "height"), low=(10, 0, -50), high=(250, 1, 350))
    values = np.array([[[10, 130, 250, 0, 300]], [[0, 0.5, 1, -1, 2]], [[-50, 150, 350, -99, 400]]])
    network = np.array([[[-1.0, 0, 1, -1, 1]]] * 3)
    np.testing.assert_allclose(bands.to_network(new(values)), network, atol=1e-12)
    np.testing.assert_allclose(bands.from_network(new(network))[..., :3], values[..., :3], atol=1e-12)
    some = bands.only([2, 0])
    assert some.names == ("height", "red")
    np.testing.assert_allclose(some.to_network(new(values[[2, 0]])), network[[2, 0]], atol=1e-12)


def test_bands_of_one_range_share_its_numbers():
    bands = BandSettings(names=("red", "nir"), low=10, high=250)
    np.testing.assert_allclose(bands.to_network(np.array([10.0, 130.0, 250.0])), [-1, 0, 1])
    values = np.linspace(10, 250, 33)
    np.testing.assert_allclose(bands.from_network(bands.to_network(values)), values, atol=1e-9)
    assert bands.only([1]) == BandSettings(names=("nir",), low=(10,), high=(250,))


@pytest.mark.parametrize("name", [name for name in config.__all__ if name.endswith("Settings") and name != "Settings"])
def test_every_setting_is_described(name):
    kind = getattr(config, name)
    assert [field for field, info in kind.model_fields.items() if not info.description] == []
    assert "Attributes:" not in kind.__doc__  # beside the fields, not above them


def test_type_checkers_see_which_settings_have_defaults():
    """By name only, unless they use pydantic's plugin; else they ask for every setting in each call."""
    for path in Path(config.__file__).parents[1].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Field":
                assert not node.args, f"{path}, line {node.lineno}: write Field(default=...)"


def test_settings_need_no_torch():
    """The command line validates settings before it pays for torch."""
    code = "import sys, geosynth.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("text", ["[" * 100_000, "steps: 2026-13-45", "steps: 1" + "0" * 5000, "\0"])
def test_yaml_that_cannot_be_read_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.yaml").write_text(text)
    with pytest.raises(SettingsError, match=r"settings\.yaml: cannot be read as YAML") as caught:
        read_yaml(tmp_path / "settings.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("segment: 5", "segment: must be"),
        ("train: {5: 1}", r"train\.5: "),
        ("train: {preset: [small]}", r"^train\.preset: there is no \['small'\]; choose from"),
        ("train: {config: other.yaml}", r"train\.config: there is no such setting"),
        ("train: {cls: 1}", r"train\.cls: there is no such setting"),
    ],
)
def test_parts_of_a_study_that_are_no_settings_are_one_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(SettingsError, match=f"^{words}") as caught:
        StudySettings.resolve("replace", config=tmp_path / "study.yaml", **{"segment.steps": 3})
    assert "\n" not in str(caught.value)


def test_settings_that_have_no_effect_are_refused_if_they_were_given():
    settings = EvaluateSettings(latents=2, inception=None, judges=())  # the default, but given
    settings.refuse_idle("here", "look", "inception", "judges")
    with pytest.raises(SettingsError, match=r"^latents: no effect here$"):
        settings.refuse_idle("here", "look", "latents")
    changed = EvaluateSettings.changed(EvaluateSettings(seed=1), {"tile_size": 64})
    changed.refuse_idle("here", "latents")
    with pytest.raises(SettingsError, match=r"^seed: no effect here$"):
        changed.refuse_idle("here", "seed")

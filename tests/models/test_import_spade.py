"""import-spade: from the reference's files to a model that generates; what does not fit is refused in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import rasterio
import reference_layout as layout
import torch
import yaml
from label_maps import assert_within, label_map

import geosynth
from geosynth.checkpoint import ModelCard, load_generator
from geosynth.errors import GeosynthError
from geosynth_cli import app

LABELS, LATENT = 6, 5


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    networks = {
        "G": layout.Generator(LABELS, 3, 4, 8, "normal", 128, LATENT),
        "E": layout.Encoder(3, 4, LATENT, 5),
        "plain": layout.Generator(LABELS, 3, 4, 8, "more", 128, None),
    }
    for name, network in networks.items():
        torch.save(layout.trained(network).state_dict(), folder / f"latest_net_{name}.pth")
    return folder, networks


def one_hot(labels):
    return torch.stack([labels == index for index in range(LABELS)], dim=1).float()


def run(*arguments):
    with pytest.raises(SystemExit) as exit_:
        app([str(argument) for argument in arguments])
        sys.exit(0)
    return exit_.value.code or 0


def test_the_model_file_paints_and_encodes_as_the_reference(files, tmp_path, capfd):
    folder, networks = files
    out = tmp_path / "new" / "model.safetensors"
    arguments = ["--out", out, "--legend", "chesapeake", "--encoder", folder / "latest_net_E.pth"]
    code = run("import-spade", folder / "latest_net_G.pth", *arguments, "--crop-size", 128, "--gsd", 0.6)
    assert (code, capfd.readouterr().out.strip()) == (0, str(out))
    model = load_generator(out)
    assert model.card.bands.names == ("red", "green", "blue")
    assert model.card.gsd == 0.6
    assert model.card.provenance["imported"]["encoder"]["name"] == "latest_net_E.pth"
    labels, image = label_map("lines", (1, 128, 128), LABELS), torch.rand(1, 3, 128, 128) * 2 - 1
    assert model.encoder is not None
    mu, _ = networks["E"](image)
    assert_within(model.encoder(image)[0], mu)
    assert_within(model.generator(labels, mu), networks["G"](one_hot(labels), mu))


def test_a_generator_without_encoder_makes_rasters(files, tmp_path, write_raster):
    bands = ("nir", "red", "green")
    weights = files[0] / "latest_net_plain.pth"
    out = geosynth.import_spade(weights, tmp_path / "m.safetensors", legend="chesapeake", bands=bands, depth="more")
    assert ModelCard.read(out).encoder is None
    codes = label_map("patches", (1, 100, 150), LABELS)[0] + 1
    image = geosynth.generate(write_raster(codes.numpy().astype("uint8")), tmp_path / "image.tif", model=out)
    with rasterio.open(image) as dataset:
        assert dataset.descriptions == bands
        assert dataset.read().reshape(3, -1).std(axis=1).min() > 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"legend": "five.yaml"}, "reads 6 label channels; legend 'five' has 5 classes, and each channel needs one"),
        ({"bands": "red,green,blue,nir"}, "paints 3 bands; the names given are red, green, blue, nir"),
        ({"crop-size": None}, "give normal or more, or the crop size: 128 (normal) or 256 (more) px"),
        ({"generator": "missing.pth"}, "missing.pth: no such file or folder"),
        ({"generator": "latest_net_E.pth"}, "latest_net_E.pth: not in the SPADE reference's layout: fc.weight is"),
        ({"encoder": "latest_net_G.pth"}, "latest_net_G.pth: not in the SPADE reference's layout: layer1.0"),
        ({"encoder": "wide.pth"}, "an encoder of 3 bands and 9 latent numbers does not fit a generator of 3"),
        ({"generator": "evil.pth"}, "evil.pth: not read: it holds more than tensors"),
        ({"out": "model.pth"}, "must end in .safetensors"),
        ({"out": "there.safetensors"}, "already exists"),
        ({"legend": "nowhere.yaml"}, "--legend nowhere.yaml: no such file or folder; known names: chesapeake"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(files, tmp_path, monkeypatch, capfd, changes, words):
    folder, _ = files
    monkeypatch.chdir(tmp_path)
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    Path("there.safetensors").write_text("old")
    torch.save({"fc.weight": torch.zeros(2), "payload": Path("x")}, "evil.pth")
    torch.save(layout.Encoder(3, 2, 9, 6).state_dict(), "wide.pth")
    classes = [{"code": code, "name": f"class {code}"} for code in range(5)]
    Path("five.yaml").write_text(yaml.safe_dump({"name": "five", "classes": classes}))
    values = {
        "generator": "latest_net_G.pth",
        "encoder": None,
        "out": "model.safetensors",
        "legend": "chesapeake",
        "crop-size": 128,
        **changes,
    }
    generator = values.pop("generator")
    options = [part for name, value in values.items() if value is not None for part in (f"--{name}", value)]
    assert run("import-spade", generator, *options) == 1
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert words in lines[0]
    assert not Path("model.safetensors").exists()
    assert Path("there.safetensors").read_text() == "old"


def test_wrong_use_leaves_no_traceback(files):
    assert run("import-spade", files[0] / "latest_net_G.pth") == 2
    with pytest.raises(GeosynthError):
        geosynth.import_spade(files[0], "x.safetensors", legend="chesapeake", bands=["a"])

"""Training from a YAML file that names rasters, which stay where they are."""

import logging

import numpy as np
import pytest
import yaml
from trainings import BANDS, TINY

from geosynth.checkpoint import load_generator
from geosynth.grid import SpatialSplit, Window
from geosynth.legend import CHESAPEAKE
from geosynth.raster.stores.open import open_sources
from geosynth.training import train as module
from geosynth.training.train import train
from rasters import UTM, UTM_18N, north_up, random_codes, random_image, write_raster


@pytest.fixture
def description(tmp_path):
    """Two scenes of one CRS and one of another."""
    for number, (column, crs) in enumerate([(0, UTM), (96, UTM), (0, UTM_18N)]):
        for kind, values in (("images", random_image(number, 96, 96)), ("labels", random_codes(number, 96, 96))):
            write_raster(tmp_path / kind / f"{number}.tif", values, north_up(column), crs=crs)
    path = tmp_path / "data.yaml"
    path.write_text(
        yaml.safe_dump({"images": "images", "labels": "labels", "bands": list(BANDS), "split": {"shares": [1, 0, 0]}})
    )
    return path


@pytest.mark.parametrize("balance", [0.0, 0.5])
def test_the_guides_own_example_trains(description, tmp_path, run, balance):
    options = ["--set", "steps=1", "--set", "preview_every=0", "--set", f"class_balance={balance}"]
    small = ["batch_size=2", "crop_size=64", "base_width=2", "max_multiple=2", "hidden_channels=4", "encoder_width=2"]
    small += ["discriminator_width=2", "perceptual_weight=0"]
    for setting in small:
        options += ["--set", setting]
    code, out, err = run("train", "--data", description, "--out", tmp_path / "run", *options)
    assert code == 0, err
    assert load_generator(out.strip()).card.legend.names == CHESAPEAKE.names


def test_classes_are_those_of_the_fold_also_inside_scenes(description, caplog):
    """What the rest of a scene holds counts for nothing."""
    for source in open_sources(description)[1:]:
        labels = source.read_labels(Window(0, 0, 96, 96))
        half = SpatialSplit.by_scenes({"train": [Window(0, 0, 96, 48)], "test": [Window(0, 48, 96, 48)]})
        divided = source.with_split(half)
        counts = np.bincount(labels[:, :48].ravel(), minlength=6)
        weights = module._class_weights([divided], "train", 0.5)
        names = CHESAPEAKE.names
        assert weights == {name: pytest.approx(n**0.5) for name, n in zip(names, counts.tolist(), strict=True) if n}
        absent = [index for index in range(6) if index not in labels[:8, :8]]
        assert absent
        small = source.with_split(SpatialSplit.by_scenes({"train": [Window(0, 0, 8, 8)]}))
        with caplog.at_level(logging.WARNING):
            module._warn_of_absent_classes([small], "train")
        assert f"no pixel of {', '.join(names[index] for index in absent)}:" in caplog.text


@pytest.mark.slow
def test_other_processes_get_the_very_sources(description, tmp_path):
    """They have no one path by which they could be opened again, and a split of their own."""
    sources = [
        source.with_split(SpatialSplit.by_scenes({"train": [Window(0, 0, 96, 80)]}))
        for source in open_sources(description)
    ]
    path = train(sources, tmp_path / "run", TINY.model_copy(update={"devices": 2, "steps": 1}))
    assert path.is_file()

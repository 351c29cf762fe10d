"""A segmenter's file, and its predictions."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from stac_model.schema import MLModelProperties
from torch import nn

import geosynth
from geosynth.config import SegmentSettings
from geosynth.errors import CheckpointError, DataError
from geosynth.segmentation import segmenter as module
from geosynth.segmentation.scores import Confusion
from geosynth.segmentation.segmenter import load_segmenter, save_segmenter
from geosynth.segmentation.unet import build_unet, check_takes, load_encoder_weights


def random_images(count=3, height=64, width=64):
    return np.random.default_rng(0).integers(0, 256, (count, 4, height, width), dtype=np.uint8)


def test_the_file_or_its_folder_gives_the_same_segmenter_again(trained, tmp_path):
    first, second = load_segmenter(trained[0]), load_segmenter(trained[0] / "model.safetensors")
    assert (first.predict(random_images()) == second.predict(random_images())).all()
    save_segmenter(tmp_path / "again.safetensors", first.network, first.card)
    assert (tmp_path / "again.safetensors").read_bytes() == first.path.read_bytes()
    assert first.card.provenance["weights"] == "scratch"


def test_settings_in_a_file_that_are_refused_in_a_call_are_read(trained, tmp_path):
    own = load_segmenter(trained[0])
    settings = SegmentSettings.changed(own.card.settings, {"coarse_tiles": 3})  # without `coarse`: idle
    earlier = own.card.model_copy(update={"settings": settings})
    save_segmenter(tmp_path / "earlier.safetensors", own.network, earlier)
    again = load_segmenter(tmp_path / "earlier.safetensors")
    assert again.card.settings.coarse_tiles == 3
    assert (again.predict(random_images()) == own.predict(random_images())).all()


def test_any_size_is_predicted_as_a_larger_one_that_repeats_its_edge(trained):
    segmenter = load_segmenter(trained[0])
    image = random_images(2, 37, 50)
    padded = np.pad(image, ((0, 0), (0, 0), (0, 27), (0, 14)), mode="edge")
    predicted = segmenter.predict(image)
    assert predicted.shape == (2, 37, 50)
    assert predicted.dtype == np.uint8
    assert (predicted == segmenter.predict(padded)[:, :37, :50]).all()


@pytest.mark.parametrize("error", [AssertionError, RuntimeError])  # of timm's ViTs; of its Hiera
def test_an_encoder_of_one_size_says_so(trained, monkeypatch, error):
    segmenter = load_segmenter(trained[0])

    def refuse(images):
        raise error("Input height (64) doesn't match\nmodel (224).")

    monkeypatch.setattr(segmenter.network, "forward", refuse)
    with pytest.raises(DataError, match=r"takes no images of 64 x 32 px \(Input height .* match model"):
        segmenter.predict(np.zeros((1, 4, 40, 32), np.uint8))


def test_memory_that_runs_out_is_no_wrong_size(trained, monkeypatch):
    segmenter = load_segmenter(trained[0])

    def refuse(images):
        raise torch.OutOfMemoryError("out of memory, tried to allocate 3 GiB")

    monkeypatch.setattr(segmenter.network, "forward", refuse)
    with pytest.raises(MemoryError, match="3 GiB"):
        segmenter.predict(np.zeros((1, 4, 40, 32), np.uint8))


def test_memory_does_not_grow_with_the_size_of_many_tiles(trained, monkeypatch):
    segmenter, images, seen = load_segmenter(trained[0]), random_images(5, 96, 128), []
    whole = segmenter.predict(images)
    segmenter.network.register_forward_hook(lambda network, inputs, outputs: seen.append(inputs[0].shape[0]))
    monkeypatch.setattr(module, "_AT_ONCE", 2 * 96 * 128)
    assert (segmenter.predict(images) == whole).mean() > 0.999  # batches of other sizes round otherwise
    assert seen == [2, 2, 1]
    seen.clear()
    monkeypatch.setattr(module, "_AT_ONCE", 1)
    assert segmenter.predict(images).shape == (5, 96, 128)
    assert seen == [1] * 5


def test_scores_count_predictions_in_any_number(trained, segment_store):
    segmenter = load_segmenter(trained[0])
    images = random_images(11, 32, 32)
    labels = np.random.default_rng(1).integers(0, 4, (11, 32, 32)).astype(np.uint8)
    expected = Confusion(3)
    expected.add(labels, np.concatenate([segmenter.predict(images[:8]), segmenter.predict(images[8:])]))
    assert (segmenter.scores(zip(images, labels, strict=True)).matrix == expected.matrix).all()
    assert not segmenter.scores([]).matrix.any()


def test_images_of_other_bands(trained):
    with pytest.raises(
        DataError, match=r"\(1, 3, 32, 32\) do not fit a segmenter of 4 bands \(red, green, blue, nir\)"
    ):
        load_segmenter(trained[0]).predict(np.zeros((1, 3, 32, 32), np.uint8))


def test_values_that_are_no_numbers_are_taken_as_mean_ones(trained):
    segmenter = load_segmenter(trained[0])
    image = random_images(1, 32, 32).astype(np.float32)
    image[:, :, 3:9] = np.nan
    filled = np.where(np.isnan(image), 127.5, image)
    assert (segmenter.predict(image) == segmenter.predict(filled)).all()


def test_float32_is_not_tf32(trained, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    segmenter, seen = load_segmenter(trained[0]), []
    segmenter.network.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    segmenter.predict(random_images(1))
    assert seen == [False]
    assert torch.backends.cudnn.allow_tf32, "as it was before"


def test_what_is_no_segmenter(trained, tiny_model, tmp_path):
    with pytest.raises(CheckpointError, match=r"no such segmenter file"):
        load_segmenter(tmp_path / "nothing.safetensors")
    with pytest.raises(CheckpointError, match=r"a generator, but not a segmenter"):
        load_segmenter(tiny_model.path)
    with pytest.raises(CheckpointError, match=r"a segmenter, but not a model; make one with `geosynth train`"):
        geosynth.load_generator(trained[0])
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"a safetensors file, but not a segmenter"):
        load_segmenter(tmp_path / "other.safetensors")
    whole = (trained[0] / "model.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:5000])
    with pytest.raises(CheckpointError, match=r"not a safetensors file"):
        load_segmenter(tmp_path / "cut.safetensors")
    card = load_segmenter(trained[0]).card
    save_file({"a": torch.zeros(1)}, tmp_path / "empty.safetensors", card.to_metadata())
    with pytest.raises(CheckpointError, match=r"its weights do not fit its settings"):
        load_segmenter(tmp_path / "empty.safetensors")


def test_info_describes_it(trained):
    path = trained[0] / "model.safetensors"
    found, card = geosynth.info(path), load_segmenter(path).card
    assert (found["kind"], found["path"], found["bytes"]) == ("segmenter", str(path), path.stat().st_size)
    assert found["sha256"] == load_segmenter(path).sha256
    assert found["bands"]["names"] == list(card.bands.names)
    assert [entry["name"] for entry in found["legend"]["classes"]] == list(card.legend.names)
    for name in ("encoder", "tile_size", "steps"):
        assert found["settings"][name] == getattr(card.settings, name)
    json.dumps(found)
    scores, report = found["scores"], trained[1]
    assert (scores["fold"], scores["tiles"], scores["places"]) == ("test", report.test_tiles, report.test_places)
    assert scores["miou"] == round(report.miou, 4)
    assert scores["class_iou"] == pytest.approx(report.class_iou, abs=5e-5)
    item = geosynth.info(path, stac=True)
    properties = item["properties"]
    assert properties["geosynth:scores"] == scores
    MLModelProperties.model_validate(properties)
    assert properties["mlm:tasks"] == ["semantic-segmentation"]
    assert properties["mlm:input"][0]["bands"] == list(card.bands.names)
    codes = [entry["value"] for entry in properties["mlm:output"][0]["classification:classes"]]
    assert codes == list(card.legend.codes)


class Encoder(nn.Module):
    def __init__(self, bands):
        super().__init__()
        self.conv1 = nn.Conv2d(bands, 2, 3, bias=False)
        self.conv2 = nn.Conv2d(2, 2, 3)


class Network(nn.Module):
    def __init__(self, bands):
        super().__init__()
        self.encoder = Encoder(bands)


@pytest.mark.parametrize(("suffix", "bands"), [(".pth", 4), (".safetensors", 4), (".pth", 1), (".pth", 3)])
def test_weights_of_three_bands_serve_others(tmp_path, suffix, bands):
    source, target = Encoder(3), Network(bands)
    state = source.state_dict() | {"fc.weight": torch.zeros(5)}
    path = tmp_path / f"imagenet{suffix}"
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    assert load_encoder_weights(target, "two convolutions", str(path)) == path.name
    assert torch.equal(target.encoder.conv2.weight, source.conv2.weight)
    grey = torch.rand(1, 1, 8, 8)
    expected = source.conv1(grey.expand(1, 3, 8, 8))
    torch.testing.assert_close(target.encoder.conv1(grey.expand(1, bands, 8, 8)), expected)
    if bands >= 3:  # red, green and blue keep kernels of their own
        torch.testing.assert_close(target.encoder.conv1.weight[:, :3], source.conv1.weight * 3 / bands)


def test_trying_an_encoder_leaves_it_ready_to_be_trained():
    unet = build_unet("resnet18", 4, 3)
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    check_takes(unet, "resnet18", 4, 64)
    assert all(layer.training for layer in unet.modules())
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())


def test_weights_of_another_network(tmp_path):
    torch.save({"conv1.weight": torch.zeros(7, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="not the weights of a two convolutions encoder"):
        load_encoder_weights(Network(4), "two convolutions", str(tmp_path / "other.pth"))


def test_imagenet_weights_that_cannot_be_downloaded(monkeypatch):
    def refuse(*arguments, **options):
        raise ConnectionError("a message\nof many lines")

    monkeypatch.setattr("segmentation_models_pytorch.encoders.get_encoder", refuse)
    with pytest.raises(CheckpointError, match=r"ImageNet weights of resnet18 cannot be downloaded \(ConnectionError\)"):
        load_encoder_weights(Network(3), "resnet18", "imagenet")

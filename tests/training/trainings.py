"""Tiny stores and settings for the tests of training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from affine import Affine
from odc.geo.geobox import GeoBox

from blank_stores import blank_store
from geosynth.config import TrainSettings
from geosynth.grid import SpatialSplit, Window
from geosynth.legend import CHESAPEAKE
from geosynth.loop import open_fabric
from geosynth.models.looks.look import Look
from geosynth.models.looks.styles import style_size
from geosynth.models.perceptual import composites
from geosynth.raster.stores.source import Scene
from geosynth.raster.stores.store import Store
from geosynth.training.networks import SpadeNetworks
from geosynth.training.step import SpadeStep
from geosynth.training.train import train

TINY = TrainSettings(
    steps=3,
    batch_size=2,
    crop_size=64,
    base_width=2,
    max_multiple=2,
    hidden_channels=4,
    latent_size=3,
    noise_channels=2,
    encoder_width=2,
    prior_share=0.5,
    discriminator_width=2,
    precision="fp32",
    preview_every=0,
    log_every=1,
)
LONGER = TINY.model_copy(update={"steps": 5})
EVERY_STEP = LONGER.model_copy(update={"save_every": 1})
BANDS = ("red", "green", "blue", "nir")


def make_store(
    path,
    *,
    dtype="uint8",
    size=96,
    folds=("train",),
    hashes=("a" * 64, "b" * 64),
    bands=BANDS,
    legend=CHESAPEAKE,
    gsd=0.6,
    crs="EPSG:26917",
    classes=6,
    brighter=0,
):
    """Scenes side by side: maps of bands of classes, each class with its own colour, and texture."""
    rng = np.random.default_rng(0)
    indices = np.broadcast_to(np.arange(size)[:, None] // 11 % classes, (size, size)).astype("uint8")
    colours = rng.integers(40, 200, (len(bands), 6))
    image = (brighter + colours[:, indices] + rng.integers(-20, 20, (len(bands), size, size))).astype(dtype)
    windows = [Window(0, size * index, size, size) for index in range(len(folds))]
    pixels = tuple(int((indices == index).sum()) for index in range(6))
    own = {fold: [window for window, its in zip(windows, folds, strict=True) if its == fold] for fold in set(folds)}
    store = blank_store(
        path,
        GeoBox((size, size * len(folds)), Affine(gsd, 0, 500_000, 0, -gsd, 4_400_000), crs),
        legend=legend,
        band_names=bands,
        dtype=np.dtype(dtype),
        scenes=[Scene("one.tif", window, pixels, *hashes) for window in windows],
        split=SpatialSplit.by_scenes(own),
        chunk_size=32,
    )
    for window in windows:
        store.write(window, image, legend.decode(indices).astype("uint8"))
    return Store(path)


def a_look():
    size = style_size(len(BANDS))
    departures = 0.1 * torch.randn((3, 6, 2, size), generator=torch.Generator().manual_seed(0))
    return Look(torch.zeros(6, size), departures, torch.ones(6))


def ready(settings, device="cpu", **changes):
    """A step of fresh networks, without a loop around it."""
    settings = settings.model_copy(update=changes)
    looks = [a_look()] if settings.style_lengths else []
    networks = SpadeNetworks(settings, 6, 4, looks=looks, num_pictures=len(composites(BANDS)))
    return SpadeStep(networks, settings, BANDS, open_fabric(settings.precision, device))


def update(step, image, mask, number=0):
    """One update; its losses as numbers."""
    batch = step.draw(number, image, mask).apply(lambda values: values.to(step.fabric.device))
    return {name: float(value) for name, value in step.update(number, batch).items()}


def equal(one, other):
    """Whether nests of dicts, lists and tensors are the same, times spent left out."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one if key != "seconds")
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def checkpoint_in(out):
    return torch.load(out / "last.ckpt", weights_only=True)


def steps_in(out):
    return checkpoint_in(out)["steps"]


class Interrupted(Exception):
    pass


def start_and_break(store, out, settings, step):
    """A training that stops when it tells of `step`, which is before it saves it."""

    def progress(done, total, left):
        if done == step:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(store, out, settings, progress=progress)
    assert not (out / "model.safetensors").exists()
    return checkpoint_in(out)

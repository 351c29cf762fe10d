"""Going on with an interrupted training: what its checkpoint must agree with."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from geosynth.config import TrainSettings
from geosynth.errors import CheckpointError, DataError, SettingsError
from geosynth.raster.store import Store
from geosynth.training.task import SpadeTask
from geosynth.training.watch import Watch

_MAY_CHANGE = {"steps", "max_hours", "preview_every"}  # between the runs of one training
_OTHER_DATA = {
    "scenes": "other scenes",
    "legend": "another legend",
    "bands": "other bands",
    "gsd": "another pixel size",
}


def data_record(store: Store, fold: str) -> dict[str, Any]:
    """What the model learns from, as plain values; two stores of equal records may stand in for each other."""
    return {
        "fold": fold,
        "scenes": sorted([scene.image_sha256, scene.labels_sha256] for scene in store.scenes_in(fold)),
        "legend": store.legend.model_dump(mode="json"),
        "bands": list(store.band_names),
        "gsd": store.gsd,
    }


def read_checkpoint(path: Path, settings: TrainSettings, data: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint of an interrupted training, after checking that it had the same settings and data.

    Args:
        path: of `last.ckpt`.
        settings: of now.
        data: `data_record` of now. Checkpoints of before it was kept pass.

    Raises:
        CheckpointError: if the file is damaged.
        SettingsError: if settings or the fold differ.
        DataError: if the data differ.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        steps_in(checkpoint), seconds_in(checkpoint)
        kept = checkpoint.get("geosynth", {})
        then, data_then = dict(kept.get("settings", {})), dict(kept.get("data", {}))
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path}: not a training checkpoint; delete it to train afresh") from error
    now = settings.model_dump(mode="json", include=set(then) - _MAY_CHANGE)
    if "fold" in data_then:
        then["fold"], now["fold"] = data_then["fold"], data["fold"]
    for name, value in now.items():
        if then[name] != value:
            raise SettingsError(f"{path}: was trained with {name}={then[name]}, not {value}; choose another folder")
    for name, what in _OTHER_DATA.items():
        if name in data_then and data_then[name] != data[name]:
            raise DataError(f"{path}: was trained on {what}; choose another folder")
    return checkpoint


def steps_in(checkpoint: dict[str, Any]) -> int:
    """Steps done."""
    return int(checkpoint["state_dict"]["steps_done"])


def seconds_in(checkpoint: dict[str, Any]) -> float:
    """Seconds of training."""
    return float(checkpoint.get("callbacks", {}).get(Watch.STATE_KEY, {}).get("seconds", 0.0))


def check_networks(path: Path, checkpoint: dict[str, Any], task: SpadeTask) -> None:
    """Refuse a checkpoint whose weights are not those of the task's networks, by name and shape.

    Raises:
        CheckpointError: one line, where torch would list each weight.
    """
    then = {name: getattr(value, "shape", None) for name, value in checkpoint["state_dict"].items()}
    if then != {name: value.shape for name, value in task.state_dict().items()}:
        raise CheckpointError(f"{path}: holds networks for other data or settings; choose another folder")

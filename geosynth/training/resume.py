"""Going on with an interrupted training: what its checkpoint must agree with."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import torch

from geosynth.config import TrainSettings
from geosynth.errors import CheckpointError, DataError, SettingsError
from geosynth.raster.stores.source import PatchSource
from geosynth.training.task import SpadeTask
from geosynth.training.watch import Watch

# Between the runs of one training: how long, on how many devices, and what is written on the way.
_MAY_CHANGE = {
    *("steps", "max_time", "devices", "workers", "save_every", "save_minutes", "preview_every", "log_every"),
}
_OTHER_DATA = {
    "scenes": "on other scenes",
    "legend": "on another legend",
    "bands": "on other bands",
    "gsd": "on another pixel size",
    "initial": "from another initial model",
}


def data_record(sources: Sequence[PatchSource], fold: str) -> dict[str, Any]:
    """What the model learns from, as plain values; sources of equal records may stand in for each other."""
    scenes = [
        [scene.name, *astuple(scene.window), scene.image_sha256, scene.labels_sha256]
        for source in sources
        for scene in source.scenes_in(fold)
    ]
    return {
        "fold": fold,
        "scenes": sorted(scenes),
        "legend": sources[0].legend.model_dump(mode="json"),
        "bands": list(sources[0].band_names),
        "gsd": sources[0].gsd,
    }


def read_checkpoint(path: Path, settings: TrainSettings, data: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint of an interrupted training, after checking that it had the same settings and data.

    Args:
        path: of `last.ckpt`.
        settings: of now.
        data: `data_record` of now.

    Raises:
        CheckpointError: if the file is damaged.
        SettingsError: if settings or the fold differ.
        DataError: if the data differ.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        seconds_in(checkpoint)
        kept = checkpoint["geosynth"]
        then, data_then = dict(kept["settings"]), dict(kept["data"])
        kept["steps"], checkpoint["state_dict"]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path}: not a training checkpoint; delete it to train afresh") from error
    now = settings.model_dump(mode="json")
    for name in now.keys() - _MAY_CHANGE:
        if name not in then or then[name] != now[name]:
            raise SettingsError(
                f"{path}: was trained with {name}={then.get(name)}, not {now[name]}; choose another folder"
            )
    if data_then["fold"] != data["fold"]:
        raise SettingsError(
            f"{path}: was trained with fold={data_then['fold']}, not {data['fold']}; choose another folder"
        )
    for name, what in _OTHER_DATA.items():
        if data_then.get(name) != data.get(name):
            raise DataError(f"{path}: was trained {what}; choose another folder")
    return checkpoint


def steps_in(checkpoint: dict[str, Any]) -> int:
    """Steps done."""
    return int(checkpoint["geosynth"]["steps"])


def seconds_in(checkpoint: dict[str, Any]) -> float:
    """Seconds of training."""
    return float(checkpoint["callbacks"][Watch.STATE_KEY]["seconds"])


def check_networks(path: Path, checkpoint: dict[str, Any], task: SpadeTask) -> None:
    """Refuse a checkpoint whose weights are not those of the task's networks, by name and shape.

    Raises:
        CheckpointError: one line, where torch would list each weight.
    """
    then = {name: getattr(value, "shape", None) for name, value in checkpoint["state_dict"].items()}
    if then != {name: value.shape for name, value in task.state_dict().items()}:
        raise CheckpointError(f"{path}: holds networks for other data or settings; choose another folder")

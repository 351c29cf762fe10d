"""What a training starts from: random weights, a model file, or the checkpoint of its own interrupted run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geosynth.checkpoint import GeneratorModel, ModelCard, load_generator
from geosynth.config import TrainSettings
from geosynth.download import model_path
from geosynth.errors import CheckpointError, DataError, SettingsError
from geosynth.loop import Checkpoint
from geosynth.models.state import weights_digest
from geosynth.raster.stores.alike import check_fits
from geosynth.raster.stores.source import PatchSource
from geosynth.training.networks import SpadeNetworks

# Settings that may differ between the runs of one training: its length, the number of devices, what is written
# meanwhile, and the paths of files whose content is compared.
_MAY_CHANGE = {
    *("steps", "max_time", "devices", "workers", "save_every", "save_minutes", "preview_every", "log_every"),
    *("init", "perceptual_path"),
}
_OTHER_DATA = {
    "scenes": "on other scenes",
    "areas": "on other areas of the fold",
    "legend": "on another legend",
    "bands": "on other bands",
    "dtype": "on imagery of another type",
    "grid": "on another grid or another pixel size",
    "pixels": "on other pixels",
    "initial": "from another initial model",
    "perceptual": "with other weights of the perceptual network",
}


def with_networks_of(settings: TrainSettings) -> TrainSettings:
    """The settings with the networks of the model `settings.init`; unchanged if there is none.

    Raises:
        CheckpointError: if it is not a model.
        SettingsError: if the settings ask for other networks, or for something that needs a model conditioned on looks.
    """
    if settings.init is not None:
        card = ModelCard.read(model_path(settings.init))
        networks = _networks(card, conditioned=bool(settings.style_lengths))
        values = settings.model_dump()
        for name, value in networks.items():
            if name in settings.model_fields_set and values[name] != value:
                what = f"the model {settings.init} has {value}, not {values[name]}; leave it out"
                raise SettingsError(what, setting=name)
        settings = TrainSettings.parse({**values, **networks})
    for name in () if settings.style_lengths else ("look_name", "learn", "style_regions", "style_gradual"):
        if getattr(settings, name) != TrainSettings.model_fields[name].default:
            raise SettingsError("needs a generator conditioned on looks: set style_lengths", setting=name)
    return settings


def load_initial(settings: TrainSettings, sources: Sequence[PatchSource]) -> GeneratorModel | None:
    """The model `settings.init`, after checking that it fits the data; None if there is none.

    Raises:
        CheckpointError: if it is not a model, or is damaged.
        DataError: if the data have other classes, bands, or pixel values of another type or meaning.
    """
    if settings.init is None:
        return None
    model = load_generator(settings.init)
    check_fits(sources, settings.init, model.card.legend.names, model.card.bands)
    return model


def with_initial(provenance: dict[str, Any], initial: GeneratorModel) -> dict[str, Any]:
    """The provenance of a model trained further from `initial`, with the data that its weights have already seen."""
    earlier = dict(initial.card.provenance)
    seen = earlier.pop("data", [])
    data = [*provenance["data"], *(entry for entry in seen if entry not in provenance["data"])]
    init = {"name": initial.path.name, "sha256": initial.sha256, **earlier}
    return {**provenance, "data": data, "init": init}


def _networks(card: ModelCard, *, conditioned: bool) -> dict[str, Any]:
    """Settings of the networks in a file; one with a latent may become one conditioned on looks."""
    generator = card.settings.model_dump(exclude={"num_classes", "num_bands"})
    if conditioned or card.settings.style_lengths:
        del generator["latent_size"]  # has no latent
    if generator["crop_size"] is None:
        del generator["crop_size"]  # set by the training
    if card.encoder is not None:
        generator["encoder_width"] = card.encoder.base_width
    return generator


def job_of(
    settings: TrainSettings, sources: Sequence[PatchSource], fold: str, initial: GeneratorModel | None
) -> dict[str, Any]:
    """Everything that the result of a training depends on, as plain values; sources with the same facts are equivalent.

    Raises:
        CheckpointError: if the weights of the perceptual network cannot be read.
    """
    facts = [source.facts(fold) for source in sources]
    data: dict[str, Any] = {"fold": fold, **{topic: [one[topic] for one in facts] for topic in facts[0]}}
    if initial is not None:
        data["initial"] = initial.sha256
    if settings.perceptual_file is not None:
        data["perceptual"] = weights_digest(settings.perceptual_file)
    return {"settings": settings.model_dump(mode="json"), "data": data}


def load_checkpoint(path: Path, job: dict[str, Any]) -> Checkpoint | None:
    """The checkpoint of an interrupted training, after checking that it is of the same job; None if there is none.

    Raises:
        CheckpointError: if the file is damaged.
        SettingsError: if settings or the fold differ.
        DataError: if the data differ.
    """
    if not path.exists():
        return None
    checkpoint = Checkpoint.load(path)
    try:
        then, data_then = dict(checkpoint.job["settings"]), dict(checkpoint.job["data"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not a checkpoint of `train`; choose another folder") from error
    now, data = job["settings"], job["data"]
    then = {**TrainSettings().model_dump(mode="json"), **then}  # settings that did not exist yet
    for name in now.keys() - _MAY_CHANGE:
        if then[name] != now[name]:
            raise SettingsError(f"{path}: was trained with {name}={then[name]}, not {now[name]}; choose another folder")
    if data_then.get("fold") != data["fold"]:
        raise SettingsError(
            f"{path}: was trained with fold={data_then.get('fold')}, not {data['fold']}; choose another folder"
        )
    for name, what in _OTHER_DATA.items():
        if data_then.get(name) != data.get(name):
            raise DataError(f"{path}: was trained {what}; choose another folder")
    return checkpoint


def load_weights(path: Path, checkpoint: Checkpoint, networks: SpadeNetworks) -> None:
    """Give the networks the weights of a checkpoint.

    Raises:
        CheckpointError: if their names and shapes are not those of the networks; one line, where torch would list every
            weight.
    """
    then = {name: getattr(value, "shape", None) for name, value in checkpoint.network.items()}
    if then != {name: value.shape for name, value in networks.state_dict().items()}:
        raise CheckpointError(f"{path}: holds networks for other data or settings; choose another folder")
    networks.load_state_dict(checkpoint.network)

"""Going on from the weights of a model file: which networks follow from it, and what data it fits."""

from __future__ import annotations

from typing import Any

from geosynth.checkpoint import GeneratorModel, ModelCard, load_generator, model_path, read_card
from geosynth.config import TrainSettings
from geosynth.errors import DataError, SettingsError
from geosynth.raster.stores.source import PatchSource


def with_networks_of(settings: TrainSettings) -> TrainSettings:
    """The settings with the networks of the model `settings.init`; as they are, if there is none.

    Raises:
        CheckpointError: if that is not a model.
        SettingsError: if the settings ask for other networks.
    """
    if settings.init is None:
        return settings
    card = read_card(model_path(settings.init))
    networks = _networks(card)
    values = settings.model_dump()
    for name, value in networks.items():
        if name in settings.model_fields_set and values[name] != value:
            raise SettingsError(f"{name}={values[name]}: the model {settings.init} has {value}; leave {name} out")
    return TrainSettings.parse({**values, **networks})


def load_initial(settings: TrainSettings, source: PatchSource) -> GeneratorModel | None:
    """The model `settings.init`, once it is sure that it fits the data; None if there is none.

    Raises:
        CheckpointError: if that is not a model, or damaged.
        DataError: if the data have other classes, bands, or another type of pixel values.
    """
    if settings.init is None:
        return None
    model = load_generator(settings.init)
    card = model.card
    for what, theirs, ours in (
        ("classes", card.legend.names, source.legend.names),
        ("bands", card.bands.names, source.band_names),
        ("pixel values of type", (card.bands.dtype,), (str(source.dtype),)),
    ):
        if tuple(theirs) != tuple(ours):
            raise DataError(
                f"{source.path}: {what} {', '.join(ours)} do not fit the model {settings.init}, which has"
                f" {', '.join(theirs)}"
            )
    return model


def with_initial(provenance: dict[str, Any], initial: GeneratorModel) -> dict[str, Any]:
    """The provenance of a model that went on from `initial`: with its data, all of which the weights have seen."""
    earlier = dict(initial.card.provenance)
    seen = earlier.pop("data", [])
    data = [*provenance["data"], *(entry for entry in seen if entry not in provenance["data"])]
    init = {"name": initial.path.name, "sha256": initial.sha256, **earlier}
    return {**provenance, "data": data, "init": init}


def _networks(card: ModelCard) -> dict[str, Any]:
    generator = card.settings.model_dump(exclude={"num_classes", "num_bands"})
    if generator["crop_size"] is None:
        del generator["crop_size"]  # the training's own
    if card.encoder is not None:
        generator["encoder_width"] = card.encoder.base_width
    return generator

"""Average the weights of models that were trained further from the same one, and write the result as a new model.

    python examples/average_models.py STORE MODEL MODEL [MODEL ...] --out OUT

Trainings that start from the same model (`geosynth train --init`) and differ, for instance, in their discriminators end
in the same valley of the loss: the mean of their weights paints what they have in common and drops what each overdid
(Wortsman et al. 2022, "Model soups"; Wang et al. 2018, "ESRGAN", section 3.4). Statistics of batch norms cannot be
averaged: unless the models share them (`keep_norms`), they are measured again, on labels of the fold "train" of STORE.
The style encoder is averaged, too; looks are those of the first model. Choose the models by `geosynth evaluate` on a
fold other than test.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geosynth.checkpoint import GeneratorModel, load_generator, save_generator
from geosynth.patches.module import PatchModule
from geosynth.raster.stores.open import open_sources
from geosynth.training.average import estimate_norms
from geosynth.training.draws import random_inputs

_NUM_BATCHES, _BATCH_SIZE, _CROP_SIZE = 50, 8, 128


def average(store: Path, models: Sequence[Path], out: Path) -> None:
    """Write the average of `models` to `out`."""
    loaded = [load_generator(path) for path in models]
    result = loaded[0]
    cards = [model.card.model_dump(exclude={"provenance"}) for model in loaded]
    if any(card != cards[0] for card in cards):
        raise SystemExit("the models' networks differ, or their legends or bands: there is no average of them")
    _average_into(result.generator, [model.generator for model in loaded])
    if result.encoder is not None:
        _average_into(result.encoder, [model.encoder for model in loaded if model.encoder is not None])
    if not _same_buffers([model.generator for model in loaded]):
        estimate_norms(result.generator, _batches(store, result))
    card = result.card.model_copy(update={"provenance": _provenance(loaded)})
    save_generator(out, result.generator, card, result.encoder, looks=result.looks)


def _provenance(models: Sequence[GeneratorModel]) -> dict[str, Any]:
    """The data that any of the models has seen, each listed once, and the provenance of each model."""
    data: list[Any] = []
    parts = []
    for model in models:
        own = dict(model.card.provenance)
        data += [entry for entry in own.pop("data", []) if entry not in data]
        parts.append({"sha256": model.sha256, **own})
    return {"data": data, "average_of": parts}


@torch.no_grad()
def _average_into(target: nn.Module, networks: Sequence[nn.Module]) -> None:
    parameters = [dict(network.named_parameters()) for network in networks]
    for name, value in target.named_parameters():
        value.copy_(torch.stack([each[name] for each in parameters]).mean(0))


def _same_buffers(networks: Sequence[nn.Module]) -> bool:
    first, *others = (dict(network.named_buffers()) for network in networks)
    return all(torch.equal(value, other[name]) for other in others for name, value in first.items())


def _batches(store: Path, model: GeneratorModel) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    """Labels, styles and noise as at the end of a training."""
    patches = PatchModule(
        open_sources(store), model.card.bands, crop_size=_CROP_SIZE, batch_size=_BATCH_SIZE, num_batches=_NUM_BATCHES
    )
    look = model.look()
    looks = None if look is None else [look] * _BATCH_SIZE
    for index, batch in enumerate(patches.train_dataloader()):
        mask = batch["mask"].long()
        yield mask, random_inputs(model.card.settings, mask, 0, index, looks)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("store", type=Path, help="whose labels the norms are measured on")
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    values = parser.parse_args()
    average(values.store, values.models, values.out)


if __name__ == "__main__":
    main()

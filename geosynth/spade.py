"""Model files from weights of the SPADE reference implementation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from geosynth.checkpoint import ModelCard, check_model_output, save_generator
from geosynth.config import BandSettings
from geosynth.config.networks import Depth
from geosynth.errors import SettingsError
from geosynth.files import output_path, refuse_inputs
from geosynth.inputs import sha256_of
from geosynth.legend import Legend
from geosynth.models.reference import read_encoder, read_generator
from geosynth.models.state import read_state
from geosynth.unfinished import making
from geosynth.version import __version__


def import_spade(
    generator: str | Path,
    out: str | Path,
    *,
    legend: str | Path | Legend,
    bands: Sequence[str],
    encoder: str | Path | None = None,
    depth: Depth | None = None,
    crop_size: int | None = None,
    gsd: float | None = None,
    overwrite: bool = False,
) -> Path:
    """Make a model file from `latest_net_G.pth` (and `latest_net_E.pth`) of the SPADE reference implementation.

    No code in the files is run. Weights are kept in float32, so that images equal the reference's.

    Args:
        generator: file with the generator's weights.
        out: the model file to write, ending in ".safetensors".
        legend: a class for each label channel of the weights, in their order. The reference's "don't care" class and
            its channel of instance edges are channels too: give them classes with codes that do not occur.
        bands: names of the output bands, as in ("red", "green", "blue").
        encoder: file with the style encoder's weights.
        depth: "normal", "more" or "most"; None to infer it from the weights, which is not always possible.
        crop_size: side, in pixels, of the training crops, from which the depth may be inferred.
        gsd: pixel size of the training imagery, in metres.
        overwrite: replace an existing file.

    Returns:
        the path of the model file.

    Raises:
        CheckpointError: if a file does not contain such weights.
        SettingsError: if the depth is unknown, or if legend, bands or encoder do not fit the weights.
        LegendError: if there is no such legend.
        OutputError: if `out` already exists or cannot be written.
    """
    out = output_path(out)
    check_model_output(out, overwrite=overwrite)
    refuse_inputs(out, [generator, encoder, legend])
    legend = Legend.load(legend)
    network = read_generator(read_state(generator), str(generator), depth=depth, crop_size=crop_size)
    style = None if encoder is None else read_encoder(read_state(encoder), str(encoder))
    settings = network.settings
    if legend.num_classes != settings.num_classes:
        raise SettingsError(
            f"{generator}: reads {settings.num_classes} label channels; legend {legend.name!r} has"
            f" {legend.num_classes} classes, and each channel needs one"
        )
    if len(bands) != settings.num_bands:
        raise SettingsError(f"{generator}: paints {settings.num_bands} bands; the names given are {', '.join(bands)}")
    sources = {"generator": generator} if encoder is None else {"generator": generator, "encoder": encoder}
    provenance = {
        "software": f"geosynth {__version__}",
        "imported": {name: {"name": Path(path).name, "sha256": sha256_of(path)} for name, path in sources.items()},
    }
    card = ModelCard(
        settings=settings, legend=legend, bands=BandSettings(names=tuple(bands)), gsd=gsd, provenance=provenance
    )
    with making(out) as made:
        save_generator(made, network, card, style, dtype=torch.float32)
    return out

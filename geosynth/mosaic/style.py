"""Styles that users choose: over which distance the style changes, and the style of a given image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from odc.geo.geobox import GeoBox
from safetensors.torch import load, save
from torch import Tensor

from geosynth.checkpoint import GeneratorModel
from geosynth.config import GenerateSettings, GeneratorSettings
from geosynth.errors import DataError, LegendError, SettingsError
from geosynth.grid import ground_sampling_distance, warn_of_pixel_size
from geosynth.grid.alignment import is_south_up
from geosynth.inputs import as_list, check_input
from geosynth.legend import Legend
from geosynth.models.looks.look import Look
from geosynth.models.process_settings import full_float32
from geosynth.mosaic.looks import look_from_images
from geosynth.raster.model_bands import NeededBands, open_bands

_MAX_WINDOWS = 256  # more change the mean little
_BATCH = 8

Files = str | Path | Sequence[str | Path] | None
Style = Tensor | Look | Files


def chosen_style(
    style: Style,
    style_labels: Files,
    model: GeneratorModel,
    settings: GenerateSettings,
    legend: str | Path | Legend | None = None,
    bands: Sequence[str] | None = None,
) -> Tensor | Look | None:
    """The style that a user asks for, as a painter takes it; None for the model's own looks or styles.

    Args:
        style: images to take the style from, or the style itself.
        style_labels: of these images, one each; for a generator conditioned on looks.
        model: the model that paints.
        settings: their `look` cannot be combined with images.
        legend: of the labels, as for `generate`.
        bands: names that the user gave for the images' bands, see `open_chosen`; None for none.

    Raises:
        SettingsError: if these contradict each other, or do not fit the model.
        GeosynthError: see `style_from_image` and `look_from_images`.
    """
    check_style(style, style_labels, settings, bands)
    images, labels = style_files(style), style_files(style_labels)
    if not images:
        return style if isinstance(style, Tensor | Look) else None
    if model.card.settings.style_lengths:
        try:
            return look_from_images(images, labels, model, legend, bands, settings.unknown)
        except LegendError as error:  # the legend is that of the labels that are painted, too
            raise LegendError(
                f"{error}; of labels with a legend of their own, `geosynth looks add --legend` makes a look"
            ) from error
    if labels:
        raise SettingsError(f"{model.path}: its styles describe whole images; leave out the labels of the style")
    return torch.stack([style_from_image(image, model, bands) for image in images]).mean(0)


def check_style(
    style: Style, style_labels: Files, settings: GenerateSettings, bands: Sequence[str] | None = None
) -> None:
    """Refuse arguments of `chosen_style` that contradict each other, for which no model is needed.

    Raises:
        SettingsError: one line.
    """
    images = style_files(style)
    if settings.look is not None and (images or isinstance(style, Tensor | Look)):
        raise SettingsError(f"{settings.look!r} and a style are given; give one of them", setting="look")
    if style_files(style_labels) and not images:
        raise SettingsError("labels of a style are given, but no image to take it from")
    if bands and not images:
        raise SettingsError("bands of a style are given, but no image to take it from")


def style_files(*given: Style) -> list[str | Path]:
    """The files among the arguments that define a style."""
    files: list[str | Path] = []
    for one in as_list(given):
        for file in [] if isinstance(one, Tensor | Look) else as_list(one):
            check_input(file, "an image or labels of a style")
            files.append(file)
    return files


def packed(style: Tensor | Look | None) -> bytes | None:
    """A style as bytes, to be sent to other processes and to serve as a key there; None for None."""
    if style is None:
        return None
    parts = style.tensors() if isinstance(style, Look) else {"latent": style}
    return save({name: values.cpu().contiguous() for name, values in parts.items()})


def unpacked(style: bytes | None) -> Tensor | Look | None:
    """The inverse of `packed`."""
    if style is None:
        return None
    parts = load(style)
    return parts["latent"] if "latent" in parts else Look(**parts)


def style_digest(style: Tensor | Look | None) -> str | None:
    """A digest that distinguishes styles; None for None."""
    if style is None:
        return None
    values = style.tensors().values() if isinstance(style, Look) else [style]
    return hashlib.sha256(b"".join(value.cpu().numpy().tobytes() for value in values)).hexdigest()


def style_length_pixels(metres: float | None, geobox: GeoBox, network: GeneratorSettings) -> int:
    """Pixels over which the style drifts to another one; 0 for 0, which keeps a single style.

    Args:
        metres: on the ground; taken as pixels if pixels have no size in metres (no CRS, or one in degrees). None for
            the network's `drift_length`.
        geobox: of the labels.
        network: settings of the generator.
    """
    metres = network.drift_length if metres is None else metres
    gsd = ground_sampling_distance(geobox)
    return 0 if metres == 0 else max(1, round(metres if gsd is None else metres / gsd))


def style_from_image(image: str | Path, model: GeneratorModel, named: Sequence[str] | None = None) -> Tensor:
    """The style of an image as the model's encoder sees it: the mean of z over windows of it.

    Windows have the size that the encoder was made for, do not overlap, and have data everywhere; of large images, at
    most 256 windows, spread evenly, are read. Images stored south up are turned north up, so that light and shadow come
    from the same side as in training. Nothing is resampled: a pixel size other than the model's gives a warning.

    Args:
        image: a raster with the bands of the model, found by name or, if bands have no names, taken in their order.
        model: with an encoder.
        named: names that the user gave for its bands, see `open_chosen`; None for none.

    Returns:
        (latent_size,) float32 on the model's device.

    Raises:
        SettingsError: if the model has no encoder.
        RasterError: if the image cannot be read.
        DataError: if its bands, their dtype or their quantities are not the model's, or if no window has data
            everywhere.
    """
    encoder, bands = model.encoder, model.card.bands
    if encoder is None:
        raise SettingsError(f"{model.path}: has no style encoder, so it cannot take a style from {image}")
    raster = open_bands(image, NeededBands(bands, "model", model.path), named)
    told = "the model was trained on %g m and sees its style at that scale"
    warn_of_pixel_size(raster.path, raster.geobox, model.card.gsd, told)

    size = 4 * 2**encoder.settings.num_layers  # the encoder ends with 4 x 4 cells
    whole = [window for window in raster.window.pieces(size) if (window.height, window.width) == (size, size)]
    step = max(1, -(-len(whole) // _MAX_WINDOWS))
    total, count = torch.zeros(encoder.settings.latent_size, dtype=torch.float64), 0
    device = next(encoder.parameters()).device
    rows = slice(None, None, -1 if is_south_up(raster.geobox) else 1)
    filled = (values[:, rows] for values, valid in map(raster.read, whole[::step]) if valid.all())
    while batch := list(islice(filled, _BATCH)):
        pixels = torch.from_numpy(np.stack(batch)).to(device).float()
        with full_float32(), torch.inference_mode():
            mean, _ = encoder(bands.to_network(pixels))
        total += mean.double().sum(0).cpu()
        count += len(batch)
    if count == 0:
        raise DataError(f"{image}: no window of {size} x {size} px has data everywhere; a style needs one at least")
    return (total / count).float().to(device)

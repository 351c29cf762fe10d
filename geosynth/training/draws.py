"""What a training step draws at random for each patch: a function of (seed, step, place in the batch) only.

So a resumed training draws the same as an uninterrupted one, and a batch that is shared among devices the same as on a
single device. Everything is drawn on the CPU before the step, which itself is the same program each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from geosynth.config import GeneratorSettings, TrainSettings
from geosynth.models.augment import Augmentation
from geosynth.models.field import latent_field, random_noise
from geosynth.models.generator import check_labels
from geosynth.models.looks.field import look_field
from geosynth.models.looks.look import Look
from geosynth.models.looks.styles import STYLE_CELL
from geosynth.models.looks.surroundings import Surroundings
from geosynth.models.windows import Windows
from geosynth.patches.transforms import random_dihedral
from geosynth.training.looks import num_colour_draws


@dataclass(frozen=True)
class TrainBatch:
    """The patches of one step on one device, with everything that was drawn for them."""

    image: Tensor
    """(B, num_bands, H, W), in [-1, 1] after scaling."""
    mask: Tensor
    """(B, H, W) class indices."""
    noise: list[Tensor]
    """Noise maps, as from `geosynth.models.field.random_noise`."""
    latents: Tensor
    """(B, latent_size, H / stride, W / stride), or (B, latent_size) for the linear start: the drawn style, or standard
    normal numbers for sampling from the encoder."""
    second_latents: Tensor
    """(D, ...) another drawn style for each row whose style is drawn."""
    changes: Tensor
    """(B, n) numbers that determine how the discriminator's view is changed, see `Augmentation`."""
    sides: Tensor
    """(B, num_classes + 1) bool, the sides of LabelMix, see `label_mix_mask`."""
    colours: Tensor
    """(B, n) numbers that change the colours of the real image, see `changed_colours`; n is 0 for a generator that is
    not conditioned on looks.
    """
    styles: Tensor
    """(D, num_classes, style_size, H / 8, W / 8) drawn looks of the rows whose style is drawn; empty for a generator
    that is not conditioned on looks."""

    def apply(self, function: Callable[[Tensor], Tensor]) -> TrainBatch:
        """The batch with each tensor replaced."""
        return self.of([function(value) for value in self.tensors()])

    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors of the batch; the inverse of `of`."""
        values = vars(self)
        return (*(values[name] for name in values if name != "noise"), *self.noise)

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Self:
        """The batch with these `tensors`."""
        names = [field.name for field in fields(cls) if field.name != "noise"]
        return cls(noise=list(tensors[len(names) :]), **dict(zip(names, tensors, strict=False)))

    def part(self, part: Part) -> TrainBatch:
        """The rows of a part."""
        rows = self.apply(lambda values: values[part.rows])
        return replace(rows, second_latents=self.second_latents[part.seconds], styles=self.styles[part.seconds])


@dataclass(frozen=True)
class Part:
    """Rows of a device's share of the batch that pass the networks together, and which of them have a drawn style.

    Parts are the same in each step. A loss is a mean over the drawn or the paired rows of a part. Multiplied by the
    part's share and averaged over parts and devices, it is the mean over all such rows of the batch, however they are
    distributed.
    """

    rows: slice
    """Rows of the part within the process's share of the batch."""
    seconds: slice
    """Rows of the part in `TrainBatch.second_latents` and `TrainBatch.styles`."""
    drawn: Tensor
    """(D,) rows within the part whose style is drawn."""
    paired: Tensor
    """(P,) the other rows, whose style is read from the image."""
    drawn_share: float
    """Factor for a mean over the drawn rows of the part."""
    paired_share: float
    """Factor for a mean over the paired rows of the part."""


def split_batch(settings: TrainSettings, rank: int = 0, device: torch.device | str = "cpu") -> list[Part]:
    """The parts of a process's share of the batch."""
    num_drawn = len(drawn_places(settings.prior_share, settings.batch_size))
    num_paired = settings.batch_size - num_drawn
    size = settings.batch_size // (settings.devices * settings.parts)
    num_shares = settings.batch_size / size
    parts: list[Part] = []
    seconds = 0
    for index in range(settings.parts):
        drawn = _drawn_rows(settings, (rank * settings.parts + index) * size, size)
        paired = sorted(set(range(size)) - set(drawn))
        parts.append(
            Part(
                slice(index * size, (index + 1) * size),
                slice(seconds, seconds + len(drawn)),
                torch.tensor(drawn, dtype=torch.long, device=device),
                torch.tensor(paired, dtype=torch.long, device=device),
                len(drawn) * num_shares / num_drawn if num_drawn else 0.0,
                len(paired) * num_shares / num_paired if num_paired else 0.0,
            )
        )
        seconds += len(drawn)
    return parts


def drawn_places(share: float, batch_size: int) -> list[int]:
    """The places in a batch whose style is drawn: floor(share * batch_size) of them, evenly spread."""
    return [place for place in range(batch_size) if int((place + 1) * share + 1e-9) > int(place * share + 1e-9)]


def _drawn_rows(settings: TrainSettings, first: int, count: int) -> list[int]:
    """Which of `count` rows, starting at place `first` of the batch, have a drawn style."""
    places = drawn_places(settings.prior_share, settings.batch_size)
    return [place - first for place in places if first <= place < first + count]


def draw_batch(
    image: Tensor,
    mask: Tensor,
    settings: TrainSettings,
    generator: GeneratorSettings,
    looks: Sequence[Look] | None = None,
    *,
    step: int,
    rank: int = 0,
) -> TrainBatch:
    """Rotate and flip the patches of one step, if the settings ask for it, and draw what the step needs for them.

    Args:
        image: (B, num_bands, N, N), the process's share of the batch.
        mask: (B, N, N) class indices.
        settings: of the training.
        generator: settings of the generator.
        looks: for a generator conditioned on looks, the look of each patch from which styles are drawn.
        step: number of the step, from 0.
        rank: of the process.

    Raises:
        DataError: if the mask contains a value that is not a class index.
    """
    check_labels(generator, mask)  # on the CPU, as the host would have to wait for a GPU
    first_place, height, width = rank * len(mask), *mask.shape[1:]
    rngs = sample_rngs(settings.seed, step, range(first_place, first_place + len(mask)))
    if settings.turn:
        turned = [random_dihedral(image[row : row + 1], mask[row : row + 1], rng) for row, rng in enumerate(rngs)]
        image, mask = (torch.cat(values) for values in zip(*turned, strict=True))
    noise = [random_noise(generator, 1, height, width, rng) for rng in rngs]
    drawn = _drawn_rows(settings, first_place, len(mask))
    latents = [random_style(generator, height, width, rng, drifts=row in drawn) for row, rng in enumerate(rngs)]
    second_latents = [random_style(generator, height, width, rngs[row]) for row in drawn]
    num_changes = Augmentation.NUM_DRAWS if settings.augment else 0
    changes = torch.stack([torch.rand(num_changes, generator=rng) for rng in rngs])
    sides = torch.stack([torch.rand(generator.num_classes + 1, generator=rng) for rng in rngs]) < 0.5
    colours, styles = torch.zeros(len(mask), 0), torch.zeros(len(drawn), 0)
    if looks is not None:
        colours = _draw_colours(settings, generator, first_place, rngs)
        cells = *looks[0].mean.shape, height // STYLE_CELL, width // STYLE_CELL
        drawn_looks = [random_look(generator, looks[row], mask[row], rngs[row]) for row in drawn]
        styles = torch.cat([torch.zeros(0, *cells), *drawn_looks])
    return TrainBatch(
        image,
        mask,
        [torch.cat(maps) for maps in zip(*noise, strict=True)],
        torch.cat(latents),
        torch.cat(second_latents or [latents[0][:0]]),
        changes,
        sides,
        colours,
        styles,
    )


def _draw_colours(
    settings: TrainSettings, generator: GeneratorSettings, first_place: int, rngs: Sequence[torch.Generator]
) -> Tensor:
    """Numbers for `changed_colours`, (B, n), zero for patches that keep their colours.

    Among the patches of the batch whose style is not drawn, colours are changed in a share, evenly spread.
    """
    count = num_colour_draws(generator.num_classes, generator.num_bands)
    colours = torch.stack([torch.randn(count, generator=rng) for rng in rngs])
    everywhere = drawn_places(settings.prior_share, settings.batch_size)
    own = [place for place in range(settings.batch_size) if place not in everywhere]
    changed = {own[index] - first_place for index in drawn_places(settings.colour_change, len(own))}
    colours[[row for row in range(len(rngs)) if row not in changed]] = 0
    return colours


def sample_rngs(seed: int, step: int, places: Sequence[int]) -> list[torch.Generator]:
    """A random number generator for each of the given places in the whole batch of a step."""
    states = (np.random.SeedSequence((seed, step, place)).generate_state(1, np.uint64)[0] for place in places)
    return [torch.Generator().manual_seed(int(state)) for state in states]


def random_style(
    settings: GeneratorSettings, height: int, width: int, rng: torch.Generator, *, drifts: bool = True
) -> Tensor:
    """A style as `generate` uses it for some window of 1 m pixels: a field of normal numbers that changes slowly.

    Args:
        settings: of the generator.
        height: of the window, in pixels.
        width: of the window, in pixels.
        rng: random number generator.
        drifts: False for the same style in the whole window.

    Returns:
        (1, latent_size, H / stride, W / stride); for the linear start, which takes no field, and for a generator
        without a latent, (1, latent_size).
    """
    style = torch.randn((1, settings.latent_size), generator=rng)
    if settings.start == "linear" or not settings.latent_size:
        return style
    stride = settings.stride
    if not drifts:
        return style[:, :, None, None].expand(-1, -1, height // stride, width // stride)
    return latent_field(settings, *_somewhere(rng, stride, height, width), settings.drift_length)


def random_look(settings: GeneratorSettings, look: Look, mask: Tensor, rng: torch.Generator) -> Tensor:
    """Looks of the classes as `generate` uses them for an (H, W) label raster of 1 m pixels.

    Returns:
        (1, num_classes, style_size, H / 8, W / 8).
    """
    somewhere = _somewhere(rng, settings.stride, *mask.shape)
    around = Surroundings.of_tile(mask.cpu().numpy(), settings)
    ways, shares = (torch.from_numpy(values).unsqueeze(0) for values in around)
    return look_field(settings, look, *somewhere, settings.drift_length, ways, shares)


def _somewhere(rng: torch.Generator, stride: int, height: int, width: int) -> tuple[int, Windows]:
    """A random seed, and a window of this size at a random position on the lattice of the stride."""
    seed, row, column = (int(torch.randint(2**40, (), generator=rng)) for _ in range(3))
    return seed, Windows.at(row * stride, column * stride, height, width)


def random_inputs(
    settings: GeneratorSettings, mask: Tensor, seed: int, step: int, looks: Sequence[Look] | None = None
) -> dict[str, Any]:
    """Latent, noise and styles as `generate` would draw them for each label map of a batch (B, H, W).

    Args:
        settings: of the generator.
        mask: the labels, (B, H, W) class indices.
        seed: of the draws, which are a function of seed, `step` and a map's place in the batch.
        step: number of the batch.
        looks: for a generator conditioned on looks, one for each map.

    Returns:
        keyword arguments for the generator, on the device of the labels.
    """
    height, width = mask.shape[1:]
    rngs = sample_rngs(seed, step, range(len(mask)))
    latents = torch.cat([random_style(settings, height, width, rng) for rng in rngs])
    noise = [random_noise(settings, 1, height, width, rng) for rng in rngs]
    inputs: dict[str, Any] = {"noise": [torch.cat(maps).to(mask.device) for maps in zip(*noise, strict=True)]}
    if settings.latent_size:
        inputs["latent"] = latents.to(mask.device)
    if looks is not None:
        styles = [random_look(settings, look, *one) for look, *one in zip(looks, mask, rngs, strict=True)]
        inputs["styles"] = torch.cat(styles).to(mask.device)
    return inputs

"""What a training step draws for each patch: a function of (seed, step, place in the batch), and of nothing else.

So a resumed training draws what an unbroken one would have, and a batch that is shared among devices draws what one
device would have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geosynth.config import GeneratorSettings
from geosynth.models.field import random_noise, style_field
from geosynth.patches.transforms import random_dihedral

_STYLE_LENGTH = 2048  # pixels over which a drawn style drifts


def sample_rngs(seed: int, step: int, places: Sequence[int]) -> list[torch.Generator]:
    """One random generator for each of the given places in the (global) batch of a step."""
    states = (np.random.SeedSequence((seed, step, place)).generate_state(1, np.uint64)[0] for place in places)
    return [torch.Generator().manual_seed(int(state)) for state in states]


def drawn_places(share: float, batch_size: int) -> list[int]:
    """The places in a batch whose style is drawn, evenly spread: floor(share * batch_size) of them."""
    return [place for place in range(batch_size) if int((place + 1) * share + 1e-9) > int(place * share + 1e-9)]


@dataclass(frozen=True)
class Rows:
    """Patches of one step on one device, with all that was drawn for them. Tensors are on the networks' device.

    Attributes:
        image: (B, num_bands, H, W) in [-1, 1].
        mask: (B, H, W) class indices.
        noise: as `geosynth.models.field.random_noise` gives it.
        latents: (B, latent_size, H / stride, W / stride), or (B, latent_size) for the linear start: the drawn style, or
            standard normal numbers for the encoder's sampling.
        seconds: (D, ...) another drawn style of the rows in `drawn`.
        drawn: (D,) rows whose style is drawn.
        paired: (P,) the other rows, whose style is read from the image.
        rngs: one a row, for what is drawn later.
    """

    image: Tensor
    mask: Tensor
    noise: list[Tensor]
    latents: Tensor
    seconds: Tensor
    drawn: Tensor
    paired: Tensor
    rngs: list[torch.Generator]

    def part(self, index: int, count: int) -> Rows:
        """One of `count` equal parts."""
        size = len(self.mask) // count
        rows = slice(index * size, (index + 1) * size)

        def within(places: Tensor) -> Tensor:
            return (places >= rows.start) & (places < rows.stop)

        return Rows(
            self.image[rows],
            self.mask[rows],
            [values[rows] for values in self.noise],
            self.latents[rows],
            self.seconds[within(self.drawn)],
            self.drawn[within(self.drawn)] - rows.start,
            self.paired[within(self.paired)] - rows.start,
            self.rngs[rows],
        )


def draw_rows(
    image: Tensor,
    mask: Tensor,
    settings: GeneratorSettings,
    *,
    seed: int,
    step: int,
    first_place: int,
    drawn: Sequence[int],
    turn: bool,
) -> Rows:
    """Turn and flip the patches of one step, if wanted, and draw their noise and styles.

    Args:
        image: (B, num_bands, N, N).
        mask: (B, N, N).
        settings: of the generator.
        seed: of the training.
        step: its number.
        first_place: of these patches in the batch; not 0 where the batch is shared among devices.
        drawn: places in the batch whose style is drawn.
        turn: the patches.
    """
    rngs = sample_rngs(seed, step, range(first_place, first_place + len(mask)))
    if turn:
        turned = [random_dihedral(image[row : row + 1], mask[row : row + 1], rng) for row, rng in enumerate(rngs)]
        image, mask = (torch.cat(values) for values in zip(*turned, strict=True))
    height, width = mask.shape[1:]
    noise = [random_noise(settings, 1, height, width, rng) for rng in rngs]
    local = [place - first_place for place in drawn if 0 <= place - first_place < len(mask)]
    paired = sorted(set(range(len(mask))) - set(local))
    latents = [random_style(settings, height, width, rng, drifts=row in local) for row, rng in enumerate(rngs)]
    seconds = [random_style(settings, height, width, rngs[row]) for row in local]
    device = mask.device
    return Rows(
        image.contiguous(memory_format=torch.channels_last),
        mask,
        [torch.cat(maps).to(device) for maps in zip(*noise, strict=True)],
        torch.cat(latents).to(device),
        torch.cat(seconds or [latents[0][:0]]).to(device),
        torch.tensor(local, dtype=torch.long, device=device),
        torch.tensor(paired, dtype=torch.long, device=device),
        rngs,
    )


def random_style(
    settings: GeneratorSettings, height: int, width: int, rng: torch.Generator, *, drifts: bool = True
) -> Tensor:
    """A style as `generate` gives it to a window somewhere: a field of normal numbers that drifts slowly.

    Args:
        settings: of the generator.
        height: of the window, pixels.
        width: of the window, pixels.
        rng: draws it.
        drifts: without, it is the same all over the window.

    Returns:
        (1, latent_size, H / stride, W / stride); for the linear start, which takes no field, (1, latent_size).
    """
    style = torch.randn((1, settings.latent_size), generator=rng)
    if settings.start == "linear":
        return style
    stride = settings.stride
    if not drifts:
        return style[:, :, None, None].expand(-1, -1, height // stride, width // stride)
    seed, row, column = (int(torch.randint(2**40, (), generator=rng)) for _ in range(3))
    return style_field(settings, seed, row * stride, column * stride, height, width, _STYLE_LENGTH)


def random_inputs(
    settings: GeneratorSettings, mask: Tensor, rngs: Sequence[torch.Generator]
) -> tuple[Tensor, list[Tensor]]:
    """Style and noise as `generate` would draw them for each of a batch of (B, H, W) label maps; on its device."""
    height, width = mask.shape[1:]
    styles = torch.cat([random_style(settings, height, width, rng) for rng in rngs])
    noise = [random_noise(settings, 1, height, width, rng) for rng in rngs]
    return styles.to(mask.device), [torch.cat(maps).to(mask.device) for maps in zip(*noise, strict=True)]

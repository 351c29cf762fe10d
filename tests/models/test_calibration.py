"""What a generator must be asked for so that it paints a look: oracles are generators whose answer is a formula."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from geosynth.config import GeneratorSettings
from geosynth.models.looks.calibration import asked_for
from geosynth.models.looks.look import OBJECTS, Look
from geosynth.models.looks.styles import style_size

SETTINGS = GeneratorSettings(num_classes=3, num_bands=2, latent_size=0, style_lengths=(24, 72, 24), style_width=4)


class Formula(nn.Module):
    """Paints `answer(asked colour)`, of the look of each pixel's class."""

    settings = SETTINGS

    def __init__(self, answer) -> None:
        super().__init__()
        self.answer, self.weight = answer, nn.Parameter(torch.zeros(1))

    def forward(self, labels: Tensor, latent: None, noise: object, margin: int, styles: Tensor) -> Tensor:
        asked = styles[:, :, :2].repeat_interleave(8, 3).repeat_interleave(8, 4)
        index = labels.clamp(max=2)[:, None, None].expand(-1, -1, 2, -1, -1)
        return self.answer(asked.gather(1, index).squeeze(1)).clamp(-1, 1)


def look(spread: float = 0.1) -> Look:
    rng = torch.Generator().manual_seed(0)
    departures = spread * torch.randn(5, 3, OBJECTS, style_size(2), generator=rng)
    mean = torch.tensor([[-0.5, -0.1], [0.0, 0.3], [0.2, -0.4]])
    return Look(torch.cat([mean, torch.full((3, 6), -2.0)], 1), departures, torch.full((3,), 1 / 3))


def tiles() -> list[Tensor]:
    rng = torch.Generator().manual_seed(1)
    return [torch.randint(4, (12, 16), generator=rng).repeat_interleave(16, 0).repeat_interleave(16, 1)] * 2


def missed(told: Tensor, wanted: Look, generator: Formula) -> Tensor:
    """(num_classes, num_bands) for what is told on the average."""
    return generator.answer(told[:, :2]) - wanted.mean[:, :2]


@pytest.mark.parametrize(
    "answer",
    [lambda asked: 0.7 * asked + 0.05, lambda asked: asked - 0.2, lambda asked: 0.7 * asked + 0.2 * asked.flip(1)],
)
def test_what_is_painted_is_the_look(answer) -> None:
    wanted, generator = look(), Formula(answer)
    asked = asked_for(wanted, generator, tiles())
    before, after = (missed(told, wanted, generator).abs().max() for told in (wanted.mean, asked.asked))
    assert after < min(0.05, before / 3)
    assert torch.equal(asked.asked[:, 2:], wanted.mean[:, 2:])
    for name, values in wanted.tensors().items():
        assert torch.equal(getattr(asked, name), values)


def test_a_generator_that_does_as_it_is_told_is_asked_for_the_look() -> None:
    wanted = look(spread=0.02)
    asked = asked_for(wanted, Formula(lambda asked: asked), tiles())
    assert (asked.asked - wanted.mean).abs().max() < 0.002


def test_a_generator_that_does_not_listen_is_asked_for_the_look() -> None:
    wanted = look()
    asked = asked_for(wanted, Formula(lambda asked: torch.full_like(asked, 0.4)), tiles())
    assert torch.equal(asked.asked, wanted.mean)


def test_classes_that_the_tiles_lack_stay_as_they_are() -> None:
    wanted, generator = look(), Formula(lambda asked: 0.7 * asked)
    asked = asked_for(wanted, generator, [tile.clamp(max=1) for tile in tiles()])
    assert torch.equal(asked.asked[2], wanted.mean[2])
    assert not torch.equal(asked.asked[:2], wanted.mean[:2])


def test_without_a_tile_that_can_be_painted_nothing_is_changed() -> None:
    wanted = look()
    for few in ([], [torch.zeros(8, 400, dtype=torch.long), torch.zeros(400, 8, dtype=torch.long)]):
        assert torch.equal(asked_for(wanted, Formula(lambda asked: asked / 2), few).asked, wanted.mean)


def test_asking_is_bounded() -> None:
    wanted = replace(look(), mean=look().mean + 0.5)
    asked = asked_for(wanted, Formula(lambda asked: 0.3 * asked), tiles())
    assert (asked.asked - wanted.mean).abs().max() < 0.5001


def test_roofs_are_asked_for_as_they_are_painted() -> None:
    """The generator is asked for one style in each region, as it will be."""
    told: list[Tensor] = []

    class Listening(Formula):
        settings = SETTINGS.model_copy(update={"style_regions": (2,)})

        def forward(self, labels: Tensor, latent: None, noise: object, margin: int, styles: Tensor) -> Tensor:
            told.append(styles[0, 2, :, 2:8, 4:10])
            return super().forward(labels, latent, noise, margin, styles)

    tile = torch.zeros(96, 128, dtype=torch.long)
    tile[16:64, 32:80] = 2
    asked_for(look(), Listening(lambda asked: asked), [tile])
    assert told
    for styles in told:
        assert torch.equal(styles, styles[:, :1, :1].expand_as(styles))


@pytest.mark.parametrize("latent_size", [0, 4])
def test_each_tile_is_painted_whole_at_a_place_of_its_own(latent_size: int) -> None:
    told: list[tuple[Tensor, Tensor | None, int]] = []

    class Listening(Formula):
        settings = SETTINGS.model_copy(update={"latent_size": latent_size})

        def forward(self, labels: Tensor, latent: Tensor | None, noise: object, margin: int, styles: Tensor) -> Tensor:
            told.append((styles, latent, margin))
            return super().forward(labels, None, noise, margin, styles)

    asked_for(look(), Listening(lambda asked: asked), tiles())
    (first, latent, margin), (second, other, _) = told[:2]
    assert not torch.allclose(first, second), "the same labels elsewhere have other styles"
    assert margin == 0
    if latent_size:
        assert latent is not None
        assert other is not None
        assert latent.shape[:2] == (1, latent_size)
        assert not torch.allclose(latent, other)
    else:
        assert latent is None


def test_a_difference_that_few_pixels_show_is_corrected_in_part() -> None:
    wanted = look(spread=0.0)
    asked = asked_for(wanted, Formula(lambda asked: asked - 0.2), [torch.zeros(32, 32, dtype=torch.long)])
    torch.testing.assert_close(asked.asked[0, :2], wanted.mean[0, :2] + 0.2 * 1024 / (1024 + 1000), atol=1e-3, rtol=0)

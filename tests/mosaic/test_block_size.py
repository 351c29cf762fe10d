"""Block size by memory: what users write, what is chosen, what is refused."""

from __future__ import annotations

import psutil
import pytest

from geosynth.checkpoint import GeneratorModel
from geosynth.config import GenerateSettings
from geosynth.errors import SettingsError
from geosynth.mosaic.blend import make_painter
from geosynth.mosaic.generate import choose_block_size, needed_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GB", 4 * 10**9), ("512 MiB", 2**29), ("2g", 2 * 10**9), ("1.5 GB", 1_500_000_000), ("7", 7), (7, 7)],
)
def test_memory_as_people_write_it(text: str | int, size: int) -> None:
    assert GenerateSettings.parse({"max_memory": text}).max_memory == size


@pytest.mark.parametrize("text", ["", "much", "4 XB", "GB", "-1GB", "0", "1.5e9"])
def test_other_words_are_refused_by_name(text: str) -> None:
    with pytest.raises(SettingsError, match="max_memory"):
        GenerateSettings.parse({"max_memory": text})


@pytest.mark.parametrize("mosaic", ["exact", "blend"])
def test_more_memory_allows_larger_blocks(mosaic: str, tiny_model: GeneratorModel) -> None:
    present = psutil.Process().memory_info().rss

    def chosen(room: int) -> int:
        settings = GenerateSettings.parse({"max_memory": present + room, "mosaic": mosaic})
        return choose_block_size(make_painter(tiny_model, settings, 0))

    painter = make_painter(tiny_model, GenerateSettings.parse({"mosaic": mosaic}), 0)
    slack = 32 << 20  # memory in use changes a little between the two looks at it
    for size in (256, 1024, 4096):
        assert chosen(needed_bytes(painter, size) + slack) in (size, 2 * size)
    assert chosen(1 << 40) == 4096


def test_too_little_memory_is_refused_with_what_is_needed(tiny_model: GeneratorModel) -> None:
    settings = GenerateSettings.parse({"max_memory": "100MB"})
    with pytest.raises(SettingsError, match=r"max_memory of 0\.1 GB: this model needs .* GB at least"):
        choose_block_size(make_painter(tiny_model, settings, 0))


def test_without_a_limit_the_block_size_is_that_of_the_settings(tiny_model: GeneratorModel) -> None:
    assert choose_block_size(make_painter(tiny_model, GenerateSettings(block_size=384), 0)) == 384

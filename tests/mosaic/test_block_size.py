"""Block size by memory: what users write, what is chosen, what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from affine import Affine
from odc.geo.geobox import GeoBox

from geosynth.checkpoint import GeneratorModel
from geosynth.config import GenerateSettings
from geosynth.errors import SettingsError
from geosynth.grid import Window
from geosynth.models.generator import SpadeBlock
from geosynth.models.looks.surroundings import Surroundings
from geosynth.mosaic import block_size as sizes
from geosynth.mosaic.blend import KEPT_BYTES
from geosynth.mosaic.block_size import choose_block_size, needed_bytes
from geosynth.mosaic.image import blank_image, painter_for
from geosynth.mosaic.painter import CELL, Cell, paint_plan, sliver
from geosynth.raster.read import CACHE_BYTES

ANYWHERE = GeoBox((1, 1), Affine.identity(), None)


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
def test_more_memory_allows_larger_blocks(
    mosaic: str, tiny_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    present = psutil.Process().memory_info().rss
    fixed = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=present))
    monkeypatch.setattr(sizes.psutil, "Process", lambda: fixed)  # else it changes between the looks at it

    def chosen(room: int) -> int:
        settings = GenerateSettings.parse({"max_memory": present + room, "mosaic": mosaic})
        return choose_block_size(painter_for(ANYWHERE, tiny_model, settings))

    painter = painter_for(ANYWHERE, tiny_model, GenerateSettings.parse({"mosaic": mosaic}))
    for size in (256, 1024, 4096):
        assert chosen(needed_bytes(painter, size)) == size
    assert chosen(1 << 40) == 4096


def test_a_zarr_image_leaves_less_for_its_blocks(
    tiny_model: GeneratorModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    present = psutil.Process().memory_info().rss
    fixed = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=present))
    monkeypatch.setattr(sizes.psutil, "Process", lambda: fixed)
    painter = painter_for(ANYWHERE, tiny_model, GenerateSettings())
    county, writing = GeoBox((10_000, 10_000), Affine.identity(), None), 5 * 4 * 4096**2
    enough = needed_bytes(painter, 1024, writing)
    for name, room, size in (("a.tif", enough, 2048), ("a.zarr", enough, 1024), ("a.zarr", enough - 1, 512)):
        settings = GenerateSettings.parse({"max_memory": present + room})
        image = blank_image(tmp_path / name, painter_for(county, tiny_model, settings), county)
        assert image.plan.size == size


def test_too_little_memory_is_refused_with_what_is_needed(tiny_model: GeneratorModel) -> None:
    settings = GenerateSettings.parse({"max_memory": "100MB"})
    with pytest.raises(SettingsError, match=r"max_memory: 0\.1 GB are too little: this model needs .* GB at least"):
        choose_block_size(painter_for(ANYWHERE, tiny_model, settings))


def test_what_is_needed_is_more_than_what_is_too_little(
    tiny_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=3_000_000_000))
    monkeypatch.setattr(sizes.psutil, "Process", lambda: fixed)
    painter = painter_for(ANYWHERE, tiny_model, GenerateSettings())
    smallest = 3_000_000_000 + needed_bytes(painter, 128)
    with pytest.raises(SettingsError) as refused:
        choose_block_size(painter_for(ANYWHERE, tiny_model, GenerateSettings.parse({"max_memory": smallest - 1})))
    given, needed = re.findall(r"([\d.]+) GB (?:are too|at least)", str(refused.value))
    assert float(given) < float(needed)
    assert float(needed) * 1e9 >= smallest


def test_without_a_limit_the_block_size_is_that_of_the_settings(tiny_model: GeneratorModel) -> None:
    assert choose_block_size(painter_for(ANYWHERE, tiny_model, GenerateSettings(block_size=384))) == 384


@pytest.mark.parametrize(
    ("mosaic", "size", "dtype", "told"),
    [
        ("exact", 128, "uint8", False),
        ("exact", 512, "uint16", False),
        ("blend", 128, "uint16", False),
        ("exact", 512, "uint8", True),
    ],
)
@pytest.mark.parametrize("helpers", [1, 4])
def test_what_is_needed_is_that_of_the_largest_block(
    mosaic: str,
    size: int,
    dtype: str,
    told: bool,
    helpers: int,
    tiny_model: GeneratorModel,
    told_model: GeneratorModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As many copies as were measured, of arrays whose sizes are those that painting it has.

    Beside a GPU several blocks are read and written at a time.
    """
    first = told_model if told else tiny_model
    bands = first.card.bands.model_copy(update={"dtype": dtype})
    model = replace(first, card=first.card.model_copy(update={"bands": bands}))
    painter = painter_for(ANYWHERE, model, GenerateSettings.parse({"mosaic": mosaic, "precision": "fp32"}))
    least = sliver(size)
    side = size + 2 * least - 2
    plan = paint_plan(GeoBox((side, side), Affine.translation(1 - least, least - 1) @ Affine.scale(1, -1), None), size)
    assert len(plan) == 1, "slivers belong to the block beside them"
    block = plan[0]
    beyond = painter.margin + (96 if told else 0)
    painted, seen = painter.blank(block), Window(0, 0, size, size).buffer(least + beyond)
    # Written and masked; of a GPU three that are painted, or will be; read back and masked for the file.
    expected = painted.nbytes * (2 * helpers + 3 + 2)
    expected += helpers * seen.height * seen.width * (sizes._LABEL_BYTES + (sizes._REGION_BYTES if told else 0))
    if mosaic == "blend":
        expected += painted.size * np.dtype(np.float32).itemsize
    monkeypatch.setattr(painter, "helpers", helpers)
    on_cpu = needed_bytes(painter, size)
    monkeypatch.setattr(painter, "on_cpu", False)  # whose maps lie in its own memory
    rest = needed_bytes(painter, size)
    monkeypatch.undo()
    fixed = CACHE_BYTES + sizes._WRITING_BYTES + (KEPT_BYTES if mosaic == "blend" else 0)
    assert rest - fixed == pytest.approx(expected, rel=0.02)

    if size == 128:
        maps: list[int] = []
        hook = torch.nn.modules.module.register_module_forward_hook(
            lambda module, given, made: (
                maps.append(given[0].shape[1] * made.shape[-2] * made.shape[-1] * 4)
                if isinstance(module, SpadeBlock)
                else None
            )
        )
        cell = CELL if mosaic == "blend" else size + 2 * least
        around = cell + 2 * painter.margin
        with hook:
            labels = np.zeros((around, around), np.uint8)
            painter.run([Cell(Window(0, 0, cell, cell), block, labels, Surroundings.of(labels, painter.network))])
        assert (on_cpu - rest + painted.nbytes) / sizes._NETWORK_COPIES == pytest.approx(max(maps), rel=0.01)

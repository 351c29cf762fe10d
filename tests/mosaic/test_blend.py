"""Blend mode: weights that sum to one, seams that do not show, the same image however it is cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from torch import Tensor

from geosynth.checkpoint import GeneratorModel
from geosynth.config import GenerateSettings
from geosynth.errors import SettingsError
from geosynth.grid import BlockPlan, Window
from geosynth.models.field import latent_field
from geosynth.models.windows import Windows
from geosynth.mosaic.blend import BlendPainter, weights
from geosynth.mosaic.generate import generate
from geosynth.mosaic.image import painter_for
from geosynth.mosaic.painter import LabelledWindow, Painter
from geosynth.mosaic.style import style_length_pixels
from rasters import NORTH_UP, UTM_18N, draw_labels, pixels_of
from strategies import few, windows

Write = Callable[..., Path]


@few
@given(size=st.integers(2, 300), data=st.data())
def test_weights_sum_to_one_everywhere(size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size // 2))
    line = weights(size, overlap).astype(np.float64)
    total = np.zeros(4 * size)
    for start in range(0, 3 * size, size - overlap):
        total[start : start + size] += line
    inside = total[overlap : 3 * size - overlap]
    np.testing.assert_allclose(inside, 1, atol=1e-7)
    assert (line > 0).all()
    assert (np.diff(line[:overlap]) > 0).all(), "rising"


def painter_of(model: GeneratorModel, overlap: int = 16, **changes: object) -> BlendPainter:
    return BlendPainter(model, GenerateSettings(overlap=overlap, precision="fp32", **changes), style_length=0)


@pytest.mark.parametrize(("row", "column"), [(3, 17), (22, 9)])
def test_a_window_of_a_linear_start_has_the_style_of_its_middle(
    linear_model: GeneratorModel, row: int, column: int
) -> None:
    painter = BlendPainter(linear_model, GenerateSettings(seed=3, overlap=0), style_length=90)
    stride, half = painter.network.stride, painter.size // 2
    first = [(number * stride + stride // 2) - half for number in (row, column)]  # the middle is that of a cell
    field = latent_field(painter.network, 3, Windows.at(0, 0, 30 * stride, 30 * stride), 90)
    window = Windows.at(*first, painter.size, painter.size)
    torch.testing.assert_close(painter.latent(window)[0], field[0, :, row, column])


def in_raster(window: Window) -> Window:
    """A window at absolute positions in pixels of the raster."""
    return window.shift(-ORIGIN[0], -ORIGIN[1])


def with_windows(painter: BlendPainter, paint: Callable[[Window], Tensor]) -> BlendPainter:
    """The same painter with another network."""
    painter.run = lambda cells, *inputs: torch.stack([paint(in_raster(cell.window)) for cell in cells])  # type: ignore[method-assign]
    return painter


ORIGIN = (-1_000_003, 77)
BLOCKS = st.integers(20, 300)


def of_one_class(painter: Painter, window: Window, index: int = 0) -> LabelledWindow:
    context = painter.context(window)
    indices = np.full((context.height, context.width), index, np.uint8)
    return LabelledWindow(window, context, indices, np.ones((window.height, window.width), bool))


def join(painter: Painter, height: int, width: int, block_size: int) -> np.ndarray:
    """A raster of one class, block by block."""
    image = np.zeros((4, height, width), dtype=np.uint8)
    for block in reversed(BlockPlan(height, width, ORIGIN, block_size)):
        image[:, *block.slices] = painter.paint(of_one_class(painter, block.shift(*ORIGIN)))
    return image


@few
@given(height=st.integers(1, 200), width=st.integers(1, 200), block_size=BLOCKS, overlap=st.sampled_from([0, 16, 32]))
def test_windows_that_agree_come_out_as_they_are(
    linear_model: GeneratorModel, height: int, width: int, block_size: int, overlap: int
) -> None:
    """Also in the last row and column, and for rasters smaller than a window."""
    scene = np.random.default_rng(0).integers(0, 256, (4, 500, 500)).astype(np.float32)

    def crop(cell: Window) -> Tensor:
        place = cell.shift(150, 150).slices
        return torch.from_numpy(scene[:, *place])

    found = join(with_windows(painter_of(linear_model, overlap), crop), height, width, block_size)
    np.testing.assert_array_equal(found, scene[:, 150 : 150 + height, 150 : 150 + width])


@few
@given(
    origin=st.tuples(st.integers(-900, 900), st.integers(-900, 900)),
    window=windows(largest=90),
    overlap=st.sampled_from([0, 16, 32]),
)
def test_windows_are_those_of_an_absolute_lattice_that_reach_into_the_block(
    linear_model: GeneratorModel, origin: tuple[int, int], window: Window, overlap: int
) -> None:
    painter = painter_of(linear_model, overlap)
    size, step = painter.size, 64 - overlap
    lattice = [range(-1024 // step * step - first, 1024 - first, step) for first in origin]
    every = (Window(row, column, size, size) for row in lattice[0] for column in lattice[1])
    expected = [one.shift(*origin) for one in every if one.intersection(window)]
    assert painter.cells(window.shift(*origin)) == expected


def test_values_are_rounded_not_truncated_and_clipped(linear_model: GeneratorModel) -> None:
    levels = torch.tensor([99.6, 100.4, 300.0, -3.0]).view(4, 1, 1)
    found = join(with_windows(painter_of(linear_model), lambda cell: levels.expand(4, 64, 64)), 100, 90, 64)
    assert [set(np.unique(band)) for band in found] == [{100}, {100}, {255}, {0}]


def test_between_windows_that_differ_the_image_changes_gradually(linear_model: GeneratorModel) -> None:
    """Windows alternate between 0 and 240: the steepest slope is that of the raised cosine, pi / 2 / overlap."""
    overlap = 32

    def checkers(cell: Window) -> Tensor:
        number = (cell.column + ORIGIN[1]) // (64 - overlap)
        return torch.full((4, 64, 64), 240.0 * (number % 2))

    found = join(with_windows(painter_of(linear_model, overlap), checkers), 40, 200, 96)[0].astype(int)
    steps = np.abs(np.diff(found, axis=1))
    assert found.min() <= 1
    assert found.max() >= 239
    assert steps.max() <= 240 * np.pi / 2 / overlap + 1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("start", ["linear", "convolution"])
def test_the_bytes_do_not_depend_on_the_block_size(
    start: str,
    precision: str,
    write_raster: Write,
    tmp_path: Path,
    linear_model: GeneratorModel,
    tiny_model: GeneratorModel,
) -> None:
    codes = draw_labels(200, 310)
    codes[:90, 100:180] = 15
    labels = write_raster(codes, nodata=15)
    model = linear_model if start == "linear" else tiny_model

    def paint(size: int) -> np.ndarray:
        settings = GenerateSettings(mosaic="blend", overlap=32, block_size=size, precision=precision, style_length=200)
        return pixels_of(generate(labels, tmp_path / f"{size}.tif", model, settings))

    first = paint(1024)
    assert first.std() > 5
    np.testing.assert_array_equal(paint(128), first)
    np.testing.assert_array_equal(paint(256), first)


def test_windows_across_block_edges_are_painted_once(linear_model: GeneratorModel) -> None:
    painter, painted = painter_of(linear_model), []
    generator = linear_model.generator

    def count(*arguments: object) -> Tensor:
        painted.append(arguments)
        result: Tensor = generator(*arguments)
        return result

    painter.generator = count  # type: ignore[assignment]
    join(painter, 200, 200, 100)
    assert len(painted) == len(painter.cells(Window(*ORIGIN, 200, 200)))


def test_windows_of_other_labels_are_not_taken_for_those_painted_before(linear_model: GeneratorModel) -> None:
    painter = painter_of(linear_model)
    images = [painter.paint(of_one_class(painter, Window(*ORIGIN, 70, 70), index)) for index in (0, 3, 0)]
    assert not np.array_equal(images[0], images[1])
    np.testing.assert_array_equal(images[0], images[2])


def test_the_linear_start_gets_one_style_or_one_that_drifts(linear_model: GeneratorModel) -> None:
    def latents(style_length: int) -> list[Tensor]:
        painter = BlendPainter(linear_model, GenerateSettings(seed=3, overlap=16), style_length)
        found = [painter.latent(Windows.at(row, -5000, 64, 64)) for row in (0, 64, 64_000)]
        return [latent for latent in found if latent is not None]

    one = latents(0)
    assert one[0].shape == (1, linear_model.card.settings.latent_size)
    assert torch.equal(one[0], one[2])
    drifting = latents(3000)
    near, far = (drifting[1] - drifting[0]).norm(), (drifting[2] - drifting[0]).norm()
    assert 0 < near < 0.2 * far


def test_a_style_of_ones_own_is_taken_as_it_is(linear_model: GeneratorModel) -> None:
    style = torch.arange(linear_model.card.settings.latent_size).float()
    latent = BlendPainter(linear_model, GenerateSettings(overlap=16), 3000, style).latent(Windows.at(640, 0, 64, 64))
    assert latent is not None
    assert torch.equal(latent[0], style)


@pytest.mark.parametrize("overlap", [8, 48, 64])
def test_an_overlap_that_does_not_fit_is_refused(overlap: int, linear_model: GeneratorModel) -> None:
    with pytest.raises(
        SettingsError, match=rf"^overlap: windows of 64 px need a multiple of 16 px, 32 .*; got {overlap}$"
    ):
        painter_of(linear_model, overlap)


def test_the_mode_follows_the_model_unless_said(linear_model: GeneratorModel, tiny_model: GeneratorModel) -> None:
    grid, overlapping = GeoBox((1, 1), NORTH_UP, UTM_18N), GenerateSettings(overlap=32)
    assert painter_for(grid, linear_model, overlapping).mode == "blend"
    assert painter_for(grid, tiny_model, GenerateSettings()).mode == "exact"
    assert painter_for(grid, tiny_model, overlapping.model_copy(update={"mosaic": "blend"})).mode == "blend"
    for own in (overlapping, GenerateSettings.changed(GenerateSettings(seed=3), {"overlap": 64})):
        with pytest.raises(SettingsError, match=r"^overlap: no effect in an exact mosaic"):
            painter_for(grid, tiny_model, own)
    assert painter_for(grid, tiny_model, GenerateSettings.changed(GenerateSettings(), {"seed": 3})).mode == "exact"


def test_how_far_a_style_reaches_depends_on_the_model_unless_said(
    linear_model: GeneratorModel, tiny_model: GeneratorModel, told_model: GeneratorModel
) -> None:
    geobox = GeoBox((10, 10), NORTH_UP, UTM_18N)
    linear, latent, told = (model.card.settings for model in (linear_model, tiny_model, told_model))
    assert style_length_pixels(None, geobox, linear) == 0
    assert 0 < style_length_pixels(None, geobox, told) < style_length_pixels(None, geobox, latent)
    assert {style_length_pixels(500, geobox, network) for network in (linear, latent, told)} == {500}

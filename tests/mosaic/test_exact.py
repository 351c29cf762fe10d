"""Exact mode: no pixel depends on blocks, windows, threads or the raster it lies in, in any precision."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from geosynth.checkpoint import GeneratorModel
from geosynth.config import GenerateSettings, GeneratorSettings
from geosynth.config.networks import REGION_SIDE
from geosynth.errors import SettingsError
from geosynth.grid import BlockPlan, Window, absolute_origin
from geosynth.models.field import latent_field, position_noise, random_noise
from geosynth.models.generator import SpadeGenerator
from geosynth.models.looks.field import look_field
from geosynth.models.looks.surroundings import Surroundings
from geosynth.models.windows import Windows
from geosynth.mosaic import pipeline
from geosynth.mosaic.generate import generate
from geosynth.mosaic.painter import CELL, LabelledWindow, Painter, paint_plan, sliver
from geosynth.mosaic.pipeline import paint_blocks, paint_missing, read_around
from geosynth.parallel import one_behind
from geosynth.raster.labels import LabelRaster
from geosynth.raster.unfinished_image import UnfinishedImage
from rasters import NORTH_UP, draw_labels, pixels_of

Write = Callable[..., Path]
PRECISIONS = pytest.mark.parametrize("precision", ["fp32", "bf16"])


def busy_labels(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Large fields beside noise: the number of label patterns differs much from window to window."""
    codes = draw_labels(height, width, seed)
    rng = np.random.default_rng(seed)
    codes[height // 3 : height // 2] = rng.integers(1, 7, (height // 2 - height // 3, width))
    codes[:, width // 2 : width // 2 + 40] = 15
    return codes


def assert_nearly_equal(found: np.ndarray, expected: np.ndarray, share: float = 1e-4) -> None:
    gap = np.abs(found.astype(int) - expected.astype(int))
    assert gap.max() <= 1
    assert (gap > 0).mean() < share


@PRECISIONS
def test_the_bytes_do_not_depend_on_the_block_size(
    precision: str, write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    labels = write_raster(busy_labels(620, 700), nodata=15)

    def paint(size: int) -> np.ndarray:
        settings = GenerateSettings(precision=precision, block_size=size)
        return pixels_of(generate(labels, tmp_path / f"{size}.tif", tiny_model, settings))

    first = paint(2048)
    assert first.std() > 10, "a flat image shows nothing"
    np.testing.assert_array_equal(paint(CELL), first)
    assert (tmp_path / f"{CELL}.tif").read_bytes() == (tmp_path / "2048.tif").read_bytes()
    # These cut cells: libraries may add in another order. In bfloat16 on processors with AMX that turns the rounding of
    # two values of a thousand.
    for size in (384, 128):
        assert_nearly_equal(paint(size), first, 1e-4 if precision == "fp32" else 4e-3)


@pytest.mark.parametrize("told", [False, True])
@PRECISIONS
def test_any_window_is_the_crop_of_the_whole(
    precision: str, told: bool, write_raster: Write, tiny_model: GeneratorModel, told_model: GeneratorModel
) -> None:
    """What a lazy image relies on: windows off every lattice."""
    model = told_model if told else tiny_model
    source = LabelRaster(write_raster(busy_labels(600, 640)), model.card.legend, unknown="nodata")
    painter = Painter(model, GenerateSettings(precision=precision), style_length=300)
    origin = absolute_origin(source.geobox)

    def paint(window: Window) -> np.ndarray:
        return painter.paint(read_around(painter, source, window, origin))

    whole = paint(Window(0, 0, 600, 640))
    for window in (Window(0, 0, 33, 47), Window(311, 200, 150, 301), Window(599, 639, 1, 1), Window(100, 0, 77, 640)):
        assert_nearly_equal(paint(window), whole[:, *window.slices])


@pytest.mark.parametrize("told", [False, True])
@PRECISIONS
def test_neighbouring_rasters_agree_where_their_labels_agree(
    precision: str,
    told: bool,
    write_raster: Write,
    tmp_path: Path,
    tiny_model: GeneratorModel,
    told_model: GeneratorModel,
) -> None:
    model = told_model if told else tiny_model
    end = 1100 if told else 900
    codes = draw_labels(300, end + 200)
    codes[:, :300] = np.random.default_rng(0).integers(1, 7, (300, 300))  # only the first raster sees the noise
    settings, network = GenerateSettings(precision=precision), model.card.settings
    halo = network.halo + network.look_side
    left = write_raster(codes[:, :end], "left.tif")
    right = write_raster(codes[:, 301:], "right.tif", transform=NORTH_UP @ Affine.translation(301, 0))
    first = pixels_of(generate(left, tmp_path / "l.tif", model, settings))
    second = pixels_of(generate(right, tmp_path / "r.tif", model, settings))
    # Columns at least a halo (on the stride) away from the edge that the other raster does not have.
    reach = halo + network.stride
    common = slice(301 + reach, end - reach)
    assert common.stop - common.start > 200
    assert_nearly_equal(first[:, :, common], second[:, :, common.start - 301 : common.stop - 301])


def test_the_number_of_threads_changes_nothing(write_raster: Write, tiny_model: GeneratorModel) -> None:
    source = LabelRaster(write_raster(draw_labels(300, 300)), tiny_model.card.legend)
    painter = Painter(tiny_model, GenerateSettings(precision="bf16"), style_length=300)
    window, origin = Window(0, 0, 300, 300), absolute_origin(source.geobox)
    before, images = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            images.append(painter.paint(read_around(painter, source, window, origin)))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(images[0], images[1])
    np.testing.assert_array_equal(images[0], images[2])


@pytest.mark.parametrize("depth", ["less", "normal", "more"])
@pytest.mark.parametrize("padding", ["replicate", "zeros"])
def test_levels_without_the_margin_they_need_not_know_paint_the_same(depth: str, padding: str) -> None:
    settings = GeneratorSettings(
        num_classes=4,
        num_bands=2,
        base_width=2,
        max_multiple=2,
        hidden_channels=4,
        depth=depth,
        latent_size=3,
        noise_channels=1,
        padding=padding,
    )
    torch.manual_seed(0)
    generator = SpadeGenerator(settings).eval()
    halo, stride = settings.halo, settings.stride
    size = 2 * halo + stride
    place = Windows.at(5 * stride, -3 * stride, size, size)
    labels = torch.from_numpy(draw_labels(size, size).astype(np.int64) % 4).unsqueeze(0)
    latent = latent_field(settings, 1, place, style_length=100)
    inside = slice(halo, halo + stride)
    with torch.inference_mode():
        whole = generator(labels, latent, position_noise(settings, 1, place))
        window = generator(labels, latent, position_noise(settings, 1, place, margin=halo), halo)
    assert window.shape[-2:] == (stride, stride)
    assert window.std() > 0
    torch.testing.assert_close(window, whole[..., inside, inside], rtol=0, atol=1e-5)


def test_the_gradient_reaches_as_far_as_the_halo_says() -> None:
    """The receptive field of one cell, measured: where the gradient of its pixels is not zero."""
    settings = GeneratorSettings(
        num_classes=2,
        num_bands=1,
        base_width=2,
        max_multiple=1,
        hidden_channels=4,
        depth="less",
        latent_size=2,
        noise_channels=1,
    )
    torch.manual_seed(0)
    generator = SpadeGenerator(settings).eval()
    halo, stride = settings.halo, settings.stride
    size = 2 * halo + 3 * stride
    noise = random_noise(settings, 1, size, size, torch.Generator().manual_seed(0))
    latent = torch.randn(1, 2, size // stride, size // stride, requires_grad=True)
    window = slice(halo + stride, halo + 2 * stride)
    generator(torch.zeros((1, size, size), dtype=torch.long), latent, noise)[..., window, window].sum().backward()
    assert latent.grad is not None
    seen = latent.grad.abs().sum((0, 1)).nonzero() * stride
    reach = {int(window.start - seen.min()), int(seen.max() + stride - window.stop)}
    # Styles go through one convolution, labels at the same level through two: they reach one cell further.
    assert reach == {halo - stride}


def test_blocks_and_cells_without_data_never_reach_the_network(
    write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = np.full((1300, 1300), 15, np.uint8)
    codes[700:720, 20:40] = 2
    source = LabelRaster(write_raster(codes, nodata=15), tiny_model.card.legend)
    painter = Painter(tiny_model, GenerateSettings(), style_length=300)
    origin = absolute_origin(source.geobox)
    seen: list[Window] = []
    run = painter.run
    monkeypatch.setattr(
        painter, "run", lambda cells, *inputs: seen.extend(c.window for c in cells) or run(cells, *inputs)
    )
    for size in (512, 2048):
        plan = BlockPlan(1300, 1300, origin, size)
        image = UnfinishedImage(tmp_path / f"{size}.tif", plan, 4, "uint8")
        with image.open({}):
            assert sorted(paint_blocks(painter, source, image, range(len(plan)))) == list(range(len(plan)))
            assert image.read(Window(0, 0, 1300, 1300))[1].sum() == 400
    wanted = Window(700, 20, 20, 20).shift(*origin)
    cells = [cell for cell in painter.cells(Window(*origin, 1300, 1300)) if cell.intersection(wanted)]
    assert sorted(seen) == sorted(2 * cells)
    assert len(cells) <= 4


@settings(max_examples=40)
@given(
    window=st.builds(Window, st.integers(0, 3000), st.integers(0, 3000), st.integers(1, 1500), st.integers(1, 1500)),
    origin=st.tuples(st.integers(-5000, 5000), st.integers(-5000, 5000)),
    on_cpu=st.booleans(),
)
def test_cells_are_cut_along_the_lattice(
    window: Window, origin: tuple[int, int], on_cpu: bool, tiny_model: GeneratorModel
) -> None:
    """Of absolute multiples of a cell; on a CPU no wider than the window but for the stride, and none a sliver."""
    painter = Painter(tiny_model, GenerateSettings(), style_length=0)
    painter.on_cpu = on_cpu
    step, least = (painter.network.stride, sliver(CELL)) if on_cpu else (CELL, 0)
    cells = [cell.shift(-origin[0], -origin[1]) for cell in painter.cells(window.shift(*origin))]
    rows = sorted({(cell.row, cell.bottom) for cell in cells})
    columns = sorted({(cell.column, cell.right) for cell in cells})
    assert [(cell.row, cell.bottom, cell.column, cell.right) for cell in cells] == [
        (*row, *column) for row in rows for column in columns
    ]
    ends = ((window.row, window.bottom, origin[0]), (window.column, window.right, origin[1]))
    for spans, (first, end, offset) in zip((rows, columns), ends, strict=True):
        lines = [line - offset for line in range(-12 * CELL, 20 * CELL, CELL)]
        inside = [line for line in lines if first + max(least, 1) <= line <= end - max(least, 1)]
        outer = ((first + offset) // step * step - offset, -(-(end + offset) // step) * step - offset)
        assert spans == list(itertools.pairwise([outer[0], *inside, outer[1]]))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_integers_are_rounded_and_clipped(dtype: str) -> None:
    """And do not wrap around."""
    limits = np.iinfo(dtype)
    values = np.array([limits.min - 3, limits.min, limits.max, limits.max + 3, 7.4, 7.6], np.float32)
    bands = SimpleNamespace(dtype=dtype)
    painter: Any = SimpleNamespace(model=SimpleNamespace(card=SimpleNamespace(bands=bands)))
    found = Painter.as_pixels(painter, torch.from_numpy(values)).numpy()
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, [limits.min, limits.min, limits.max, limits.max, 7, 8])
    bands.dtype = "float32"
    np.testing.assert_array_equal(Painter.as_pixels(painter, torch.from_numpy(values)).numpy(), values)


def test_blocks_have_no_slivers() -> None:
    """What is left at an edge of a raster is painted with the block beside it, where there is one."""
    for beyond in (1, 95, 96, 200):
        grid = GeoBox((512 + beyond, 1024), Affine.scale(1, -1), None)
        plan = paint_plan(grid, 512)
        expected = [512, beyond] if beyond >= 96 else [512 + beyond]
        assert [height for _, height in plan.rows] == expected
        assert [width for _, width in plan.columns] == [512, 512]


@pytest.mark.parametrize(("precision", "expected"), [("fp32", False), ("bf16", True)])
def test_float32_is_not_tf32(
    precision: str, expected: bool, tiny_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    painter, seen = Painter(tiny_model, GenerateSettings(precision=precision), 0), []
    run = painter.run
    monkeypatch.setattr(painter, "run", lambda *cells: seen.append(torch.backends.cudnn.allow_tf32) or run(*cells))
    window = Window(0, 0, 64, 64)
    context = painter.context(window)
    indices = np.zeros((context.height, context.width), np.uint8)
    painter.paint(LabelledWindow(window, context, indices, np.ones((64, 64), bool)))
    assert seen == [expected]
    assert torch.backends.cudnn.allow_tf32, "as it was before"


@pytest.mark.parametrize(("on_cpu", "two_cells"), [(True, False), (True, True), (False, False)])
def test_blocks_are_made_one_ahead_of_each_other(
    on_cpu: bool, two_cells: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading, network and writing, or memory grows with the blocks; what paints beside the caller begins a block
    before the former is done."""
    monkeypatch.setattr(pipeline, "_paints_two_cells", lambda painter: two_cells)
    drawn, events, written = [], [], {}

    def todo() -> Iterator[int]:
        for index in range(9):
            drawn.append(index)
            yield index

    def labelled_cells(labels: LabelledWindow) -> list[Window]:
        is_first = labels.window.row == 0  # the caller would wait for it anyway
        assert (threading.current_thread() is threading.main_thread()) == is_first
        assert (labels.indices.shape, labels.context) == ((1, 1), labels.window)
        return [labels.window] if labels.valid.all() else []

    def begin(cells: Any, window: Window, submit: Any) -> Any:
        events.append(("begun", window.row, len(drawn)))
        assert cells == [window]
        return lambda: events.append(("fetched", window.row)) or window.row

    def read(window: Window) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((1, 1), np.uint8), np.full((1, 1), window.row != 4)

    painter: Any = SimpleNamespace(
        on_cpu=on_cpu,
        helpers=1 if on_cpu else 4,
        begin=begin,
        labelled_cells=labelled_cells,
        context=lambda window: window,
        computing=contextlib.nullcontext,
    )
    image: Any = SimpleNamespace(
        plan=BlockPlan(9, 1, (0, 0), 1), write_block=lambda index, pixels, valid: written.update({index: pixels})
    )
    done = []
    for index in paint_blocks(painter, SimpleNamespace(read=read), image, todo()):
        assert index == 4 or index in written
        done.append(index)
    assert sorted(done) == list(range(9))
    assert written == {index: index for index in range(9) if index != 4}
    order = [event[:2] for event in events]
    painted = [index for index in range(9) if index != 4]
    if on_cpu and not two_cells:
        assert order == [(what, index) for index in painted for what in ("begun", "fetched")]
    else:
        assert order.index(("begun", 1)) < order.index(("fetched", 0)) < order.index(("begun", 2))
        assert [index for what, index in order if what == "fetched"] == painted
    in_sight = 2 if on_cpu else 5
    assert [event[2] for event in events if event[0] == "begun"] == [min(index + in_sight, 9) for index in painted]


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_cells_side_by_side_have_the_bytes_of_those_one_after_the_other(
    write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each in a thread of its own with its share of torch's threads, and afterwards all is as it was."""
    labels = write_raster(busy_labels(300, 1300), nodata=15)
    seen: list[tuple[str, int]] = []
    run = Painter.run

    def spied(*arguments: Any) -> torch.Tensor:
        seen.append((threading.current_thread().name, torch.get_num_threads()))
        return run(*arguments)

    monkeypatch.setattr(Painter, "run", spied)
    images = [
        generate(labels, tmp_path / f"{name}.tif", tiny_model, **changes).read_bytes()
        for name, changes in (("two", {"block_size": 512}), ("one", {"max_memory": 10**12}))
    ]
    assert images[0] == images[1]
    cells = len(seen) // 2
    assert cells > 2
    assert all(name.startswith("geosynth-network") for name, _ in seen[:cells])
    assert [threads for _, threads in seen] == [1] * cells + [2] * cells
    with ThreadPoolExecutor(1) as later:
        assert later.submit(torch.get_num_threads).result() == torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_a_cell_that_fails_ends_those_side_by_side(tiny_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch) -> None:
    painter, begun, numbers = Painter(tiny_model, GenerateSettings(), 0), [], itertools.count()
    given_up = threading.Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            given_up.set()
            super().shutdown(wait)

    def run(cells: list[Window], *_: Any) -> torch.Tensor:
        begun.extend(cells)
        if next(numbers) == 0:
            raise MemoryError("none left")
        given_up.wait(60)
        return torch.zeros(1, 4, CELL, CELL, dtype=torch.uint8)

    monkeypatch.setattr("geosynth.models.device.ThreadPoolExecutor", Pool)
    monkeypatch.setattr(painter, "run", run)
    source: Any = SimpleNamespace(
        read=lambda window: (np.zeros((window.height, window.width), np.uint8), np.ones((window.height,) * 2, bool))
    )
    image: Any = SimpleNamespace(plan=BlockPlan(CELL, 40 * CELL, (0, 0), 20 * CELL), write_block=None)
    with pytest.raises(MemoryError, match="none left"):
        list(paint_blocks(painter, source, image, [0]))
    assert len(begun) <= 3, "the one that fails, and one a thread"


@pytest.mark.parametrize(
    ("two_cells", "threads", "base_width", "limit"),
    [(True, 4, 32, None), (False, 1, 32, None), (False, 4, 64, None), (False, 4, 32, 10**12)],
)
def test_only_narrow_networks_paint_two_cells_at_a_time(
    two_cells: bool,
    threads: int,
    base_width: int,
    limit: int | None,
    tiny_model: GeneratorModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Wide ones keep all cores busy with one, and need the memory; as does who limits it."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    painter = Painter(tiny_model, GenerateSettings(max_memory=limit), 0)
    painter.network = GeneratorSettings(num_classes=6, num_bands=4, base_width=base_width)
    assert pipeline._paints_two_cells(painter) == two_cells


def test_finished_blocks_are_left_alone_and_count_as_done() -> None:
    told: list[tuple[str, int, int]] = []
    asked: list[int] = []

    def executor(painter: Any, source: Any, image: Any, todo: Iterable[int]) -> Iterator[int]:
        asked.extend(todo)
        yield from asked

    image: Any = SimpleNamespace(finished_blocks=lambda: {1, 3, 9})
    blocks: Any = (None, None, image, [0, 1, 2, 3, 4])
    painted = list(paint_missing(*blocks, executor, lambda *step: told.append(step)))
    assert painted == asked == [0, 2, 4]
    assert told == [("painting", done, 5) for done in (2, 3, 4, 5)]


def test_one_behind_gives_an_item_when_the_next_is_made() -> None:
    made = []
    found = one_behind(made.append(item) or item for item in range(3))
    assert [(item, list(made)) for item in found] == [(0, [0, 1]), (1, [0, 1, 2]), (2, [0, 1, 2])]
    assert list(one_behind([])) == []


def test_cells_know_the_regions_around_them(told_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the edges, as if each had been read alone; the network's styles are drawn with both."""
    monkeypatch.setattr("geosynth.mosaic.painter.CELL", 128)
    painter = Painter(told_model, GenerateSettings(precision="fp32"), 40)
    window = Window(1008, -510, 200, 300)
    context = painter.context(window)
    labels = (draw_labels(context.height, context.width) - 1).astype(np.uint8)
    given: list[tuple[torch.Tensor, ...]] = []
    inputs = painter.inputs
    monkeypatch.setattr(painter, "inputs", lambda *values: given.append(values[-2:]) or inputs(*values))
    cells = painter.labelled_cells(LabelledWindow(window, context, labels, np.ones((200, 300), bool)))
    assert len(cells) > 4
    for cell in cells:
        around = cell.window.buffer(painter.margin + REGION_SIDE)
        alone = Surroundings.of(labels[around.slices_in(context)], painter.network)
        painter.run([cell])
        for found, expected, fed in zip(cell.around, alone, given[-1], strict=True):
            np.testing.assert_array_equal(found, expected)
            np.testing.assert_array_equal(found, fed[0])
        inner = cell.around.ways[
            ..., painter.margin // 8 : -painter.margin // 8, painter.margin // 8 : -painter.margin // 8
        ]
        assert inner.any()


@pytest.mark.parametrize("told", [False, True])
def test_cells_join_to_what_one_cell_shows(
    told: bool, tiny_model: GeneratorModel, told_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And those without wanted pixels stay empty."""
    painter = Painter(told_model if told else tiny_model, GenerateSettings(precision="fp32", seed=3), 40)
    window = Window(16, -293, 120, 200)
    context = painter.context(window)
    labels = (draw_labels(context.height, context.width) - 1).astype(np.uint8)
    everywhere = LabelledWindow(window, context, labels, np.ones((120, 200), bool))
    whole = painter.paint(everywhere)
    assert whole.std() > 5
    monkeypatch.setattr("geosynth.mosaic.painter.CELL", 64)
    assert len(painter.cells(window)) > 4
    assert painter.context(window) == context
    assert_nearly_equal(painter.paint(everywhere), whole)
    valid = np.zeros((120, 200), bool)
    valid[50, 60] = True
    part = painter.paint(everywhere._replace(valid=valid))
    cells = [cell.shift(-16, 293) for cell, _ in painter.wanted(window, valid)]
    assert [cell.intersection(Window(50, 60, 1, 1)) is not None for cell in cells] == [True]
    shown = np.zeros_like(valid)
    shown[max(cells[0].row, 0) : cells[0].bottom, max(cells[0].column, 0) : cells[0].right] = True
    assert not part[:, ~shown].any()
    assert_nearly_equal(part[:, shown], whole[:, shown])


@pytest.mark.parametrize("kind", ["drawn", "fixed", "default look", "given look"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_network_is_fed_by_seed_style_and_place(
    kind: str, precision: str, tiny_model: GeneratorModel, told_model: GeneratorModel
) -> None:
    """Each cell of a batch as if it were alone."""
    model = told_model if "look" in kind else tiny_model
    style = {"fixed": torch.tensor([1.0, -2.0, 0.5, 0.0]), "given look": told_model.look("bright")}.get(kind)
    painter = Painter(model, GenerateSettings(seed=3, precision=precision), 40, style)
    network, silent = model.card.settings, model.generator.silent_maps()
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    assert painter.precision == precision
    assert painter.generator.to_image.weight.dtype == dtype
    rows, columns = torch.tensor([64, -160]), torch.tensor([32, 4096])
    ways = torch.zeros(2, len(network.style_regions), 2, 48, 52, dtype=torch.int8)
    shares = torch.rand(2, 6, 48, 52)
    latents, noises, styles = painter.inputs(Windows(rows, columns, 384, 416), ways, shares)
    for number, place in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        window = Windows.at(*place, 384, 416)
        expected = position_noise(network, 3, window, painter.margin, silent, dtype)
        for found, one in zip(noises, expected, strict=True):
            assert (found is None) == (one is None)
            if found is not None and one is not None:
                assert found.dtype == dtype
                assert torch.equal(found[number], one[0])
        assert (latents is None) == (styles is not None) == ("look" in kind)
        if latents is not None:
            drawn = latent_field(network, 3, window, 40)
            expected_latent = drawn[0] if style is None else style[:, None, None].expand_as(drawn[0])
            assert torch.equal(latents[number], expected_latent)
        if styles is not None:
            look = model.look() if style is None else style
            assert torch.equal(
                styles[number], look_field(network, look, 3, window, 40, None, shares[number : number + 1])[0]
            )


def test_a_style_of_another_kind_is_refused(tiny_model: GeneratorModel, told_model: GeneratorModel) -> None:
    for model, style, takes in (
        (tiny_model, told_model.look(), "takes a latent"),
        (told_model, torch.zeros(4), "is conditioned on looks"),
    ):
        with pytest.raises(SettingsError, match=f"{model.path.name}: {takes}; this style is of the other kind"):
            Painter(model, GenerateSettings(), 0, style)


def test_a_gpu_is_filled_with_cells(tiny_model: GeneratorModel) -> None:
    painter = Painter(tiny_model, GenerateSettings(), 0)
    cells = [Window(0, column, 8, 8) for column in range(10)]
    assert list(painter._groups(cells)) == [[cell] for cell in cells]
    painter.on_cpu = False
    assert list(painter._groups(cells)) == [cells[:4], cells[4:8], cells[8:]]


def test_a_linear_start_cannot_be_joined_exactly(linear_model: GeneratorModel) -> None:
    with pytest.raises(SettingsError, match=r"windows of 64 px only.*--mosaic blend"):
        Painter(linear_model, GenerateSettings(), style_length=0)

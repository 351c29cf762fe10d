"""The helper of the Dubai example: coloured parts without a place become scenes that `ingest` takes."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import geosynth
from geosynth.grid import Window
from geosynth.legend import Legend

EXAMPLES = Path(__file__).parents[1] / "examples"
LEGEND = Legend.load(EXAMPLES / "dubai_rgb_legend.yaml")
COLOURS = {entry.code: entry.rgb for entry in LEGEND.classes} | {0: (0x9B, 0x9B, 0x9B)}
HEIGHT, WIDTH = 20, 16  # of a part


def draw_scene(folder: Path, seed: int, palette: bool) -> npt.NDArray[np.uint8]:
    """Nine parts whose image shows the number of the part; the codes (3 HEIGHT, 3 WIDTH) that their colours mean."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 6, (3 * HEIGHT, 3 * WIDTH)).astype(np.uint8)
    for number in range(9):
        row, column = divmod(number, 3)
        place = np.s_[row * HEIGHT : (row + 1) * HEIGHT, column * WIDTH : (column + 1) * WIDTH]
        mask = np.array([COLOURS[code] for code in range(6)], dtype=np.uint8)[codes[place]]
        save(folder / "masks" / f"image_part_{number + 1:03}.png", in_palette(rng, codes[place]) if palette else mask)
        flat = np.full((HEIGHT, WIDTH, 3), 10 * number, dtype=np.uint8)
        save(folder / "images" / f"image_part_{number + 1:03}.jpg", flat)
    return codes


def in_palette(rng: np.random.Generator, codes: npt.NDArray[np.uint8]) -> Image.Image:
    """The colours of codes as a palette image whose indices are not the codes."""
    order = rng.permutation(6)
    image = Image.fromarray(np.argsort(order).astype(np.uint8)[codes])
    image.putpalette([value for code in order.tolist() for value in COLOURS[code]])
    return image


def save(path: Path, image: npt.NDArray[np.uint8] | Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path)


def make_scenes(monkeypatch: pytest.MonkeyPatch, data: Path, out: Path) -> None:
    """Run the helper; scene_1 is the test scene."""
    arguments = [data, "--legend", EXAMPLES / "dubai_rgb_legend.yaml", "--test", "scene_1", "--out", out]
    monkeypatch.setattr(sys, "argv", ["dubai_scenes.py", *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / "dubai_scenes.py"), run_name="__main__")


def test_coloured_parts_become_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    codes = {f"scene_{seed}": draw_scene(data / f"scene_{seed}", seed, palette=seed == 2) for seed in (1, 2)}
    make_scenes(monkeypatch, data, tmp_path / "scenes")

    (store,) = geosynth.ingest(
        None, None, tmp_path / "store.zarr", items=tmp_path / "scenes" / "scenes.csv", legend=LEGEND
    )
    assert [scene.name for scene in store.scenes_in("test")] == ["scene_1"]
    assert [scene.name for scene in store.scenes_in("train")] == ["scene_2"]
    assert (store.geobox.crs, store.band_names) == (None, ("red", "green", "blue"))
    first, second = (scene.window for scene in store.scenes)
    assert first == Window(0, 0, 3 * HEIGHT, 3 * WIDTH)
    assert second.column - first.right > 1000  # they are no neighbours
    parts = np.kron(np.arange(0, 90, 10).reshape(3, 3), np.ones((HEIGHT, WIDTH), int))
    for scene in store.scenes:
        assert np.array_equal(LEGEND.decode(store.read_labels(scene.window), 0), codes[scene.name])
        difference = store.read_image(scene.window) - parts
        assert np.abs(difference[:, codes[scene.name] > 0]).max() <= 2  # JPEG rounds


def paint_unknown_colour(scene: Path) -> None:
    save(scene / "masks" / "image_part_005.png", np.full((HEIGHT, WIDTH, 3), 7, np.uint8))


def lose_a_part(scene: Path) -> None:
    (scene / "images" / "image_part_009.jpg").unlink()


@pytest.mark.parametrize(
    ("spoil", "complaint"), [(paint_unknown_colour, "scene_1: .* #070707"), (lose_a_part, "holds 8 parts, not 9")]
)
def test_what_it_does_not_understand_it_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None], complaint: str
) -> None:
    draw_scene(tmp_path / "data" / "scene_1", 1, palette=False)
    spoil(tmp_path / "data" / "scene_1")
    with pytest.raises(SystemExit, match=complaint):
        make_scenes(monkeypatch, tmp_path / "data", tmp_path / "scenes")
    assert not (tmp_path / "scenes" / "scenes.csv").exists()

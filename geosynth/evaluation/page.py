"""report.html: one file, no scripts, nothing fetched: tables, pictures (PNG inside) and curves (SVG inside)."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from html import escape
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from geosynth.evaluation.gather import Measurements
from geosynth.evaluation.histograms import Floats, ratio
from geosynth.evaluation.inputs import Inputs
from geosynth.evaluation.report import ClassComparison, Comparison, Report
from geosynth.grid import Window

_NUM_PICTURES = 4
_PICTURE_SIZE = 256
_REAL, _SYNTHETIC = "#1b6ca8", "#d1495b"
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: .6rem 0 1.4rem; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child, td.text { text-align: left; }
figure { display: inline-block; margin: 0 .8rem 1rem 0; }
figcaption { font-size: .8rem; color: #555; }
img { image-rendering: pixelated; margin-right: 4px; }
.swatch { display: inline-block; width: .8em; height: .8em; margin-right: .4em; border: 1px solid #999; }
svg { background: #fafafa; border: 1px solid #ddd; }
"""


class Picture(NamedTuple):
    """A window shown: (height, width, 3) images of labels, real and synthetic."""

    window: Window
    labels: npt.NDArray[np.uint8]
    real: npt.NDArray[np.uint8]
    synthetic: npt.NDArray[np.uint8]


def draw_pictures(inputs: Inputs, measured: Measurements, seed: int) -> list[Picture]:
    """Up to four windows of up to 256 px, at tiles drawn at random; white where there is no class."""
    area = inputs.area
    centres = [(tile.row + tile.height // 2, tile.column + tile.width // 2) for tile in measured.tiles]
    centres = centres or [(area.height // 2, area.width // 2)]
    chosen = np.random.default_rng(seed).permutation(len(centres))[:_NUM_PICTURES]
    height, width = min(_PICTURE_SIZE, area.height), min(_PICTURE_SIZE, area.width)
    windows = {
        Window(
            min(max(centres[index][0] - height // 2, 0), area.height - height),
            min(max(centres[index][1] - width // 2, 0), area.width - width),
            height,
            width,
        )
        for index in chosen
    }
    palette = np.array([entry.rgb for entry in inputs.legend.classes] + [(255, 255, 255)], dtype=np.uint8)
    shown = _shown_bands(inputs.bands)
    pictures = []
    for window in sorted(windows):
        block = inputs.read(window)
        images = [np.moveaxis(image[shown], 0, -1) for image in (block.real, block.synthetic)]
        pictures.append(Picture(window, palette[block.indices], *images))
    return pictures


def render_page(report: Report, counts: npt.NDArray[Any], pictures: list[Picture]) -> str:
    """The whole page.

    Args:
        report: the numbers.
        counts: (2, classes, bands, 256) histograms of the real and the synthetic image, classes as in the legend.
        pictures: from `draw_pictures`.
    """
    present = counts[:, counts.any(axis=(0, 2, 3))]
    files = [("real", report.real), ("synthetic", report.synthetic), ("labels", report.labels)]
    top, left, height, width = report.area
    parts = [
        "<h1>Real against synthetic</h1>",
        _table(("raster", "file"), [(name, path) for name, path in files], text=True),
        f"<p>{report.pixels:,} pixels compared, in {height} x {width} px from row {top}, column {left} of the real"
        f" raster. Legend: {escape(report.legend)}. {escape(report.software)}, seed {report.seed}.</p>",
        "<h2>Summary</h2>",
        _table(("measure", "value", "meaning"), report.summary(), text=True),
        "<p>Brackets: 95 % intervals from a bootstrap over places. The Frechet distance is one between simple band"
        " statistics of tiles; it must not be compared with published FID values.</p>",
        "<h2>Pictures</h2>",
        "<p>Labels, real, synthetic; places drawn at random.</p>",
        *[_picture(picture, report.area) for picture in pictures],
        f"<p>{''.join(_swatch(entry) + escape(entry.name) + ' &nbsp; ' for entry in report.classes)}</p>",
        "<h2>Classes</h2>",
        _class_table(report.classes),
        "<h2>Distributions</h2>",
        f'<p><b style="color:{_REAL}">real</b>, <b style="color:{_SYNTHETIC}">synthetic</b>; 0 to 255 DN.</p>',
        *[
            _figure(_curves(pair), f"{entry.name}, {band}")
            for entry, of_class in zip(report.classes, np.moveaxis(present, 0, 2), strict=True)
            for band, pair in zip(report.bands, of_class, strict=True)
        ],
        "<h2>Power spectrum, synthetic over real</h2>",
        _spectrum_table(report),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>geosynth evaluation</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def _shown_bands(bands: tuple[str, ...]) -> list[int]:
    lower = [name.casefold() for name in bands]
    if {"red", "green", "blue"} <= set(lower):
        return [lower.index(name) for name in ("red", "green", "blue")]
    return [0, 1, 2] if len(bands) >= 3 else [0, 0, 0]


def _class_table(classes: tuple[ClassComparison, ...]) -> str:
    head = ("class", "pixels", "quantity", "real mean", "real std", "synthetic mean", "synthetic std")
    rows = []
    for entry in classes:
        every: tuple[Comparison, ...] = entry.bands + ((entry.ndvi,) if entry.ndvi else ())
        for number, one in enumerate(every):
            name = _swatch(entry) + escape(entry.name) if number == 0 else ""
            moments = (one.real_mean, one.real_std, one.synthetic_mean, one.synthetic_std)
            cells = [f"{one.pixels:,}", escape(one.quantity), *[_number(value) for value in moments]]
            rows.append([name, *cells, str(one.wasserstein), str(one.variance_ratio)])
    return _table((*head, "Wasserstein-1", "variance ratio"), rows, raw=True)


def _spectrum_table(report: Report) -> str:
    if not report.spectrum.num_tiles:
        return f"<p>{escape(report.spectrum.reason or '')}</p>"
    head = ("cycles per pixel", *report.bands)
    columns = [report.spectrum.ratio[name] for name in report.bands]
    rows = [
        (f"{frequency:.3f}", *map(_number, values))
        for frequency, *values in zip(report.spectrum.frequencies, *columns, strict=True)
    ]
    return _table(head, rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]], *, text: bool = False, raw: bool = False) -> str:
    """`text`: cells are words, to the left; `raw`: cells are HTML already."""
    cell = '<td class="text">' if text else "<td>"
    lines = ["".join(f"{cell}{value if raw else escape(value)}</td>" for value in row) for row in rows]
    header = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<table><tr>{header}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _picture(picture: Picture, area: tuple[int, int, int, int]) -> str:
    names = ("labels", "real", "synthetic")
    images = (picture.labels, picture.real, picture.synthetic)
    return _figure(
        "".join(f'<img alt="{name}" src="{_png(image)}">' for name, image in zip(names, images, strict=True)),
        f"real raster, {picture.window.shift(area[0], area[1])}",
    )


def _png(image: npt.NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _curves(pair: npt.NDArray[Any]) -> str:
    """Two histograms (2, 256) as curves over bins of 4 DN, on one scale."""
    shares: Floats = pair.reshape(2, 64, 4).sum(axis=2) / 1.0
    shares = ratio(shares, shares.sum(axis=1, keepdims=True))
    heights = 70 * (1 - shares / np.nanmax(shares))
    lines = []
    for curve, colour in zip(heights, (_REAL, _SYNTHETIC), strict=True):
        points = " ".join(f"{4 * position + 2},{value:.1f}" for position, value in enumerate(curve))
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    return f'<svg width="256" height="72" viewBox="0 -1 256 72">{"".join(lines)}</svg>'


def _figure(content: str, caption: str) -> str:
    return f"<figure>{content}<figcaption>{escape(caption)}</figcaption></figure>"


def _swatch(entry: ClassComparison) -> str:
    return f'<span class="swatch" style="background:{entry.colour}"></span>'


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"

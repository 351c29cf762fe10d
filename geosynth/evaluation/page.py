"""report.html: one file, nothing fetched: tables, pictures and curves."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from geosynth.config.bands import rgb_bands
from geosynth.evaluation.report import ClassComparison, ClosestPair, Comparison, FeatureComparison, Report, number
from geosynth.evaluation.statistics import Floats, ratio
from geosynth.evaluation.tiles import StoreTiles, TilePair
from geosynth.grid import Window

# --- Pieces of HTML: tables, figures, pictures (PNG inside) and curves (SVG inside).

REAL, SYNTHETIC = "#1b6ca8", "#d1495b"

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: .6rem 0 1.4rem; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top; }
th:first-child, td:first-child, .text { text-align: left; }
figure { display: inline-block; margin: 0 .8rem 1rem 0; vertical-align: top; }
figcaption { font-size: .8rem; color: #555; }
.images { display: flex; flex-wrap: wrap; gap: 4px; }
.images p { margin: 0; font-size: .8rem; color: #555; }
img { image-rendering: pixelated; display: block; }
.stage { position: relative; }
.stage .over { position: absolute; inset: 0; }
.swipe input { width: 100%; margin: 0; }
.swatch { display: inline-block; width: .8em; height: .8em; margin-right: .4em; border: 1px solid #999; }
svg { background: #fafafa; border: 1px solid #ddd; }
"""

# Beside real and synthetic, one over the other: what is right of the slider is synthetic. Without scripts the page
# lacks nothing but that.
_SCRIPT = """
for (const figure of document.querySelectorAll("figure.pair")) {
  const [under, over] = ["real", "synthetic"].map(name => figure.querySelector(`img[alt=${name}]`).cloneNode());
  const [swipe, stage] = ["swipe", "stage"].map(name => {
    return Object.assign(document.createElement("div"), {className: name});
  });
  const slider = Object.assign(document.createElement("input"), {type: "range", ariaLabel: "real or synthetic"});
  const cut = () => { over.style.clipPath = `inset(0 0 0 ${slider.value}%)`; };
  over.className = "over";
  stage.append(under, over);
  swipe.append(stage, slider);
  figure.querySelector(".images").append(swipe);
  slider.addEventListener("input", cut);
  cut();
}
"""


def document(title: str, parts: Iterable[str]) -> str:
    """A whole page that fetches nothing."""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + f"\n<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def table(head: Iterable[str], rows: Iterable[Iterable[str]], *, text: bool = False, raw: bool = False) -> str:
    """`text`: cells are words, to the left; `raw`: cells are HTML already."""
    cell = '<td class="text">' if text else "<td>"
    lines = ["".join(f"{cell}{value if raw else escape(value)}</td>" for value in row) for row in rows]
    top = '<th class="text">' if text else "<th>"
    header = "".join(f"{top}{escape(name)}</th>" for name in head)
    return f"<table><tr>{header}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def paragraph(text: str) -> str:
    """Plain words."""
    return f"<p>{escape(text)}</p>"


def images(named: Iterable[tuple[str, npt.NDArray[np.uint8]]], caption: str, kind: str = "") -> str:
    """Pictures (height, width, 3) side by side; kind "pair" has one named "real" and one named "synthetic"."""
    shown = "".join(
        f'<div><img alt="{escape(name)}" src="{_png(image)}"><p>{escape(name)}</p></div>' for name, image in named
    )
    return figure(f'<div class="images">{shown}</div>', caption, kind)


def figure(content: str, caption: str, kind: str = "") -> str:
    """HTML with a caption of plain words."""
    return f'<figure class="{kind}">{content}<figcaption>{escape(caption)}</figcaption></figure>'


def curves(pair: npt.NDArray[Any]) -> str:
    """Two histograms (2, 256), real and synthetic, as curves over bins of 4 DN, on one scale."""
    shares: Floats = pair.reshape(2, 64, 4).sum(axis=2) / 1.0
    shares = ratio(shares, shares.sum(axis=1, keepdims=True))
    heights = 70 * (1 - shares / np.nanmax(shares))
    lines = []
    for curve, colour in zip(heights, (REAL, SYNTHETIC), strict=True):
        points = " ".join(f"{4 * position + 2},{value:.1f}" for position, value in enumerate(curve))
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    return f'<svg width="256" height="72" viewBox="0 -1 256 72">{"".join(lines)}</svg>'


def swatch(colour: str) -> str:
    """A small square of a colour such as "#rrggbb"."""
    return f'<span class="swatch" style="background:{colour}"></span>'


def _png(image: npt.NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


# --- Windows shown in the report: labels, real and synthetic; and the closest pairs of synthetic and train tiles.

_NUM_PICTURES = 4
_PICTURE_SIZE = 256

Shown = npt.NDArray[np.uint8]


class Picture(NamedTuple):
    """A window shown: (height, width, 3) images of labels, real and synthetic; where it is, in words."""

    caption: str
    labels: Shown
    real: Shown
    synthetic: Shown


class ClosestPicture(NamedTuple):
    """A synthetic tile and the train tile nearest to it: (height, width, 3)."""

    caption: str
    synthetic: Shown
    train: Shown


def draw_pictures(pair: TilePair, tiles: Sequence[Window], seed: int) -> list[Picture]:
    """Up to four windows of up to 256 px, at tiles drawn at random; white where there is no class.

    Args:
        pair: what is shown.
        tiles: to draw from; not empty.
        seed: of the draw.
    """
    chosen = np.random.default_rng(seed).permutation(len(tiles))[:_NUM_PICTURES]
    windows = {pair.frame(tiles[index], _PICTURE_SIZE, _PICTURE_SIZE) for index in chosen.tolist()}
    palette = np.array([entry.rgb for entry in pair.legend.classes] + [(255, 255, 255)], dtype=np.uint8)
    pictures = []
    for window in sorted(windows):
        block = pair.read(window)
        real, synthetic = (_shown(image, pair.bands) for image in (block.real, block.synthetic))
        pictures.append(Picture(pair.describe(window), palette[block.indices], real, synthetic))
    return pictures


def draw_closest(pair: StoreTiles, closest: Sequence[ClosestPair]) -> list[ClosestPicture]:
    """The pairs, read anew."""
    pictures = []
    for one in closest:
        synthetic = pair.twins[0].read_image(Window(*one.synthetic_window))
        train = pair.source.read_image(Window(*one.train_window))
        caption = f"{one.distance:.3g}: {one.synthetic}; {one.train}"
        pictures.append(ClosestPicture(caption, _shown(synthetic, pair.bands), _shown(train, pair.bands)))
    return pictures


def _shown(image: npt.NDArray[np.uint8], bands: tuple[str, ...]) -> Shown:
    return np.moveaxis(image[list(rgb_bands(bands))], 0, -1)


# --- The part of report.html on networks: distances, memorisation with its pictures, diversity, consistency.


def feature_parts(report: Report, closest: Sequence[ClosestPicture]) -> Iterator[str]:
    """Section by section."""
    yield "<h2>Distances between features of tiles</h2>"
    yield from (paragraph(why) for why in (report.features_reason, report.inception_reason) if why)
    yield from _distances(report.features)
    yield "<h2>Memorisation</h2>"
    yield from _memorisation(report, closest)
    yield "<h2>Diversity: equal labels, different latents</h2>"
    many = report.diversity
    if many.reason:
        yield paragraph(many.reason)
    else:
        told = f"{many.num_latents} latents, {many.num_tiles} tiles: mean absolute difference {many.pixels} DN"
        features = f"; mean distance of {many.feature_space} features {many.features}" if many.feature_space else ""
        yield paragraph(f"{told}{features}.")
    yield "<h2>Segmentation consistency</h2>"
    yield from _consistency(report)


def _distances(comparisons: Sequence[FeatureComparison]) -> Iterator[str]:
    if not comparisons:
        return
    head = ("distance", "real tiles", "n real", "n synthetic", "value", "real to real", "real to synthetic alike")
    rows = []
    for one in comparisons:
        common = (one.reference, str(one.num_real), str(one.num_synthetic))
        for name, distance in ((one.frechet_name, one.frechet), (one.kid_name, one.kid)):
            rows.append((name, *common, str(distance.estimate), str(distance.real), str(distance.across)))
    yield table(head, rows)
    yield table(
        ("feature space", "real tiles", "precision", "recall", "density", "coverage"),
        [
            (one.feature_space, one.reference, *map(str, (one.precision, one.recall, one.density, one.coverage)))
            for one in comparisons
        ],
    )
    told: dict[str, list[str]] = {}
    for one in comparisons:
        for note in dict.fromkeys((one.reason, one.note, one.frechet.note, one.kid.note)):
            if note:
                told.setdefault(note, []).append(f"{one.feature_space} to {one.reference}")
    yield from (paragraph(f"{', '.join(where)}: {note}.") for note, where in told.items())


def _memorisation(report: Report, closest: Sequence[ClosestPicture]) -> Iterator[str]:
    found = report.memorisation
    if found.reason:
        yield paragraph(found.reason)
    if found.share_nearer_train.value is not None:
        yield table(
            ("measure", "value", "meaning"),
            [
                (
                    "share nearer to train",
                    str(found.share_nearer_train),
                    f"{found.control} of the other real tiles, which nobody has memorised",
                ),
                ("median distance, train over other", str(found.distance_ratio), "1 if nothing is memorised"),
                (
                    "tiles",
                    f"{found.num_synthetic}",
                    f"{found.num_train} real ones of train, {found.num_other} of {found.other}; {found.feature_space}",
                ),
            ],
            text=True,
        )
    if closest:
        yield paragraph("The closest pairs: synthetic, and the real train tile nearest to it in the feature space.")
    for one in closest:
        yield images((("synthetic", one.synthetic), ("train", one.train)), one.caption)


def _consistency(report: Report) -> Iterator[str]:
    found = report.consistency
    if found.reason:
        yield paragraph(found.reason)
        return
    yield paragraph(
        f"{found.segmenter}, trained on real tiles, on {found.num_tiles} tiles of {found.num_places} places: mIoU"
        f" {found.synthetic} on synthetic, {found.real} on real ones; difference {found.difference}."
    )
    rows = [(name, number(real), number(synthetic)) for name, (real, synthetic) in found.class_iou.items()]
    yield table(("class", "IoU on real", "IoU on synthetic"), rows)


def render_page(
    report: Report, counts: npt.NDArray[Any], pictures: Sequence[Picture], closest: Sequence[ClosestPicture] = ()
) -> str:
    """The whole page.

    Args:
        report: the numbers.
        counts: (2, classes, bands, 256) histograms of the real and the synthetic image, classes as in the legend.
        pictures: from `draw_pictures`.
        closest: from `draw_closest`.
    """
    parts = [*_head(report), *_pictures(report, pictures), *_pixels(report, counts), *feature_parts(report, closest)]
    return document("geosynth evaluation", parts)


def _head(report: Report) -> Iterator[str]:
    yield "<h1>Real against synthetic</h1>"
    files = [("real", report.real), *(("synthetic", path) for path in report.synthetic), ("labels", report.labels)]
    yield table(("images", "file"), files, text=True)
    where = f"of the fold {report.fold}"
    if report.area:
        top, left, height, width = report.area
        where = f"in {height} x {width} px from row {top}, column {left} of the real raster"
    yield paragraph(
        f"{report.pixels:,} pixels compared, {where}. Legend: {report.legend}. {report.software}, seed {report.seed}."
    )
    yield "<h2>Summary</h2>"
    yield table(("measure", "value", "meaning"), report.summary(), text=True)
    yield paragraph(
        "Brackets: 95 % intervals from a bootstrap over places, which are"
        f" {report.places.kind}; there are {report.places.count}, and no interval for fewer than 8. Brackets of real"
        " to real, and of real to synthetic alike: least and largest over ten draws of halves of the places; they have"
        " fewer tiles than the distance itself, so compare them with each other."
        " Only distances of Inception features are FID and KID; no other may be compared with published values."
    )


def _pictures(report: Report, pictures: Sequence[Picture]) -> Iterator[str]:
    yield "<h2>Pictures</h2>"
    yield paragraph(
        "Labels, real, synthetic; places drawn at random. Last: real left of the slider, synthetic right of it."
    )
    for one in pictures:
        named = (("labels", one.labels), ("real", one.real), ("synthetic", one.synthetic))
        yield images(named, one.caption, "pair")
    names = (swatch(entry.colour) + escape(entry.name) + " &nbsp; " for entry in report.classes)
    yield f"<p>{''.join(names)}</p>"


def _pixels(report: Report, counts: npt.NDArray[Any]) -> Iterator[str]:
    yield "<h2>Classes</h2>"
    yield _class_table(report.classes)
    yield "<h2>Distributions</h2>"
    yield (f'<p><b style="color:{REAL}">real</b>, <b style="color:{SYNTHETIC}">synthetic</b>; 0 to 255 DN.</p>')
    present = counts[:, counts.any(axis=(0, 2, 3))]
    for entry, of_class in zip(report.classes, np.moveaxis(present, 0, 2), strict=True):
        for band, pair in zip(report.bands, of_class, strict=True):
            yield figure(curves(pair), f"{entry.name}, {band}")
    yield "<h2>Power spectrum, synthetic over real</h2>"
    yield _spectrum_table(report)
    yield "<h2>Texture inside of classes, synthetic over real power</h2>"
    yield from _class_spectra(report)


def _class_table(classes: tuple[ClassComparison, ...]) -> str:
    head = ("class", "pixels", "quantity", "real mean", "real std", "synthetic mean", "synthetic std")
    rows = []
    for entry in classes:
        every: tuple[Comparison, ...] = entry.bands + ((entry.ndvi,) if entry.ndvi else ())
        for place, one in enumerate(every):
            name = swatch(entry.colour) + escape(entry.name) if place == 0 else ""
            moments = (one.real_mean, one.real_std, one.synthetic_mean, one.synthetic_std)
            cells = [f"{one.pixels:,}", escape(one.quantity), *[number(value) for value in moments]]
            rows.append([name, *cells, str(one.wasserstein), str(one.variance_ratio)])
    return table((*head, "Wasserstein-1", "variance ratio"), rows, raw=True)


def _spectrum_table(report: Report) -> str:
    if not report.spectrum.num_tiles:
        return paragraph(report.spectrum.reason or "")
    head = ("cycles per pixel", *report.bands)
    columns = [report.spectrum.ratio[name] for name in report.bands]
    rows = [
        (f"{frequency:.3f}", *map(number, values))
        for frequency, *values in zip(report.spectrum.frequencies, *columns, strict=True)
    ]
    return table(head, rows)


def _class_spectra(report: Report) -> Iterator[str]:
    spectra = report.class_spectra
    if spectra.reason:
        yield paragraph(spectra.reason)
        return
    yield paragraph(
        f"Windows of {spectra.window_size} px that hold one class only; octaves in cycles per pixel, coarse to fine."
    )
    head = ("class", "windows", "band", *(f"{low:.3g} to {high:.3g}" for low, high in spectra.octaves))
    rows = [
        (*((one.name, str(one.num_windows)) if place == 0 else ("", "")), band, *map(number, values))
        for one in spectra.classes
        for place, (band, values) in enumerate(one.ratio.items())
    ]
    yield table(head, rows)

"""report.html: one file, nothing fetched: tables, pictures and curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from geosynth.evaluation import html
from geosynth.evaluation.page_features import feature_parts
from geosynth.evaluation.pictures import ClosestPicture, Picture
from geosynth.evaluation.report import Report
from geosynth.evaluation.report_pixels import ClassComparison, Comparison, number


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
    return html.document("geosynth evaluation", parts)


def _head(report: Report) -> Iterator[str]:
    yield "<h1>Real against synthetic</h1>"
    files = [("real", report.real), *(("synthetic", path) for path in report.synthetic), ("labels", report.labels)]
    yield html.table(("images", "file"), files, text=True)
    where = f"of the fold {report.fold}"
    if report.area:
        top, left, height, width = report.area
        where = f"in {height} x {width} px from row {top}, column {left} of the real raster"
    yield html.paragraph(
        f"{report.pixels:,} pixels compared, {where}. Legend: {report.legend}. {report.software}, seed {report.seed}."
    )
    yield "<h2>Summary</h2>"
    yield html.table(("measure", "value", "meaning"), report.summary(), text=True)
    yield html.paragraph(
        "Brackets: 95 % intervals from a bootstrap over places, which are"
        f" {report.places.kind}; there are {report.places.count}, and no interval for fewer than 8. Brackets of real"
        " to real, and of real to synthetic alike: least and largest over ten draws of halves of the places; they have"
        " fewer tiles than the distance itself, so compare them with each other."
        " Only distances of Inception features are FID and KID; no other may be compared with published values."
    )


def _pictures(report: Report, pictures: Sequence[Picture]) -> Iterator[str]:
    yield "<h2>Pictures</h2>"
    yield html.paragraph(
        "Labels, real, synthetic; places drawn at random. Last: real left of the slider, synthetic right of it."
    )
    for one in pictures:
        named = (("labels", one.labels), ("real", one.real), ("synthetic", one.synthetic))
        yield html.images(named, one.caption, "pair")
    names = (html.swatch(entry.colour) + escape(entry.name) + " &nbsp; " for entry in report.classes)
    yield f"<p>{''.join(names)}</p>"


def _pixels(report: Report, counts: npt.NDArray[Any]) -> Iterator[str]:
    yield "<h2>Classes</h2>"
    yield _class_table(report.classes)
    yield "<h2>Distributions</h2>"
    yield (
        f'<p><b style="color:{html.REAL}">real</b>, <b style="color:{html.SYNTHETIC}">synthetic</b>; 0 to 255 DN.</p>'
    )
    present = counts[:, counts.any(axis=(0, 2, 3))]
    for entry, of_class in zip(report.classes, np.moveaxis(present, 0, 2), strict=True):
        for band, pair in zip(report.bands, of_class, strict=True):
            yield html.figure(html.curves(pair), f"{entry.name}, {band}")
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
            name = html.swatch(entry.colour) + escape(entry.name) if place == 0 else ""
            moments = (one.real_mean, one.real_std, one.synthetic_mean, one.synthetic_std)
            cells = [f"{one.pixels:,}", escape(one.quantity), *[number(value) for value in moments]]
            rows.append([name, *cells, str(one.wasserstein), str(one.variance_ratio)])
    return html.table((*head, "Wasserstein-1", "variance ratio"), rows, raw=True)


def _spectrum_table(report: Report) -> str:
    if not report.spectrum.num_tiles:
        return html.paragraph(report.spectrum.reason or "")
    head = ("cycles per pixel", *report.bands)
    columns = [report.spectrum.ratio[name] for name in report.bands]
    rows = [
        (f"{frequency:.3f}", *map(number, values))
        for frequency, *values in zip(report.spectrum.frequencies, *columns, strict=True)
    ]
    return html.table(head, rows)


def _class_spectra(report: Report) -> Iterator[str]:
    spectra = report.class_spectra
    if spectra.reason:
        yield html.paragraph(spectra.reason)
        return
    yield html.paragraph(
        f"Windows of {spectra.window_size} px that hold one class only; octaves in cycles per pixel, coarse to fine."
    )
    head = ("class", "windows", "band", *(f"{low:.3g} to {high:.3g}" for low, high in spectra.octaves))
    rows = [
        (*((one.name, str(one.num_windows)) if place == 0 else ("", "")), band, *map(number, values))
        for one in spectra.classes
        for place, (band, values) in enumerate(one.ratio.items())
    ]
    yield html.table(head, rows)

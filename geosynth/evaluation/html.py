"""Pieces of HTML: tables, figures, pictures (PNG inside) and curves (SVG inside)."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from geosynth.evaluation.histograms import Floats, ratio

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

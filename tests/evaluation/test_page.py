from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from evaluation_scenes import WriteScene, blobs, textured
from PIL import Image

from geosynth.evaluation.evaluate import evaluate
from geosynth.legend import Legend

VOID = {"meta", "img", "polyline"}


class Outline(HTMLParser):
    """Collects elements; fails on tags that do not close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def page(write_scene: WriteScene, legend: Legend, tmp_path: Path) -> tuple[str, Outline, np.ndarray, np.ndarray]:
    """The page, parsed; codes and the real image."""
    rng = np.random.default_rng(0)
    codes = blobs(rng, 300, 300)
    codes[0, :40] = 0
    real = textured(rng, codes)[:, :, ::-1]
    names = ("nir", "blue", "green", "red")
    evaluate(
        write_scene("a&b.tif", real, bands=names),
        write_scene("synthetic.tif", textured(rng, codes)[:, 20:], 20, bands=names),
        write_scene("labels.tif", codes[:, :, 8:], 0, 8),
        tmp_path / "out",
        legend=legend,
        tile_size=64,
        features=False,
    )
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    outline = Outline()
    outline.feed(text)
    outline.close()
    return text, outline, codes[0], real


def test_the_page_parses_and_names_are_escaped(page: Any) -> None:
    text, outline, _, _ = page
    assert outline.open == []
    assert "field <&>" in outline.text
    assert "a&b.tif" in outline.text
    assert "<&>" not in text
    assert sum(tag == "svg" for tag, _ in outline.found) == 3 * 4


def test_the_page_fetches_nothing(page: Any) -> None:
    text, outline, _, _ = page
    assert not {tag for tag, _ in outline.found} & {"link", "iframe", "object", "embed", "base", "form"}
    assert [attributes for tag, attributes in outline.found if tag == "script"] == [{}]
    sources = [
        value for _, attributes in outline.found for name, value in attributes.items() if name in ("src", "href")
    ]
    assert sources
    assert all(value and value.startswith("data:image/png;base64,") for value in sources)
    assert not re.search(r"url\(|@import|https?:|//[a-z]", re.sub(r"base64,[^\"]+", "", text))


def test_pictures_show_labels_and_images_in_their_colours(page: Any, legend: Legend) -> None:
    _, outline, codes, real = page
    pictures: dict[str, list[np.ndarray]] = {}
    for tag, attributes in outline.found:
        if tag == "img":
            data = base64.b64decode((attributes["src"] or "").split(",")[1])
            pictures.setdefault(attributes["alt"] or "", []).append(np.asarray(Image.open(io.BytesIO(data))))
    assert set(pictures) == {"labels", "real", "synthetic"}
    places = re.findall(r"rows (\d+)-(\d+), columns (\d+)-(\d+)", outline.text)
    assert 1 <= len(places) == len(pictures["labels"]) <= 4
    colours = np.array([(255, 255, 255), *[entry.rgb for entry in legend.classes]])
    for place, labels, image in zip(places, pictures["labels"], pictures["real"], strict=True):
        top, bottom, left, right = map(int, place)
        window = (slice(top, bottom + 1), slice(left, right + 1))
        assert labels.shape == (256, 256, 3)
        assert np.array_equal(labels, colours[codes[window]])
        assert np.array_equal(image, np.moveaxis(real[3:0:-1][(slice(None), *window)], 0, -1))


def test_pictures_of_rasters_stored_south_up_are_north_up(
    write_scene: WriteScene, legend: Legend, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    codes = blobs(rng, 128, 128)
    scenes = {"real": textured(rng, codes), "synthetic": textured(rng, codes), "labels": codes}
    shown = []
    for up in ("north", "south"):
        down = {"transform": Affine(1, 0, 500_000, 0, 1, 4_499_872)} if up == "south" else {}
        rasters = {
            name: write_scene(f"{up}_{name}.tif", values[:, :: -1 if down else 1], **down)
            for name, values in scenes.items()
        }
        options = {"legend": legend, "bands": ("red", "green", "blue", "nir"), "tile_size": 64, "features": False}
        report = evaluate(**rasters, out=tmp_path / up, **options)
        assert repr(report).startswith("Report:\n")
        assert len(repr(report)) < 5000
        text = (tmp_path / up / "report.html").read_text(encoding="utf-8")
        shown.append(set(re.findall(r"base64,([\w+/=]+)", text)))
    assert shown[0] == shown[1] != set()


def test_curves_stay_inside_their_frame(page: Any) -> None:
    _, outline, _, _ = page
    curves = [attributes["points"] or "" for tag, attributes in outline.found if tag == "polyline"]
    assert curves
    for curve in curves:
        points = np.array([point.split(",") for point in curve.split()], dtype=float)
        assert points.shape == (64, 2)
        assert points.min() >= 0
        assert points[:, 0].max() <= 256
        assert points[:, 1].max() <= 70


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"),
)
# What a reader would see and do; the answers stand in the page's title.
LOOK = """<script>
window.addEventListener("load", () => {
  const images = [...document.images].map(image => [image.complete, image.naturalWidth, image.naturalHeight]);
  const sliders = [...document.querySelectorAll("input[type=range]")];
  const cuts = sliders.map(slider => [0, 25, 100].map(place => {
    slider.value = place;
    slider.dispatchEvent(new Event("input"));
    return getComputedStyle(slider.parentNode.querySelector(".over")).clipPath;
  }));
  document.title = JSON.stringify({images, cuts, figures: document.querySelectorAll("figure.pair").length});
});
</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_browser_shows_the_pictures_and_moves_the_slider(page: Any, tmp_path: Path) -> None:
    text, _, _, _ = page
    (tmp_path / "look.html").write_text(text.replace("</body>", LOOK), encoding="utf-8")
    run = subprocess.run(
        [
            str(CHROMIUM),
            *QUIET,
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom",
            (tmp_path / "look.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in run.stderr
    found = json.loads(re.findall(r"<title>(.*?)</title>", run.stdout)[0])
    assert found["figures"] >= 1
    assert len(found["images"]) == 5 * found["figures"]  # three, and two over each other
    assert all(image == [True, 256, 256] for image in found["images"])
    shown_from = [[cut.split()[-1] for cut in cuts] for cuts in found["cuts"]]
    assert shown_from == [["0%)", "25%)", "100%)"]] * found["figures"]

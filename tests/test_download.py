"""Models behind addresses: from a local server, kept in a cache of the test's own."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import geosynth
from geosynth import download
from geosynth.checkpoint import GeneratorModel, load_generator
from geosynth.download import fetch_model, is_model_address
from geosynth.errors import CheckpointError, OutputError
from geosynth.inputs import sha256_of
from range_server import RangeServer
from rasters import draw_labels, pixels_of, write_raster


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(download.platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache" / "geosynth" / "models"


@pytest.fixture
def server(tmp_path: Path, tiny_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    """Serves a model at /m.safetensors, and as the Hugging Face Hub would at ORG/REPO."""
    monkeypatch.setenv("no_proxy", "*")
    served = tmp_path / "served"
    for place in ("", "org/some-repo/resolve/main/sub", "org/some-repo/resolve/v1"):
        (served / place).mkdir(parents=True, exist_ok=True)
        shutil.copy(tiny_model.path, served / place / "m.safetensors")
    (served / "bad.safetensors").write_bytes(b"\x80\x04 a pickle")
    with RangeServer(served).running() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.mark.parametrize(
    "address", ["{}/m.safetensors", "hf://org/some-repo/sub/m.safetensors", "hf://org/some-repo@v1/m.safetensors"]
)
def test_a_model_is_downloaded_once_and_paints_as_the_file_does(
    server: RangeServer,
    cache: Path,
    tiny_model: GeneratorModel,
    tmp_path: Path,
    address: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    address = address.format(server.url)
    assert is_model_address(address)
    labels = write_raster(tmp_path / "labels.tif", draw_labels(40, 40))
    image = geosynth.generate(labels, tmp_path / "image.tif", address, seed=1, overwrite=True)
    assert tiny_model.sha256 in caplog.text
    told = geosynth.info(address)
    assert (told["kind"], told["sha256"]) == ("model", tiny_model.sha256)
    assert Path(told["path"]).name == "m.safetensors"
    assert Path(told["path"]).is_relative_to(cache)
    assert [method for method, *_ in server.requests] == ["GET"]
    plain = geosynth.generate(labels, tmp_path / "plain.tif", tiny_model.path, seed=1)
    assert (pixels_of(image) == pixels_of(plain)).all()
    assert [path.name for path in cache.rglob("*") if path.is_file()] == ["m.safetensors"]


def test_the_sha256_of_an_address_is_held_to(server: RangeServer, cache: Path, tiny_model: GeneratorModel) -> None:
    right = f"{server.url}/m.safetensors#sha256={tiny_model.sha256}"
    wrong = f"{server.url}/m.safetensors#sha256={'0' * 64}"
    with pytest.raises(
        CheckpointError, match=f"has the SHA-256 {tiny_model.sha256}, not the one that the address says"
    ):
        fetch_model(wrong)
    assert not [path for path in cache.rglob("*") if path.is_file()]
    assert sha256_of(fetch_model(right)) == tiny_model.sha256
    with pytest.raises(CheckpointError, match="not the one that the address says"):
        fetch_model(wrong)  # of what is kept, too


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("{}/absent.safetensors", "404 Not Found"),
        ("{}/bad.safetensors", "not a safetensors file"),
        ("{}/m.pth", "the address of a model ends in .safetensors"),
        ("http://example.com/m.safetensors", "only https:// and hf:// are safe to take a model from, not http://"),
        ("ftp://localhost/m.safetensors", "only https:// and hf:// are safe to take a model from, not ftp://"),
        ("hf://m.safetensors", "write hf://ORG/REPO/FILE, or hf://ORG/REPO@REVISION/FILE"),
        ("hf://org/some-repo/absent.safetensors", "404 Not Found"),
        ("https://localhost:9/m.safetensors", r"cannot be reached \(ConnectionError\)"),
        ("http://localhost:9/m.safetensors", r"cannot be reached \(ConnectionError\); try again, or give a file"),
    ],
)
def test_what_cannot_be_had_is_one_line_and_leaves_nothing(
    server: RangeServer, cache: Path, address: str, line: str
) -> None:
    address = address.format(server.url)
    with pytest.raises(CheckpointError, match=f"^{re.escape(address)}: {line}") as caught:
        load_generator(address)
    assert "\n" not in str(caught.value)
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_a_safe_address_that_leads_to_an_unsafe_one_is_refused(
    server: RangeServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_LOOPBACK", ("127.0.0.1",))  # so that the same server has an unsafe name, too
    unsafe = server.url.replace("127.0.0.1", "localhost")

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"{unsafe}/m.safetensors")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Elsewhere) as redirecting:
        thread = threading.Thread(target=redirecting.handle_request)
        thread.start()
        with pytest.raises(CheckpointError, match=r"only https:// and hf:// are safe"):
            fetch_model(f"http://127.0.0.1:{redirecting.server_port}/m.safetensors")
        thread.join()
    assert not server.requests  # it is not even asked
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_what_is_an_address_of_a_model() -> None:
    assert not any(map(is_model_address, ("m.safetensors", "s3://bucket/m.safetensors", "https://host/image.tif")))
    assert all(map(is_model_address, ("https://host/m.safetensors?download=1", "hf://org/repo/m.safetensors")))


def test_a_cache_that_cannot_be_written_is_one_line(server: RangeServer, cache: Path) -> None:
    cache.parent.parent.write_text("in the way")
    with pytest.raises(OutputError, match=r"m.safetensors: cannot be written: Not a directory"):
        fetch_model(f"{server.url}/m.safetensors")


def test_what_is_too_large_is_not_downloaded(server: RangeServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_MAX_BYTES", 1000)
    with pytest.raises(CheckpointError, match="has more than 1000 bytes"):
        fetch_model(f"{server.url}/m.safetensors")
    assert not [path for path in cache.rglob("*") if path.is_file()]

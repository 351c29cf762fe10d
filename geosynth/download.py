"""Locates model files: those that are named, the embedded one, and those behind an address.

The latter are downloaded once and kept in the cache folder of the platform.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote, urldefrag, urljoin, urlsplit

import platformdirs
from safetensors import SafetensorError, safe_open

from geosynth.errors import CheckpointError
from geosynth.files import replacing
from geosynth.inputs import check_input, sha256_of

DEFAULT_MODEL = "chesapeake-small"

_LOG = logging.getLogger(__name__)

_MAX_BYTES = 4 * 2**30
_TIMEOUT = (10, 60)  # seconds: to connect, and between two pieces
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def is_model_address(name: str | Path) -> bool:
    """Whether a name is an address, https:// or hf://, of a safetensors file."""
    url = urlsplit(str(name))
    return url.scheme == "hf" or (url.scheme in ("https", "http") and url.path.endswith(".safetensors"))


def model_path(model: str | Path | None = None) -> Path:
    """The file of a model: the one that is named, or the embedded one for "chesapeake-small" and None.

    Raises:
        CheckpointError: if the embedded model is missing; for an address, see `model_file`.
    """
    if model is not None and str(model) != DEFAULT_MODEL:
        return model_file(model)
    path = Path(str(resources.files("geosynth") / "weights" / f"{DEFAULT_MODEL}.safetensors"))
    if not path.is_file():
        raise CheckpointError(
            f"the embedded model {DEFAULT_MODEL} is missing from this installation; give --model FILE"
        )
    return path


def model_file(name: str | Path) -> Path:
    """The file of a model or segmenter: the named file, the one in the folder of a training, or behind an address.

    Raises:
        CheckpointError, OutputError: for an address, see `fetch_model`.
        SettingsError: if it is not a name.
    """
    check_input(name, "a model", "model")
    path = fetch_model(str(name)) if "://" in str(name) else Path(name)
    inside = path / "model.safetensors"
    return inside if inside.is_file() else path


def fetch_model(address: str) -> Path:
    """The file behind an address; a file downloaded before is used again, without the network.

    Args:
        address: https://..., or hf://ORG/REPO[@REVISION]/FILE for the Hugging Face Hub (or `HF_ENDPOINT`). If it ends
            in "#sha256=...", the file must have that SHA-256.

    Raises:
        CheckpointError: if the address is invalid, or if there is no file, one of more than 4 GiB, one that is not
            safetensors, or one with another SHA-256.
        OutputError: if the file cannot be stored.
    """
    url, fragment = urldefrag(_resolve(address))
    wanted = parse_qs(fragment).get("sha256", [None])[0]
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    key = hashlib.sha256(url.encode()).hexdigest()[:16]
    path = platformdirs.user_cache_path("geosynth") / "models" / key / name
    if path.is_file():
        if wanted is not None:
            _check_digest(path, wanted, address)
        return path
    with replacing(path) as partial:
        with partial.open("wb") as file:
            _download(url, file, address)
        try:
            with safe_open(str(partial), framework="np"):
                pass
        except SafetensorError as error:
            raise CheckpointError(f"{address}: not a safetensors file: {error}") from error
        digest = _check_digest(partial, wanted, address)
    _LOG.warning("%s: downloaded %d bytes, SHA-256 %s, kept as %s", address, path.stat().st_size, digest, path)
    return path


def _resolve(address: str) -> str:
    """The address as https://.

    Raises:
        CheckpointError: if it is invalid.
    """
    url = address
    if address.startswith("hf://"):
        parts = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w.-]+))?/([^?#]+)(#.*)?", address)
        if parts is None:
            raise CheckpointError(f"{address}: write hf://ORG/REPO/FILE, or hf://ORG/REPO@REVISION/FILE")
        repository, revision, file, fragment = parts.groups(default="")
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        url = f"{endpoint}/{repository}/resolve/{revision or 'main'}/{file}{fragment}"
    _check_safe(url, address)
    if not urlsplit(url).path.endswith(".safetensors"):
        raise CheckpointError(f"{address}: the address of a model ends in .safetensors")
    return url


def _check_safe(url: str, address: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise CheckpointError(
            f"{address}: only https:// and hf:// are safe to take a model from, not {parts.scheme}://"
        )


def _download(url: str, file: BinaryIO, address: str) -> None:
    import requests  # takes a moment to import

    def check_redirect(response: requests.Response, **_: Any) -> None:  # before it is followed
        if target := response.headers.get("Location"):
            _check_safe(urljoin(response.url, target), address)

    try:
        with requests.get(url, stream=True, timeout=_TIMEOUT, hooks={"response": check_redirect}) as response:
            if not response.ok:
                raise CheckpointError(f"{address}: {response.status_code} {response.reason}")
            size = int(response.headers.get("Content-Length", 0))
            for piece in response.iter_content(2**20):
                size = max(size, file.tell() + len(piece))
                if size > _MAX_BYTES:
                    raise CheckpointError(f"{address}: has more than {_MAX_BYTES} bytes, too many for a model")
                file.write(piece)
    except requests.RequestException as error:
        raise CheckpointError(
            f"{address}: cannot be reached ({type(error).__name__}); try again, or give a file"
        ) from error


def _check_digest(path: Path, wanted: str | None, address: str) -> str:
    digest = sha256_of(path)
    if wanted is not None and digest != wanted.lower():
        raise CheckpointError(f"{address}: has the SHA-256 {digest}, not the one that the address says")
    return digest

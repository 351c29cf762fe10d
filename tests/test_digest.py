"""sha256_of: what hashlib says of the files' bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from geosynth.files import sha256_of


def test_one_file_and_several(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"a" * 3_000_000)
    second.write_bytes(b"b")
    assert sha256_of(first) == hashlib.sha256(b"a" * 3_000_000).hexdigest()
    assert sha256_of(first, str(second)) == hashlib.sha256(b"a" * 3_000_000 + b"b").hexdigest()


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sha256_of(tmp_path / "nowhere")

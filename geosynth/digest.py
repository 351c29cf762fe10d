"""What tells one file from another."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sha256_of(*paths: str | Path) -> str:
    """sha256 of a file; of several, as if they were one.

    Raises:
        OSError: if one cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        with Path(path).open("rb") as file:
            hashlib.file_digest(file, lambda: digest)  # goes on with the digest of the files before
    return digest.hexdigest()

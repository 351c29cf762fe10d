"""What names of folders, globs and images stand for."""

from __future__ import annotations

from pathlib import Path

import pytest

from geosynth.raster.names import files_named

FILES = ("a/1.tif", "a/2.JP2", "a/notes.txt", "a/deep/3.tif", "b/4.tif", "odd[1].tif", "odd1.tif", "z.zarr/zarr.json")


@pytest.mark.parametrize(
    ("name", "deep", "found"),
    [
        ("a", False, ["a/1.tif", "a/2.JP2"]),
        ("a", True, ["a/1.tif", "a/2.JP2", "a/deep/3.tif"]),
        ("*", False, ["odd1.tif", "odd[1].tif", "z.zarr"]),
        ("[ba]", False, ["a/1.tif", "a/2.JP2", "b/4.tif"]),
        ("[ba]", True, ["a/1.tif", "a/2.JP2", "a/deep/3.tif", "b/4.tif"]),
        ("**/*.tif", False, ["a/1.tif", "a/deep/3.tif", "b/4.tif", "odd1.tif", "odd[1].tif"]),
        ("?/*", False, ["a/1.tif", "a/2.JP2", "a/notes.txt", "b/4.tif"]),
        ("odd[1].tif", False, ["odd[1].tif"]),
        ("z.zarr", False, ["z.zarr"]),
        ("none*.tif", False, []),
        ("missing.tif", False, ["missing.tif"]),
        ("https://host/a[1]?.tif", False, ["https://host/a[1]?.tif"]),
    ],
)
def test_a_name_stands_for_files(
    name: str, deep: bool, found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sorted; a file that is there is itself, even if its name is a glob."""
    for file in FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path)
    assert files_named(name, deep=deep) == found

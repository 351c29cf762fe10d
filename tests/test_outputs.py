"""check_output: refuses before the work, and makes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from geosynth.errors import OutputError, RasterError
from geosynth.files import check_output, writing


def test_an_existing_output_passes_only_with_overwrite(tmp_path: Path) -> None:
    existing = tmp_path / "image.tif"
    existing.touch()
    with pytest.raises(OutputError, match=r"image\.tif: exists already"):
        check_output(existing, overwrite=False)
    check_output(existing, overwrite=True)


def test_a_dangling_link_is_in_the_way_too(tmp_path: Path) -> None:
    (tmp_path / "image.tif").symlink_to(tmp_path / "gone")
    with pytest.raises(OutputError, match="exists already"):
        check_output(tmp_path / "image.tif", overwrite=False)


def test_missing_folders_are_fine_and_not_made(tmp_path: Path) -> None:
    check_output(tmp_path / "new" / "folder" / "image.tif", overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_the_system_refuses_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot be written: .*too long"):
        check_output(tmp_path / ("a" * 300 + ".tif"), overwrite=False)


def test_a_file_as_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file is not a folder that may be written to"):
        check_output(tmp_path / "file" / "new" / "image.tif", overwrite=False)


def test_a_folder_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may write anywhere, so the permission is taken away where it is asked for.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(OutputError, match="may be written to"):
        check_output(tmp_path / "image.tif", overwrite=False)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "image.tif: cannot be written: No space left on device"),
        (KeyError("first line\nsecond line"), "image.tif: cannot be written: "),
    ],
)
def test_failures_to_write_are_one_line(error: Exception, said: str) -> None:
    with pytest.raises(OutputError) as caught, writing(Path("image.tif"), KeyError):
        raise error
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_errors_of_ours_and_others_pass() -> None:
    for error in (RasterError("labels.tif: cannot be read"), ZeroDivisionError()):
        with pytest.raises(type(error)) as caught, writing(Path("image.tif")):
            raise error
        assert caught.value is error

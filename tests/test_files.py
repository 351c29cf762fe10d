"""Outputs: refused before the work begins, and replaced whole or not at all; and their digests."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from geosynth.errors import DataError, OutputError, RasterError
from geosynth.files import (
    check_name,
    check_output,
    delete,
    refuse_foreign,
    refuse_inputs,
    replace,
    replacing,
    write_whole,
    writing,
)
from geosynth.inputs import absolute, read_values, sha256_of
from geosynth.unfinished import check_place


def test_an_existing_output_passes_only_with_overwrite(tmp_path: Path) -> None:
    existing = tmp_path / "image.tif"
    existing.touch()
    with pytest.raises(OutputError, match=r"image\.tif: already exists"):
        check_output(existing, overwrite=False)
    check_output(existing, overwrite=True)
    check_output(tmp_path, overwrite=True)


def test_a_dangling_link_is_in_the_way_too(tmp_path: Path) -> None:
    (tmp_path / "image.tif").symlink_to(tmp_path / "gone")
    with pytest.raises(OutputError, match="already exists"):
        check_output(tmp_path / "image.tif", overwrite=False)


def test_missing_folders_are_fine_and_not_made(tmp_path: Path) -> None:
    check_output(tmp_path / "new" / "folder" / "image.tif", overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_the_system_refuses_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot be written: .*too long"):
        check_output(tmp_path / ("a" * 300 + ".tif"), overwrite=False)


@pytest.mark.parametrize("over", [0, 1])
def test_names_beside_it_are_not_too_long_either(over: int, tmp_path: Path) -> None:
    """Only the name itself was looked at; the first file of the work then failed, whose name nobody knows."""
    long = tmp_path / ("a" * (255 - len("..unfinished") + over))
    if not over:
        check_place(long)
        return
    with pytest.raises(OutputError, match=r"/a+: cannot be written: .*too long"):
        check_place(long)


def test_a_pipe_or_device_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tif")
    (tmp_path / "null.tif").symlink_to(os.devnull)
    for name in ("pipe.tif", "null.tif"):
        with pytest.raises(OutputError, match=f"{name}: is a pipe or a device"):
            check_output(tmp_path / name, overwrite=True)


def test_a_name_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    """GDAL takes none, which it would say when all is painted."""
    with pytest.raises(OutputError, match=r"udcff.tif': cannot be written: its name is not UTF-8"):
        check_output(tmp_path / os.fsdecode(b"\xff.tif"), overwrite=False)


def test_a_file_as_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch(0o755)  # which may be executed, as folders may
    with pytest.raises(OutputError, match="file is not a folder that may be written to"):
        check_output(tmp_path / "file" / "new" / "image.tif", overwrite=False)


@pytest.mark.parametrize("target", ["gone", "link"])
def test_a_link_to_no_folder_is_refused_as_a_folder(target: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / target)
    with pytest.raises(OutputError, match="link is not a folder that may be written to"):
        check_place(tmp_path / "link" / "image.tif")


@pytest.mark.parametrize("allowed", [os.R_OK | os.X_OK, os.R_OK | os.W_OK])
def test_a_folder_without_permission_is_refused(allowed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may write anywhere, so the permission is taken away where it is asked for.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path or mode | allowed == allowed)
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


def test_a_full_disk_is_said_where_the_library_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent folder does not exist yet, so it is the nearest that does whose disk is looked at."""

    def free(space: int) -> None:
        usage = SimpleNamespace(free=space)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage if folder == tmp_path else 1 / 0)

    for space, said in ((0, "No space left on device"), (1 << 30, "'block 7'")):
        free(space)
        with pytest.raises(OutputError, match=f"cannot be written: {said}$"), writing(tmp_path / "new/a.tif", KeyError):
            raise KeyError("block 7")


def test_the_cause_says_why_nothing_could_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot be written: bad tile$"), writing(tmp_path / "a.tif", RuntimeError):
        raise RuntimeError("unknown") from ValueError("bad tile\nin detail")
    with pytest.raises(OutputError, match=r"cannot be written: Quota"), writing(tmp_path / "a.tif", RuntimeError):
        try:
            raise OSError(122, "Quota exceeded")
        except OSError:
            raise RuntimeError("unknown")  # noqa: B904 - as in libraries


def test_errors_of_ours_and_others_pass() -> None:
    for error in (RasterError("labels.tif: cannot be read"), ZeroDivisionError()):
        with pytest.raises(type(error)) as caught, writing(Path("image.tif")):
            raise error
        assert caught.value is error


# --- Refusing what would be lost.


def test_an_output_that_is_an_input_or_holds_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("in/red.tif", "in/nir.tif", "other.tif"):
        write_whole(Path(name), name)
    Path("link.tif").symlink_to("in/nir.tif")
    others = [3, None, "nowhere.tif", "s3://bucket/{red,nir}.tif"]
    for inputs in (["in/red.tif"], [Path("in/nir.tif")], ["in/{red,nir}.tif"], ["link.tif"]):
        refuse_inputs(Path("new.tif"), [*others, *inputs])
        refuse_inputs(Path("other.tif"), [*others, *inputs])
        refuse_inputs(Path("in"), [*others, *inputs], replaced=False)
        with pytest.raises(OutputError, match=r"^in: holds \S+, an input that would be lost; choose another name$"):
            refuse_inputs(Path("in"), [*others, *inputs])
    for inputs in ([Path("in/nir.tif")], ["in/{red,nir}.tif"], ["link.tif"]):
        with pytest.raises(OutputError, match=r"^in/nir\.tif: is also an input and would be lost"):
            refuse_inputs(Path("in/nir.tif"), [*others, *inputs], replaced=False)


def test_only_folders_that_are_ours_or_empty_are_written_to(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_whole(tmp_path / "ours" / "mark.json", "{}")
    write_whole(tmp_path / "ours" / "more", "")
    for name in ("new", "empty", "ours"):
        refuse_foreign(tmp_path / name, "mark.json")
    write_whole(tmp_path / "foreign" / "letters", "")
    write_whole(tmp_path / "file", "")
    (tmp_path / "of folders" / "mark.json").mkdir(parents=True)
    for name in ("foreign", "file", "of folders"):
        with pytest.raises(OutputError, match=f"{name}: is a folder that holds something else"):
            refuse_foreign(tmp_path / name, "mark.json")


@pytest.mark.parametrize("name", ["a", "a.b", "...", "12_naip.tif", "\u68ee"])
def test_names_of_items_that_files_may_have(name: str) -> None:
    check_name(name, "list.csv")


@pytest.mark.parametrize("name", [".", "..", "../a", "/a", "a\\b", "a\0"])
def test_names_of_items_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(DataError, match=r"^list\.csv: the name '.*' cannot be a file name"):
        check_name(name, "list.csv")


# --- Replacing what is there.


def as_file(path: Path, content: str) -> None:
    path.write_text(content)


def as_folder(path: Path, content: str) -> None:
    path.mkdir()
    (path / "content").write_text(content)


def as_link(path: Path, content: str) -> None:
    as_folder(path.parent / "elsewhere", content)
    path.symlink_to(path.parent / "elsewhere")


def nothing(path: Path, content: str) -> None:
    pass


def content_of(path: Path) -> str | None:
    if path.is_dir():
        return (path / "content").read_text()
    return path.read_text() if path.exists() else None


Make = Callable[[Path, str], None]


@pytest.mark.parametrize("new", [as_file, as_folder])
@pytest.mark.parametrize("old", [nothing, as_file, as_folder, as_link])
def test_the_new_takes_the_place_of_the_old(new: Make, old: Make, tmp_path: Path) -> None:
    out, made = tmp_path / "out", tmp_path / "made"
    new(made, "new")
    old(out, "old")
    replace(made, out)
    assert content_of(out) == "new"
    assert out.is_dir() == (new is as_folder)
    assert not out.is_symlink()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"out"} | ({"elsewhere"} if old is as_link else set())
    assert old is not as_link or content_of(tmp_path / "elsewhere") == "old", "what a link leads to is not ours"


@pytest.mark.parametrize("new", [as_file, as_folder])
@pytest.mark.parametrize("old", [nothing, as_file, as_folder, as_link])
def test_where_the_new_cannot_take_its_place_both_stay(
    new: Make, old: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, made = tmp_path / "out", tmp_path / "made"
    new(made, "new")
    old(out, "old")
    before = {path.name for path in tmp_path.iterdir()}
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self == made:
            raise OSError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="Permission denied"):
        replace(made, out)
    assert content_of(made) == "new"
    assert content_of(out) == (None if old is nothing else "old")
    assert {path.name for path in tmp_path.iterdir()} == before


def test_what_a_kill_left_aside_does_not_stop_the_next_replacement(tmp_path: Path) -> None:
    as_folder(tmp_path / ".out.replaced", "older")
    for content in ("old", "new"):
        as_folder(tmp_path / "made", content)
        replace(tmp_path / "made", tmp_path / "out")
        assert content_of(tmp_path / "out") == content
        assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("make", [as_file, as_folder])
def test_an_error_while_it_is_made_leaves_the_old(make: Make, tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    make(out, "old")
    with pytest.raises(OutputError, match=r"out\.tif: cannot be written: No space"), replacing(out) as partial:
        assert partial.parent == tmp_path
        assert partial.suffix == ".tif"
        make(partial, "new")
        raise OSError(28, "No space left on device")
    assert content_of(out) == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.tif"]
    with replacing(out) as partial:
        make(partial, "new")
    assert content_of(out) == "new"


def test_any_name_that_a_file_can_have_is_replaced(tmp_path: Path) -> None:
    """Systems count its bytes: at most 255."""
    for name in ("a" * 240 + ".tif", "\u68ee" * 80 + ".tif", "\U0001f332" * 60 + ".tif"):
        write_whole(tmp_path / name, "made")
        assert (tmp_path / name).read_text() == "made"


@pytest.mark.parametrize("name", ["values.json", "values.yaml"])
def test_a_mark_of_the_byte_order_is_no_content(tmp_path: Path, name: str) -> None:
    """Windows' tools write it in front of UTF-8."""
    (tmp_path / name).write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_values(tmp_path / name) == {"a": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: 5\nseed: 1\nsteps: 6\n", "'steps' is given twice, the second time in line 3; give it once"),
        ("split:\n  scenes: {a: train, b: val,\n    'a': test}\n", "'a' is given twice, the second time in line 3"),
        ("classes:\n- {code: 1, name: a, code: 2}\n", "'code' is given twice, the second time in line 2"),
    ],
)
def test_a_key_that_is_said_twice_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """PyYAML takes the later one."""
    (tmp_path / "values.yaml").write_text(text)
    with pytest.raises(DataError, match=rf"values\.yaml: cannot be read as YAML: {message}"):
        read_values(tmp_path / "values.yaml")


def test_what_a_merge_brings_may_be_said_anew(tmp_path: Path) -> None:
    text = "c: {b: &b {<<: &a {x: 1, y: 2}, x: 3}}\nd: {<<: *b, z: 4}\ne: {x: 1, 1: x, '1': y}\n"
    (tmp_path / "values.yaml").write_text(text)
    assert read_values(tmp_path / "values.yaml") == yaml.safe_load(text)


@pytest.mark.parametrize("name", ["a.json", "a.JSON", "a.geojson"])
def test_json_is_not_read_as_yaml(tmp_path: Path, name: str) -> None:
    """In YAML this number is a text, and tabs are no indentation."""
    (tmp_path / name).write_text('{\n\t"shares": [1e3],\n\t"on": "2026-01-01"\n}')
    assert read_values(tmp_path / name) == {"shares": [1000.0], "on": "2026-01-01"}


def test_a_key_that_is_a_mapping_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text("? {a: 1}\n: 2\n")
    with pytest.raises(DataError, match=r"values\.yaml: cannot be read as YAML: ") as caught:
        read_values(tmp_path / "values.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["s3://bucket/a.tif", "https://host/a.tif", "/vsicurl/https://host/a.tif"])
def test_a_remote_name_is_the_same_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute(name) == name
    assert absolute("a.tif") == str(tmp_path / "a.tif")


def test_a_folder_is_made_for_a_file(tmp_path: Path) -> None:
    write_whole(tmp_path / "new" / "folder" / "a.json", "{}")
    assert (tmp_path / "new" / "folder" / "a.json").read_text() == "{}"
    with pytest.raises(OutputError, match=r"b\.json: cannot be written"):
        write_whole(tmp_path / "new" / "folder" / "a.json" / "b.json", "{}")


def test_folders_that_were_made_for_nothing_are_removed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "new" / "folder" / "a.tif"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_deleting_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    delete(tmp_path / "nothing")


def test_the_digest_of_one_file_and_of_several(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"a" * 3_000_000)
    second.write_bytes(b"b")
    assert sha256_of(first) == hashlib.sha256(b"a" * 3_000_000).hexdigest()
    assert sha256_of(first, str(second)) == hashlib.sha256(b"a" * 3_000_000 + b"b").hexdigest()


def test_the_digest_of_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sha256_of(tmp_path / "nowhere")

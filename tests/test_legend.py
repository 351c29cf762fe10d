"""Legend: codes to class indices and back, against a loop over pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from geosynth.errors import LegendError
from geosynth.legend import CHESAPEAKE, Legend, LegendClass, told_apart
from strategies import few, legends

INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", ">u2", ">i4"]


def naive_encode(legend: Legend, codes: np.ndarray) -> np.ndarray:
    index = {entry.code: position for position, entry in enumerate(legend.classes)}
    return np.array([index.get(int(code), len(index)) for code in codes.ravel()], dtype=int).reshape(codes.shape)


@pytest.mark.parametrize("dtype", INTEGERS)
@few
@given(st.data())
def test_encode_is_a_look_up(dtype: str, data: st.DataObject) -> None:
    info = np.iinfo(dtype)
    legend = data.draw(legends(max(info.min, -(2**63)), min(info.max, 2**63 - 1)))
    mixed = st.sampled_from([*legend.codes, *legend.nodata, info.min, info.max]) | st.integers(info.min, info.max)
    known = [code for code in mixed_list(data, mixed) if info.min <= code <= info.max]
    codes = np.array(known, dtype=dtype).reshape(1, -1)
    encoded = legend.encode(codes)
    assert encoded.dtype == np.uint8
    np.testing.assert_array_equal(encoded, naive_encode(legend, codes))


@pytest.mark.parametrize("first", [0, 1, 7, 249, 250, 65530])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_encode_of_codes_in_a_row(dtype: str, first: int) -> None:
    """Up to the type's last, and beyond it."""
    classes = [{"code": first + index, "name": f"class {index}"} for index in range(6)]
    legend = Legend.from_values({"name": "row", "classes": classes}, "row")
    codes = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
    np.testing.assert_array_equal(legend.encode(codes), naive_encode(legend, codes))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_encode_takes_any_shape(dtype: str) -> None:
    codes = np.arange(-2, 40).astype(dtype).reshape(2, 3, 7)
    for part in (codes, codes[:, ::-2, 1::2], codes.T, codes[0, 0, 3], codes[:0], np.asfortranarray(codes)):
        encoded = CHESAPEAKE.encode(part)
        assert encoded.shape == part.shape
        np.testing.assert_array_equal(encoded, naive_encode(CHESAPEAKE, np.asarray(part)))
    assert CHESAPEAKE.encode(codes).flags.writeable


def mixed_list(data: st.DataObject, codes: st.SearchStrategy[int]) -> list[int]:
    return data.draw(st.lists(codes, max_size=30))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_codes_outside_the_dtype_of_the_raster(dtype: str) -> None:
    codes = (-70000, 70000, 7, -1, 256, 65536, 0)
    legend = Legend.from_values({"name": "wide", "classes": [{"code": c, "name": str(c)} for c in codes]})
    assert legend.encode(np.array([7, 0, 100, 112], dtype=dtype)).tolist() == [2, 6, 7, 7]


@pytest.mark.parametrize(
    ("classes", "nodata", "code"),
    [([1], [0, 15], 15), ([1, 254], [], 255), ([255, 254, [7, 253]], [], 252), ([[*range(256), 257]], [], 256)],
)
def test_new_files_have_the_last_or_the_largest_free_code_where_there_is_no_class(
    classes: list[int | list[int]], nodata: list[int], code: int
) -> None:
    entries = [{"code": codes, "name": str(codes)} for codes in classes]
    assert Legend.from_values({"name": "own", "classes": entries, "nodata": nodata}).nodata_code == code


def test_values_that_are_no_legend_are_one_line() -> None:
    twice = [{"code": 1, "name": "a"}, {"code": 1, "name": "b"}]
    cases = (twice, "legend: code 1 appears more than once"), ([{}], "legend: classes.0.code: is needed")
    for classes, line in cases:
        with pytest.raises(LegendError) as caught:
            Legend.from_values({"name": "own", "classes": classes})
        assert str(caught.value).startswith(line)


def test_large_codes_that_differ_by_one_are_told_apart() -> None:
    """Where a float64 could not."""
    codes = np.array([2**53 + 1, 2**53, 2**53 + 2])
    legend = Legend.from_values(
        {"name": "large", "classes": [{"code": int(code), "name": str(code)} for code in codes]}
    )
    assert legend.encode(codes).tolist() == [0, 1, 2]
    assert legend.decode(np.array([2, 0, 3])).tolist() == [2**53 + 2, 2**53 + 1, 255]


def test_the_largest_unsigned_code_is_not_minus_one() -> None:
    legend = Legend.from_values({"name": "signed", "classes": [{"code": -1, "name": "a"}]})
    assert legend.encode(np.array([2**64 - 1], dtype=np.uint64)).tolist() == [1]


@few
@given(legends(), st.lists(st.integers(0, 11), max_size=20))
def test_decode_is_the_inverse(legend: Legend, indices: list[int]) -> None:
    wanted = np.array([index for index in indices if index <= legend.num_classes], dtype=np.uint8)
    codes = legend.decode(wanted)
    assert codes.dtype == legend.code_dtype
    assert ((codes == legend.nodata_code) == (wanted == legend.num_classes)).all()
    np.testing.assert_array_equal(legend.encode(codes), wanted)


@few
@given(legends())
def test_a_legend_survives_yaml(legend: Legend) -> None:
    again = Legend.from_values(yaml.safe_load(yaml.safe_dump(legend.model_dump(mode="json"), allow_unicode=True)))
    assert again == legend
    assert all(
        f"#{red:02x}{green:02x}{blue:02x}" == entry.colour.lower()
        for entry in again.classes
        for red, green, blue in [entry.rgb]
    )


def test_load_reads_a_file_and_knows_names(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("name: own\nnodata: [255]\nclasses:\n  - {code: 2, name: Wälder}\n", encoding="utf-8")
    legend = Legend.load(path)
    assert (legend.names, legend.codes, legend.nodata) == (("Wälder",), (2,), (255,))
    assert Legend.load("chesapeake") is CHESAPEAKE


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name: x\nclasses: []\n", "classes"),
        ("name: x\nclasses: [{code: 1}]\n", r"classes\.0\.name"),
        ("name: x\nclasses: [{code: 1, name: a}, {code: 1, name: b}]\n", "code 1 appears more than once"),
        ("name: x\nclasses: [{code: 1, name: a}, {code: 2, name: a}]\n", "class name a appears more than once"),
        ("name: x\nnodata: [1]\nclasses: [{code: 1, name: a}]\n", "code 1 appears more than once"),
        ("name: x\nclasses: [{code: 1, name: a, colour: red}]\n", r"classes\.0\.colour: must be a colour as '#0070C0'"),
        ("name: x\nclasses: [{code: 1, name: a, color: '#ffffff'}]\n", r"classes\.0\.color: there is no such entry"),
        ("name: x\nclasses: [{code: forest, name: a}]\n", r"classes\.0\.code"),
        ("name: x\nclasses: [{code: 99999999999999999999, name: a}]\n", r"classes\.0\.code"),
        ("name: x\nclasses: [{code: [1, 2], name: a}, {code: 2, name: b}]\n", "code 2 appears more than once"),
        ("name: x\nnodata: [2]\nclasses: [{code: [1, 2], name: a}]\n", "code 2 appears more than once"),
        ("name: x\nclasses: [{code: [], name: a}]\n", r"classes\.0\.code"),
        ("name: x\nclasses: [{code: [1, forest], name: a}]\n", r"classes\.0\.also\.0"),
        ("name: x\nnodata: ['#12']\nclasses: [{code: 1, name: a}]\n", r"nodata\.0\.colour: must be a colour"),
        ("name: x\nnodata: [sea]\nclasses: [{code: 1, name: a}]\n", r"nodata\.0\.code: must be a valid integer"),
        ("name: x\nclasses: [{code: 1, name: a, colour: ['#ffffff', red]}]\n", r"also_colours\.0: must be a colour"),
        ("name: x\nclasses: [{code: 2026-13-45, name: a}]\n", "cannot be read as YAML"),
        ("name: x\nclasses: [{code: 1" + "0" * 5000 + ", name: a}]\n", "cannot be read as YAML"),
        ("[" * 100_000, "nested too deep"),
        ("- 1\n- 2\n", "is a list or plain text, and not a legend; a legend has `name: NAME`, `classes:`"),
        ("water\n", "is a list or plain text, and not a legend"),
        ("1: water\n2: forest\n", "a legend has `name: NAME`, `classes:`"),
        ("name: x\nclasses: {1: water}\n", "classes: must be a list; .* lines as `- {code: 1, name: water}`"),
        ("name: x\nclasses: [water]\n", r"classes\.0: must be names with values; .* `- {code: 1, name: water}`"),
        ("name: x\nclasses: []\n", "classes: must not be empty"),
        ("name: x\nclasses: [{code: 1, name: ''}]\n", r"classes\.0\.name: must not be empty$"),
        ("name: x\nnodata: 0\nclasses: [{code: 1, name: a}]\n", r"nodata: must be a list; .* `nodata: \[0\]`"),
        ("name: [\n", "cannot be read as YAML"),
        ("\xff\x00", "cannot be read as YAML"),
        ("", "is empty, and not a legend; a legend has `name: NAME`, `classes:`"),
        ("# water is 1\n", "is empty, and not a legend"),
    ],
)
def test_one_line_says_what_is_wrong_with_a_file(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(LegendError, match=complaint) as caught:
        Legend.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_wrong_parts_are_one_line_too() -> None:
    with pytest.raises(LegendError, match=r"^legend: classes\.0\.code: must be a valid integer") as caught:
        Legend(name="a", classes=[{"code": "x", "name": "water"}])  # type: ignore[list-item]
    assert "\n" not in str(caught.value)


def test_a_missing_legend_names_the_built_in_ones(tmp_path: Path) -> None:
    with pytest.raises(LegendError, match=r"chesapeek.*\(chesapeake\)"):
        Legend.load("chesapeek")
    with pytest.raises(LegendError, match="neither"):
        Legend.load(tmp_path)


def test_unknown_codes_are_listed_with_counts() -> None:
    CHESAPEAKE.check({1: 5, 0: 3, 15: 2}, "md.tif")
    with pytest.raises(LegendError, match=r"^md\.tif: .*7 \(4 px\), 9 \(1 px\);") as caught:
        CHESAPEAKE.check({9: 1, 1: 5, 7: 4}, "md.tif")
    assert "1 (5 px)" not in str(caught.value)
    with pytest.raises(LegendError, match=r"and 88 more"):
        CHESAPEAKE.check(dict.fromkeys(range(100, 200), 1), "md.tif")


@pytest.mark.parametrize(("count", "more"), [(11, ""), (12, ""), (13, " and 1 more"), (14, " and 2 more")])
def test_twelve_unknown_codes_are_listed_by_code_and_by_name(count: int, more: str) -> None:
    legend = Legend.from_values(
        {"name": "own", "classes": [{"code": 1, "name": "a"}, {"code": 2, "name": "b"}], "nodata": [0]}
    )
    codes = range(100, 100 + count)
    listed = ", ".join(f"{code} 'c{code}' (1 px)" if code == 105 else f"{code} (1 px)" for code in codes[:12])
    with pytest.raises(LegendError) as caught:
        legend.check(dict.fromkeys(codes, 1), "md.tif", {105: "c105", 106: None})
    assert (
        str(caught.value) == f"md.tif: codes that legend 'own' does not know: {listed}{more}; it knows 0, 1, 2;"
        " choose another with --legend"
    )


def test_several_codes_mean_one_class(tmp_path: Path) -> None:
    path = tmp_path / "nlcd.yaml"
    path.write_text("name: nlcd\nnodata: [0]\nclasses: [{code: 11, name: water}, {code: [41, 42, 43], name: trees}]\n")
    legend = Legend.load(path)
    for dtype in (np.uint8, np.int32):
        codes = np.array([43, 11, 41, 0, 42, 90], dtype)
        assert legend.encode(codes).tolist() == [1, 0, 1, 2, 1, 2]
    assert legend.codes == (11, 41)
    assert legend.decode(np.array([1, 0, 2])).tolist() == [41, 11, 0]
    assert legend.unknown({41: 1, 43: 1, 44: 2}) == {44: 2}
    assert legend.count({41: 1, 43: 2, 11: 5, 0: 9}) == (5, 3)
    assert Legend.from_values(legend.model_dump(mode="json")) == legend
    assert legend.model_dump()["classes"][1]["code"] == [41, 42, 43]
    target = Legend.from_values({"name": "t", "classes": [{"code": c, "name": n} for c, n in ((1, "trees"), (2, "x"))]})
    with pytest.raises(LegendError, match="water"):
        legend.translation_to(target)
    two = Legend.from_values({**legend.model_dump(), "classes": legend.model_dump()["classes"][1:]}).translation_to(
        target
    )
    assert two.encode(np.array([41, 43, 2])).tolist() == [0, 0, 2]
    water = Legend.from_values({"name": "w", "classes": [{"code": 9, "name": "water"}]}).translation_to(legend)
    assert water.encode(np.array([9, 11, 41, 42])).tolist() == [0, 2, 2, 2]


@few
@given(legends(), st.data())
def test_codes_are_shared_out_among_classes(legend: Legend, data: st.DataObject) -> None:
    """Joining classes is joining what their codes are read as, and changes nothing else."""
    first, *others = legend.classes
    joined = Legend(name="joined", classes=(first.model_copy(update={"also": tuple(e.code for e in others)}),))
    codes = np.array(data.draw(st.lists(st.sampled_from([*legend.codes, *legend.nodata]), min_size=1)))
    np.testing.assert_array_equal(joined.encode(codes) == 0, legend.encode(codes) < legend.num_classes)


def test_translation_matches_classes_by_name() -> None:
    own = Legend.from_values(
        {
            "name": "own",
            "nodata": [99],
            "classes": [
                {"code": 40, "name": "barren"},
                {"code": 0, "name": "water"},
                {"code": 7, "name": "Tree_Canopy"},  # compared without regard to case, spaces, hyphens, underscores
            ],
        }
    )
    translation = own.translation_to(CHESAPEAKE)
    codes = np.array([[40, 0, 7, 99, 3]], dtype=np.uint8)
    names = [(*CHESAPEAKE.names, "-")[index] for index in translation.encode(codes).ravel()]
    assert names == ["barren", "water", "tree canopy", "-", "-"]
    assert translation.num_classes == CHESAPEAKE.num_classes
    assert translation.nodata == own.nodata
    assert translation.names == CHESAPEAKE.names
    assert CHESAPEAKE.translation_to(CHESAPEAKE) == CHESAPEAKE


def test_two_classes_that_are_one_to_the_target_are_refused() -> None:
    own = Legend.from_values({"name": "own", "classes": [{"code": 1, "name": "water"}, {"code": 2, "name": "Water"}]})
    with pytest.raises(LegendError, match="'own': two classes have the same name except for case"):
        own.translation_to(CHESAPEAKE)


def test_names_that_differ_by_signs_only_are_told_apart_where_they_are_the_same() -> None:
    classes = [{"code": 1, "name": "a b"}, {"code": 2, "name": "a_b"}]
    target = Legend.from_values({"name": "target", "classes": classes[::-1]})
    assert Legend.from_values({"name": "own", "classes": classes}).translation_to(target).codes == (2, 1)


def test_an_unknown_code_in_a_translation_lists_real_codes_only() -> None:
    own = Legend.from_values({"name": "own", "classes": [{"code": 40, "name": "barren"}]})
    with pytest.raises(LegendError, match=r"it knows 40; choose another with --legend$"):
        own.translation_to(CHESAPEAKE).check({3: 1}, "own.tif")


def test_translation_refuses_a_class_without_a_partner() -> None:
    own = Legend.from_values({"name": "own", "classes": [{"code": 1, "name": "vineyard"}]})
    with pytest.raises(
        LegendError, match=r"^legend 'chesapeake' has no class vineyard \(from legend 'own'\); it has water, tr"
    ):
        own.translation_to(CHESAPEAKE)
    with pytest.raises(LegendError, match=r"has no class barren, impervious \(other\), impervious \(roads\), low"):
        CHESAPEAKE.translation_to(own)


def test_legends_are_frozen_and_hashable() -> None:
    assert len({CHESAPEAKE, Legend.load("chesapeake")}) == 1
    with pytest.raises(ValueError):
        CHESAPEAKE.name = "other"  # type: ignore[misc]


def test_only_classes_without_a_colour_get_one() -> None:
    assert told_apart(["#123456", None, "#808080"])[0] == "#123456"
    assert told_apart(["#123456", "#808080"]) == ["#123456", "#808080"]
    made = told_apart([None, "#123456", *[None] * 20])
    assert len(set(made)) == len(made)
    assert LegendClass(code=1, name="x", colour=made[0]).colour == made[0]

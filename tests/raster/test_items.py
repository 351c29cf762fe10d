"""Lists of pairs: CSV, GeoJSON, GeoParquet, STAC; and files paired by name."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from geosynth.errors import DataError
from geosynth.inputs import band_files
from geosynth.raster.stores.item_list import list_items, read_items
from geosynth.raster.stores.items import Item, pair_files

ROWS = [
    {"image": "images/a.tif", "labels": "labels/a.tif", "name": "a", "fold": "train", "date": "2020-06-01"},
    {"image": "/data/b.tif", "labels": "https://host/b.tif", "name": "", "fold": "test", "date": ""},
]


def wanted(folder: Path) -> list[Item]:
    return [
        Item(str(folder / "images/a.tif"), str(folder / "labels/a.tif"), "a", "train", "2020-06-01"),
        Item("/data/b.tif", "https://host/b.tif", "", "test", None),
    ]


def write_csv(path: Path, rows: list[dict[str, Any]], delimiter: str = ",") -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_json(path: Path, values: Any) -> Path:
    path.write_text(json.dumps(values))
    return path


def features(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "type": "FeatureCollection",
        "features": [{"type": "Feature", "geometry": None, "properties": row} for row in rows],
    }


def stac_item(name: str, assets: dict[str, str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "properties": {"datetime": "2020-06-01T00:00:00Z", **properties},
        "assets": {key: {"href": href, "type": "image/tiff"} for key, href in assets.items()},
    }


def test_csv_and_tsv(tmp_path: Path) -> None:
    assert read_items(write_csv(tmp_path / "list.csv", ROWS)) == wanted(tmp_path)
    assert read_items(write_csv(tmp_path / "list.tsv", ROWS, "\t")) == wanted(tmp_path)


def test_a_csv_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "list.csv", ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_items(path) == wanted(tmp_path)


def test_geojson(tmp_path: Path) -> None:
    assert read_items(write_json(tmp_path / "list.geojson", features(ROWS))) == wanted(tmp_path)


def test_geoparquet(tmp_path: Path) -> None:
    geopandas = pytest.importorskip("geopandas")
    pytest.importorskip("pyarrow")
    import shapely

    rows = [{name: value or None for name, value in row.items()} for row in ROWS]
    table = geopandas.GeoDataFrame(rows, geometry=[shapely.box(0, 0, 1, 1)] * 2, crs="EPSG:4326")
    table.to_parquet(tmp_path / "list.parquet")
    assert read_items(tmp_path / "list.parquet") == wanted(tmp_path)


def test_a_list_in_a_column_of_geoparquet_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    pd.DataFrame({"image": ["a.tif"], "labels": ["b.tif"], "date": [["2018", "2019"]]}).to_parquet(path)
    with pytest.raises(DataError, match="row 1: date is a ndarray, not a text"):
        read_items(path)


def test_stac_items_and_collections(tmp_path: Path) -> None:
    one = stac_item("scene", {"image": "a.tif", "labels": "sub/a.tif", "nlcd": "n.tif"}, fold="val")
    item = Item(str(tmp_path / "a.tif"), str(tmp_path / "sub/a.tif"), "scene", "val", "2020-06-01T00:00:00Z")
    assert read_items(write_json(tmp_path / "one.json", one)) == [item]
    both = {"type": "FeatureCollection", "features": [one, {**one, "id": "other"}]}
    path = write_json(tmp_path / "both.json", both)
    assert [entry.name for entry in read_items(path)] == ["scene", "other"]
    assert read_items(path, extras=["nlcd"])[0].extras == {"nlcd": str(tmp_path / "n.tif")}


def test_stac_asset_keys_can_be_chosen(tmp_path: Path) -> None:
    path = write_json(tmp_path / "one.json", stac_item("scene", {"B": "a.tif", "truth": "t.tif", "labels": "l.tif"}))
    with pytest.raises(DataError, match=r"item scene: no asset image or .*; it has B, truth, labels: .*--image-asset"):
        read_items(path)
    (item,) = read_items(path, image_asset="B")
    assert item.labels.endswith("l.tif")
    (item,) = read_items(path, image_asset="B", labels_asset="truth")
    assert (item.image, item.labels) == (str(tmp_path / "a.tif"), str(tmp_path / "t.tif"))
    with pytest.raises(DataError, match="no asset grass"):
        read_items(path, image_asset="B", labels_asset="grass")


def test_stac_assets_of_one_band_each_are_one_image(tmp_path: Path) -> None:
    """As catalogues of Sentinel-2 and Landsat have them; such items tell no labels."""
    hrefs = {"red": "https://host/T1/B04.tif", "nir": "https://host/T1/B08.tif", "swir": "https://host/T1/R20m/B11.tif"}
    path = write_json(tmp_path / "one.json", stac_item("scene", hrefs))
    (tmp_path / "map.tif").touch()
    (item,) = read_items(path, image_asset=["red", "nir"], labels=tmp_path / "map.tif")
    assert item == Item(
        "https://host/T1/{red=B04,nir=B08}.tif", str(tmp_path / "map.tif"), "scene", None, "2020-06-01T00:00:00Z"
    )
    for keys in (["red", "nir"], ["swir", "red"], ["nir", "swir", "red"]):
        (item,) = read_items(path, image_asset=keys, labels=tmp_path / "map.tif")
        assert list(band_files(item.image).items()) == [(key, hrefs[key]) for key in keys]
    with pytest.raises(DataError, match="no asset blue; it has red, nir, swir: choose with --image-asset"):
        read_items(path, image_asset=["red", "blue"], labels=tmp_path / "map.tif")
    for other in ("https://host/T1/B04=.tif", "https://host/T1/B04,1.tif", hrefs["red"]):
        write_json(path, stac_item("scene", {**hrefs, "nir": other}))
        with pytest.raises(DataError, match="must differ in one part"):
            read_items(path, image_asset=["red", "nir"], labels=tmp_path / "map.tif")


def test_one_label_file_is_that_of_a_whole_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lists").mkdir()
    listed = write_csv(tmp_path / "lists" / "images.csv", [{"image": "a.tif"}, {"image": "b.tif"}])
    for name in ("map.tif", "other.tif"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)  # a relative name starts here, not at the list
    assert {item.labels for item in read_items(listed, labels="map.tif")} == {str(tmp_path / "map.tif")}
    with pytest.raises(DataError, match="2 files; with a list of items, one is that of all images"):
        read_items(listed, labels=["map.tif", "other.tif"])
    with pytest.raises(DataError, match="no value for 'labels'"):
        read_items(listed)


@pytest.mark.parametrize(
    ("href", "path"),
    [
        ("im/s%200.tif", "{folder}/im/s 0.tif"),
        ("file:///data/s%200.tif", "/data/s 0.tif"),
        ("https://host/s%200.tif", "https://host/s%200.tif"),
    ],
)
def test_references_of_stac_are_decoded_where_they_name_files(href: str, path: str, tmp_path: Path) -> None:
    listed = write_json(tmp_path / "item.json", stac_item("a", {"image": href, "labels": "l.tif"}))
    assert [item.image for item in read_items(listed)] == [path.format(folder=tmp_path)]


def test_extra_maps_are_columns(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "list.csv", [{**row, "nlcd": "n.tif"} for row in ROWS])
    assert [item.extras for item in read_items(path, extras=["nlcd"])] == [{"nlcd": str(tmp_path / "n.tif")}] * 2
    with pytest.raises(DataError, match="row 1: no value for 'height'; there are: image, labels"):
        read_items(path, extras=["height"])


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("list.csv", "image,mask\na,b\n", "row 1: no value for 'labels'"),
        ("list.csv", "image,labels\na,\n", "row 1: no value for 'labels'"),
        ("list.csv", "image,labels,fold\na,b,training\n", "fold 'training' is not one of train, val, test"),
        ("list.csv", "image,labels\n", "lists no pairs"),
        ("list.csv", "image,labels,name\na,b,../../c\n", "name '../../c' cannot be a file name"),
        ("list.csv", "image,labels,name\na,b,/c\n", "name '/c' cannot be a file name"),
        ("list.csv", "image,labels,name\na,b,..\n", "name '..' cannot be a file name"),
        ("list.csv", "image,labels,name\na,b,..\\c\n", "cannot be a file name"),
        ("list.csv", "\0", "lists no pairs|cannot be read"),
        ("list.json", "{", "cannot be read as JSON"),
        ("list.json", "[" * 100_000, "nested too deep"),
        ("list.json", '{"features": {"a": 1}}', "lists no pairs"),
        ("list.json", '{"features": [7]}', "row 1: holds no columns"),
        ("list.json", '{"features": [{"properties": [1]}]}', "row 1: holds no columns"),
        ("list.json", '{"features": [{"properties": null}]}', "row 1: holds no columns"),
        ("list.json", '{"features": [{"properties": {"image": {"a": 1}, "labels": "b"}}]}', "image is a dict, not a"),
        ("list.json", '{"assets": [1]}', "item 1: its assets and properties are no mappings"),
        ("list.json", '{"assets": {"image": "a.tif", "labels": "b.tif"}}', "item 1: its asset image has no href"),
        ("list.json", '{"assets": {"image": {"href": 7}, "labels": {}}}', "item 1: its asset image has no href"),
        ("list.json", '{"properties": 7, "assets": {"image": {"href": "a"}}}', "are no mappings"),
        ("list.csv", "image,labels\n\xff,b\n", "cannot be read as a list"),
        ("list.json", "[1]", "lists no pairs"),
        ("list.json", '{"features": []}', "lists no pairs"),
        ("list.parquet", "no", "cannot be read as a list|pyarrow"),
        ("list.xlsx", "", "not a list of pairs; it would end in .csv"),
        (None, "", "cannot be read as a list of pairs: .*No such file"),
    ],
)
def test_refusals(tmp_path: Path, name: str | None, text: str, complaint: str) -> None:
    path = tmp_path / (name or "absent.csv")
    if name:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=complaint) as caught:
        read_items(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_folder_of_other_files_is_refused_with_the_remedy(tmp_path: Path) -> None:
    for name in ("images/a.jpg", "masks/a.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    images, masks = str(tmp_path / "images"), str(tmp_path / "masks")
    with pytest.raises(DataError, match=r"no raster files in .*images \(only \.img, .*; a glob takes others, as in"):
        pair_files(images, masks)
    assert pair_files(f"{images}/*.jpg", f"{masks}/*.png") == [Item(f"{images}/a.jpg", f"{masks}/a.png")]
    with pytest.raises(DataError, match=r"no raster files in .*\*\.bmp$"):
        pair_files(f"{images}/*.bmp", masks)


def test_a_glob_of_folders_stands_for_their_files(tmp_path: Path) -> None:
    """As data sets of several regions lie; where a glob matches files, folders beside them are left alone."""
    for region in ("accra", "rio"):
        touch(tmp_path / region / "images", f"{region}_1.tif", "notes.txt")
        touch(tmp_path / region / "labels", f"{region}_1.tif")
    found = pair_files(f"{tmp_path}/*/images", f"{tmp_path}/*/labels/")
    assert [(Path(item.image).parts[-3:], Path(item.labels).parts[-3:]) for item in found] == [
        ((region, "images", f"{region}_1.tif"), (region, "labels", f"{region}_1.tif")) for region in ("accra", "rio")
    ]
    touch(tmp_path / "rio", "rio_2.tif")
    found = pair_files(f"{tmp_path}/rio/*", f"{tmp_path}/rio/rio_2.tif")
    assert [Path(item.image).name for item in found] == ["rio_2.tif"]
    with pytest.raises(DataError, match=r"no raster files in .*/\*/masks \(only .*, as in '.*/\*/masks/\*\.png'\)$"):
        pair_files(f"{tmp_path}/*/images", f"{tmp_path}/*/masks")
    with pytest.raises(
        DataError, match=r"no raster files in \S* \(its folders hold some, .*, as '\S*/\*\*/\*\.tif'\)$"
    ):
        pair_files(tmp_path, f"{tmp_path}/*/labels")


def test_a_zarr_store_is_one_file(tmp_path: Path) -> None:
    for kind in ("images", "labels"):
        touch(tmp_path / kind / "a.zarr", "zarr.json")
        touch(tmp_path / kind / "a.zarr" / "c", "0.tif")
    (found,) = pair_files(f"{tmp_path}/images/*.zarr", str(tmp_path / "labels" / "a.zarr"))
    assert (Path(found.image).name, Path(found.labels).name) == ("a.zarr", "a.zarr")


def touch(folder: Path, *names: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return str(folder)


@pytest.mark.parametrize(
    ("images", "labels", "partners"),
    [
        (["a_naip.tif", "b_naip.tif"], ["a_lc.tif", "b_lc.tif"], "ab"),
        (["a_1m_naip.tif", "b_1m_naip.tif"], ["a.tif", "b.tif"], "ab"),
        (["a-x.tif", "b-x.tif"], ["b.lc.tif", "a.lc.tif"], "ab"),
        (["tile_a.tif", "tile_ba.tif"], ["tile_a_lc.tif", "tile_ba_lc.tif"], "ab"),
        (["IMG_a.tif", "IMG_b.tif"], ["MSK_b.tif", "MSK_a.tif"], "ab"),
        (["a.tif", "b.tif"], ["MSK_b.tif", "MSK_a.tif"], "ab"),
        (["ROI_1_s2_a.tif", "ROI_1_s2_b.tif"], ["ROI_1_dfc_a.tif", "ROI_1_dfc_b.tif"], "ab"),
        (["sat_a_10m.tif", "sat_b_10m.tif"], ["map_a_30m.tif", "map_b_30m.tif"], "ab"),
        (["IMG_a.tif"], ["MSK_a.tif"], "a"),
    ],
)
def test_words_that_all_have_at_one_place_part_no_partners(
    tmp_path: Path, images: list[str], labels: list[str], partners: str
) -> None:
    pairs = pair_files(touch(tmp_path / "images", *images), touch(tmp_path / "labels", *labels))
    assert len(pairs) == len(partners)
    for pair, letter in zip(pairs, partners, strict=True):
        assert letter in Path(pair.image).stem.removeprefix("sat")
        assert letter in Path(pair.labels).stem.removesuffix("lc").removeprefix("map")


@pytest.mark.parametrize(
    ("image", "labels", "words"),
    [
        ("{}_s2_{}_p{}", "{}_lc_{}_p{}", ["spring 1 3", "spring 2 3", "fall 1 4"]),  # as SEN12MS
        ("{}_RGBI_{}_{}", "{}_LABEL-NEW_{}_{}", ["D1-2021 A-1 0-1", "D1-2021 A-1 1-0", "D2-2020 B-1 0-1"]),  # FLAIR-HUB
        ("IMG_{}_{}_{}", "MSK_{}_{}_{}", ["a 1 1", "1 a 1"]),
    ],
)
def test_names_that_differ_in_their_middle(tmp_path: Path, image: str, labels: str, words: list[str]) -> None:
    names = [(f"{image.format(*one.split())}.tif", f"{labels.format(*one.split())}.tif") for one in words]
    images, others = ([pair[side] for pair in names] for side in (0, 1))
    found = pair_files(touch(tmp_path / "images", *images), touch(tmp_path / "labels", *others))
    assert {(Path(item.image).name, Path(item.labels).name) for item in found} == set(names)


def test_files_of_one_name_are_paired_by_their_folders(tmp_path: Path) -> None:
    for kind, name in (("images", "1.tif"), ("labels", "1_lc.tif")):
        for region in ("accra", "rio"):
            touch(tmp_path / kind / region, name, f"2{name[1:]}")
    found = pair_files(f"{tmp_path}/images/*", f"{tmp_path}/labels/*")
    for item in found:
        assert Path(item.image).parts[-2] == Path(item.labels).parts[-2]
        assert Path(item.image).stem == Path(item.labels).stem.removesuffix("_lc")
    assert [item.name for item in found] == ["accra_1.tif", "accra_2.tif", "rio_1.tif", "rio_2.tif"]
    touch(tmp_path / "images" / "oslo", "1.tif")
    with pytest.raises(DataError, match=r"images: 1 names several files, which their folders do not pair; .*--items"):
        pair_files(f"{tmp_path}/images/*", f"{tmp_path}/labels/*")


def test_scenes_of_a_list_have_names_of_their_own(tmp_path: Path) -> None:
    """Or tiles of them would overwrite each other; of several dates the name stays that of the place."""
    images = ["a/x/1.tif", "b/x/1.tif", "b/x/2.tif"]
    rows = [{"image": image, "labels": "map.tif", "name": "", "date": ""} for image in images]
    assert [item.name for item in list_items(None, None, write_csv(tmp_path / "list.csv", rows))] == [
        "a_1.tif", "b_1.tif", ""
    ]  # fmt: skip
    named = [{**row, "name": "mine"} for row in rows]
    assert {item.name for item in list_items(None, None, write_csv(tmp_path / "list.csv", named))} == {"mine"}
    dated = [{**row, "date": f"201{number}-07-01"} for number, row in enumerate(rows)]
    assert {item.name for item in list_items(None, None, write_csv(tmp_path / "list.csv", dated))} == {""}


def test_names_without_partners_lead_to_the_list(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", "a_naip.tif", "b_naip.tif")
    with pytest.raises(DataError, match=r"2 have no partner: .*b_naip\.tif, .*c_lc\.tif; a list of pairs \(--items\)"):
        pair_files(images, touch(tmp_path / "labels", "a_lc.tif", "c_lc.tif"))
    with pytest.raises(DataError, match=r"absent: no such file or folder"):
        pair_files(images, tmp_path / "absent")


@pytest.mark.parametrize("labels", [("T1.tif", "T2.tif"), ("T1_lc.tif", "T2_lc.tif")])
def test_a_folder_of_files_of_one_band_each_leads_to_the_braces(tmp_path: Path, labels: tuple[str, ...]) -> None:
    bands = touch(tmp_path / "images", *(f"T{n}_{band}.jp2" for n in (1, 2) for band in ("B04", "B08")))
    with pytest.raises(DataError, match=r"6 have no partner: .*; bands in files of their own: '\*_\{red=B04,"):
        pair_files(bands, touch(tmp_path / "labels", *labels))
    images = touch(tmp_path / "scenes", "T1.tif", "T21.tif", "T22.tif")
    with pytest.raises(DataError, match=r"any name$"):
        pair_files(images, touch(tmp_path / "labels", *labels))


def test_one_label_file_is_that_of_all_images(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", "a.tif", "b.tif")
    pairs = pair_files(images, touch(tmp_path / "labels", "county.tif"))
    assert [Path(pair.labels).name for pair in pairs] == ["county.tif", "county.tif"]


def test_an_image_is_listed_once(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "list.csv", [ROWS[0], ROWS[1], {**ROWS[0], "labels": "other.tif"}])
    with pytest.raises(DataError, match=r"images/a\.tif: is in the list of items twice, as number 1 and 3"):
        list_items(None, None, path)

"""What stored values mean: told as rasterio, rioxarray and xarray tell it, and never mixed."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import rioxarray
import torch
import xarray as xr
from odc.geo.geobox import GeoBox

from geosynth.checkpoint import GeneratorModel, ModelCard
from geosynth.config import BandSettings, EncoderSettings, GeneratorSettings, SegmentSettings
from geosynth.config.bands import Quantity, first_known
from geosynth.errors import DataError, SettingsError
from geosynth.grid import Window
from geosynth.legend import CHESAPEAKE
from geosynth.models.encoder import StyleEncoder
from geosynth.models.generator import SpadeGenerator
from geosynth.models.looks.look import Look
from geosynth.models.looks.styles import style_size
from geosynth.mosaic.looks import look_from_images
from geosynth.mosaic.style import style_from_image
from geosynth.mosaic.summary import write_summary
from geosynth.mosaic.twin import legend_for
from geosynth.raster.cast import CastImage
from geosynth.raster.cog import CogWriter
from geosynth.raster.quantities import agreed_quantities
from geosynth.raster.raster_file import open_raster
from geosynth.raster.stac import write_stac_item
from geosynth.raster.stores.alike import check_alike, check_fits, check_twin
from geosynth.raster.stores.export import export_tiles
from geosynth.raster.stores.ingest import ingest
from geosynth.raster.stores.items import Item
from geosynth.raster.stores.open import open_in_place, open_zarr_in_place
from geosynth.raster.stores.painted import Painted
from geosynth.raster.stores.statistics import band_settings
from geosynth.raster.stores.store import Store
from geosynth.raster.stores.tiles import TileView
from geosynth.raster.zarr import ZarrRaster, describe_image
from geosynth.raster.zarr_image import zarr_image_writer
from geosynth.segmentation.classify import classify
from geosynth.segmentation.segmenter import Segmenter, SegmenterCard
from rasters import UTM, north_up, random_codes, random_image, write_raster
from scene_stores import make_scene_store

SIDE = 128
GRID = GeoBox((SIDE, SIDE), north_up(), UTM)
WHOLE = Window(0, 0, SIDE, SIDE)
BANDS = ("red", "green", "blue", "nir")
BEFORE, SINCE = Quantity(scale=0.0001), Quantity(scale=0.0001, offset=-0.1)  # Sentinel-2, by processing baseline
LANDSAT = Quantity(scale=0.0000275, offset=-0.2, unit="reflectance")
EACH = (BEFORE, SINCE, LANDSAT, Quantity(unit="m"))
REMEDY = (
    r"; write what the values of both mean \(rioxarray's mask_and_scale\) or correct what one says \(rasterio's .*\)$"
)


def scene(path: Path, quantities: tuple[Quantity, ...] = (), column: int = 0, **profile: Any) -> Path:
    """A uint16 image, and labels of its name in the folder `labels` beside its own."""
    values = random_image(column, SIDE, SIDE, dtype="uint16") * 40
    write_raster(path, values, north_up(column), photometric="minisblack", alpha="no", **profile)
    with rasterio.open(path, "r+") as file:
        file.descriptions = BANDS
        if quantities:
            file.scales = [quantity.scale for quantity in quantities]
            file.offsets = [quantity.offset for quantity in quantities]
            file.units = [quantity.unit or "" for quantity in quantities]
    write_raster(path.parent.parent / "labels" / path.name, random_codes(column, SIDE, SIDE), north_up(column))
    return path


def told_by(path: Path) -> tuple[Quantity, ...]:
    """As rasterio tells it."""
    with rasterio.open(path) as file:
        rows = zip(file.scales, file.offsets, file.units, strict=True)
        return tuple(Quantity(scale=scale, offset=offset, unit=unit or None) for scale, offset, unit in rows)


def read(values: np.ndarray) -> Any:
    """What reads windows of an image that has data everywhere."""
    return lambda window: (values[(slice(None), *window.slices)], np.ones((window.height, window.width), bool))


# The files of others


@pytest.mark.parametrize("quantities", [(), (SINCE,) * 4, EACH])
def test_a_file_a_vrt_of_it_and_another_type_say_the_same(tmp_path: Path, quantities: tuple[Quantity, ...]) -> None:
    path = scene(tmp_path / "images" / "a.tif", quantities)
    rasterio.shutil.copy(str(path), str(tmp_path / "a.vrt"), driver="VRT")
    assert open_raster(path).quantities == open_raster(tmp_path / "a.vrt").quantities == quantities
    assert CastImage(open_raster(path, (4, 2)), "float32").quantities == first_known(
        [[quantities[3], quantities[1]] if quantities else []]
    )
    described = open_raster(path).describe()["bands"]
    plain = {"scale": 1.0, "offset": 0.0, "unit": None}
    assert [{name: band.get(name, plain[name]) for name in plain} for band in described] == [
        one.model_dump() for one in told_by(path)
    ]


def test_nodata_is_a_stored_value(tmp_path: Path) -> None:
    path = scene(tmp_path / "images" / "a.tif", (SINCE,) * 4, nodata=1000)  # which means 0
    with rasterio.open(path, "r+") as file:
        file.write(np.full((4, 2, 2), 1000, np.uint16), window=((0, 2), (0, 2)))
    valid = open_raster(path).read(WHOLE)[1]
    assert not valid[:2, :2].any()
    assert valid.sum() == SIDE**2 - 4
    values = rioxarray.open_rasterio(path, mask_and_scale=True)
    np.testing.assert_array_equal(valid, ~np.isnan(values.to_numpy()).all(axis=0))


@pytest.mark.parametrize("scale", [0.0, float("nan")])
def test_a_scale_that_cannot_be_is_refused(tmp_path: Path, scale: float) -> None:
    path = scene(tmp_path / "images" / "a.tif")
    with rasterio.open(path, "r+") as file:
        file.scales = (1, 1, scale, 1)
    with pytest.raises(DataError, match=r"a\.tif: what it says of its values cannot be: scale: .*"):
        _ = open_raster(path).quantities


@pytest.mark.parametrize("each", [False, True])
def test_arrays_of_others_say_it_by_attributes_of_cf_and_of_rioxarray(tmp_path: Path, each: bool) -> None:
    path = scene(tmp_path / "images" / "a.tif", EACH if each else (LANDSAT,) * 4)
    image = rioxarray.open_rasterio(path, mask_and_scale=False)
    if not each:
        image = image.assign_attrs(units="reflectance")  # CF knows one for all
    image = (
        image.assign_coords(band=list(BANDS))
        .drop_attrs(deep=False)
        .assign_attrs(
            {
                name: value
                for name, value in image.attrs.items()
                if name in ("scales", "offsets", "scale_factor", "add_offset", "units")
            }
        )
    )
    labels = rioxarray.open_rasterio(tmp_path / "labels" / "a.tif").squeeze("band", drop=True)
    xr.Dataset({"image": image, "labels": labels}).to_zarr(tmp_path / "cube.zarr", consolidated=False)
    raster = ZarrRaster(tmp_path / "cube.zarr", "image")
    assert raster.quantities == told_by(path)
    assert [band.get("offset", 0) for band in raster.describe()["bands"]] == [one.offset for one in told_by(path)]
    source = open_zarr_in_place(tmp_path / "cube.zarr")
    assert source.quantities == told_by(path)
    np.testing.assert_array_equal(source.read_image(WHOLE), rasterio.open(path).read())


# What is written


@pytest.mark.parametrize("quantities", [(), (SINCE,) * 4, (LANDSAT,) * 4, EACH])
def test_an_image_says_to_others_what_it_means(tmp_path: Path, quantities: tuple[Quantity, ...]) -> None:
    values = random_image(0, SIDE, SIDE, dtype="uint16") * 40
    with CogWriter(
        tmp_path / "a.tif", GRID, BANDS, dtype="uint16", masked=False, tags={}, quantities=quantities
    ) as writer:
        writer.write(WHOLE, values, np.ones((SIDE, SIDE), bool))
    assert not (tmp_path / "a.tif.aux.xml").exists()
    assert told_by(tmp_path / "a.tif") == (quantities or (Quantity(),) * 4)
    np.testing.assert_array_equal(rasterio.open(tmp_path / "a.tif").read(), values)
    meant = np.stack(
        [quantity.of(band.astype(float)) for quantity, band in zip(quantities or EACH, values, strict=True)]
    )
    meant = meant if quantities else values
    decoded = rioxarray.open_rasterio(tmp_path / "a.tif", mask_and_scale=True)
    np.testing.assert_allclose(decoded, meant, rtol=1e-5, atol=1e-6)

    with zarr_image_writer(tmp_path / "a.zarr", GRID, BANDS, dtype="uint16", tags={}, quantities=quantities) as copy:
        copy(read(values))
    raw = xr.open_zarr(tmp_path / "a.zarr", decode_coords="all", mask_and_scale=False)["image"]
    np.testing.assert_array_equal(raw, values)
    if quantities != EACH:  # of each band another CF cannot tell
        assert raw.attrs.get("units") == (quantities[0].unit if quantities else None)
        decoded = xr.open_zarr(tmp_path / "a.zarr", decode_coords="all")["image"]
        np.testing.assert_allclose(decoded, meant, rtol=1e-5, atol=1e-6)
        assert decoded.dtype.kind == ("f" if quantities else "u")
    raw.drop_vars("valid").rio.to_raster(tmp_path / "b.tif")
    scales_and_offsets = [(one.scale, one.offset) for one in told_by(tmp_path / "b.tif")]
    assert scales_and_offsets == [(one.scale, one.offset) for one in told_by(tmp_path / "a.tif")]
    told = describe_image(tmp_path / "a.zarr")
    assert [band["dtype"] for band in told["bands"]] == ["uint16"] * 4
    assert [band.get("scale", 1) for band in told["bands"]] == [scale for scale, _ in scales_and_offsets]
    assert ZarrRaster(tmp_path / "a.zarr", "image").quantities == quantities
    assert told["tags"] == {}


def test_a_stac_item_tells_it(tmp_path: Path) -> None:
    path = scene(tmp_path / "images" / "a.tif", EACH)
    bands = json.loads(write_stac_item(path).read_text())["assets"]["image"]["raster:bands"]
    assert [(band.get("scale", 1), band.get("offset", 0), band.get("unit")) for band in bands] == [
        (one.scale, one.offset, one.unit) for one in EACH
    ]


def test_the_ndvi_of_a_summary_is_of_what_values_mean(tmp_path: Path) -> None:
    values = [random_image(seed, SIDE, SIDE, 2, "uint16") * 40 for seed in (1, 2)]
    out = write_summary(tmp_path / "a.tif", GRID, ("red", "nir"), list(map(read, values)), {}, quantities=(SINCE,) * 2)
    meant = [np.maximum(one * 0.0001 - 0.1, 0) for one in values]
    ndvi = [(nir - red) / np.where(nir + red == 0, 1, nir + red) for red, nir in meant]
    with rasterio.open(out) as summary:
        assert summary.descriptions[2:5] == ("red_std", "nir_std", "ndvi_mean")
        np.testing.assert_allclose(summary.read(5), np.mean(ndvi, axis=0), atol=1e-6)
        assert abs(summary.read(5)).max() <= 1
    np.testing.assert_allclose(
        rioxarray.open_rasterio(out, mask_and_scale=True)[:4],
        [
            *np.mean([one * 0.0001 - 0.1 for one in values], axis=0),
            *np.std([one * 0.0001 for one in values], axis=0, ddof=1),
        ],
        atol=1e-5,
    )


# Stores and models


def test_ingest_keeps_what_images_mean_to_the_tiles_and_the_settings_of_a_model(tmp_path: Path) -> None:
    for number in range(2):
        scene(tmp_path / "images" / f"{number}.tif", EACH, column=2 * SIDE * number)
    (store,) = ingest(tmp_path / "images", tmp_path / "labels", tmp_path / "store", shares=(1, 0, 0))
    (files,) = open_in_place(tmp_path / "images", tmp_path / "labels")
    assert store.quantities == files.quantities == Store(store.path).quantities == EACH
    assert store.describe()["quantities"] == [one.to_values() for one in EACH]
    assert [one.to_values() for one in EACH[::2]] == [
        {"scale": 0.0001},
        {"scale": 0.0000275, "offset": -0.2, "unit": "reflectance"},
    ]
    out = export_tiles(TileView(store, "train", 64, 64), tmp_path / "tiles")
    assert {told_by(tile) for tile in (out / "image").iterdir()} == {EACH}
    bands = band_settings([store])
    assert bands.quantities == EACH
    assert BandSettings.model_validate_json(bands.model_dump_json()) == bands
    assert bands.only([2, 0]).quantities == (LANDSAT, BEFORE)


def test_a_store_of_one_meaning_is_what_xarray_decodes(tmp_path: Path) -> None:
    image = scene(tmp_path / "images" / "a.tif", (SINCE,) * 4)
    ingest(image, tmp_path / "labels" / "a.tif", tmp_path / "store")
    decoded = xr.open_zarr(tmp_path / "store", decode_coords="all", consolidated=False)["image"]
    np.testing.assert_allclose(decoded, rioxarray.open_rasterio(image, mask_and_scale=True), rtol=1e-5, atol=1e-6)


def test_what_says_nothing_is_written_as_ever(tmp_path: Path) -> None:
    store = make_scene_store(tmp_path / "store", {"a": WHOLE})
    assert store.quantities == ()
    assert "quantities" not in store.facts()
    assert "quantities" not in store.describe()
    assert not {"scale_factor", "add_offset", "scales", "offsets", "units"} & set(store.image.attrs)
    bands = BandSettings(names=BANDS, quantities=(Quantity(),) * 4)
    assert bands.quantities == ()
    assert bands.model_dump_json() == '{"names":["red","green","blue","nir"],"low":0.0,"high":255.0,"dtype":"uint8"}'
    with pytest.raises(SettingsError, match=r"quantities: 3 for 4 bands"):
        BandSettings.parse({"names": BANDS, "quantities": [{"scale": 2}] * 3})


# What is mixed


@pytest.mark.parametrize(
    ("others", "complaint"),
    [
        (BEFORE, r"band red holds values x 0\.0001, but values x 0\.0001 - 0\.1 in a"),
        (LANDSAT, r"band red holds values x 2\.75e-05 - 0\.2 \(reflectance\), but .*"),
        (
            Quantity(scale=0.0001, offset=-0.1, unit="dB"),
            r".* - 0\.1 \(dB\), but values x 0\.0001 - 0\.1 \(reflectance\) in a",
        ),
    ],
)
def test_values_of_two_meanings_are_not_mixed(others: Quantity, complaint: str) -> None:
    known = SINCE.model_copy(update={"unit": "reflectance"}) if others.unit == "dB" else SINCE
    with pytest.raises(DataError, match=f"^b: {complaint}{REMEDY}"):
        agreed_quantities([("a", (known, SINCE)), ("b", (others, SINCE))], ("red", "nir"))


def test_what_is_rounded_to_float32_is_the_same(caplog: pytest.LogCaptureFixture) -> None:
    rounded = Quantity(scale=float(np.float32(0.0001)), offset=float(np.float32(-0.1)), unit="Reflectance")
    assert agreed_quantities([("a", (SINCE,)), ("b", (rounded,))], ("red",)) == (SINCE,)
    assert not caplog.messages


def test_what_says_nothing_beside_others_gives_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    told = [("a", ()), ("b", (BEFORE, Quantity())), ("c", ()), ("d", (BEFORE, SINCE))]
    with caplog.at_level(logging.WARNING):
        assert agreed_quantities(told, ("red", "nir")) == (BEFORE, SINCE)
        assert agreed_quantities([("a", ()), ("b", (Quantity(),))], ("red",)) == ()
    assert caplog.messages == [
        "a and 2 more: scale, offset and unit are not told; taken for those of the others (band red: values x 0.0001)"
    ]


def test_ingest_refuses_scenes_before_and_since_another_offset(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene(tmp_path / "images" / "1.tif", (BEFORE,) * 4)
    scene(tmp_path / "images" / "2.tif", (SINCE,) * 4, column=2 * SIDE)
    inputs = tmp_path / "images", tmp_path / "labels"
    line = r"2\.tif: band red holds values x 0\.0001 - 0\.1, but values x 0\.0001 in .*1\.tif" + REMEDY
    with pytest.raises(DataError, match=line):
        ingest(*inputs, tmp_path / "store")
    with pytest.raises(DataError, match=line):
        open_in_place(*inputs)
    # On another grid, and where it is warped, likewise.
    with pytest.raises(DataError, match=line):
        ingest(
            *inputs,
            tmp_path / "store",
            crs="EPSG:3857",
            resolution=1,
            resample_images="bilinear",
            resample_labels="mode",
        )
    assert not (tmp_path / "store").exists()
    scene(tmp_path / "images" / "2.tif", column=2 * SIDE)
    (store,) = ingest(*inputs, tmp_path / "store")
    assert store.quantities == (BEFORE,) * 4
    assert [line.partition(": ")[2] for line in caplog.messages if "unit" in line] == [
        "scale, offset and unit are not told; taken for those of the others (band red: values x 0.0001)"
    ]


@pytest.mark.parametrize("in_zarr", [False, True], ids=["files", "one in a Zarr store"])
def test_ingest_refuses_further_maps_of_two_meanings(tmp_path: Path, *, in_zarr: bool) -> None:
    """They are kept as raw values, so that metres and centimetres would stand in one map."""
    items = []
    for number, unit in enumerate(("m", "cm")):
        image = scene(tmp_path / "images" / f"{number}.tif", column=number * 2 * SIDE)
        height = tmp_path / f"height_{number}.tif"
        write_raster(height, random_codes(number, SIDE, SIDE), north_up(number * 2 * SIDE))
        with rasterio.open(height, "r+") as file:
            file.units = [unit]
        if in_zarr and number:
            with rioxarray.open_rasterio(height) as found:
                height = tmp_path / "height_1.zarr"
                found.to_dataset(name="height").to_zarr(height, consolidated=False)
        items.append(Item(str(image), str(tmp_path / "labels" / image.name), extras={"height": str(height)}))
    line = r"height_1\.(tif|zarr): band height holds values \(cm\), but values \(m\) in .*height_0\.tif" + REMEDY
    with pytest.raises(DataError, match=line):
        ingest(None, None, tmp_path / "store", items=items)
    assert not (tmp_path / "store").exists()
    (store,) = ingest(None, None, tmp_path / "store", items=items[:1])
    assert list(store.extras) == ["height"]


def test_sources_of_two_meanings_are_not_trained_on_together_nor_with_a_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    a, b, none = (
        make_scene_store(tmp_path / str(name), {"a": WHOLE}, dtype="uint16", quantities=quantities)
        for name, quantities in {"a": (SINCE,) * 4, "b": (BEFORE,) * 4, "none": ()}.items()
    )
    line = r"b: band red holds values x 0\.0001, but values x 0\.0001 - 0\.1 in .*a" + REMEDY
    for sources in ([a, b], [a, none, b], [none, a, b]):
        with pytest.raises(DataError, match=line):
            check_alike(sources)
    with pytest.raises(DataError, match=line):
        check_twin(b, a)
    model = tmp_path / "model of a"
    with pytest.raises(DataError, match=line):
        check_fits([none, a, b], model, b.legend.names, band_settings([a]))
    caplog.clear()
    check_fits([none, a, none], model, none.legend.names, band_settings([a]))
    check_fits([a, a], model, none.legend.names, BandSettings(names=BANDS, dtype="uint16"))
    assert [line.partition(": scale")[0] for line in caplog.messages] == [none.path, str(model)]
    card = ModelCard.model_construct(bands=band_settings([b]), legend=CHESAPEAKE)
    with pytest.raises(DataError, match=r"^model of b: band red holds values x 0\.0001, but .*a" + REMEDY):
        legend_for(card, Path("model of b"), a)
    assert band_settings([none, a]).quantities == (SINCE,) * 4


def test_a_twin_means_what_its_source_says_or_else_its_model(tmp_path: Path) -> None:
    silent, told = (
        make_scene_store(tmp_path / str(len(quantities)), {"a": WHOLE}, quantities=quantities)
        for quantities in ((), (SINCE,) * 4)
    )
    assert Painted(silent, silent.read, {}, EACH).quantities == EACH
    assert Painted(told, told.read, {}, ()).quantities == (SINCE,) * 4
    assert Painted(silent, silent.read, {}).quantities == ()


def test_a_model_that_goes_on_takes_what_it_does_not_know_from_the_data() -> None:
    unknown, known = BandSettings(names=("red", "nir")), (SINCE, SINCE)
    assert unknown.with_quantities(known).quantities == known
    assert unknown.with_quantities(known).with_quantities((BEFORE, BEFORE)).quantities == known
    assert unknown.with_quantities(()) == unknown


@pytest.mark.parametrize("verb", ["style", "look", "classify"])
def test_an_image_of_another_meaning_is_refused(tmp_path: Path, verb: str) -> None:
    path = scene(tmp_path / "images" / "a.tif", (BEFORE,) * 4)
    bands = BandSettings(names=BANDS, high=10000, dtype="uint16", quantities=(SINCE,) * 4)
    line = r"a\.tif: band red holds values x 0\.0001, but values x 0\.0001 - 0\.1 in .*model" + REMEDY
    small: dict[str, Any] = {"num_classes": 6, "num_bands": 4, "base_width": 4, "hidden_channels": 4}
    if verb == "classify":
        judge = SegmenterCard(settings=SegmentSettings(), legend=CHESAPEAKE, bands=bands, gsd=None)
        with pytest.raises(DataError, match=line):
            classify(path, Segmenter(torch.nn.Identity(), judge, Path("the model")), tmp_path / "classes.tif")
        return
    lengths = {"style_lengths": (16,) * 6, "latent_size": 0} if verb == "look" else {"latent_size": 4}
    generator = GeneratorSettings(**small, **lengths)
    encoder = None if verb == "look" else EncoderSettings(num_bands=4, latent_size=4, base_width=2)
    card = ModelCard(settings=generator, legend=CHESAPEAKE, bands=bands, gsd=None, encoder=encoder)
    size = style_size(4)
    look = Look(torch.zeros(6, size), torch.zeros(1, 6, 1, size), torch.ones(6))
    model = GeneratorModel(
        SpadeGenerator(generator), card, Path("the model"), encoder and StyleEncoder(encoder), {"a look": look}
    )
    with pytest.raises(DataError, match=line):
        style_from_image(path, model) if encoder else look_from_images([path], [], model)

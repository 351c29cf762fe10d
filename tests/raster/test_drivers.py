"""What local files may make GDAL do: nothing behind a network that nobody asked for, nothing written, no odd format."""

from __future__ import annotations

import json
import os
import re
import select
import socket
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import xarray as xr

import geosynth
from geosynth.errors import DataError, GeosynthError, RasterError
from geosynth.raster.drivers import reaches_network
from geosynth.raster.raster_file import RasterFile, open_raster
from rasters import north_up, random_codes, write_raster

SIDE = 20


class Listener:
    """A port that takes connections and answers none."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def was_asked(self) -> bool:
        asked = False
        while select.select([self._socket], [], [], 0)[0]:
            self._socket.accept()[0].close()
            asked = True
        return asked


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """Reached by every way that GDAL has."""
    listener = Listener()
    for name in ("http_proxy", "https_proxy", "all_proxy", "GDAL_HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in {
        "no_proxy": "*",
        "GDAL_HTTP_TIMEOUT": "1",
        "AWS_S3_ENDPOINT": listener.address,
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "AWS_NO_SIGN_REQUEST": "YES",
    }.items():
        monkeypatch.setenv(name, value)
    yield listener
    listener._socket.close()


def vrt(source: str, size: bool = True, relative: int = 0) -> str:
    told = (
        f'<SourceProperties RasterXSize="{SIDE}" RasterYSize="{SIDE}" DataType="Byte" BlockXSize="20" BlockYSize="20"/>'
    )
    rectangle = f'xOff="0" yOff="0" xSize="{SIDE}" ySize="{SIDE}"'
    properties = told if size else ""
    return (
        f'<VRTDataset rasterXSize="{SIDE}" rasterYSize="{SIDE}"><GeoTransform>10, 1, 0, 20, 0, -1</GeoTransform>'
        f'<VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="{relative}">{source}</SourceFilename><SourceBand>1</SourceBand>'
        f"{properties}<SrcRect {rectangle}/><DstRect {rectangle}/></SimpleSource></VRTRasterBand></VRTDataset>"
    )


def wms(server: str) -> str:
    return (
        f'<GDAL_WMS><Service name="TMS"><ServerUrl>http://{server}/${{z}}/${{x}}/${{y}}.png</ServerUrl></Service>'
        "<DataWindow><UpperLeftX>0</UpperLeftX><UpperLeftY>20</UpperLeftY><LowerRightX>20</LowerRightX>"
        "<LowerRightY>0</LowerRightY><SizeX>20</SizeX><SizeY>20</SizeY><TileLevel>0</TileLevel></DataWindow>"
        "<BandsCount>1</BandsCount></GDAL_WMS>"
    )


def overviews(name: str) -> str:
    return f'<Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{name}</MDI></Metadata>'


def labels(path: Path, **profile: Any) -> Path:
    return write_raster(path, random_codes(0, SIDE, SIDE), north_up(), **profile)


def _tagged(path: Path, server: str) -> None:
    with rasterio.open(labels(path), "r+") as dataset:
        dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=f"http://{server}/a.tif")


def _nested(path: Path, server: str) -> None:
    (path.parent / "inner.tif").write_text(vrt(f"/vsicurl/http://{server}/a.tif"))
    path.write_text(vrt("inner.tif", relative=1))


def _zipped(path: Path, server: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.vrt", vrt(f"http://{server}/a.tif"))


def _text(text: Callable[[str], str]) -> Callable[[Path, str], None]:
    return lambda path, server: path.write_text(text(server)) and None


def _beside(suffix: str, text: Callable[[str], str]) -> Callable[[Path, str], None]:
    def make(path: Path, server: str) -> None:
        Path(f"{labels(path)}{suffix}").write_text(text(server))

    return make


# Name of the file, and what makes it.
HOSTILE: dict[str, Callable[[Path, str], None]] = {
    "vrt of a URL": _text(lambda server: vrt(f"http://{server}/a.tif", size=False)),
    "vrt of a URL whose size is told": _text(lambda server: vrt(f"http://{server}/a.tif")),
    "vrt with one slash": _text(lambda server: vrt(f"http:/{server}/a.tif", size=False)),
    "vrt of a file behind a URL": _text(lambda server: vrt(f"/vsicurl/http://{server}/a.tif", size=False)),
    "vrt of an archive behind a URL": _text(lambda server: vrt(f"/vsizip//vsicurl/http://{server}/a.zip", size=False)),
    "vrt of a bucket": _text(lambda server: vrt("/vsis3/bucket/a.tif", size=False)),
    "vrt in a vrt": _text(
        lambda server: vrt(vrt(f"http://{server}/a.tif", size=False).replace("<", "&lt;"), size=False)
    ),
    "vrt of a vrt": _nested,
    "vrt of a service": _text(lambda server: vrt(wms(server).replace("<", "&lt;"), size=False)),
    "service": _text(wms),
    "coverage": _text(
        lambda server: f"<WCS_GDAL><ServiceURL>http://{server}/?</ServiceURL><CoverageName>a</CoverageName></WCS_GDAL>"
    ),
    "tiles": _text(
        lambda server: f"<GDAL_WMTS><GetCapabilitiesUrl>http://{server}/a.xml</GetCapabilitiesUrl></GDAL_WMTS>"
    ),
    "overviews by a tag": _tagged,
    "overviews by a side file": _beside(
        ".aux.xml", lambda server: f"<PAMDataset>{overviews(f'/vsicurl/http://{server}/a.tif')}</PAMDataset>"
    ),
    "overviews that are a service": _beside(".ovr", wms),
    "mask that is a service": _beside(".msk", wms),
    "overviews that are a vrt": _beside(".ovr", lambda server: vrt(f"http://{server}/a.tif", size=False)),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_local_file_reaches_no_network(tmp_path: Path, listener: Listener, kind: str) -> None:
    path = tmp_path / "labels.tif"
    HOSTILE[kind](path, listener.address)
    for look in (open_raster, geosynth.info):
        with pytest.raises(RasterError, match=r"labels\.tif") as caught:
            look(path)
        assert "\n" not in str(caught.value)
    assert not listener.was_asked()


@pytest.mark.parametrize("kind", ["vrt of a URL", "vrt of an archive behind a URL", "vrt of a bucket"])
def test_what_was_refused_would_have_reached_it(
    tmp_path: Path, listener: Listener, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "labels.tif"
    HOSTILE[kind](path, listener.address)
    monkeypatch.setenv("GEOSYNTH_REMOTE", "1")
    with pytest.raises(RasterError):
        raster = open_raster(path)
        raster.read(raster.window)
    assert listener.was_asked()


def test_an_archive_is_read_but_nothing_in_it_that_names_files(tmp_path: Path, listener: Listener) -> None:
    _zipped(tmp_path / "a.zip", listener.address)
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        archive.write(labels(tmp_path / "labels.tif"), "labels.tif")
    raster = open_raster(f"/vsizip/{tmp_path}/a.zip/labels.tif")
    np.testing.assert_array_equal(raster.read(raster.window)[0][0], random_codes(0, SIDE, SIDE))
    assert open_raster(f"zip://{tmp_path}/a.zip!labels.tif").geobox == raster.geobox
    with pytest.raises(RasterError, match="its format is not one that is opened"):
        open_raster(f"/vsizip/{tmp_path}/a.zip/a.vrt")
    assert not listener.was_asked()


def test_vrts_of_files_are_read(tmp_path: Path) -> None:
    labels(tmp_path / "a.tif")
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(tmp_path / "a.tif", "r+") as dataset:
        dataset.build_overviews([2])
    paths = [tmp_path / "relative.vrt", tmp_path / "absolute.vrt", tmp_path / "nested.vrt", tmp_path / "gone.vrt"]
    metadata = "<Metadata><MDI key='see'>https://example.org</MDI></Metadata><SRS>EPSG:26917</SRS><VRTRasterBand"
    for path, source, relative in zip(
        paths, ("a.tif", f"{tmp_path}/a.tif", "relative.vrt", "b.tif"), (1, 0, 1, 1), strict=True
    ):
        path.write_text(vrt(source, relative=relative).replace("<VRTRasterBand", metadata))
    for path in paths[:3]:
        raster = open_raster(path)
        np.testing.assert_array_equal(raster.read(raster.window)[0][0], random_codes(0, SIDE, SIDE))
        assert raster.tags["see"] == "https://example.org"
    with pytest.raises(RasterError, match=r"gone\.vrt: cannot read rows 0-19"):
        raster = open_raster(paths[3])
        raster.read(raster.window)


def test_a_vrt_whose_xml_is_not_sound(tmp_path: Path) -> None:
    for number, text in enumerate(
        (vrt("a.tif")[:-9], f"<!DOCTYPE a [<!ENTITY b 'c'>]>{vrt('&b;')}", "<VRTDataset" + "<a>" * 50_000)
    ):
        path = tmp_path / f"{number}.vrt"
        path.write_text(text)
        with pytest.raises(RasterError, match=rf"{number}\.vrt: its XML cannot be read"):
            open_raster(path)


def test_reading_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caching MRF copies what it reads into files beside it."""
    labels(tmp_path / "source.tif")
    cache = tmp_path / "labels.tif"
    cache.write_text(
        f"<MRF_META><CachedSource><Source>{tmp_path}/source.tif</Source></CachedSource>"
        f'<Raster><Size x="{SIDE}" y="{SIDE}" c="1"/><PageSize x="{SIDE}" y="{SIDE}" c="1"/><DataType>Byte</DataType>'
        "<DataFile>cache.ppg</DataFile><IndexFile>cache.idx</IndexFile></Raster></MRF_META>"
    )
    (tmp_path / "labels.vrt").write_text(vrt("labels.tif", relative=1))
    before = sorted(tmp_path.iterdir())
    for name in ("labels.tif", "labels.vrt"):
        with pytest.raises(RasterError, match="not one that is opened; GEOSYNTH_DRIVERS"):
            geosynth.info(tmp_path / name)
    assert sorted(tmp_path.iterdir()) == before
    monkeypatch.setenv("GEOSYNTH_DRIVERS", "GTiff, MRF")
    raster = open_raster(cache)
    raster.read(raster.window)
    assert sorted(tmp_path.iterdir()) != before


def test_an_archive_is_told_apart_from_other_formats(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zarr.zip", "w") as archive:
        archive.writestr("zarr.json", "{}")
    with pytest.raises(
        RasterError, match=r"a\.zarr\.zip: .* is an archive: .*zip://FILE!NAME .*; unpack a Zarr store$"
    ):
        open_raster(tmp_path / "a.zarr.zip")


def test_a_file_of_no_bytes_is_told_apart_from_other_formats(tmp_path: Path) -> None:
    (tmp_path / "a.tif").touch()
    with pytest.raises(RasterError, match=r"a\.tif: cannot be opened as a raster: the file is empty"):
        open_raster(tmp_path / "a.tif")


def test_the_list_of_formats_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOSYNTH_DRIVERS", "PNG,VRT")
    with pytest.raises(
        RasterError, match=r"a\.tif: cannot be opened as a raster: its format is not one that is opened"
    ):
        open_raster(labels(tmp_path / "a.tif"))
    monkeypatch.setenv("GEOSYNTH_DRIVERS", "GTiff")
    assert RasterFile(tmp_path / "a.tif").driver == "GTiff"


POLYGON = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
FEATURE = {"type": "Feature", "properties": {"class": "water", "type": "link", "fold": "train"}, "geometry": POLYGON}


@pytest.mark.parametrize(
    ("member", "told"),
    [
        ('"crs": {"type": "link", "properties": {"href": "URL", "type": "proj4"}}', "network"),
        ('"crs":{"properties":{"url":"URL"},"type":"url"}', "network"),
        ('"\\u0063R\\u0053" :\n{"TYPE": "Link", "properties": {"href": "URL"}}', "network"),
        ('"crs": {"a": "' + "x" * (1 << 20) + '", "type": "link", "properties": {"href": "URL"}}', "damaged"),
    ],
    ids=["link", "url", "spelled otherwise", "far apart"],
)
def test_geojson_whose_crs_is_an_address_is_refused(tmp_path: Path, listener: Listener, member: str, told: str) -> None:
    path = tmp_path / "land.geojson"
    text = json.dumps({"type": "FeatureCollection", "features": [FEATURE]})
    path.write_text(text[:-1] + ", " + member.replace("URL", f"http://{listener.address}/crs") + "}")
    with pytest.raises(DataError, match=rf"land\.geojson: .*{told}"):
        geosynth.rasterize(path, tmp_path / "out.tif", "class", resolution=1000, crs="EPSG:3857")
    with pytest.raises(DataError, match=rf"land\.geojson: .*{told}"):
        geosynth.check_split(path)
    assert not listener.was_asked()


def test_geojson_that_names_its_crs_is_read(tmp_path: Path, listener: Listener) -> None:
    path = tmp_path / "land.geojson"
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::3857"}}
    named = {**FEATURE, "properties": {"class": "water", "quotes": 'it\'s "crs": {/', "crs": {"number": 1}}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [named]}))
    geosynth.rasterize(path, tmp_path / "out.tif", "class", resolution=1)
    assert not listener.was_asked()


@pytest.mark.parametrize("attribute", ["spatial_ref", "crs_wkt", "crs"])
def test_an_array_whose_crs_is_an_address_is_refused(tmp_path: Path, listener: Listener, attribute: str) -> None:
    def write(crs: str) -> Path:
        place = {"y": 10 - np.arange(4.0), "x": np.arange(5.0)}
        layer = xr.DataArray(np.ones((4, 5), np.uint8), place, ("y", "x"), "labels")
        if attribute == "crs":
            layer = layer.assign_attrs(crs=crs)
        else:
            layer = layer.assign_coords(spatial_ref=((), 0, {attribute: crs})).assign_attrs(grid_mapping="spatial_ref")
        layer.to_dataset().to_zarr(tmp_path / "labels.zarr", mode="w", zarr_format=3, consolidated=False)
        return tmp_path / "labels.zarr"

    address = f"http://{listener.address}/crs"
    with pytest.raises(RasterError, match=r"labels\.zarr: its CRS is read from the network .*; use --remote"):
        geosynth.view([write(address)], tmp_path / "a.html")
    assert not listener.was_asked()
    with pytest.raises(RasterError, match=r"labels\.zarr: its CRS cannot be read"):
        geosynth.view([write("nothing known")], tmp_path / "a.html")
    geosynth.view([write("http://www.opengis.net/def/crs/EPSG/0/26917")], tmp_path / "a.html")


def test_a_crs_that_is_an_address_can_be_allowed(
    tmp_path: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOSYNTH_REMOTE", "1")
    link = {"type": "link", "properties": {"href": f"http://{listener.address}/crs"}}
    path = tmp_path / "land.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": link, "features": [FEATURE]}))
    with suppress(GeosynthError):
        geosynth.check_split(path)
    assert listener.was_asked()


def test_the_command_line_says_it_anywhere(
    tmp_path: Path, listener: Listener, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.vrt").write_text(vrt(f"http://{listener.address}/a.tif"))
    monkeypatch.setenv("GEOSYNTH_REMOTE", "")  # which is set back after the test
    assert "use --remote" in run("info", tmp_path / "a.vrt").err
    assert not listener.was_asked()
    assert "use --remote" not in run("info", tmp_path / "a.vrt", "--remote").err


def test_names_that_reach_a_network() -> None:
    for name in (
        "http://a/b.tif",
        "s3://a/b",
        "HTTPS:/a",
        "zip+https://a.zip!b",
        "/vsizip//vsicurl/ftp://a",
        "/vsigs/a",
    ):
        assert reaches_network(name)
    for name in (
        "a.tif",
        "/data/http/a.tif",
        "file:///a.tif",
        "zip://a.zip!b.tif",
        "/vsizip/a.zip/b.tif",
        "NETCDF:a.nc:b",
    ):
        assert not reaches_network(name)


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    """Neither where they are named, nor in a VRT."""
    pipe, vrt = tmp_path / "pipe.tif", tmp_path / "a.vrt"
    good = write_raster(tmp_path / "a.tif", random_codes(0, 20, 20), north_up())
    with rasterio.open(good) as dataset:
        rasterio.shutil.copy(dataset, vrt, driver="VRT")
    vrt.write_text(vrt.read_text().replace("a.tif", "pipe.tif"))
    os.mkfifo(pipe)
    for path in (pipe, vrt):
        with pytest.raises(RasterError, match=r"is a pipe or a device and cannot be read as a raster"):
            open_raster(path)


@pytest.mark.parametrize(
    "beside", ["a.tif.ovr", "a.tif.msk", "a.tif.aux.xml", "a.aux", "a.tfw", "a.tifw", "a.wld", "a_RPC.TXT"]
)
def test_pipes_beside_a_raster_are_not_waited_for(tmp_path: Path, beside: str) -> None:
    """Nor beside what a VRT is made of."""
    good, vrt = write_raster(tmp_path / "a.tif", random_codes(0, 20, 20), north_up()), tmp_path / "b.vrt"
    with rasterio.open(good) as dataset:
        rasterio.shutil.copy(dataset, vrt, driver="VRT")
    os.mkfifo(tmp_path / beside)
    for path in (good, vrt):
        with pytest.raises(RasterError, match=rf"{re.escape(beside)} beside it is a pipe or a device"):
            open_raster(path)

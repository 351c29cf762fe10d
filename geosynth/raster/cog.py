"""Writing Cloud Optimized GeoTIFFs window by window, in bounded memory; the file is complete or does not appear.

Windows are written, in any order, to an uncompressed tiled scratch file, which in the end gets overviews and is
rewritten as a COG. This was the fastest way found with so little memory; meanwhile it needs about 2.3 times the raw
size on disk. Blocks without data take no space in either file.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
from odc.geo.geobox import GeoBox
from PIL import Image
from rasterio.enums import Resampling

from geosynth.config.bands import Quantity
from geosynth.files import delete, delete_sidecars, parents_of, partial_name, replacing, writing
from geosynth.grid import Window
from geosynth.grid.crs import crs_wkt
from geosynth.parallel import after_fork, apart
from geosynth.progress import Progress, silent
from geosynth.raster.bands import colour_interpretation, photometric
from geosynth.raster.drivers import GDAL_ERRORS, check_can_write
from geosynth.raster.mark import mark_of, write_mark
from geosynth.raster.quantities import write_quantities
from geosynth.raster.read import CACHE_BYTES, Array, Mask, filled
from geosynth.raster.written import WrittenPixels

_BLOCK = 512
_LONG = 1 << 25  # pixels; from here on GDAL finishes the file in a separate process; fewer take a few seconds
_STEPS = 3  # of finishing: overviews and statistics, compression, reading back
_HEADERS = 1 << 18  # bytes, at most, of a scratch file besides its blocks and their entries
_PLACE = 16  # bytes of an entry: offset and length of a block of a band


_SETTINGS: dict[str, Any] = {
    "GDAL_TIFF_INTERNAL_MASK": True,
    "GDAL_NUM_THREADS": "ALL_CPUS",
    "GDAL_CACHEMAX": CACHE_BYTES,
    "SPARSE_OK_OVERVIEW": True,
    # From here on GDAL's defaults, as they are for our files.
    "GDAL_GEOREF_SOURCES": "PAM,INTERNAL,TABFILE,WORLDFILE",
    "GDAL_TIFF_DEFLATE_SUBCODEC": "LIBDEFLATE",
    "GDAL_TIFF_ENDIANNESS": "NATIVE",
    "GDAL_TIFF_OVR_BLOCKSIZE": _BLOCK,
    "GTIFF_DONT_WRITE_BLOCKS": False,
    "TIFF_USE_OVR": False,
    "USE_RRD": False,
    "COMPRESS_OVERVIEW": "NONE",
    "INTERLEAVE_OVERVIEW": "PIXEL",
    "PHOTOMETRIC_OVERVIEW": "",
    "PREDICTOR_OVERVIEW": 1,
}


@dataclass
class CogWriter:
    """A COG under construction; use it as a context manager.

    When the context ends without an error, the file appears under its name. After an error or an interrupt nothing is
    left behind.

    Raises:
        OutputError: if the file cannot be written.
    """

    path: Path
    """Path of the finished file."""
    geobox: GeoBox
    """Its grid, kept exactly."""
    band_names: Sequence[str]
    """Descriptions; "red", "green", "blue" and "nir" also set the colour interpretation."""
    _: KW_ONLY
    dtype: str = "uint8"
    """Type of the pixels."""
    masked: bool
    """Whether the file gets an internal mask (of pixels without data)."""
    quantities: Sequence[Quantity] = ()
    """What the values of each band mean; empty if that is not known."""
    tags: Mapping[str, str]
    """Tags of the default domain; if they call the image synthetic, it is marked so (`raster.mark`)."""
    compress: str = "deflate"
    """"deflate", "zstd" or "lzw"."""
    overviews: Literal["average", "mode"] = "average"
    """Resampling of the overviews: "average" for imagery, "mode" for class codes."""
    nodata: int | None = None
    """Value of pixels without data, declared in the file; `write` fills it in where `valid` is False."""
    colours: Mapping[int, tuple[int, int, int, int]] | None = None
    """Colour table of a single uint8 band: value to (red, green, blue, alpha)."""
    folder: Path | None = None
    """For temporary files, on the same disk; None for the folder of the file."""
    progress: Progress = silent
    """Called with the number of finished steps and of all steps in which the file is completed."""

    def __post_init__(self) -> None:
        self._folder = self.folder or self.path.parent
        self._scratch = self._folder / partial_name(self.path, ".scratch.tif")
        self._written = WrittenPixels()
        # Histogram of each band, (bands, 256): computing statistics with GDAL takes as long as the overviews.
        self._counts = np.zeros((len(self.band_names), 256), np.int64) if self.dtype == "uint8" else None
        self._blocks: set[tuple[int, int]] = set()  # blocks of the scratch file that contain data

    def __enter__(self) -> Self:
        check_can_write()
        height, width = self.geobox.shape
        with contextlib.ExitStack() as stack, writing(self.path, *GDAL_ERRORS):
            stack.enter_context(parents_of(self.path))
            stack.callback(self._delete_scratch)
            stack.enter_context(writing_environment())
            self._check_space(1)
            self._beside = stack.enter_context(ThreadPoolExecutor(2, "geosynth-cog"))
            self._dataset: Any = rasterio.open(
                self._scratch,
                "w",
                driver="GTiff",
                height=height,
                width=width,
                count=len(self.band_names),
                dtype=self.dtype,
                nodata=self.nodata,
                crs=crs_wkt(self.geobox.crs),
                transform=self.geobox.affine,
                tiled=True,
                blockxsize=_BLOCK,
                blockysize=_BLOCK,
                bigtiff="yes",
                sparse_ok=True,
                interleave="band",  # as arrays are; for interleaved pixels GDAL would reorder the bytes at each access
                photometric=photometric(self.band_names),
            )
            self._dataset.colorinterp = colour_interpretation(self.band_names)
            self._stack = stack.pop_all()
        return self

    def write(self, window: Window, pixels: Array, valid: Mask) -> None:
        """Write pixels (bands, height, width) at a window; `valid` (height, width) is used if the file is masked.

        May be called from any thread, but from one at a time.
        """
        with writing(self.path, *GDAL_ERRORS), writing_environment():  # GDAL's settings are per thread
            if valid.any():
                rows, columns = (range(part.start // _BLOCK, -(-part.stop // _BLOCK)) for part in window.slices)
                self._blocks.update(itertools.product(rows, columns))
            self._check_space(1)
            pixels = filled(pixels, valid, self.nodata or 0).astype(self.dtype, copy=False)
            beside = [
                self._beside.submit(self._count, pixels, valid),
                self._beside.submit(self._written.add, window, pixels, valid if self.masked else None),
            ]
            self._dataset.write(pixels, window=window.slices)
            if self.masked:
                self._dataset.write_mask(valid, window=window.slices)
            for work in beside:
                work.result()

    def _count(self, pixels: Array, valid: Mask) -> None:
        """Count pixels for the statistics."""
        if self._counts is not None:
            self._counts += [Image.fromarray(band).histogram() for band in pixels]
            self._counts[:, self.nodata or 0] -= np.count_nonzero(~valid)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._stack:
            with writing(self.path, *GDAL_ERRORS):
                self._dataset.close()
            if kind is None:
                with replacing(self.path, *GDAL_ERRORS, folder=self._folder) as partial:
                    self._finish(partial)
                delete_sidecars(self.path)  # of an earlier image of this name

    def _check_space(self, share: float) -> None:
        """Refuse to continue if the disk has no space for the scratch file.

        On a full disk GDAL may read a damaged directory forever, and libtiff prints to stderr.

        Args:
            share: size that the file needs, as a multiple of all blocks written so far.
        """
        there = self._scratch.stat().st_blocks * 512 if self._scratch.exists() else 0
        if shutil.disk_usage(self._folder).free < self._needed(share) - there:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _needed(self, share: float) -> float:
        """Size of the scratch file in bytes, at most."""
        sample = np.dtype(self.dtype).itemsize * len(self.band_names) + self.masked / 8  # bytes per pixel
        height, width = self.geobox.shape
        places: int = -(-height // _BLOCK) * -(-width // _BLOCK) * (len(self.band_names) + self.masked)
        return float(share * (len(self._blocks) * _BLOCK**2 * sample + places * _PLACE) + _HEADERS)

    def _delete_scratch(self) -> None:
        delete(self._scratch)
        delete_sidecars(self._scratch)

    def _finish(self, out: Path) -> None:
        factors = overview_factors(max(self.geobox.shape), _BLOCK)
        self._check_space(5 / 3 if factors else 1)  # overviews consist of whole blocks, too
        height, width = self.geobox.shape
        self.progress(0, _STEPS)
        try:
            # GDAL does not react to Ctrl-C: work of more than a few seconds runs in a process that can be killed.
            call = apart if height * width >= _LONG else (lambda function, *arguments: function(*arguments))
            described = self.band_names, self.quantities, self.tags, self.colours, factors, self.overviews, self._counts
            call(_describe, self._scratch, *described)
            self.progress(1, _STEPS)
            call(_assemble, self._scratch, out, {"compress": self.compress, **self._level})
        except GDAL_ERRORS:  # GDAL has deleted the file that filled the disk
            self._check_space(2)
            raise
        self.progress(2, _STEPS)
        self._written.check(out)
        self.progress(_STEPS, _STEPS)

    @property
    def _level(self) -> dict[str, int]:
        """Level of compression: for the texture of imagery high levels take twice as long and save half a percent."""
        levels = {"deflate": 1, "zstd": 3} if self.overviews == "average" else {}
        return {"level": levels[self.compress]} if self.compress in levels else {}


def writing_environment(**changes: Any) -> rasterio.Env:
    """GDAL's settings for writing GeoTIFFs. All that change a file are given, as the user's environment may have them.

    Args:
        **changes: of these settings.
    """
    after_fork(_without_threads)
    return rasterio.Env(**{**_SETTINGS, **changes})


def _without_threads() -> None:
    _SETTINGS["GDAL_NUM_THREADS"] = 1


def _describe(
    scratch: Path,
    band_names: Sequence[str],
    quantities: Sequence[Quantity],
    tags: Mapping[str, str],
    colours: Mapping[int, tuple[int, int, int, int]] | None,
    factors: Sequence[int],
    overviews: str,
    counts: npt.NDArray[np.int64] | None,
) -> None:
    """Give a scratch file names, quantities, tags, colours, overviews and statistics (from `counts`, if given)."""
    with writing_environment(), _quiet(), rasterio.open(scratch, "r+") as dataset:
        for index, name in enumerate(band_names, start=1):
            dataset.set_band_description(index, name)
        write_quantities(dataset, quantities)
        dataset.update_tags(**tags)
        if mark_of(tags):
            write_mark(dataset)
        if colours is not None:
            dataset.write_colormap(1, colours)
        if factors:
            dataset.build_overviews(factors, Resampling[overviews])
        # Overviews made by the COG driver would have no mask, and the XMP packet would be lost.
        if counts is None:
            dataset.update_stats()
        else:
            for index, band in enumerate(counts, start=1):
                dataset.update_tags(index, **_statistics(band, dataset.height * dataset.width))


def _statistics(counts: npt.NDArray[np.int64], size: int) -> dict[str, str]:
    """GDAL's statistics tags of a band of `size` pixels, from the number of pixels with data of each value, (256,)."""
    if not (total := counts.sum()):
        return {}
    values, seen = np.arange(256), np.flatnonzero(counts)
    mean = counts @ values / total
    deviation = np.sqrt(counts @ (values - mean) ** 2 / total)
    share = 100 if total == size else min(100 * total / size, 99.99)
    numbers = {"MINIMUM": seen[0], "MAXIMUM": seen[-1], "MEAN": mean, "STDDEV": deviation, "VALID_PERCENT": share}
    return {f"STATISTICS_{name}": f"{value:.{4 if value is share else 14}g}" for name, value in numbers.items()}


def _assemble(scratch: Path, out: Path, compression: Mapping[str, Any]) -> None:
    """Rewrite a scratch file as a COG, `compression` being the driver's options `compress` and maybe `level`."""
    with rasterio.open(scratch) as dataset:
        predictor = 3 if np.dtype(dataset.dtypes[0]).kind == "f" else 2
    as_image = {  # the driver's options for overviews do not take precedence over the environment
        "COMPRESS_OVERVIEW": compression["compress"],
        "PREDICTOR_OVERVIEW": predictor,
        "ZLEVEL_OVERVIEW": compression.get("level", 6),
        "ZSTD_LEVEL_OVERVIEW": compression.get("level", 9),
    }
    with writing_environment(**as_image), _quiet():
        rasterio.shutil.copy(
            str(scratch),
            str(out),
            driver="COG",
            predictor="yes",
            overview_predictor="yes",
            blocksize=_BLOCK,
            bigtiff="if_safer",
            overviews="force_use_existing",
            sparse_ok=True,
            num_threads=_SETTINGS["GDAL_NUM_THREADS"],
            **compression,
        )


def overview_factors(size: int, block: int) -> list[int]:
    """2, 4, 8, ... until an overview of the image's longer side fits into one block."""
    factors: list[int] = []
    while size > block * 2 ** len(factors):
        factors.append(2 ** (len(factors) + 1))
    return factors


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress libtiff's remark that the scratch file's fourth band is neither colour nor alpha, which is intended."""
    log = logging.getLogger("rasterio._env")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)

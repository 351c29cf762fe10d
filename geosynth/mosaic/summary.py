"""The summary of an image's realisations: where they agree, and where they differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox

from geosynth.config.bands import Quantity, named_bands
from geosynth.grid import Window
from geosynth.mosaic.provenance import is_made_from
from geosynth.progress import Progress, silent
from geosynth.raster.cog import CogWriter
from geosynth.raster.read import Read, bounded_cache
from geosynth.unfinished import UnfinishedWork

_WINDOW = 512  # pixels; side of the windows that are read from all realisations, one after the other


class Moments:
    """Mean, standard deviation and extremes of arrays of one shape that arrive one by one (Welford 1962)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = 0.0
        self._squares: Any = 0.0
        self.low: Any = np.inf
        self.high: Any = -np.inf

    def add(self, values: npt.NDArray[np.float64]) -> None:
        """Add one more array."""
        self.count += 1
        off = values - self.mean
        self.mean = self.mean + off / self.count
        self._squares = self._squares + off * (values - self.mean)
        self.low, self.high = np.minimum(self.low, values), np.maximum(self.high, values)

    @property
    def deviation(self) -> npt.NDArray[np.float64]:
        """Standard deviation, with divisor n - 1."""
        deviation: npt.NDArray[np.float64] = np.sqrt(self._squares / (self.count - 1))
        return deviation


def summary_path(image: Path) -> Path:
    """Path of the summary of an image's realisations: NAME_summary.tif."""
    return image.with_name(f"{image.stem}_summary.tif")


def write_summary(
    image: Path,
    geobox: GeoBox,
    band_names: Sequence[str],
    realisations: Sequence[Read],
    tags: dict[str, str],
    *,
    quantities: Sequence[Quantity] = (),
    overwrite: bool = False,
    progress: Progress = silent,
) -> Path:
    """Write statistics of each pixel over the realisations of an image: a float32 Cloud Optimized GeoTIFF.

    Its bands are `NAME_mean` and `NAME_std` (standard deviation, divisor n - 1) of the stored values of each band. If
    there are bands "red" and "nir", also `ndvi_mean`, `ndvi_std`, `ndvi_min` and `ndvi_max` of the realisations' NDVI,
    (nir - red) / (nir + red), taken as 0 where both are 0. With quantities the NDVI is computed from these; values
    below 0 count as 0. Realisations are read window by window, one after the other: memory depends neither on the
    image's size nor on their number.

    Args:
        image: the image of which there are several realisations; the summary is written beside it.
        geobox: of all realisations.
        band_names: of their bands.
        realisations: at least two. Each returns, for a window, values (bands, height, width) and where there is data
            (height, width). The summary has data where the first realisation has data.
        tags: of the file, which record what it is made from; an existing summary with the same tags is kept.
        quantities: what the values of each of their bands mean; empty if that is not known.
        overwrite: replace an existing summary with other tags.
        progress: called with the number of finished windows and of all windows.

    Returns:
        path of the summary.

    Raises:
        OutputError: if it cannot be written.
    """
    out = summary_path(image)
    work = UnfinishedWork(out)
    if is_made_from(out, tags, overwrite=overwrite):
        work.check(overwrite=True)
        return out
    red_nir = named_bands(band_names, "red", "nir")
    names = [f"{name}_{what}" for what in ("mean", "std") for name in band_names]
    names += [f"ndvi_{what}" for what in ("mean", "std", "min", "max")] if red_nir else []
    with bounded_cache(), work.open(tags):
        writer = CogWriter(
            work.result,
            geobox,
            names,
            dtype="float32",
            masked=True,
            quantities=_quantities(quantities, names),
            tags=tags,
        )
        plan = Window(0, 0, *geobox.shape).pieces(_WINDOW)
        with writer:
            for done, window in enumerate(plan, start=1):
                valid = realisations[0](window)[1]
                if valid.any():
                    writer.write(window, _summarise(window, realisations, red_nir, quantities), valid)
                progress(done, len(plan))
        work.finish()
    return out


def _quantities(quantities: Sequence[Quantity], names: Sequence[str]) -> list[Quantity]:
    """Quantities of a summary's bands, if those of the image are known; deviations have no offset and no sign."""
    told = [*quantities, *(one.model_copy(update={"scale": abs(one.scale), "offset": 0.0}) for one in quantities)]
    return told + [Quantity()] * (len(names) - len(told)) if told else []


def _summarise(
    window: Window,
    realisations: Sequence[Read],
    red_nir: tuple[int, ...] | None,
    quantities: Sequence[Quantity] = (),
) -> npt.NDArray[np.float32]:
    """Values of the summary's bands in a window, (bands, height, width)."""
    bands, ndvi = Moments(), Moments()
    for read in realisations:
        pixels = read(window)[0].astype(np.float64)
        bands.add(pixels)
        if red_nir:
            meant = (quantities[band].of(pixels[band]) if quantities else pixels[band] for band in red_nir)
            red, nir = (values.clip(0) for values in meant)
            ndvi.add((nir - red) / np.where(nir + red == 0, 1, nir + red))
    layers = [*bands.mean, *bands.deviation]
    layers += [ndvi.mean, ndvi.deviation, ndvi.low, ndvi.high] if red_nir else []
    return np.stack(layers).astype(np.float32)


def summary_tags(tags: dict[str, str], seeds: Sequence[int]) -> dict[str, str]:
    """Tags of a summary, from those of one realisation and the seeds of all."""
    return tags | {
        "IMAGEDESCRIPTION": "Mean and spread of synthetic images of one place; not an observation.",
        "GEOSYNTH_SAMPLE_SEEDS": json.dumps(list(seeds)),
        "GEOSYNTH_SUMMARY": f"of {len(seeds)} realisations",
    }

"""evaluate: how far a synthetic image is from the real one, per land-cover class, in numbers and pictures."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from geosynth.config import GenerateSettings
from geosynth.errors import DataError, OutputError, SettingsError
from geosynth.evaluation.compare import DistributionComparer, compare_seams, compare_spectra, compare_tiles
from geosynth.evaluation.distances import Bootstrap
from geosynth.evaluation.gather import Measurements, Progress
from geosynth.evaluation.inputs import Inputs
from geosynth.evaluation.page import draw_pictures, render_page
from geosynth.evaluation.report import Report
from geosynth.legend import Legend
from geosynth.outputs import check_output, writing
from geosynth.version import __version__

_DEFAULT_BLOCK = GenerateSettings().block_size
_TILE_SIZES = range(32, 4097, 4)


def evaluate(
    real: str | Path,
    synthetic: str | Path,
    labels: str | Path,
    out: str | Path | None = None,
    *,
    legend: str | Path | Legend = "chesapeake",
    label_legend: str | Path | Legend | None = None,
    bands: Sequence[str] | None = None,
    tile_size: int = 256,
    block_size: int = _DEFAULT_BLOCK,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Compare two 8-bit images of one place, class by class; with `out`, write report.json and report.html there.

    The rasters must lie on one pixel grid; what all three cover is compared. Every pixel counts (nothing is sampled),
    in memory that does not grow with the rasters (beyond GDAL's cache of blocks: a twentieth of the machine's memory
    unless GDAL_CACHEMAX says otherwise).

    Args:
        real: image raster, uint8.
        synthetic: image raster, uint8, of the same bands.
        labels: label raster.
        out: folder of the report; nothing is written without it.
        legend: of the labels and of the report: a built-in name, a YAML file or a Legend.
        label_legend: of the label file, if its codes differ; classes are matched by name.
        bands: names of the bands, where the files do not tell them; NDVI needs "red" and "nir".
        tile_size: pixels; side of the tiles for the Frechet distance, the spectra and the intervals. A multiple of 4,
            32 to 4096.
        block_size: pixels; side of the blocks that the synthetic image was made of, for the seam score.
        seed: of the intervals and of the choice of pictures.
        overwrite: replace a report in `out`.
        progress: called with (blocks done, blocks in all).

    Raises:
        DataError, GridError, LegendError, OutputError, RasterError, SettingsError: one line each; nothing is written.
    """
    if tile_size not in _TILE_SIZES:
        raise SettingsError(f"tile_size must be a multiple of 4 from 32 to 4096, got {tile_size}")
    if block_size < 2:
        raise SettingsError(f"block_size must be at least 2, got {block_size}")
    if seed < 0:
        raise SettingsError(f"seed must not be negative, got {seed}")
    target = Legend.load(legend)
    inputs = Inputs.open(
        real, synthetic, labels, target, target if label_legend is None else Legend.load(label_legend), bands
    )
    folder = None if out is None else Path(out)
    if folder is not None:
        _check_out(folder, overwrite)
    inputs.labels.check_codes()

    measured = Measurements(inputs, tile_size, block_size)
    measured.gather(progress)
    if not measured.bands.any():
        raise DataError(
            f"{inputs.real.path}: no pixel to compare: where all three rasters lie, none has a class and both images"
        )
    report = _report(inputs, measured, tile_size, seed)
    if folder is not None:
        page = render_page(report, measured.bands.sum(axis=0), draw_pictures(inputs, measured, seed))
        _write(folder, {"report.json": report.to_json(), "report.html": page})
    return report


def _report(inputs: Inputs, measured: Measurements, tile_size: int, seed: int) -> Report:
    bootstrap = Bootstrap.draw(len(measured.bands), seed)
    distributions = DistributionComparer(inputs.legend, inputs.bands, measured, bootstrap)
    classes = distributions.classes()
    area = inputs.area
    return Report(
        software=f"geosynth {__version__}",
        real=inputs.real.path,
        synthetic=inputs.synthetic.path,
        labels=inputs.labels.raster.path,
        legend=inputs.legend.name,
        bands=inputs.bands,
        area=(area.row, area.column, area.height, area.width),
        pixels=sum(entry.pixels for entry in classes),
        tile_size=tile_size,
        seed=seed,
        headline=distributions.headline(),
        classes=classes,
        ndvi_reason=None if measured.ndvi is not None else "needs bands named red and nir",
        frechet=compare_tiles(measured, len(inputs.bands), bootstrap, tile_size),
        spectrum=compare_spectra(measured, inputs.bands),
        seams=compare_seams(measured),
    )


def _check_out(folder: Path, overwrite: bool) -> None:
    """Refuse before the work what would fail after it."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; the report needs a folder")
    check_output(folder, overwrite=overwrite)


def _write(folder: Path, files: dict[str, str]) -> None:
    """All files, or none: under a temporary name first. Other files in an existing folder stay."""
    place = folder.resolve()
    partial = place.with_name(place.name + ".partial")
    try:
        with writing(folder):
            partial.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (partial / name).write_text(text, encoding="utf-8")
            if place.exists():
                for name in files:
                    (partial / name).replace(place / name)
            else:
                partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)

"""generate_many: many label files, or many realisations, in one call."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from geosynth.checkpoint import GeneratorModel
from geosynth.config import GenerateSettings
from geosynth.config.base import takes
from geosynth.errors import DataError, GridError, LegendError, OutputError, RasterError, SettingsError, first_of
from geosynth.files import output_path, refuse_inputs
from geosynth.legend import Legend
from geosynth.models.looks.look import Look
from geosynth.models.process_settings import keep_freed_memory
from geosynth.mosaic.image import check_image_name, check_image_output, paint_image, resampled
from geosynth.mosaic.inputs import Labels, Model, as_files, engine, opened
from geosynth.mosaic.pipeline import Executor
from geosynth.mosaic.provenance import is_made_from
from geosynth.mosaic.style import Files, Style, check_style, chosen_style, style_files
from geosynth.mosaic.summary import summary_path, summary_tags, write_summary
from geosynth.progress import StageProgress, silent
from geosynth.raster.coded_labels import LabelsOfFile
from geosynth.raster.images import image_tags, is_zarr_name, open_image
from geosynth.raster.label_files import label_files, open_labels
from geosynth.raster.label_legend import FROM_RASTER
from geosynth.raster.mosaic import with_neighbours
from geosynth.raster.read import Raster
from geosynth.raster.stac import check_can_be_item
from geosynth.unfinished import UnfinishedWork

if TYPE_CHECKING:
    from distributed import Client

_LOG = logging.getLogger(__name__)
_OF_ONE_FILE = (RasterError, DataError, GridError, LegendError)  # errors after which the other files are still painted

_MAX_SAMPLES = 10_000


@takes(GenerateSettings)
def generate_many(
    labels: Labels,
    out: str | Path,
    model: Model = None,
    settings: GenerateSettings | None = None,
    *,
    each: bool = False,
    samples: int = 1,
    summary: bool = False,
    legend: str | Path | Legend | None = None,
    style: Style = None,
    style_labels: Files = None,
    style_bands: Sequence[str] | None = None,
    overwrite: bool = False,
    client: Client | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    progress: StageProgress = silent,
    **changes: Any,
) -> list[Path]:
    """Paint several images one after the other: one for each label file, or several realisations, or both.

    The model is loaded once. Existing images that were made from the same inputs and settings are kept, so after an
    interruption the same call continues. Images of label files on one pixel grid fit together without seams: each file
    is painted with its neighbours in view, so the images equal crops of the image of the whole mosaic.

    Args:
        labels: see `generate`; a folder, glob or list is one mosaic, or with `each` many files.
        out: the image; with `each`, a folder for the images, which are named after the label files.
        model: see `generate`.
        settings: of all images; with several samples, its seed is that of the first.
        each: paint file by file, each on its own grid.
        samples: number of realisations of each image, 1 to 10,000. If there are several, their names end in _0, _1,
            ..., and their seeds are `sample_seeds`; in a Zarr store they are the dimension `sample`.
        summary: with several samples, also write mean, standard deviation and the spread of NDVI: see `write_summary`.
        legend: see `generate`, also for the arguments below.
        style: the same for all images.
        style_labels: labels of the style's images.
        style_bands: names of the bands of the style's images.
        overwrite: replace existing outputs.
        client: a `distributed.Client`.
        scheduler: address of a Dask scheduler.
        workers: number of processes to start on this machine.
        progress: called with ("IMAGE: painting" and the like, parts done, parts to do).
        **changes: single settings by name.

    Returns:
        the paths of the images, file by file; the samples of an image are together, followed by their summary.

    Raises:
        DataError: with `each`, after the last file, if some could not be painted: it names them. A warning gives the
            reason as soon as one fails.
        GeosynthError: as `generate`.
    """
    settings, out = GenerateSettings.changed(settings, changes), output_path(out)
    if not isinstance(samples, int) or not 1 <= samples <= _MAX_SAMPLES:
        raise SettingsError(f"1 to {_MAX_SAMPLES} realisations, got {samples!r}", setting="samples")
    if summary and samples == 1:
        raise SettingsError("a summary needs several realisations: give samples too")
    check_style(style, style_labels, settings, style_bands)
    if not each:
        check_image_name(out)
    _refuse_among_labels(labels, out if each else out.parent)
    files = label_files(as_files(labels)) if each else []
    images = _names(files, out) if each else [out]
    inputs: list[object] = [*files, labels, model, legend, *style_files(style, style_labels)]
    for image in images:
        for name in [*_sample_names(image, samples), *([summary_path(image)] if summary else [])]:
            refuse_inputs(name, inputs)
    is_joined = samples > 1 and not each and is_zarr_name(out)
    is_one = samples == 1 and not each
    if is_joined or is_one:
        check_image_output(out, inputs, settings, overwrite=overwrite)
    # Before a model is loaded:
    raster = None if each else opened(labels)
    if legend is not None and not (isinstance(legend, str) and legend == FROM_RASTER):
        legend = Legend.load(legend)
    if raster is not None and settings.stac:
        check_can_be_item(raster)
    # The memory of large tensors is also kept from one image to the next.
    with engine(model, settings, client, scheduler, workers) as (loaded, settled, executor), keep_freed_memory():
        batch = _Batch(
            loaded,
            settled,
            executor,
            legend,
            chosen_style(style, style_labels, loaded, settled, legend, style_bands),
            sample_seeds(settled.seed, samples),
            summary,
            overwrite,
            stands=not (overwrite or is_one),
            progress=(lambda _: progress) if is_one else partial(_named, progress),
        )
        if raster is None:
            return _paint_each(files, images, batch.paint)
        return batch.join(raster, out) if is_joined else batch.paint(raster, out)


@dataclass(frozen=True)
class _Batch:
    """Paints the images of one call, all in the same way."""

    model: GeneratorModel
    settings: GenerateSettings
    executor: Executor
    legend: str | Path | Legend | None
    style: Tensor | Look | None
    seeds: Sequence[int]
    """Of the realisations of each image."""
    summary: bool
    overwrite: bool
    stands: bool
    """Whether existing images that were made from the same inputs and settings are kept."""
    progress: Callable[[Path], StageProgress]
    """The progress callback for an image."""

    def paint(self, raster: Raster, image: Path) -> list[Path]:
        """Paint an image, or its realisations and their summary."""
        raster = resampled(raster, self.model, self.settings)
        parts = [
            self._paint(raster, name, seed, overwrite=self.overwrite, stands=self.stands)
            for name, seed in zip(_sample_names(image, len(self.seeds)), self.seeds, strict=True)
        ]
        return [*parts, *self._summarise(image, raster, parts)]

    def join(self, raster: Raster, out: Path) -> list[Path]:
        """Paint the realisations of an image into one Zarr store, and their summary."""
        raster, work = resampled(raster, self.model, self.settings), UnfinishedWork(out)
        with work.open({"samples": "several"}, total=len(self.seeds), keep_finished=True):
            parts = _sample_names(work.folder / "sample.zarr", len(self.seeds))
            for part, seed in zip(parts, self.seeds, strict=True):
                self._paint(raster, part, seed, overwrite=True, stands=True)  # repaints a sample of another job
                work.record(part.name)
            summaries = self._summarise(out, raster, parts)
            tags = image_tags(parts[0]) | {"GEOSYNTH_SAMPLE_SEEDS": json.dumps(self.seeds)}
            if not (work.is_finished and is_made_from(out, tags, overwrite=self.overwrite)):
                from geosynth.raster.zarr_image import join_samples  # takes a second to import

                join_samples(parts, work.result, raster.geobox, tags, work.folder)
                work.finish()
        return [out, *summaries]

    def _paint(self, raster: Raster, image: Path, seed: int, *, overwrite: bool, stands: bool) -> Path:
        return paint_image(
            raster,
            image,
            self.model,
            self.settings.model_copy(update={"seed": seed}),
            legend=self.legend,
            style=self.style,
            overwrite=overwrite,
            skip_finished=stands,
            executor=self.executor,
            progress=self.progress(image),
        )

    def _summarise(self, image: Path, raster: Raster, parts: Sequence[Path]) -> list[Path]:
        """Write the summary of the realisations of an image, if one is wanted."""
        if not self.summary:
            return []
        bands = self.model.card.bands
        written = write_summary(
            image,
            raster.geobox,
            bands.names,
            [open_image(part).read for part in parts],
            summary_tags(image_tags(parts[0]), self.seeds),
            quantities=bands.quantities,
            overwrite=self.overwrite,
            progress=partial(self.progress(summary_path(image)), "writing"),
        )
        return [written]


def _paint_each(
    files: Sequence[str | Path], images: Sequence[Path], paint: Callable[[Raster, Path], list[Path]]
) -> list[Path]:
    """Paint the images of all files; an error after the last one, if some cannot be painted."""
    painted: list[Path] = []
    failed: list[str] = []
    for file, source, image in zip(files, _open_each(files), images, strict=True):
        if source is None:
            failed.append(str(file))
            continue
        try:
            painted += paint(source, image)
        except _OF_ONE_FILE as error:
            _LOG.warning("not painted: %s", error)
            failed.append(source.path)
    if failed:
        shown = first_of(sorted(failed), 5)
        raise DataError(f"{len(failed)} of {len(images)} label files could not be painted: {shown}")
    return painted


def sample_seeds(seed: int, samples: int) -> list[int]:
    """Seeds of the realisations: `seed` itself, then numbers drawn from it, each of which is a valid seed, too."""
    drawn = [np.random.SeedSequence(seed, spawn_key=(sample,)) for sample in range(1, samples)]
    return [seed, *(int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1)) for sequence in drawn)]


def _open_each(files: Sequence[str | Path]) -> list[Raster | None]:
    """The files, each with its neighbours; None for one that cannot be opened, with a warning."""
    opened: list[Raster | None] = []
    for file in files:
        try:
            opened.append(open_labels(file))
        except _OF_ONE_FILE as error:
            _LOG.warning("not painted: %s", error)
            opened.append(None)
    joined = iter(with_neighbours([raster for raster in opened if isinstance(raster, LabelsOfFile)]))
    return [next(joined) if isinstance(raster, LabelsOfFile) else raster for raster in opened]


def _names(sources: Sequence[Any], folder: Path) -> list[Path]:
    if folder.suffix.lower() in (".tif", ".tiff", ".zarr") or folder.is_file():
        raise OutputError(f"{folder}: is the name of one image; images of many label files need a folder")
    stems = [Path(str(source)).stem for source in sources]
    twice = [stem for stem, count in Counter(stems).items() if count > 1]
    if twice:
        raise OutputError(
            f"{folder}: two label files are called {twice[0]!r}, and images take their names;"
            " paint them into different folders"
        )
    return [folder / f"{stem}.tif" for stem in stems]


def _sample_names(image: Path, samples: int) -> list[Path]:
    """Names of the realisations of an image; their numbers have equally many digits, so that they sort correctly."""
    if samples == 1:
        return [image]
    digits = len(str(samples - 1))
    return [image.with_name(f"{image.stem}_{sample:0{digits}d}{image.suffix}") for sample in range(samples)]


def _refuse_among_labels(labels: Labels, folder: Path) -> None:
    """Refuse an image in the folder of the label tiles, where the next call would take it for a tile."""
    if isinstance(labels, str | Path) and Path(labels).is_dir() and folder.resolve() == Path(labels).resolve():
        raise OutputError(f"{folder}: the image would lie among the label tiles there; choose another folder")


def _named(progress: StageProgress, image: Path) -> StageProgress:
    """The same callback, with the image's name before the stage."""
    return lambda stage, done, total: progress(f"{image.name}: {stage}", done, total)

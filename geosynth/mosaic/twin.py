"""twin: the scenes and labels of a store, with images that a generator paints for them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from geosynth.checkpoint import GeneratorModel, ModelCard
from geosynth.config import GenerateSettings
from geosynth.config.base import takes
from geosynth.errors import DataError, SettingsError
from geosynth.files import output_path, refuse_inputs
from geosynth.grid import Window
from geosynth.grid.groups import blocks_over
from geosynth.grid.split import FOLDS
from geosynth.legend import ClassIndices, Legend
from geosynth.mosaic.image import blank_image, painter_for, warn_about_grid
from geosynth.mosaic.inputs import engine
from geosynth.mosaic.painter import Painter
from geosynth.mosaic.pipeline import paint_missing
from geosynth.mosaic.provenance import painting_job, provenance
from geosynth.progress import StageProgress, silent
from geosynth.raster.quantities import agreed_quantities
from geosynth.raster.read import Array, Mask, Read
from geosynth.raster.stores.alike import check_fits
from geosynth.raster.stores.copy import copy_sources, store_names
from geosynth.raster.stores.in_place import InPlace
from geosynth.raster.stores.open import open_sources
from geosynth.raster.stores.painted import FoldLabels, Painted
from geosynth.raster.stores.recombined import EMPHASIS, recombine
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.store import check_store_output
from geosynth.raster.unfinished_image import UnfinishedImage
from geosynth.unfinished import UnfinishedWork

if TYPE_CHECKING:
    from distributed import Client


_JUDGED = 512  # pixels; side of the square that a judge sees at once
_MARGIN = 64  # pixels around that square, which the judge sees too


class Judge(Protocol):
    """Tells how likely a class is in an image: a `Segmenter`."""

    path: Path
    card: Any
    """See `Segmenter`."""

    @property
    def sha256(self) -> str:
        """SHA-256 of its file."""

    def agreement(self, image: Array, labels: ClassIndices) -> npt.NDArray[np.float32]:
        """See `Segmenter.agreement`."""


@takes(GenerateSettings)
def twin(
    data: str | Path | PatchSource,
    out: str | Path,
    model: str | Path | GeneratorModel | None = None,
    settings: GenerateSettings | None = None,
    *,
    folds: Sequence[str] | None = None,
    emphasise: Mapping[str, float] | None = None,
    tile_size: int = 256,
    num_tiles: int | None = None,
    judge: Judge | None = None,
    agreement: float = 0.05,
    overwrite: bool = False,
    client: Client | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    progress: StageProgress = silent,
    **changes: Any,
) -> Path:
    """Paint the twin of a store: a store on the same grid with the same scenes, labels and split, but painted images.

    A tile of the twin is the synthetic counterpart of the tile at the same window. Its pixels are those that `generate`
    paints for the store's labels. Pixels outside the painted folds have no data. After an interruption the same call
    continues.

    With `emphasise` the labels are recombined: tiles of the real labels are drawn so that rare classes occur more
    often, and each is painted at a place of its own. Such a twin is no place on Earth (it has no CRS), all of it
    belongs to one fold, and its tiles are not at the places of real ones. See `raster.stores.recombined`.

    Args:
        data: a store, or the path of one, of a folder of stores, or of a YAML file that describes data in place.
        out: folder of the twin; it appears when it is complete.
        model: a file made by `train`, or a loaded model; None for the embedded model.
        settings: seed, block size, ...
        folds: whose scenes to paint; None for all. With `emphasise` a single fold; None for "train".
        emphasise: by name, how many times as often classes shall occur, as in {"road": 3}; None for unchanged labels.
        tile_size: of recombined labels, in pixels.
        num_tiles: number of recombined tiles; None for as many as lie side by side in the fold, at least one.
        judge: a segmenter that was trained on real tiles of the same bands and classes (`load_segmenter`): where it
            strongly doubts the painted class, the twin has no data. None to keep all pixels.
        agreement: the least probability, 0 to 1, that the judge must give the class of a pixel.
        overwrite: replace a store at `out`.
        client: a `distributed.Client` whose workers paint.
        scheduler: the address of a Dask scheduler whose workers paint.
        workers: number of processes to start on this machine to paint.
        progress: called with ("checking", "painting" or "writing", parts done, parts to do).
        **changes: single settings by name, as `seed=3`.

    Returns:
        `out`.

    Raises:
        SettingsError: if there is no such fold or class, or the settings contradict each other.
        DataError: if the model paints other bands than the store has, if the folds have no scene, or if their tiles
            have too little of a class.
        LegendError: if the store has a class that the model does not know.
        RasterError, CheckpointError: if the store or the model cannot be read.
        OutputError: if the twin cannot be written; finished blocks are kept.
    """
    out = output_path(out)
    settings = GenerateSettings.changed(settings, changes)
    folds = tuple(folds or (FOLDS if emphasise is None else ("train",)))
    _check_settings(settings, folds, emphasise, agreement)
    work = UnfinishedWork(out)
    work.check(overwrite=overwrite)
    check_store_output(out)
    sources = open_sources(data)
    refuse_inputs(out, [model, *_files_of(sources)])
    sources = [source for source in sources if any(source.scenes_in(fold) for fold in folds)]
    if not sources:
        raise DataError(f"{data}: no scene in fold {', '.join(folds)}")
    tags = {"GEOSYNTH_FOLDS": ",".join(folds)}
    if judge is not None:
        tags |= {"GEOSYNTH_JUDGE_SHA256": judge.sha256, "GEOSYNTH_AGREEMENT": f"{agreement:g}"}
        check_fits(sources, judge.path, judge.card.legend.names, judge.card.bands)
    grids = [(source.path, source.geobox) for source in sources]
    if emphasise is not None:
        tags[EMPHASIS] = ", ".join(f"{name}={factor:g}" for name, factor in emphasise.items())
        sources = [
            recombine(source, emphasise, folds[0], tile_size, num_tiles=num_tiles, seed=settings.seed)
            for source in sources
        ]
    with (
        engine(model, settings, client, scheduler, workers) as (loaded, decided, executor),
        contextlib.ExitStack() as held,
    ):
        for name, geobox in grids:  # of the real places, also where labels are recombined
            warn_about_grid(name, geobox, loaded)
        plans = [
            _plan(source, work.folder / name, loaded, decided, folds, progress)
            for source, name in zip(sources, store_names(sources), strict=True)
        ]
        painted = [
            Painted(
                source,
                plan.image.read if judge is None else _judged(plan.image.read, source, judge, agreement),
                {**plan.tags, **tags},
                loaded.card.bands.quantities,
            )
            for source, plan in zip(sources, plans, strict=True)
        ]
        # Not the digest of the painted source, which might have to read pixels.
        job = [[source.digest(), dict(made.synthetic)] for source, made in zip(sources, painted, strict=True)]
        held.enter_context(work.open({"sources": job}))
        for plan in plans:
            held.enter_context(plan.image.open(plan.job, total=len(plan.blocks)))
            for _ in paint_missing(plan.painter, plan.labels, plan.image, plan.blocks, executor, progress):
                pass
        copy_sources(work, painted, progress=lambda done, total: progress("writing", done, total))
    return out


def _check_settings(
    settings: GenerateSettings, folds: Sequence[str], emphasise: Mapping[str, float] | None, agreement: float
) -> None:
    for name in ("unknown", "resample", "preview", "stac", "compress"):
        if name in settings.model_fields_set and getattr(settings, name) != GenerateSettings.model_fields[name].default:
            what = "applies to generate only; a twin has the labels and the grid of its store"
            raise SettingsError(what, setting=name)
    if emphasise is not None and len(folds) != 1:
        raise SettingsError(f"labels are recombined within one fold, not {', '.join(folds)}", setting="emphasise")
    for fold in folds:
        if fold not in FOLDS:
            raise SettingsError(f"no fold {fold!r}; there are: {', '.join(FOLDS)}")
    if not 0 <= agreement <= 1:
        raise SettingsError(f"a probability is needed, 0 to 1, not {agreement:g}", setting="agreement")


def _files_of(sources: Sequence[PatchSource]) -> list[str]:
    """The files that are read in place, and the stores."""
    in_place = [pair for source in sources if isinstance(source, InPlace) for pair in source.pairs]
    files = [path for pair in in_place for path in (pair.image.path, pair.labels.name)]
    return [*files, *(source.path for source in sources)]


def legend_for(card: ModelCard, path: Path, source: PatchSource) -> Legend:
    """The legend that reads a source's codes as a model's classes, if the model can paint a twin of the source.

    Args:
        card: of the model.
        path: of the model.
        source: whose twin to paint.

    Raises:
        DataError: if the model paints other bands than the source has, or values of another meaning.
        LegendError: if the source has a class that the model does not know.
    """
    if (card.bands.names, card.bands.dtype) != (tuple(source.band_names), source.dtype.name):
        raise DataError(
            f"{path}: paints {', '.join(card.bands.names)} ({card.bands.dtype}), but {source.path} has"
            f" {', '.join(source.band_names)} ({source.dtype}); give a model of the same bands"
        )
    agreed_quantities([(source.path, source.quantities), (str(path), card.bands.quantities)], source.band_names)
    return source.legend.translation_to(card.legend)


class _Plan(NamedTuple):
    """The image of one store's twin, and which of its blocks to paint."""

    image: UnfinishedImage
    """In the folder of the unfinished twin, with which it is kept or removed."""
    labels: FoldLabels
    painter: Painter
    blocks: list[int]
    """Numbers of the blocks that contain a part of the folds' scenes."""
    job: dict[str, Any]
    tags: dict[str, str]


def _plan(
    source: PatchSource,
    place: Path,
    model: GeneratorModel,
    settings: GenerateSettings,
    folds: tuple[str, ...],
    progress: StageProgress,
) -> _Plan:
    labels = FoldLabels(source, legend_for(model.card, model.path, source), folds)
    survey = labels.survey(lambda done, total: progress("checking", done, total))
    painter = painter_for(source.geobox, model, settings)
    image = blank_image(place, painter, source.geobox)
    windows = {scene.window for fold in folds for scene in source.scenes_in(fold)}
    return _Plan(
        image,
        labels,
        painter,
        sorted({block for window in windows for block in image.plan.touching(window)}),
        painting_job(painter, labels, survey, image.plan.size),
        provenance(painter, labels, survey),
    )


def _judged(paint: Read, source: PatchSource, judge: Judge, agreement: float) -> Read:
    """The same images, without data where a judge finds the class of the source less likely than `agreement`.

    Its verdict on a pixel does not depend on how windows are cut, because it always sees squares of one lattice.
    """
    nothing = source.legend.num_classes

    def painted(window: Window) -> tuple[Array, Mask]:
        pixels, valid = paint(window)
        for square in blocks_over([window], _JUDGED):
            part, seen = square.overlap(window), square.buffer(_MARGIN).overlap(source.window)
            inside = part.slices_in(window)
            if valid[inside].any():
                image, known = paint(seen)
                labels = np.where(known, source.read_labels(seen), np.uint8(nothing))
                doubtful = judge.agreement(image[np.newaxis], labels[np.newaxis])[0] < agreement
                valid[inside] &= ~doubtful[part.slices_in(seen)]
        return pixels, valid

    return painted

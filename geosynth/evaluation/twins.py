"""The real imagery and its synthetic twins: opened, or painted first."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from geosynth.config import EvaluateSettings
from geosynth.files import writing
from geosynth.progress import Progress
from geosynth.raster.bands import check_image_type
from geosynth.raster.stores.open import open_store
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.store import Store
from geosynth.unfinished import UnfinishedWork
from geosynth.version import __version__

if TYPE_CHECKING:
    from geosynth.checkpoint import GeneratorModel


def open_real(data: str | Path | PatchSource) -> PatchSource:
    """Open the imagery of a store or of data in place; an open source is returned unchanged.

    Raises:
        RasterError: if there is none, or several.
        DataError: if generators cannot be trained on its type.
    """
    source = open_store(data)
    check_image_type(source.dtype, source.path)
    return source


def open_model(model: str | Path | GeneratorModel | None, settings: EvaluateSettings) -> GeneratorModel:
    """The generator that paints the twins.

    Args:
        model: as for `twin`.
        settings: of the evaluation: look, device.

    Raises:
        CheckpointError: if it is missing or cannot be read.
        SettingsError: if it has no such look.
    """
    from geosynth.mosaic.inputs import loaded_model

    loaded = loaded_model(model, settings.device)
    loaded.look(settings.look)
    return loaded


def paint_twins(
    source: PatchSource,
    model: GeneratorModel,
    fold: str,
    folder: Path,
    settings: EvaluateSettings,
    progress: Progress,
) -> list[Store]:
    """Paint `settings.latents` twins of a fold, each with its own seed; twins that are in `folder` are used again.

    Args:
        source: the real imagery.
        model: from `open_model`.
        fold: to paint.
        folder: for the twins, which are named after everything that they depend on.
        settings: of the evaluation: number of twins, first seed, look, device.
        progress: called with the number of finished blocks and of all blocks, for one twin after another.

    Raises:
        CheckpointError, DataError, LegendError, OutputError: as `twin`.
    """
    from geosynth.mosaic.twin import twin

    look, device = settings.look, settings.device
    made_of = repr((__version__, model.sha256, look or next(iter(model.looks), None), source.digest(fold), fold))
    digest = hashlib.sha256(made_of.encode()).hexdigest()[:16]
    twins = []
    for seed in range(settings.seed, settings.seed + settings.latents):
        path = folder / f"twin-{digest}-{seed}.zarr"
        UnfinishedWork(path).check(overwrite=True)  # what a kill left of one that is painted goes
        if not path.exists():
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
            twin(
                source,
                path,
                model,
                folds=(fold,),
                look=look,
                seed=seed,
                device=device,
                progress=lambda stage, done, total: progress(done, total) if stage == "painting" else None,
            )
        twins.append(Store(path))
    return twins

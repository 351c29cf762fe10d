"""Opens what users pass to be painted, and to paint with: labels, a model, a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from geosynth.checkpoint import GeneratorModel, load_generator
from geosynth.config import GenerateSettings
from geosynth.errors import SettingsError
from geosynth.inputs import kind_of
from geosynth.mosaic.pipeline import Executor, paint_blocks
from geosynth.parallel import open_client
from geosynth.raster.coded_labels import labels_as_codes
from geosynth.raster.label_files import open_labels
from geosynth.raster.read import Raster

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client

Labels: TypeAlias = "str | Path | Sequence[str | Path] | Raster | xr.DataArray"
Model = str | Path | GeneratorModel | None


def opened(labels: Labels) -> Raster:
    """Labels of any kind as a raster."""
    if isinstance(labels, Raster):
        return labels_as_codes(labels)
    if not isinstance(labels, str | Path | Sequence):
        import xarray as xr  # takes a second, with the import below

        from geosynth.raster.label_array import LabelArray

        if isinstance(labels, xr.DataArray):
            return LabelArray.of(labels)
    return open_labels(as_files(labels))


def as_files(labels: object) -> str | Path | Sequence[str | Path]:
    """Labels given as files, a folder or a glob.

    Raises:
        SettingsError: if they are given as something else.
    """
    if isinstance(labels, str | Path) or (
        isinstance(labels, Sequence) and all(isinstance(one, str | Path) for one in labels)
    ):
        return labels
    raise SettingsError(f"files, a raster or an xarray.DataArray are needed, not {kind_of(labels)}", setting="labels")


def loaded_model(model: Model, device: str = "cpu") -> GeneratorModel:
    """A loaded model, or one loaded from its file.

    Raises:
        CheckpointError: if the file is not a model.
        SettingsError: if `model` is neither.
    """
    if not isinstance(model, str | Path | GeneratorModel | None):
        raise SettingsError(f"a file or a loaded model is needed, not {type(model).__name__}", setting="model")
    return model if isinstance(model, GeneratorModel) else load_generator(model, device)


@contextlib.contextmanager
def engine(
    model: Model, settings: GenerateSettings, client: Client | None, scheduler: str | None, workers: int | None
) -> Iterator[tuple[GeneratorModel, GenerateSettings, Executor]]:
    """Model, settings and executor for `paint_image`, here or on a cluster; see `open_client` for the arguments.

    For a cluster the model is loaded on the CPU here, since the workers have the device, and the workers decide what
    precision "auto" means for all of them.
    """
    with open_client(client, scheduler, workers) as running:
        if running is None:
            yield loaded_model(model, settings.device), settings, paint_blocks
            return
        from geosynth.mosaic.portable import paint_on_cluster, settle_precision  # takes a second to import

        yield loaded_model(model), settle_precision(settings, running), partial(paint_on_cluster, running)

"""Who paints: threads of this process, or the workers of a Dask cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from geosynth.checkpoint import GeneratorModel, load_generator
from geosynth.config import GenerateSettings
from geosynth.errors import SettingsError
from geosynth.mosaic.pipeline import Executor, paint_blocks

if TYPE_CHECKING:
    from distributed import Client


@contextlib.contextmanager
def engine(
    model: str | Path | GeneratorModel | None,
    settings: GenerateSettings,
    *,
    client: Client | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
) -> Iterator[tuple[GeneratorModel | str | Path | None, GenerateSettings, Executor]]:
    """Model, settings and executor for `generate_file`, by what a user says of a cluster.

    Args:
        model: as for `generate_file`; for a cluster it is loaded here without the device, which the workers have.
        settings: for a cluster, the precision "auto" is decided by its workers, for all alike.
        client: of a running cluster.
        scheduler: address of a running cluster.
        workers: number of processes to start on this machine, and to stop again.

    Raises:
        SettingsError: if more than one of the three is given.
        ClusterError: if the cluster does not answer.
    """
    if sum(way is not None for way in (client, scheduler, workers)) > 1:
        raise SettingsError("client, scheduler and workers are three ways to say who paints; say one of them")
    if client is None and scheduler is None and workers is None:
        yield model, settings, paint_blocks
        return
    from geosynth.mosaic.cluster import executor_of, open_client, settle_precision  # takes a second to import

    if not isinstance(model, GeneratorModel):
        model = load_generator(model)
    with contextlib.nullcontext(client) if client is not None else open_client(scheduler, workers) as running:
        yield model, settle_precision(settings, running), executor_of(running)

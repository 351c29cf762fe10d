"""PatchModule: patches as a Lightning data module."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Sampler

from geosynth.config import BandSettings
from geosynth.errors import DataError, SettingsError, counted
from geosynth.grid import Window
from geosynth.patches.dataset import PatchSet, Sample
from geosynth.patches.positions import PositionIndex
from geosynth.patches.sampler import Chances, ClassWeights, Draw, PatchBatchSampler
from geosynth.patches.transforms import NetworkScaling
from geosynth.progress import Progress, silent
from geosynth.raster.stores.alike import check_alike
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.tiles import TileView

_AHEAD = 2  # batches per thread


class PatchModule(LightningDataModule):
    """Random train patches in chunk-aware order; val, test and predict tiles side by side; scaled for the network.

    Loaders return stored values (`PatchSet`), a quarter of the bytes that the network takes. On the device,
    `on_after_batch_transfer`, which Lightning calls, makes from them: image (B, bands, N, N) float32 in [-1, 1], mask
    (B, N, N) int64, window (B, 4) int64, affine (B, 6) float64, source (B,) int64.

    Args:
        sources: one or several (for instance grids in other CRSs).
        bands: how raster values map to [-1, 1].
        fold: whose patches are trained on.
        crop_size: side of a patch in pixels.
        batch_size: patches per batch; in training over all processes.
        num_batches: of training; the length of its loader.
        seed: of the draws. Train batch number n depends only on seed and n.
        start: number of train batches that were used before and are skipped now, so that a continued training sees the
            same batches as an uninterrupted one.
        num_workers: threads that read ahead; 0 to read when a batch is needed.
        patches_per_visit: see `PatchBatchSampler`.
        class_weights: by class name, to draw rare classes more often; see `Chances`.
        source_weights: relative number of patches of each source; see `Chances`.
        stride: of val, test and predict tiles, in pixels; None for tiles side by side.
        rank, num_ranks: in distributed training; give the trainer use_distributed_sampler=False.
        progress: called with the number of finished cells and of all cells, while positions are counted.

    Raises:
        DataError: if there is no place for a patch, or if the sources' bands, types or legends differ.
        GridError: if their pixel sizes differ.
    """

    def __init__(
        self,
        sources: PatchSource | Sequence[PatchSource],
        bands: BandSettings,
        fold: str = "train",
        *,
        crop_size: int,
        batch_size: int,
        num_batches: int,
        seed: int = 0,
        start: int = 0,
        num_workers: int = 0,
        patches_per_visit: int = 8,
        class_weights: ClassWeights | None = None,
        source_weights: Sequence[float] = (),
        stride: int | None = None,
        rank: int = 0,
        num_ranks: int = 1,
        progress: Progress = silent,
    ) -> None:
        super().__init__()
        self.sources: tuple[PatchSource, ...] = tuple(sources) if isinstance(sources, Sequence) else (sources,)
        check_alike(self.sources)
        if source_weights and len(source_weights) != len(self.sources):
            raise SettingsError(
                f"{counted(len(source_weights), 'share')} for {counted(len(self.sources), 'store')}; give one for each"
            )
        self.fold, self.crop_size, self.batch_size, self.stride = fold, crop_size, batch_size, stride
        self.num_workers, self.seed = num_workers, seed
        self.dataset = PatchSet(self.sources)
        self._scaling = NetworkScaling(bands)
        indexes = _indexes(self.sources, fold, crop_size, class_weights is not None, progress)
        self.sampler = PatchBatchSampler(
            Chances(indexes, class_weights, dict(enumerate(source_weights))),
            batch_size,
            num_batches,
            seed,
            patches_per_visit=patches_per_visit,
            start=start,
            rank=rank,
            num_ranks=num_ranks,
        )

    def train_dataloader(self) -> DataLoader[Sample]:
        """Batches `start` to `num_batches` - 1."""
        return self._loader(self.sampler)

    def val_dataloader(self) -> DataLoader[Sample]:
        """The tiles of fold "val", in order."""
        return self._tiles("val")

    def test_dataloader(self) -> DataLoader[Sample]:
        """The tiles of fold "test", in order."""
        return self._tiles("test")

    def predict_dataloader(self) -> DataLoader[Sample]:
        """The tiles of fold "test", in order."""
        return self._tiles("test")

    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Sample:
        """The batch for the network."""
        return self._scaling(batch)

    def _tiles(self, fold: str) -> DataLoader[Sample]:
        stride = self.stride or self.crop_size
        draws = [
            Draw(number, place, Window(*window))
            for number, source in enumerate(self.sources)
            for place, window in enumerate(TileView(source, fold, self.crop_size, stride).windows.tolist())
        ]
        if not draws:
            raise DataError(f"{self.sources[0].path}: fold {fold!r} holds no whole tile of {self.crop_size} px")
        return self._loader([draws[first : first + self.batch_size] for first in range(0, len(draws), self.batch_size)])

    def _loader(self, batches: Any) -> DataLoader[Sample]:
        return PatchLoader(self.dataset, batches, self.num_workers)


class PatchLoader(DataLoader[Sample]):
    """Batches of a `PatchSet`, in order, read ahead by threads.

    Not by DataLoader's processes: reading and decoding release Python's lock, while sending a batch of ten megabytes
    from another process takes longer, by page faults of shared memory, than reading it.

    Args:
        patches: to read from.
        batches: the draws of each batch: a sampler, or a list.
        threads: number of reading threads; 0 to read when a batch is needed.
    """

    def __init__(self, patches: PatchSet, batches: Sampler[list[Draw]] | Sequence[list[Draw]], threads: int) -> None:
        super().__init__(patches, batch_size=None, sampler=batches)
        self._threads, self._pins = threads, torch.cuda.is_available()

    def __iter__(self) -> Iterator[Sample]:  # type: ignore[override]
        if not self._threads:
            yield from map(self._read, self.sampler)
            return
        pool = ThreadPoolExecutor(self._threads, "patches")
        running: deque[Future[Sample]] = deque()
        try:
            for draws in self.sampler:
                running.append(pool.submit(self._read, draws))
                if len(running) > _AHEAD * self._threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _read(self, draws: list[Draw]) -> Sample:
        batch = self.dataset[draws]
        return {name: values.pin_memory() for name, values in batch.items()} if self._pins else batch


def _indexes(
    sources: Sequence[PatchSource], fold: str, size: int, count_classes: bool, progress: Progress
) -> dict[int, PositionIndex]:
    """Indexes by source number; sources without a place for a patch are left out if another has one."""
    indexes, refusals = {}, []
    for number, source in enumerate(sources):
        try:
            indexes[number] = PositionIndex(source, fold, size, count_classes=count_classes, progress=progress)
        except DataError as error:
            refusals.append(error)
    if not indexes:
        raise refusals[0]
    return indexes

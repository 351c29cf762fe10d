"""UnfinishedImage: an image that is made block by block; finished blocks survive interruptions."""

from __future__ import annotations

import threading
import zipfile
from pathlib import Path

import numpy as np

from geosynth.errors import OutputError, no_more_files
from geosynth.grid import BlockPlan, Window
from geosynth.raster.read import Array, Mask, filled
from geosynth.unfinished import UnfinishedWork

# numpy parses the headers of arrays as Python, which before 3.11.5 two threads must not do at once (gh-106905).
_ONE_AT_A_TIME = threading.Lock()


class UnfinishedImage(UnfinishedWork):
    """Unfinished work whose parts are the blocks of one image.

    Each block is a file, because a kill can leave a region of a TIFF or Zarr half written; the price is the raw size of
    the image on disk.

    Args:
        out: the future image.
        plan: its blocks.
        num_bands: number of its bands.
        dtype: of the pixels.
    """

    parts_are = "blocks"

    def __init__(self, out: Path, plan: BlockPlan, num_bands: int, dtype: str) -> None:
        super().__init__(out)
        self.result = self.folder / "result" / out.name
        self.plan = plan
        self.num_bands = num_bands
        self.dtype = dtype

    def finished_blocks(self) -> set[int]:
        """Numbers of the finished blocks in the plan."""
        return {int(part) for part in self.done()}

    def has_block(self, index: int) -> bool:
        """Whether a block is finished and has data."""
        return self.path_of(str(index)).exists()

    def write_block(self, index: int, pixels: Array, valid: Mask) -> None:
        """Save a block: pixels (bands, height, width), and where there is data (height, width).

        Raises:
            OutputError: if it cannot be written.
        """
        with self.write(str(index)) as file:
            # Not compressed, as blocks are read back only once. The zip format adds checksums.
            np.savez(file, pixels=filled(pixels, valid).astype(self.dtype, copy=False), valid=np.packbits(valid))

    def read_block(self, index: int) -> tuple[Array, Mask]:
        """A finished block, as it was written; zeros where there is no data.

        Raises:
            OutputError: if it cannot be read or is damaged.
        """
        window = self.plan[index]
        shape = (window.height, window.width)
        path = self.path_of(str(index))
        try:
            with _ONE_AT_A_TIME, np.load(path) as stored:
                valid = np.unpackbits(stored["valid"], count=shape[0] * shape[1]).astype(bool).reshape(shape)
                return stored["pixels"].reshape(self.num_bands, *shape), valid
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            if no_more_files(error) is None:
                path.unlink(missing_ok=True)  # so that the next run makes it again
            raise OutputError(f"{self.out}: its finished block {index} is damaged; run again to replace it") from error

    def read(self, window: Window) -> tuple[Array, Mask]:
        """Pixels (bands, height, width) of any window, zeros without data, and where there is data (height, width)."""
        pixels = np.zeros((self.num_bands, window.height, window.width), dtype=self.dtype)
        valid = np.zeros((window.height, window.width), dtype=bool)
        for index in self.plan.touching(window):
            if not self.has_block(index):
                continue
            block = self.plan[index]
            common = block.overlap(window)
            source, target = common.slices_in(block), common.slices_in(window)
            block_pixels, block_valid = self.read_block(index)
            pixels[:, *target] = block_pixels[:, *source]
            valid[target] = block_valid[source]
        return pixels, valid

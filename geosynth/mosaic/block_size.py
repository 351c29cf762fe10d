"""Which block size fits into a given memory."""

from __future__ import annotations

import math

import numpy as np
import psutil

from geosynth.errors import SettingsError
from geosynth.mosaic.blend import KEPT_BYTES
from geosynth.mosaic.painter import CELL, Painter, sliver
from geosynth.raster.read import CACHE_BYTES

_SIZES = (4096, 2048, 1024, 512, 256, 128)  # larger blocks gain nothing
# Measured with networks of 4 to 64 base channels, in float32 and bfloat16 (benchmarks/mosaic.py shows the peak).
_NETWORK_COPIES = 8  # of the largest map of features
_LABEL_BYTES = 10  # per pixel: codes, masks and what filling holes needs
_REGION_BYTES = 12  # per pixel, if a fifth of all are in regions
_WRITING_BYTES = 64 << 20  # the threads that write a COG, besides GDAL's cache


def choose_block_size(painter: Painter, writing: int = _WRITING_BYTES) -> int:
    """The block size of the painter's settings, or the largest that its memory limit allows.

    Args:
        painter: has the settings.
        writing: bytes that writing takes besides the blocks; by default, those of a COG.

    Raises:
        SettingsError: if no block fits.
    """
    limit = painter.settings.max_memory
    if limit is None:
        return painter.settings.block_size
    present = psutil.Process().memory_info().rss
    for size in _SIZES:
        needed = present + needed_bytes(painter, size, writing)
        if needed <= limit:
            return size
    raise SettingsError(
        f"{limit / 1e9:g} GB are too little: this model needs {math.ceil(needed / 1e8) / 10} GB at least, of which"
        f" {present / 1e9:.2g} GB are the libraries and the model itself",
        setting="max_memory",
    )


def needed_bytes(painter: Painter, block_size: int, writing: int = _WRITING_BYTES) -> int:
    """Bytes that painting and writing take at their peak, besides the libraries and the model.

    Arguments as for `choose_block_size`. A Zarr image is written after the last block, but not all memory of painting
    is free again by then.
    """
    network, bands = painter.network, painter.model.card.bands
    blend = painter.mode == "blend"
    cell = network.crop_size or (CELL if blend else min(CELL, block_size))
    cell += 0 if blend else 2 * sliver(cell)
    block_size += 2 * sliver(block_size)
    maps = (
        stage.in_channels * 4 * ((cell + 2 * min(painter.margin, network.margins[stage.stride])) // stage.stride) ** 2
        for stage in network.stages
    )
    features = max(maps) * _NETWORK_COPIES if painter.on_cpu else 0
    # A block that is being written is in memory as painted and as masked; the next one as cells and as a whole. A GPU
    # has begun one more. Another is on its way into the file, read back and masked.
    copies = 2 * painter.helpers + (2 if painter.on_cpu else 3) + 2
    blocks = block_size**2 * len(bands.names) * np.dtype(bands.dtype).itemsize * copies
    if blend:
        blocks += block_size**2 * len(bands.names) * 4 + KEPT_BYTES
    label_bytes = _LABEL_BYTES + (_REGION_BYTES if network.style_regions else 0)
    labels = (block_size + 2 * (painter.margin + network.look_side)) ** 2 * label_bytes * painter.helpers
    return CACHE_BYTES + writing + features + blocks + labels

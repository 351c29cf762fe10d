"""classify: from an image to a label raster on the same grid."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geosynth.errors import SettingsError
from geosynth.files import output_path
from geosynth.grid import Window, block_plan, warn_of_pixel_size
from geosynth.legend import ClassIndices
from geosynth.models.device import plain_memory_error
from geosynth.progress import Progress, silent
from geosynth.raster.label_files import kept_tags
from geosynth.raster.label_writer import check_label_output, label_writer
from geosynth.raster.model_bands import NeededBands, open_bands
from geosynth.raster.read import ImageRaster, Mask, Raster, bounded_cache, without_hidden
from geosynth.raster.unfinished_image import UnfinishedImage
from geosynth.segmentation.segmenter import Segmenter, load_segmenter
from geosynth.version import __version__

_BLOCK = 512  # pixels; side of a block that is predicted and kept as a unit
_MARGIN = 64  # pixels around a block that the network sees, too, and that are cut off afterwards


@plain_memory_error()
def classify(
    image: str | Path,
    model: str | Path | Segmenter,
    out: str | Path,
    *,
    bands: Sequence[str] | None = None,
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress = silent,
) -> Path:
    """Predict the class of each pixel of an image, block by block: a Cloud Optimized GeoTIFF of class codes.

    Blocks of 512 px are predicted together with 64 px around them (beyond the image's edge, the nearest pixels are
    repeated), so that edges of blocks hardly show. Codes, colours and names are those of the segmenter's legend; pixels
    without image data get its nodata code. Finished blocks are kept in a hidden folder beside the output until it is
    complete: after an interruption the same call continues. Memory does not depend on the image's size.

    Args:
        image: a raster with the bands of the segmenter, found by name or, if bands have no names, taken in their order.
        bands: names of the image's bands, if it does not have them, or those to take; with numbers, as in "red=4",
            those of a file without these names.
        model: a segmenter made by `segment` (its file or folder), or a loaded one.
        out: the label raster, a name that ends in .tif; it appears when it is complete. Names and attribute table go
            into `out`.aux.xml.
        device: "cpu", "cuda", "cuda:1", ..., or "auto": the GPU if there is one, else the CPU. A loaded segmenter stays
            on its device.
        overwrite: replace an existing output.
        progress: called with the number of finished blocks and of all blocks.

    Returns:
        the path of the label raster.

    Raises:
        SettingsError: if the image is not a file name, or the model is neither a file name nor a segmenter.
        CheckpointError: if the model is not a segmenter, or the device cannot be used.
        RasterError: if the image cannot be read.
        DataError: if its bands, their dtype or their quantities are not the segmenter's.
        OutputError: if the output exists or cannot be written; finished blocks are kept.
    """
    out = output_path(out)
    if not isinstance(image, str | Path) or not isinstance(model, str | Path | Segmenter):
        kinds = f"{type(image).__name__} and {type(model).__name__}"
        raise SettingsError(f"classify takes the file of an image, and a segmenter or its file; got {kinds}")
    check_label_output(out, [image, model], overwrite=overwrite)
    segmenter = model if isinstance(model, Segmenter) else load_segmenter(model, device)
    raster = open_bands(image, NeededBands(segmenter.card.bands, "segmenter", segmenter.path), bands)
    check_label_output(out, raster.files, overwrite=overwrite)
    warn_of_pixel_size(raster.path, raster.geobox, segmenter.card.gsd, "the segmenter was trained on %g m")
    plan = block_plan(raster.geobox, _BLOCK)
    labels = UnfinishedImage(out, plan, 1, "uint8")
    with bounded_cache(), labels.open(_job(raster, segmenter), total=len(plan), keep_finished=True):
        if labels.is_finished:
            return out
        check_label_output(out, (), overwrite=overwrite)
        finished = labels.finished_blocks()
        for index, window in enumerate(plan):
            if index not in finished:
                predicted, valid = _predict(raster, segmenter, window)
                if predicted is not None:  # blocks without data are not kept
                    labels.write_block(index, predicted, valid)
            progress(index + 1, len(plan))
        _write(labels, raster, segmenter)
    return out


def _predict(raster: Raster, segmenter: Segmenter, window: Window) -> tuple[ClassIndices | None, Mask]:
    """Class indices of a block (1, height, width), None without data; and where there is data (height, width)."""
    seen = window.buffer(_MARGIN)
    inside = seen.intersection(raster.window)
    assert inside is not None
    pixels, has_data = raster.read(inside)
    valid = has_data[window.slices_in(inside)]
    if not valid.any():
        return None, valid
    beyond = (
        (0, 0),
        (inside.row - seen.row, seen.bottom - inside.bottom),
        (inside.column - seen.column, seen.right - inside.right),
    )
    pixels = np.pad(without_hidden(pixels, has_data), beyond, mode="edge")
    predicted = segmenter.predict(pixels[np.newaxis])
    return predicted[:, _MARGIN : _MARGIN + window.height, _MARGIN : _MARGIN + window.width], valid


def _write(labels: UnfinishedImage, raster: Raster, segmenter: Segmenter) -> None:
    tags = {
        "GEOSYNTH_IMAGE": Path(raster.path).name,
        "GEOSYNTH_SEGMENTER": segmenter.path.name,
        "GEOSYNTH_SEGMENTER_SHA256": segmenter.sha256,
        **kept_tags(raster),
    }
    with label_writer(labels, raster.geobox, segmenter.card.legend, tags) as write:
        for window in labels.plan:  # including those without data, which the writer fills with nodata
            indices, valid = labels.read(window)
            write(window, indices[0], valid)


def _job(raster: ImageRaster, segmenter: Segmenter) -> dict[str, Any]:
    """Everything that a block depends on, under the names that users know."""
    files = []
    for name in raster.files:
        with contextlib.suppress(OSError):  # behind a URL
            state = Path(name).stat()
            files.append([name, state.st_size, state.st_mtime_ns])
    return {
        "image": [raster.path, *files],
        "bands": list(raster.bands),
        "model": segmenter.sha256,
        "device": segmenter.device.type,
        "grid": [*raster.geobox.shape, *raster.geobox.affine[:6]],
        "version": [__version__, torch.__version__],
    }

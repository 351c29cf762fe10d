"""Writing label rasters: Cloud Optimized GeoTIFFs of class codes, with colours, names and attribute table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from odc.geo.geobox import GeoBox

from geosynth.errors import OutputError
from geosynth.files import refuse_folder, refuse_inputs
from geosynth.grid import Window
from geosynth.legend import ClassIndices, Legend
from geosynth.raster.class_table import CLASSES_TAG, write_attribute_table
from geosynth.raster.cog import CogWriter
from geosynth.raster.read import Mask
from geosynth.unfinished import UnfinishedWork, check_place
from geosynth.version import __version__


def check_label_output(out: Path, inputs: Sequence[object], *, overwrite: bool) -> None:
    """Refuse, before any work, a label raster that `label_writer` could not write, or that is an input.

    Raises:
        OutputError: one line.
    """
    if out.suffix.lower() not in (".tif", ".tiff"):
        raise OutputError(f"{out}: the label raster is a GeoTIFF; choose a name that ends in .tif")
    check_place(out, overwrite=overwrite)
    for path in (out, Path(f"{out}.aux.xml")):
        refuse_folder(path)
        refuse_inputs(path, inputs)


@contextmanager
def label_writer(
    work: UnfinishedWork, geobox: GeoBox, legend: Legend, tags: Mapping[str, str]
) -> Iterator[Callable[[Window, ClassIndices, Mask], None]]:
    """Write a Cloud Optimized GeoTIFF of class codes, with colours, names and attribute table; it appears complete.

    Args:
        work: the unfinished work of the file, open; names and attribute table go into `out`.aux.xml.
        geobox: the grid of the file.
        legend: of its codes; pixels without a class get its `nodata_code`.
        tags: of the default domain, besides version and classes.

    Yields:
        a function that writes a window: its arguments are the window, the class indices, and where there is a class,
        the latter two (height, width).

    Raises:
        OutputError: if it cannot be written.
    """
    nodata = legend.nodata_code
    dtype = legend.code_dtype.name
    colours = {entry.code: (*entry.rgb, 255) for entry in legend.classes} | {nodata: (0, 0, 0, 0)}
    classes = json.dumps(dict(zip(legend.names, legend.codes, strict=True)))
    writer = CogWriter(
        work.result,
        geobox,
        ("class",),
        dtype=dtype,
        masked=False,
        nodata=nodata,
        colours=colours if dtype == "uint8" else None,
        tags={"GEOSYNTH_VERSION": __version__, **tags, CLASSES_TAG: classes},
        overviews="mode",
        folder=work.folder,
    )

    def write(window: Window, indices: ClassIndices, valid: Mask) -> None:
        writer.write(window, legend.decode(indices)[np.newaxis], valid)

    with writer:
        yield write
    write_attribute_table(work.result.with_name(work.out.name), legend)
    work.finish(f"{work.out.name}.aux.xml")

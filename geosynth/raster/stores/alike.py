"""What sources must have in common to be trained on together, with their twins, and with a model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from geosynth.config import BandSettings
from geosynth.config.bands import Quantity, first_known
from geosynth.errors import DataError, GridError
from geosynth.raster.quantities import agreed_quantities
from geosynth.raster.stores.source import PatchSource

_LOG = logging.getLogger(__name__)


def check_alike(sources: Sequence[PatchSource]) -> None:
    """Refuse sources that cannot be trained on together; one warning names those without a pixel size in metres.

    Raises:
        DataError: if bands, types, legends or quantities differ.
        GridError: if pixel sizes differ by more than a hundredth.
    """
    first = sources[0]
    for source in sources[1:]:
        _refuse_other(source, first)
    agreed_quantities([(source.path, source.quantities) for source in sources], first.band_names)
    known = [(source.path, source.gsd) for source in sources if source.gsd is not None]
    for path, gsd in known[1:]:
        if not np.isclose(gsd, known[0][1], rtol=0.01, atol=0):
            raise GridError(f"{path}: pixels of {gsd} m, but {known[0][0]} has pixels of {known[0][1]} m; resample one")
    unknown = [source.path for source in sources if source.gsd is None]
    if known and unknown:
        message = (
            "%s: pixels of unknown size (no CRS in metres), taken for the %g m of %s; resample them first if that is"
            " not their size"
        )
        path, gsd = known[0]
        _LOG.warning(message, ", ".join(unknown), gsd, path)


def common_gsd(sources: Sequence[PatchSource], initial: float | None = None) -> float | None:
    """Pixel size in metres of sources that are alike: of the first that has one, else of the initial model."""
    return next((source.gsd for source in sources if source.gsd is not None), initial)


def common_quantities(sources: Sequence[PatchSource]) -> tuple[Quantity, ...]:
    """What the values of sources that are alike mean, band by band: as in the first source that says so."""
    return first_known([source.quantities for source in sources])


def check_fits(sources: Sequence[PatchSource], model: str | Path, classes: Sequence[str], bands: BandSettings) -> None:
    """Refuse data on which a model cannot be trained further, or which a segmenter cannot judge.

    Args:
        sources: of the patches.
        model: its name, for the message.
        classes: the model's classes, in their order.
        bands: the bands that it paints or reads.

    Raises:
        DataError: if the data have other classes, bands, or pixel values of another type or meaning.
    """
    in_order = f"; name them in its order: ingest --bands {','.join(bands.names)}, or bands of data in place"
    as_type = f"; ingest --dtype {bands.dtype} if they fit"
    needed = {name.casefold() for name in bands.names}
    for source in sources:
        has_all = needed <= {name.casefold() for name in source.band_names}
        for what, theirs, ours, remedy in (
            ("classes", classes, source.legend.names, ""),
            ("bands", bands.names, source.band_names, in_order if has_all else ""),
            ("pixel values of type", (bands.dtype,), (str(source.dtype),), as_type),
        ):
            if tuple(theirs) != tuple(ours):
                raise DataError(
                    f"{source.path}: {what} {', '.join(ours)} do not fit the model {model}, which has"
                    f" {', '.join(theirs)}{remedy}"
                )
    told = [(source.path, source.quantities) for source in sources]
    agreed_quantities([(str(model), bands.quantities), *told], bands.names)


def check_twin(twin: PatchSource, source: PatchSource) -> None:
    """Refuse a store that is not a twin of another one.

    Raises:
        DataError: if grids, bands, types, quantities or classes differ.
    """
    if twin.geobox != source.geobox:
        raise DataError(f"{twin.path}: its grid is not that of {source.path}; make the twin of the same store")
    _refuse_other(twin, source, "; make the twin of the same store")
    agreed_quantities([(source.path, source.quantities), (twin.path, twin.quantities)], source.band_names)


def _refuse_other(source: PatchSource, first: PatchSource, remedy: str = "") -> None:
    """Refuse imagery with other bands or of another type, and labels with other classes."""
    as_type = f"; ingest --dtype {first.dtype} if they fit"
    for what, own, others, how in (
        ("bands", source.band_names, first.band_names, remedy),
        ("pixel values", (str(source.dtype),), (str(first.dtype),), remedy or as_type),
        ("classes", source.legend.names, first.legend.names, remedy),
    ):
        if own != others:
            shown, other = ", ".join(own), ", ".join(others)
            raise DataError(f"{source.path}: its {what} ({shown}) differ from those of {first.path} ({other}){how}")

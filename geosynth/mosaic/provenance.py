"""What an image says about how it was made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from geosynth.legend import Legend
from geosynth.mosaic.painter import Painter
from geosynth.raster.labels import Survey
from geosynth.version import __version__


def provenance(painter: Painter, labels: str, legend: Legend, survey: Survey | None = None) -> dict[str, str]:
    """Tags of the image.

    Args:
        painter: its model and settings.
        labels: name of the label raster.
        legend: of the labels.
        survey: of the labels, where they were read before painting.
    """
    settings = painter.settings
    tags = {
        "SYNTHETIC": "yes",
        "IMAGEDESCRIPTION": "Synthetic image painted from land-cover labels by a generative model; not an observation.",
        "TIFFTAG_SOFTWARE": f"geosynth {__version__}",
        "GEOSYNTH_VERSION": __version__,
        "GEOSYNTH_MODEL": painter.model.path.name,
        "GEOSYNTH_MODEL_SHA256": painter.model.sha256,
        "GEOSYNTH_SEED": str(settings.seed),
        "GEOSYNTH_STYLE_LENGTH": str(painter.style_length),
        "GEOSYNTH_PRECISION": painter.precision,
        "GEOSYNTH_MOSAIC": painter.mode,
        "GEOSYNTH_LABELS": Path(labels).name,
        "GEOSYNTH_LEGEND": legend.name,
    }
    if painter.style is not None:
        tags["GEOSYNTH_STYLE_SHA256"] = hashlib.sha256(painter.style.cpu().numpy().tobytes()).hexdigest()
    if survey is not None:
        counts = survey.counts
        pixels = {name: counts.get(code, 0) for name, code in zip(legend.names, legend.codes, strict=True)}
        tags["GEOSYNTH_CLASS_PIXELS"] = json.dumps(pixels)
        tags["GEOSYNTH_LABELS_DIGEST"] = survey.digest
    return tags

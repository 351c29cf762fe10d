"""What an image depends on: the job of its blocks, and the tags that record how it was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from geosynth.errors import OutputError, RasterError
from geosynth.mosaic.painter import Painter
from geosynth.mosaic.style import style_digest
from geosynth.raster.images import image_tags
from geosynth.raster.labels import LabelRaster, Survey
from geosynth.version import __version__


def is_made_from(out: Path, tags: dict[str, str], *, overwrite: bool) -> bool:
    """Whether the image exists and was made from the same inputs and settings.

    Raises:
        OutputError: if it exists, was made from others, and must not be overwritten.
        RasterError: if it exists, is not an image, and must not be overwritten.
    """
    if not out.exists():
        return False
    try:
        own = image_tags(out)
    except RasterError:
        if overwrite:
            return False
        raise
    differing = [
        name.removeprefix("GEOSYNTH_").lower()
        for name, value in tags.items()
        if own.get(name, "").lstrip() != value.lstrip()  # GDAL drops blanks at the start of a tag
    ]
    if differing and not overwrite:
        raise OutputError(
            f"{out}: already exists, made differently ({', '.join(differing)}); choose another name or use --overwrite"
        )
    return not differing


def painting_job(painter: Painter, source: LabelRaster, survey: Survey, block_size: int) -> dict[str, Any]:
    """Everything that a block's bytes depend on, under the names that users know."""
    # No byte depends on these, or only through entries below, as on the labels.
    left_out = {"compress", "max_memory", "look", "unknown", "resample", "preview", "stac"}
    return {
        **painter.settings.model_dump(exclude=left_out),
        "block_size": block_size,
        "mosaic": painter.mode,
        "precision": painter.precision,
        "style_length": painter.style_length,
        "style": style_digest(painter.style),
        "model": painter.model.sha256,
        "labels": survey.digest,
        "legend": [list(entry.codes) for entry in source.legend.classes],
        "version": [__version__, torch.__version__],
    }


def provenance(painter: Painter, labels: LabelRaster, survey: Survey | None = None) -> dict[str, str]:
    """Tags of the image that record how it was made.

    Args:
        painter: has the model and the settings.
        labels: the labels that it paints.
        survey: of the labels, if they were read before painting.
    """
    settings, legend = painter.settings, labels.legend
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
        "GEOSYNTH_LABELS": Path(labels.name).name,
        "GEOSYNTH_LEGEND": legend.name,
    }
    networks = painter.model.card.loss_networks
    if networks is not None:
        tags["GEOSYNTH_LOSS_NETWORKS"] = ",".join(sorted(networks)) or "none"  # GDAL drops empty tags
    if painter.look_name is not None:
        tags["GEOSYNTH_LOOK"] = painter.look_name
    elif (digest := style_digest(painter.style)) is not None:
        tags["GEOSYNTH_STYLE_SHA256"] = digest
    if survey is not None:
        tags["GEOSYNTH_CLASS_PIXELS"] = json.dumps(dict(zip(legend.names, legend.count(survey.counts), strict=True)))
        tags["GEOSYNTH_LABELS_DIGEST"] = survey.digest
    return tags

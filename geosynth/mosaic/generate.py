"""generate: a label raster in, a georeferenced synthetic image on the same grid out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from odc.geo.geobox import GeoBox

from geosynth.checkpoint import GeneratorModel, load_generator
from geosynth.config import GenerateSettings
from geosynth.errors import OutputError, SettingsError
from geosynth.grid import TilePlan, absolute_origin, ground_sampling_distance
from geosynth.legend import Legend
from geosynth.mosaic.painter import Painter
from geosynth.outputs import check_output
from geosynth.raster.cog import CogWriter, write_preview
from geosynth.raster.labels import LabelRaster
from geosynth.raster.read import open_raster
from geosynth.version import __version__

_LOG = logging.getLogger(__name__)
_GSD_TOLERANCE = 0.05


def generate(
    labels: str | Path,
    out: str | Path,
    model: str | Path | GeneratorModel | None = None,
    settings: GenerateSettings | None = None,
    *,
    legend: str | Path | Legend | None = None,
    preview: bool = False,
    overwrite: bool = False,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Path:
    """Paint an image for a label raster, block by block, as a Cloud Optimized GeoTIFF on the same grid.

    Args:
        labels: a single-band raster of class codes.
        out: the image, a name that ends in .tif; appears when it is whole.
        model: a file made by `train`, or one already loaded (and used where it is); None for the embedded default.
        settings: seed, block size, ...
        legend: of the label raster, if its codes are not the model's; classes are matched by name.
        preview: also write a PNG beside the image.
        overwrite: replace an existing output.
        progress: called with ("checking" or "painting", blocks done, blocks to do).

    Returns:
        the path of the image.

    Raises:
        RasterError, DataError, LegendError, CheckpointError, OutputError, SettingsError: one line each, before any
            work starts, and with nothing left behind.
    """
    settings = settings or GenerateSettings()
    out = Path(out)
    _check_places(out, [labels, model, legend], preview=preview, overwrite=overwrite)
    open_raster(labels)  # a wrong name is said before a model is loaded
    if not isinstance(model, GeneratorModel):
        model = load_generator(model, settings.device)
    if model.card.settings.start == "linear":
        raise SettingsError(
            f"{model.path}: paints windows of {model.card.settings.crop_size} px only (linear start); joining them"
            " needs blending, which this version does not have"
        )
    source = LabelRaster(labels, _label_legend(legend, model))
    geobox = source.raster.geobox
    counts = source.check_codes(lambda done, total: progress("checking", done, total))
    _warn_about_grid(geobox, model.card.gsd, source.raster.path)

    painter = Painter(model, settings)
    origin = absolute_origin(geobox)
    height, width = geobox.shape
    plan = TilePlan(height, width, settings.block_size)
    labelled = sum(counts.get(code, 0) for code in source.legend.codes)
    writer = CogWriter(
        out,
        geobox,
        model.card.bands.names,
        dtype=model.card.bands.dtype,
        masked=labelled < height * width,
        tags=_tags(model, settings, painter, source),
        compress=settings.compress,
    )
    with writer:
        for done, window in enumerate(plan, start=1):
            context = painter.context(window, origin)
            indices, has_class = source.read(context)
            top, left = window.row - context.row, window.column - context.column
            valid = has_class[top : top + window.height, left : left + window.width]
            if valid.any():  # blocks without data stay empty, and cost nothing
                writer.write(window, painter.paint(indices, context, window, origin), valid)
            progress("painting", done, len(plan))
    if preview:
        write_preview(out, out.with_suffix(".png"))
    return out


def _check_places(out: Path, inputs: Sequence[object], *, preview: bool, overwrite: bool) -> None:
    if out.suffix.lower() not in (".tif", ".tiff"):
        raise OutputError(f"{out}: the image is a GeoTIFF; say a name that ends in .tif")
    for path in (out, out.with_suffix(".png")) if preview else (out,):
        check_output(path, overwrite=overwrite)
        if path.is_dir():
            raise OutputError(f"{path}: is a folder; say the name of a file")
        for source in inputs:
            if isinstance(source, str | Path) and path.exists() and Path(source).exists() and path.samefile(source):
                raise OutputError(f"{path}: is an input too and would be lost; choose another name")


def _label_legend(legend: str | Path | Legend | None, model: GeneratorModel) -> Legend:
    if legend is None:
        return model.card.legend
    return Legend.load(legend).translation_to(model.card.legend)


def _tags(model: GeneratorModel, settings: GenerateSettings, painter: Painter, source: LabelRaster) -> dict[str, str]:
    return {
        "SYNTHETIC": "yes",
        "IMAGEDESCRIPTION": "Synthetic image painted from land-cover labels by a generative model; not an observation.",
        "TIFFTAG_SOFTWARE": f"geosynth {__version__}",
        "GEOSYNTH_VERSION": __version__,
        "GEOSYNTH_MODEL": model.path.name,
        "GEOSYNTH_MODEL_SHA256": model.sha256,
        "GEOSYNTH_SEED": str(settings.seed),
        "GEOSYNTH_STYLE_LENGTH": str(settings.style_length),
        "GEOSYNTH_PRECISION": "bf16" if painter.bfloat16 else "fp32",
        "GEOSYNTH_LABELS": Path(source.raster.path).name,
        "GEOSYNTH_LEGEND": source.legend.name,
    }


def _warn_about_grid(geobox: GeoBox, trained_on: float | None, source: str) -> None:
    if geobox.crs is None:
        _LOG.warning("%s: has no CRS; the image will have none either", source)
        return
    if trained_on is None:
        return
    metres = ground_sampling_distance(geobox)
    if metres is None:
        _LOG.warning("%s: its pixels are not in metres; the model was trained on %g m", source, trained_on)
    elif abs(metres / trained_on - 1) > _GSD_TOLERANCE:
        message = "%s: pixels of %g m; the model was trained on %g m and paints at that scale"
        _LOG.warning(message, source, metres, trained_on)

"""Open an image in QGIS without a screen, check what a user would see, and render a picture of it.

Needs a Python with QGIS (Debian: python3-qgis); `check_in_qgis.sh` finds or installs one:

    examples/check_in_qgis.sh synth.tif picture.png

Prints one JSON object. Exit code 1 if QGIS cannot use the image.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from qgis.core import (
    QgsApplication,
    QgsMapRendererSequentialJob,
    QgsMapSettings,
    QgsMultiBandColorRenderer,
    QgsRasterBandStats,
    QgsRasterDataProvider,
    QgsRasterLayer,
)
from qgis.PyQt.QtCore import QSize, Qt

SIZE = 800


def describe(layer: QgsRasterLayer) -> dict[str, Any]:
    """How QGIS interprets the layer."""
    provider = layer.dataProvider()
    bands = range(1, layer.bandCount() + 1)
    return {
        "valid": layer.isValid(),
        "crs": layer.crs().authid() or layer.crs().toProj(),
        "width": layer.width(),
        "height": layer.height(),
        "bands": [provider.generateBandName(band) for band in bands],
        "colours": [provider.colorInterpretationName(band) for band in bands],
        "ranges": [_range(provider, band) for band in bands],
        "renderer": layer.renderer().type() if layer.renderer() else None,
        "nodata": [provider.sourceHasNoDataValue(band) for band in bands],
    }


def _range(provider: QgsRasterDataProvider, band: int) -> list[float]:
    statistics = provider.bandStatistics(band, QgsRasterBandStats.All, provider.extent(), 0)
    return [statistics.minimumValue, statistics.maximumValue]


def render(layer: QgsRasterLayer, path: str) -> float:
    """Draw the whole layer on an empty picture, as QGIS does when it is added; return the share that is left empty."""
    extent = layer.extent()
    scale = SIZE / max(extent.width(), extent.height())
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(extent)
    settings.setOutputSize(QSize(max(1, round(extent.width() * scale)), max(1, round(extent.height() * scale))))
    settings.setBackgroundColor(Qt.GlobalColor.transparent)
    job = QgsMapRendererSequentialJob(settings)
    job.start()
    job.waitForFinished()
    picture = job.renderedImage()
    picture.save(path)
    height, width = picture.height(), picture.width()
    empty = sum(picture.pixelColor(x, y).alpha() == 0 for y in range(height) for x in range(width))
    return float(empty / (width * height))


def main(image: str, picture: str) -> int:
    """Check, draw, report."""
    QgsApplication.setPrefixPath("/usr", True)
    application = QgsApplication([], False)
    application.initQgis()
    layer = QgsRasterLayer(image, "image", "gdal")
    report: dict[str, Any] = {"file": image}
    if layer.isValid():
        report |= describe(layer)
        report["transparent"] = render(layer, picture)
        report["shows_colours"] = isinstance(layer.renderer(), QgsMultiBandColorRenderer)
    else:
        report["valid"] = False
    del layer
    application.exitQgis()
    print(json.dumps(report, indent=2))
    return 0 if report["valid"] else 1


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: check_in_qgis.py IMAGE PICTURE.png")
    sys.exit(main(sys.argv[1], sys.argv[2]))

"""Run the plugin's algorithms in QGIS without a screen; for the tests.

Needs a Python with QGIS (Debian: qgis or python3-qgis):

    python3 qgis/check_plugin.py COMMAND RUNS.json FOLDER

COMMAND is the `geosynth` command. RUNS.json is a list of {"algorithm": ..., "parameters": {...}}, where "cancel": true
stops at the first progress. FOLDER gets a picture of each raster as QGIS shows it, NUMBER_ALGORITHM.png.
Prints a JSON list: results or "error", the messages, and how QGIS interprets the layer.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path[:0] = ["/usr/share/qgis/python/plugins", str(Path(__file__).parent)]

from qgis.core import (
    QgsApplication,
    QgsMapRendererSequentialJob,
    QgsMapSettings,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProject,
    QgsRasterLayer,
)
from qgis.PyQt.QtCore import QSize


class Feedback(QgsProcessingFeedback):
    """Records an algorithm's messages; may cancel it."""

    def __init__(self, cancel):
        super().__init__(False)
        self.cancel_at_progress, self.shown, self.warnings, self.infos = cancel, [], [], []
        self.progressChanged.connect(self._progress)

    def _progress(self, percent):
        self.shown.append(percent)
        if self.cancel_at_progress:
            self.cancel()

    def pushWarning(self, warning):  # noqa: N802
        self.warnings.append(warning)

    def pushInfo(self, info):  # noqa: N802
        self.infos.append(info)


def run(request, picture):
    """One algorithm, as a user would run it from the toolbox."""
    algorithm = QgsApplication.processingRegistry().createAlgorithmById("geosynth:" + request["algorithm"])
    context, feedback = QgsProcessingContext(), Feedback(request.get("cancel", False))
    context.setProject(QgsProject.instance())
    output = request["parameters"]["OUTPUT"]
    details = QgsProcessingContext.LayerDetails("made", QgsProject.instance(), "OUTPUT")
    if output.endswith(".tif"):
        context.setLayersToLoadOnCompletion({output: details})
    report = {"algorithm": request["algorithm"]}
    try:
        report["results"], fine = algorithm.run(request["parameters"], context, feedback, catchExceptions=False)
        report["fine"] = fine
    except Exception as error:  # QgsProcessingException
        report["error"] = str(error)
    report |= {"progress": feedback.shown, "warnings": feedback.warnings, "infos": feedback.infos}
    if output.endswith(".tif") and report.get("results"):
        layer = QgsRasterLayer(output, "made", "gdal")
        processor = context.layerToLoadOnCompletionDetails(output).postProcessor()
        if processor:
            processor.postProcessLayer(layer, context, feedback)
        renderer = layer.renderer()
        report |= {"valid": layer.isValid(), "renderer": renderer.type(), "bands": renderer.usesBands()}
        if renderer.type() == "paletted":
            report["classes"] = [[entry.value, entry.label, entry.color.name()] for entry in renderer.classes()]
        draw(layer, picture)
    return report


def draw(layer, path):
    """Write a picture of a layer, as on the map."""
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(layer.extent())
    settings.setOutputSize(QSize(512, 512))
    job = QgsMapRendererSequentialJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(str(path))


def main(command, runs, folder):
    """All runs, one after the other."""
    QgsApplication.setPrefixPath("/usr", True)
    application = QgsApplication([], False)
    application.initQgis()
    from processing.core.Processing import Processing
    from processing.core.ProcessingConfig import ProcessingConfig

    from geosynth_qgis import classFactory

    Processing.initialize()
    plugin = classFactory(None)
    plugin.initProcessing()
    ProcessingConfig.setSettingValue("GEOSYNTH_COMMAND", command)
    requests = json.loads(runs.read_text())
    reports = [run(request, folder / f"{number}_{request['algorithm']}.png") for number, request in enumerate(requests)]
    plugin.unload()
    application.exitQgis()
    print(json.dumps(reports))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))

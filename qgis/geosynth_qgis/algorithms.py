"""The algorithms: each consists of parameters, and of the arguments of the `geosynth` command that does the work."""

from pathlib import Path

from processing.core.ProcessingConfig import ProcessingConfig
from qgis.core import (
    Qgis,
    QgsContrastEnhancement,
    QgsMultiBandColorRenderer,
    QgsPalettedRasterRenderer,
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingLayerPostProcessorInterface,
    QgsProcessingOutputHtml,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterFile,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProviderRegistry,
)
from qgis.PyQt.QtGui import QIcon

from .command import CommandError, find_command, run_command

_DEVICES = ("auto", "cpu", "cuda")
_VECTOR_FORMATS = ("gpkg", "geojson", "fgb", "shp", "parquet")


def _raster(name, text, optional=False):
    return QgsProcessingParameterRasterLayer(name, text, optional=optional)


def _model(text, optional=True):
    return QgsProcessingParameterFile("MODEL", text, extension="safetensors", optional=optional)


def _legend(text):
    return QgsProcessingParameterFile("LEGEND", text, optional=True, fileFilter="Legends (*.yaml *.yml)")


def _advanced(parameter):
    parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.FlagAdvanced)
    return parameter


def _device():
    return _advanced(
        QgsProcessingParameterEnum("DEVICE", "Device", _DEVICES, defaultValue="auto", usesStaticStrings=True)
    )


class _Algorithm(QgsProcessingAlgorithm):
    """What all algorithms have in common; a subclass defines texts, parameters and command."""

    KEY = ""
    TITLE = ""
    HELP = ""

    def name(self):
        return self.KEY

    def displayName(self):  # noqa: N802
        return self.TITLE

    def shortHelpString(self):  # noqa: N802
        return self.HELP

    def icon(self):
        return QIcon(str(Path(__file__).with_name("icon.png")))

    def createInstance(self):  # noqa: N802
        return type(self)()

    def initAlgorithm(self, configuration=None):  # noqa: N802
        for parameter in self.parameters():
            self.addParameter(parameter)
        self.addParameter(self.destination())

    def parameters(self):
        """Parameters of the input."""
        raise NotImplementedError

    def destination(self):
        """Parameter of the output."""
        return QgsProcessingParameterRasterDestination("OUTPUT", self.OUTPUT_TITLE)

    def words(self, values):
        """Arguments of the command, without the output, from `_Values`."""
        raise NotImplementedError

    def processAlgorithm(self, parameters, context, feedback):  # noqa: N802
        output = self.parameterAsOutputLayer(parameters, "OUTPUT", context)
        words = [*self.words(_Values(self, parameters, context, feedback)), "--out", output, "--overwrite"]
        return self.styled(output, context) if self.call(words, feedback) else {}

    def call(self, words, feedback):
        """Run the command; its error becomes the algorithm's. Returns False if the user cancelled it."""

        def tell(kind, value):
            {"progress": feedback.setProgress, "warning": feedback.pushWarning, "info": feedback.pushInfo}[kind](value)

        try:
            command = find_command(ProcessingConfig.getSetting("GEOSYNTH_COMMAND"))
            feedback.pushCommandInfo(" ".join([command, *(f'"{word}"' if " " in word else word for word in words)]))
            if run_command(command, words, tell, feedback.isCanceled) is not None:
                return True
        except CommandError as error:
            raise QgsProcessingException(str(error)) from error
        feedback.pushInfo("stopped; finished work is kept, and the same run continues from there")
        return False

    def styled(self, output, context):
        """The results; layers that are added to the map get their style."""
        if context.willLoadLayerOnCompletion(output):
            context.layerToLoadOnCompletionDetails(output).setPostProcessor(_Style.of_layers())
        return {"OUTPUT": output}


class _Values:
    """The user's choices, as arguments of a command."""

    def __init__(self, algorithm, parameters, context, feedback):
        self._of = (parameters, context)
        self._algorithm, self._feedback = algorithm, feedback

    def raster(self, name):
        """The file of a raster layer; None if none was chosen."""
        parameters, context = self._of
        layer = self._algorithm.parameterAsRasterLayer(parameters, name, context)
        if layer is None:
            return None
        path = QgsProviderRegistry.instance().decodeUri(layer.providerType(), layer.source()).get("path")
        if layer.providerType() != "gdal" or not path:
            raise QgsProcessingException(f"{layer.name()}: is not a raster file; export it to one (Export > Save As)")
        return path

    def vector(self, name):
        """File and layer name of a vector layer, with only the selected features if the user wants that."""
        parameters, context = self._of
        return self._algorithm.parameterAsCompatibleSourceLayerPathAndLayerName(
            parameters, name, context, list(_VECTOR_FORMATS), "gpkg", self._feedback
        )

    def text(self, name):
        """Text, a file, a field or a choice; empty if there is none."""
        parameters, context = self._of
        return self._algorithm.parameterAsString(parameters, name, context) or ""

    def number(self, name):
        """A number as text, by default that of the parameter; empty if none was chosen."""
        parameters, context = self._of
        if parameters.get(name, self._algorithm.parameterDefinition(name).defaultValue()) is None:
            return ""
        value = self._algorithm.parameterAsDouble(parameters, name, context)
        return str(int(value)) if value == int(value) else str(value)

    def switch(self, name):
        """Whether a checkbox is on."""
        parameters, context = self._of
        return self._algorithm.parameterAsBoolean(parameters, name, context)


def _given(**options):
    """`--option value` for each option with a value; `_` becomes `-`."""
    return [word for name, value in options.items() if value for word in (f"--{name.replace('_', '-')}", value)]


class _Style(QgsProcessingLayerPostProcessorInterface):
    """The style of results: images in red, green and blue, bytes without stretch; labels by their named classes."""

    _kept = []  # QGIS holds no reference of its own

    @classmethod
    def of_layers(cls):
        cls._kept[:] = [*cls._kept[-20:], cls()]
        return cls._kept[-1]

    def postProcessLayer(self, layer, context, feedback):  # noqa: N802
        provider, renderer = layer.dataProvider(), layer.renderer()
        if isinstance(renderer, QgsPalettedRasterRenderer):
            named = [entry for entry in renderer.classes() if entry.label != str(int(entry.value))]
            layer.setRenderer(QgsPalettedRasterRenderer(provider, 1, named or renderer.classes()))
            return
        bands = {provider.generateBandName(band).rpartition(": ")[2]: band for band in range(1, layer.bandCount() + 1)}
        shown = [bands.get(name) for name in ("red", "green", "blue")]
        if None in shown:
            return
        renderer = QgsMultiBandColorRenderer(provider, *shown)
        byte = Qgis.DataType.Byte
        if all(provider.dataType(band) == provider.sourceDataType(band) == byte for band in shown):
            for put in (
                renderer.setRedContrastEnhancement,
                renderer.setGreenContrastEnhancement,
                renderer.setBlueContrastEnhancement,
            ):
                enhancement = QgsContrastEnhancement(byte)
                enhancement.setMinimumValue(0)
                enhancement.setMaximumValue(255)
                enhancement.setContrastEnhancementAlgorithm(QgsContrastEnhancement.StretchToMinimumMaximum)
                put(enhancement)
            layer.setRenderer(renderer)
        else:  # values that do not fit into a byte need a stretch: the one that QGIS gives such layers
            layer.setRenderer(renderer)
            layer.setDefaultContrastEnhancement()
        layer.triggerRepaint()


class Paint(_Algorithm):
    """geosynth generate."""

    KEY, TITLE, OUTPUT_TITLE = "paint", "Paint a label layer", "Synthetic image"
    HELP = (
        "Paints a synthetic image for a raster of land-cover classes, on exactly its grid. Without a model file the"
        " embedded one paints aerial imagery (red, green, blue, near infrared) for the Chesapeake land-cover classes."
        "\n\nA run that is cancelled keeps what is finished: the same run goes on from there."
    )

    def parameters(self):
        return [
            _raster("LABELS", "Label layer (class codes)"),
            _model("Model file (empty: the embedded model)"),
            _legend("Legend file (empty: the model's)"),
            QgsProcessingParameterBoolean("RESAMPLE", "Bring labels to the model's pixel size", defaultValue=False),
            QgsProcessingParameterNumber("SEED", "Seed of styles and texture", defaultValue=0, minValue=0),
            _advanced(QgsProcessingParameterString("LOOK", "Name of a look in the model", optional=True)),
            _device(),
        ]

    def words(self, values):
        return [
            "generate",
            *_given(
                labels=values.raster("LABELS"),
                model=values.text("MODEL"),
                legend=values.text("LEGEND"),
                resample_labels="mode" if values.switch("RESAMPLE") else "",
                seed=values.number("SEED"),
                look=values.text("LOOK"),
                device=values.text("DEVICE"),
            ),
        ]


class PaintLike(Paint):
    """geosynth generate --style-from."""

    KEY, TITLE = "paintlike", "Paint a label layer in the look of an image"
    HELP = (
        "Paints a synthetic image for a raster of land-cover classes in the colours, season and sensor of an image that"
        " you have. With a label layer of that image each class takes its own look, otherwise the image as a whole"
        " tells."
    )

    def parameters(self):
        labels, *rest = super().parameters()
        style = [
            _raster("STYLE", "Image to take the look from"),
            _raster("STYLE_LABELS", "Label layer of that image", optional=True),
        ]
        return [labels, *style, *(parameter for parameter in rest if parameter.name() != "LOOK")]

    def words(self, values):
        style = _given(style_from=values.raster("STYLE"), style_labels=values.raster("STYLE_LABELS"))
        return [*super().words(values), *style]


class Evaluate(_Algorithm):
    """geosynth evaluate."""

    KEY, TITLE, OUTPUT_TITLE = "evaluate", "Evaluate a synthetic image", "Folder of the report"
    HELP = (
        "Compares a synthetic image with a real one on the same grid, class by class, and writes a report (HTML and"
        " JSON)."
    )

    def parameters(self):
        return [
            _raster("REAL", "Real image"),
            _raster("SYNTHETIC", "Synthetic image"),
            _raster("LABELS", "Label layer of both"),
            _legend("Legend file (empty: chesapeake)"),
            QgsProcessingParameterBoolean("FEATURES", "Also compare features of a network (slow)", defaultValue=False),
            _device(),
        ]

    def destination(self):
        return QgsProcessingParameterFolderDestination("OUTPUT", self.OUTPUT_TITLE)

    def initAlgorithm(self, configuration=None):  # noqa: N802
        super().initAlgorithm(configuration)
        self.addOutput(QgsProcessingOutputHtml("REPORT", "Report"))

    def words(self, values):
        return [
            "evaluate",
            *_given(
                real=values.raster("REAL"),
                synthetic=values.raster("SYNTHETIC"),
                labels=values.raster("LABELS"),
                legend=values.text("LEGEND"),
                device=values.text("DEVICE"),
            ),
            "--features" if values.switch("FEATURES") else "--no-features",
        ]

    def processAlgorithm(self, parameters, context, feedback):  # noqa: N802
        folder = self.parameterAsString(parameters, "OUTPUT", context)
        words = [*self.words(_Values(self, parameters, context, feedback)), "--out", folder, "--overwrite"]
        if not self.call(words, feedback):
            return {}
        return {"OUTPUT": folder, "REPORT": str(Path(folder) / "report.html")}


class Classify(_Algorithm):
    """geosynth classify."""

    KEY, TITLE, OUTPUT_TITLE = "classify", "Classify an image", "Label raster"
    HELP = (
        "Predicts the land-cover class of each pixel of an image, on its grid, with a segmenter that `geosynth segment`"
        " has trained."
    )

    def parameters(self):
        return [
            _raster("IMAGE", "Image"),
            _model("Segmenter file", optional=False),
            _device(),
        ]

    def words(self, values):
        options = _given(image=values.raster("IMAGE"), model=values.text("MODEL"), device=values.text("DEVICE"))
        return ["classify", *options]


class Rasterize(_Algorithm):
    """geosynth rasterize."""

    KEY, TITLE, OUTPUT_TITLE = "rasterize", "Rasterise a vector layer to labels", "Label raster"
    HELP = (
        "Makes a raster of class codes, with colours and class names, from polygons, and from lines with a width. A"
        " pixel gets the class of the feature that contains its centre (of several, the last in the layer), else no"
        " data."
        "\n\nGive either the pixel size, or a raster whose grid to use."
    )

    def parameters(self):
        kinds = [QgsProcessing.TypeVectorPolygon, QgsProcessing.TypeVectorLine]
        return [
            QgsProcessingParameterFeatureSource("VECTOR", "Polygons or lines", kinds),
            QgsProcessingParameterField("COLUMN", "Field with the class (names or codes)", None, "VECTOR"),
            _legend("Legend file (empty: chesapeake)"),
            QgsProcessingParameterNumber(
                "RESOLUTION", "Pixel size, metres", QgsProcessingParameterNumber.Double, 1.0,
                optional=True, minValue=0,
            ),
            _raster("LIKE", "Instead: raster whose grid to use", optional=True),
            QgsProcessingParameterNumber(
                "WIDTH", "Width of lines, metres", QgsProcessingParameterNumber.Double, optional=True, minValue=0
            ),
        ]  # fmt: skip

    def words(self, values):
        path, layer = values.vector("VECTOR")
        like = values.raster("LIKE")
        return [
            "rasterize",
            path,
            *_given(
                layer=layer,
                column=values.text("COLUMN"),
                legend=values.text("LEGEND"),
                like=like,
                resolution="" if like else values.number("RESOLUTION"),
                width=values.number("WIDTH"),
            ),
        ]


ALGORITHMS = (Paint, PaintLike, Evaluate, Classify, Rasterize)

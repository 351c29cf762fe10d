"""The plugin: a Processing provider with its one setting, where the `geosynth` command is."""

from pathlib import Path

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsApplication, QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from .algorithms import ALGORITHMS
from .command import CommandError, find_command

SETTING = "GEOSYNTH_COMMAND"


class GeosynthProvider(QgsProcessingProvider):
    """All algorithms, in the toolbox under "geosynth"."""

    def id(self):
        """First part of the algorithms' ids, as in geosynth:paint."""
        return "geosynth"

    def name(self):
        """Name in the toolbox."""
        return "geosynth"

    def icon(self):
        """Icon in the toolbox and the options."""
        return QIcon(str(Path(__file__).with_name("icon.png")))

    def load(self):
        """Add the setting to the options."""
        ProcessingConfig.settingIcons[self.name()] = self.icon()
        ProcessingConfig.addSetting(
            Setting(
                self.name(),
                SETTING,
                "geosynth command, or folder of its environment (empty: the one on the PATH)",
                "",
                valuetype=Setting.STRING,
            )
        )
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self):
        """Remove the setting."""
        ProcessingConfig.removeSetting(SETTING)

    def loadAlgorithms(self):  # noqa: N802 - QGIS's name
        """Add one of each algorithm."""
        for algorithm in ALGORITHMS:
            self.addAlgorithm(algorithm())

    def warningMessage(self):  # noqa: N802 - QGIS's name
        """Warning in the toolbox if there is no command."""
        try:
            find_command(ProcessingConfig.getSetting(SETTING))
        except CommandError as error:
            return str(error)
        return ""


class GeosynthPlugin:
    """Adds the provider to QGIS, and removes it."""

    def __init__(self):
        self.provider = None

    def initProcessing(self):  # noqa: N802 - QGIS's name
        """Add the provider; also called by qgis_process, which has no windows."""
        self.provider = GeosynthProvider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self):  # noqa: N802 - QGIS's name
        """For QGIS itself."""
        self.initProcessing()

    def unload(self):
        """Remove the provider, when the plugin is disabled."""
        QgsApplication.processingRegistry().removeProvider(self.provider)

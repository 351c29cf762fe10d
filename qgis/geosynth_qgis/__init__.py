"""geosynth in QGIS: a Processing provider that calls the `geosynth` command of a separate environment."""


def classFactory(iface):  # noqa: N802 - the name that QGIS looks for
    """The plugin that QGIS loads; `iface` is None in qgis_process."""
    from .provider import GeosynthPlugin

    return GeosynthPlugin()

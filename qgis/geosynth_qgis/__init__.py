"""geosynth in QGIS: a Processing provider that calls the `geosynth` command of an environment of its own."""


def classFactory(iface):  # noqa: N802 - the name that QGIS looks for
    """What QGIS loads; `iface` is None in qgis_process."""
    from .provider import GeosynthPlugin

    return GeosynthPlugin()

"""geosynth: synthetic satellite and aerial imagery from land-cover labels.

Public names, listed in `__init__.pyi`, are loaded when they are first used, so importing geosynth takes milliseconds.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Grid geometry in whole pixels: windows, tile plans, alignment, spatial splits, leakage.

The names in `__init__.pyi` are loaded when they are first used, as windows need none of the libraries for splits.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

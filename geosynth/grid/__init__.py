"""Grid geometry in whole pixels: windows, tile plans, alignment, spatial splits, leakage.

The names of `__init__.pyi` are loaded when they are first used: a window needs none of the libraries of a split.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""HTML pages of reports: each is a self-contained file, made from a template in `geosynth/templates`."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from geosynth.estimate import number


def render_page(template: str, **values: Any) -> str:
    """Fill a template; all values are escaped.

    Args:
        template: its name without suffix.
        values: for the template, which may use the filters `number` (of `geosynth.estimate`) and `png` (the address of
            a picture).
    """
    environment = Environment(
        loader=PackageLoader("geosynth"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": number, "png": png_address}
    return environment.get_template(f"{template}.html.j2").render(**values)


def png_address(image: npt.NDArray[np.uint8] | bytes) -> str:
    """The address for an HTML image with a picture, given as (height, width, 3 or 4) or as a PNG file."""
    if not isinstance(image, bytes):
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(image)).save(buffer, format="PNG", optimize=True)
        image = buffer.getvalue()
    return "data:image/png;base64," + base64.b64encode(image).decode("ascii")

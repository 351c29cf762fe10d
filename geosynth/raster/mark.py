"""The mark of synthetic imagery: IPTC's digital source type, which checkers of synthetic media read.

An image painted by a generator has the tag `SYNTHETIC`. Such files carry the property
`Iptc4xmpExt:DigitalSourceType` (IPTC Photo Metadata Standard 2023.2) with the IPTC NewsCode for media made by a trained
model: GeoTIFFs (tag 700) and PNGs in an XMP packet (ISO 16684-1), Zarr groups and arrays and STAC items as an attribute
of that name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

_NAME = "Iptc4xmpExt:DigitalSourceType"
_NAMESPACE = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_DOMAIN = "xml:XMP"  # of GDAL's metadata

MARK = {_NAME: "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"}
"""The mark, as an attribute."""
XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    f'<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{_NAMESPACE}"><{_NAME}>{MARK[_NAME]}</{_NAME}>'
    '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
"""The mark, as an XMP packet."""


def mark_of(tags: Mapping[str, str]) -> dict[str, str]:
    """The mark, if the tags of an image call it synthetic; else empty."""
    return MARK if tags.get("SYNTHETIC") == "yes" else {}


def write_mark(dataset: Any) -> None:
    """Add the packet to a GeoTIFF that is open for writing."""
    name, value = XMP.split("=", 1)  # rasterio joins the two again, so that GDAL gets the packet unchanged
    dataset.update_tags(ns=_DOMAIN, **{name: value})


def read_mark(dataset: Any) -> dict[str, str]:
    """The digital source type in the XMP packet of an open raster, as an attribute; empty if there is none."""
    packet = "".join(dataset.tags(ns=_DOMAIN).values())
    try:
        nodes = defusedxml.ElementTree.fromstring(packet).iter() if packet else ()
    except (ParseError, DefusedXmlException):
        return {}
    key = f"{{{_NAMESPACE}}}{_NAME.partition(':')[2]}"
    said = (node.get(key) or (node.text if node.tag == key else None) for node in nodes)
    return next(({_NAME: text.strip()} for text in said if text), {})


def describe_mark(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What `info` shows of the mark."""
    return {"digital_source_type": attributes[_NAME]} if _NAME in attributes else {}

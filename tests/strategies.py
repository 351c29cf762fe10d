"""Hypothesis strategies for geosynth's nouns."""

from __future__ import annotations

from affine import Affine
from hypothesis import settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from geosynth.grid import Window
from geosynth.legend import Legend, LegendClass

few = settings(max_examples=40)


@st.composite
def windows(draw: st.DrawFn, reach: int = 60, largest: int = 25) -> Window:
    """Windows around the origin, also at negative positions."""
    position, side = st.integers(-reach, reach), st.integers(1, largest)
    return Window(draw(position), draw(position), draw(side), draw(side))


@st.composite
def geoboxes(draw: st.DrawFn) -> GeoBox:
    """UTM grids: north-up, south-up or rotated, origins anywhere on their own lattice and off it."""
    size = draw(st.sampled_from([0.5, 0.6, 1.0, 2.5, 30.0]))
    angle = draw(st.sampled_from([0.0, 0.0, 30.0, -12.5]))
    linear = Affine.rotation(angle) @ Affine.scale(size, draw(st.sampled_from([-size, size])))
    fraction = draw(st.sampled_from([0.0, 0.25, 0.5]))
    place = Affine.translation(draw(st.integers(-9_000_000, 9_000_000)), draw(st.integers(-9_000_000, 9_000_000)))
    transform = linear @ place @ Affine.translation(fraction, fraction)
    return GeoBox((draw(st.integers(1, 40)), draw(st.integers(1, 40))), transform, "EPSG:26917")


@st.composite
def legends(draw: st.DrawFn, low: int = -(2**31), high: int = 2**31 - 1) -> Legend:
    """Legends with codes in [low, high], in any order."""
    codes = draw(st.lists(st.integers(low, high), min_size=2, max_size=12, unique=True))
    num_nodata = draw(st.integers(0, len(codes) - 1))
    colours = st.from_regex(r"\A#[0-9a-fA-F]{6}\Z")
    classes = tuple(LegendClass(code=c, name=f"class {c}", colour=draw(colours)) for c in codes[num_nodata:])
    return Legend(name=draw(st.text(min_size=1, max_size=8)), classes=classes, nodata=tuple(codes[:num_nodata]))

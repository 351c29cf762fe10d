from __future__ import annotations

import pytest
from segment_stores import COLOURS, TINY, make_segment_store

from geosynth.segmentation.segment import segment


@pytest.fixture(scope="session")
def segment_store(tmp_path_factory):
    return make_segment_store(tmp_path_factory.mktemp("real") / "real.zarr")


@pytest.fixture(scope="session")
def segment_twin(tmp_path_factory):
    """Of `segment_store`, with colours and noise of its own."""
    return make_segment_store(tmp_path_factory.mktemp("twin") / "twin.zarr", colours=COLOURS[:, ::-1] // 2 + 60, seed=1)


@pytest.fixture(scope="session")
def trained(segment_store, tmp_path_factory):
    """(folder, report) of a segmenter that has learned the colours."""
    out = tmp_path_factory.mktemp("trained") / "out"
    return out, segment(segment_store, out, TINY, steps=25, batch_size=8, learning_rate=5e-3)

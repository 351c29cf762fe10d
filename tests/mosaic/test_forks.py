"""Processes that are forked from one that has painted, as `multiprocessing` does on Linux, paint too."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from geosynth.checkpoint import GeneratorModel
from rasters import draw_labels, pixels_of

PROGRAM = """
import multiprocessing, sys
import geosynth

labels, model, first, second = sys.argv[1:]


def paint(out):
    geosynth.generate(labels, out, model, seed=3, max_memory="4GB")  # each cell on all threads


paint(first)
child = multiprocessing.get_context("fork").Process(target=paint, args=(second,))
child.start()
child.join(60)
child.kill()
sys.exit(child.exitcode is None)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the trap exists where processes fork")
def test_a_fork_paints_the_same_without_the_threads_of_its_parent(
    write_raster: Callable[..., Path], tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    """It would wait forever for those of torch and of GDAL, which a fork does not have."""
    labels, images = write_raster(draw_labels(300, 421)), [tmp_path / "parent.tif", tmp_path / "child.tif"]
    command = [sys.executable, "-c", PROGRAM, labels, tiny_model.path, *images]
    subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "2"}, check=True)
    np.testing.assert_array_equal(*map(pixels_of, images))

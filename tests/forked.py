"""Processes that are forks of one that has imported all and done nothing: at work at once, and cheap to kill.

A test process has one such server: whichever test starts it, it serves all others too.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing.process import BaseProcess
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "geosynth_cli.main",
        "geosynth.evaluation.evaluate",
        "geosynth.mosaic.generate",
        "geosynth.segmentation.classify",
        "geosynth.study.run",
        "geosynth.training.train",
        "geopandas",
        "hypothesis",
        "pyarrow.parquet",
        "pytest",
        "timm",
        "torch.utils.tensorboard",
    ]
)


def start(function: Any, *arguments: Any) -> BaseProcess:
    """Call a function of a module in a new process."""
    process = _CONTEXT.Process(target=function, args=arguments)
    process.start()
    return process

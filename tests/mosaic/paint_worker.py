"""Run by test_resume.py: starts one generate after another, each in a process of its own that can be killed.

Reads lines of "labels out model last" from stdin; writes the number of the new process, then how it ended. When `last`
blocks are painted it waits for its end. Processes are forked after the imports, which take longer than the painting.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

import torch

from geosynth.config import GenerateSettings
from geosynth.mosaic.generate import generate


def main() -> None:
    """Until stdin ends."""
    logging.basicConfig(format="%(message)s")
    for line in sys.stdin:
        labels, out, model, last = line.split()

        def tell(stage: str, done: int, total: int, last: int = int(last)) -> None:
            if stage == "painting" and done >= last:
                time.sleep(600)

        process = os.fork()
        if process == 0:
            torch.set_num_threads(1)
            generate(labels, out, Path(model), GenerateSettings(block_size=128), overwrite=True, progress=tell)
            os._exit(0)
        print(process, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    main()

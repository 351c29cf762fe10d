"""`python -m geosynth.training.worker`: one of the processes that `geosynth.training.replicas.workers` starts."""

from __future__ import annotations

import base64
import json
import pickle
import signal
import sys

from geosynth.config import TrainSettings
from geosynth.errors import GeosynthError
from geosynth.training.replicas import Rank, end_with_parent
from geosynth.training.train import run


def main() -> None:
    """Take part in the training that the first line of standard input describes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; rank 0 decides
    arguments = json.loads(sys.stdin.readline())
    end_with_parent()
    rank = Rank(**arguments["rank"])
    try:
        sources = pickle.loads(base64.b64decode(arguments["data"]))  # noqa: S301 - our own parent made it
        run(sources, arguments["out"], TrainSettings.parse(arguments["settings"]), arguments["fold"], rank)
    except (GeosynthError, MemoryError) as error:
        sys.exit(f"{error or 'out of memory'}")


if __name__ == "__main__":
    main()

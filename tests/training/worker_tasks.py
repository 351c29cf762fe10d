"""What workers are asked to do, in a file that imports little."""

import json
import sys
import time


def fail(rank, error):
    print("many\nlines", file=sys.stderr)
    raise error


def wait(rank):
    time.sleep(600)


def note(rank, path, value):
    path.write_text(json.dumps([rank.local_rank(), rank.count, rank.main_port, value]))

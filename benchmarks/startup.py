"""How long a user waits before anything happens: `geosynth --help` and `import geosynth`, compared with bare Python.

    python benchmarks/startup.py [--quick] [--json FILE]

Medians of whole processes, run in turn. Last line: one JSON object, in seconds; `*_over_bare` is the difference from
`python -c pass`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from last_line import print_result

COMMANDS = {
    "bare": [sys.executable, "-c", "pass"],
    "import": [sys.executable, "-c", "import geosynth"],
    "help": [str(Path(sys.executable).with_name("geosynth")), "--help"],
}


def main() -> None:
    """Measure, print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="5 rounds instead of 20")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(6 if arguments.quick else 21):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(values[1:]) for name, values in seconds.items()}  # the first round warms caches
    result = {name: round(value, 4) for name, value in median.items()}
    result |= {f"{name}_over_bare": round(median[name] - median["bare"], 4) for name in ("import", "help")}
    for name, value in result.items():
        print(f"{name:18} {value * 1000:7.1f} ms")
    print_result(result, arguments.json)


if __name__ == "__main__":
    main()

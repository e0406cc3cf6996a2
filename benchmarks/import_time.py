"""What importing the package adds to importing PyTerrier, each in fresh processes, alternating in one run.

    python -m benchmarks.import_time [--repeats 15]

Prints one JSON line with the medians in seconds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys

from benchmarks import arguments as common

SCRIPT = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def seconds(statement: str) -> float:
    """How long a statement takes in a fresh process, the start of Python left out."""
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(statement)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    both = "import pyterrier, pyterrier_jacolbert"
    pairs = [(seconds("import pyterrier"), seconds(both)) for _ in range(arguments.repeats + 1)][1:]
    figures = {
        "pyterrier": statistics.median(alone for alone, _ in pairs),
        "pyterrier and pyterrier_jacolbert": statistics.median(together for _, together in pairs),
        "difference": statistics.median(together - alone for alone, together in pairs),
        "load_1min": os.getloadavg()[0],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

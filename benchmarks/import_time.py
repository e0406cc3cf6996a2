"""Measures the seconds that importing the package adds to importing PyTerrier.

    python -m benchmarks.import_time [--repeats 15]

Every import runs in a fresh process; the two kinds alternate. Prints one JSON line with medians in seconds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys

from benchmarks.arguments import benchmark_parser

SCRIPT = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=15, help="number of pairs of processes (default: 15)")
    args = parser.parse_args()
    both = "import pyterrier, pyterrier_jacolbert"
    # The first pair warms the file cache.
    pairs = [(seconds("import pyterrier"), seconds(both)) for _ in range(args.repeats + 1)][1:]
    figures = {
        "pyterrier": statistics.median(alone for alone, _ in pairs),
        "pyterrier and pyterrier_jacolbert": statistics.median(together for _, together in pairs),
        "difference": statistics.median(together - alone for alone, together in pairs),
        "load_1min": os.getloadavg()[0],
    }
    print(json.dumps(figures))


def seconds(statement: str) -> float:
    """Returns the duration of a statement in a fresh process, without the start of Python."""
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(statement)], capture_output=True, text=True, check=True
    )
    return float(process.stdout)


if __name__ == "__main__":
    main()

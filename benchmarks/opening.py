"""Seconds and memory of opening a large index, with and without the checks of what it holds.

    python -m benchmarks.opening --passages 1000000 --tokens 100

The index is synthetic: its arrays are written directly, and the codes, which opening does not read, are a sparse file.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np

from pyterrier_jacolbert.index import checks
from pyterrier_jacolbert.index.reader import IndexReader
from pyterrier_jacolbert.index.search import quantized
from pyterrier_jacolbert.index.storage.arrays import write_array
from pyterrier_jacolbert.index.storage.directory import publish
from pyterrier_jacolbert.index.storage.docnos import write_docno_tables
from pyterrier_jacolbert.index.storage.manifest import ArrayEntry, Manifest, ReadingSettings

DIM = 128
CENTROIDS = 65_536


def write_index(path: Path, passages: int, tokens: int) -> None:
    """Writes an int8 index with centroids, of passages with the same number of tokens."""
    rng = np.random.default_rng(0)
    names = [f"文書{number}".encode() for number in range(passages)]
    starts = np.zeros(passages + 1, dtype=np.int64)
    np.cumsum([len(name) for name in names], out=starts[1:])
    n_tokens = passages * tokens
    joined = np.frombuffer(b"".join(names), dtype=np.uint8)
    arrays = {
        "docno_bytes": joined,
        "docno_starts": starts,
        "starts": np.arange(passages + 1, dtype=np.int64) * tokens,
        "scales": np.full(n_tokens, 0.01, dtype=np.float16),
        "centroid_ids": rng.integers(CENTROIDS, size=n_tokens, dtype=np.uint16),
        "centroids": rng.standard_normal((CENTROIDS, DIM)).astype(np.float16),
        "deleted": np.arange(0, passages, 100, dtype=np.uint32),
    }
    files = {name: write_array(path, f"data-1/{name}", values) for name, values in arrays.items()}
    files |= write_docno_tables(path, "data-1/", joined, starts)
    with (path / "data-1" / "codes").open("wb") as file:
        file.truncate(n_tokens * DIM)
    files["codes"] = ArrayEntry("data-1/codes", "|u1", (n_tokens, DIM), "")
    settings = ReadingSettings()
    publish(path, Manifest(None, settings, "int8", passages, n_tokens, DIM, ("centroids",), files))


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Replaces all checks that look at values by nothing."""
    names = ("check_files", "_check_starts", "check_docnos", "check_tables", "check_parameters")
    with contextlib.ExitStack() as stack:
        for module, own in ((checks, names), (quantized, ("check_centroid_ids", "check_scales"))):
            for name in own:
                stack.enter_context(mock.patch.object(module, name, return_value=None))
        yield


def measure(function: Callable[[], object], repeats: int) -> tuple[float, int]:
    """Returns the shortest time of a function in seconds, and the greatest memory of its arrays, in bytes."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    tracemalloc.start()  # numpy tells it of every array
    function()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return min(seconds), peak


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passages", type=int, default=1_000_000)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        path.mkdir()
        write_index(path, arguments.passages, arguments.tokens)
        print("| | without checks | with checks |\n|---|---|---|")
        for name, function in (
            ("opening", lambda: IndexReader.open(path)),
            ("the scorer", None),
        ):
            reader = IndexReader.open(path)

            def create_scorer(reader: IndexReader = reader) -> None:
                reader.__dict__.pop("scorer", None)
                _ = reader.scorer

            run = create_scorer if function is None else function
            with unchecked():
                plain = measure(run, arguments.repeats)
            checked = measure(run, arguments.repeats)
            cells = [f"{seconds:.3f} s, {size / 1e6:.0f} MB" for seconds, size in (plain, checked)]
            print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

"""Memory of this process, from ``/proc/self/status`` (Linux)."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Self

#: Seconds between two readings.
_PERIOD = 0.01


def anonymous_bytes() -> int:
    """Returns the anonymous memory of this process: what the kernel cannot drop, unlike mapped files."""
    return _status_bytes("RssAnon")


def resident_bytes() -> int:
    """Returns the resident memory of this process, mapped files included."""
    return _status_bytes("VmRSS")


class PeakMemory:
    """Measures the peak memory of a block of code; may miss a peak shorter than 10 ms.

    Attributes:
        anonymous: peak of :func:`anonymous_bytes`.
        resident: peak of :func:`resident_bytes`.
        seconds: duration of the block.
    """

    def __enter__(self) -> Self:
        self.anonymous = self.resident = 0
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        self._start_time = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._start_time
        self._done.set()
        self._watcher.join()

    def _watch(self) -> None:
        while True:
            self.anonymous = max(self.anonymous, anonymous_bytes())
            self.resident = max(self.resident, resident_bytes())
            if self._done.wait(_PERIOD):
                return


def _status_bytes(field: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    values = dict(line.split(":", 1) for line in status.splitlines())
    return int(values[field].split()[0]) * 1024

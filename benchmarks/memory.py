"""Peak anonymous memory of a block of code: what the kernel cannot drop, mapped files left out."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Self

_PERIOD = 0.01


class Memory:
    """Watches this process while the block runs (Linux); a peak shorter than 10 ms may escape it.

    Attributes:
        anonymous: the most anonymous memory, bytes.
        resident: the most resident memory, mapped pages included, bytes.
        seconds: how long the block took.
    """

    def __enter__(self) -> Self:
        self.anonymous = self.resident = 0
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        self._begun = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._begun
        self._done.set()
        self._watcher.join()

    def _watch(self) -> None:
        status = Path("/proc/self/status")
        while True:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
            self.anonymous = max(self.anonymous, int(fields["RssAnon"].split()[0]) * 1024)
            self.resident = max(self.resident, int(fields["VmRSS"].split()[0]) * 1024)
            if self._done.wait(_PERIOD):
                return

"""Work on several cores: compiled kernels and matrix products let other threads run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


def thread_count() -> int:
    """What ``OMP_NUM_THREADS`` says, or the cores that this process may use."""
    named = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if named.isdigit() and int(named):
        return int(named)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_threads(function: Callable[[_Given], _Made], values: Iterable[_Given]) -> Iterator[_Made]:
    """As ``map``, in threads, which take up the next value when they are done with one. Not from within itself."""
    return map(function, values) if thread_count() == 1 else _pool().map(function, values)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_count(), thread_name_prefix="jacolbert")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads

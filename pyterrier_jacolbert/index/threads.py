"""Work on several cores: compiled kernels and matrix products let other threads run."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from itertools import count
from typing import Any, TypeVar

#: How a function is called with each of some values: ``map``, or :func:`in_threads`.
Each = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]

#: Token vectors that are coded together: enough for each group of centroids to get some hundreds.
_PIECE_ROWS = 2**16

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
    """As ``map``, all at once, in this thread and others, each of which takes up the next value when done with one."""
    given = list(values)
    helping = min(thread_count(), len(given)) - 1
    if helping < 1:
        return map(function, given)
    made: dict[int, _Made] = {}
    places, stop = count(), threading.Event()

    def work() -> None:
        try:
            for place in places:
                if place >= len(given) or stop.is_set():
                    return
                made[place] = function(given[place])
        except BaseException:
            stop.set()
            raise

    helpers = [_pool().submit(work) for _ in range(helping)]
    try:
        work()
    finally:
        begun = [helper for helper in helpers if not helper.cancel()]
        wait(begun)
    for helper in begun:
        helper.result()
    return (made[place] for place in range(len(given)))


def in_lone_threads(function: Callable[[_Given], _Made], values: Iterable[_Given]) -> Iterator[_Made]:
    """As :func:`in_threads`, with torch's products too in the thread that calls for them.

    Many small products gain nothing by threads of their own; and how a library divides one among its threads can change
    how it is rounded, so that what is made would depend on their number.
    """
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0

    def alone(value: _Given) -> _Made:
        if torch:
            torch.set_num_threads(1)
        return function(value)

    try:
        return iter(list(in_threads(alone, values)))
    finally:
        if torch:
            torch.set_num_threads(before)


def by_rows(function: Callable[[slice], _Made], n_rows: int) -> list[_Made]:
    """Calls a function with the pieces of some rows, in threads; how they are cut depends on the number alone.

    Args:
        function: takes a slice of the rows; row by row, it gives the same whatever the slice.
        n_rows: how many.

    Returns:
        What it made, in order; of one empty slice where there are no rows.
    """
    pieces = [slice(first, min(first + _PIECE_ROWS, n_rows)) for first in range(0, max(1, n_rows), _PIECE_ROWS)]
    return list(in_lone_threads(function, pieces))


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_count(), thread_name_prefix="jacolbert")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads

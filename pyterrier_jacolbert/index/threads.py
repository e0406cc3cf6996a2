"""Functions that run in several threads; compiled kernels and matrix products release the interpreter lock."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from itertools import count
from typing import Any, TypeVar

#: Applies a function to each of several values: ``map`` or :func:`in_threads`.
MapFn = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]

#: Token vectors that are encoded together: enough for each group of centroids to get some hundreds.
_SLICE_ROWS = 2**16

_Value = TypeVar("_Value")
_Result = TypeVar("_Result")


def thread_count() -> int:
    """Returns ``OMP_NUM_THREADS`` if it is set, otherwise the number of cores that this process may use."""
    setting = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if setting.isdigit() and int(setting):
        return int(setting)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_threads(function: Callable[[_Value], _Result], values: Iterable[_Value]) -> Iterator[_Result]:
    """Applies a function to each value, like ``map``, but to all at once, in the calling thread and others.

    Each thread takes the next value when it has finished one. Results come in the order of the values.
    """
    todo = list(values)
    n_helpers = min(thread_count(), len(todo)) - 1
    if n_helpers < 1:
        return map(function, todo)
    results: dict[int, _Result] = {}
    places, stop = count(), threading.Event()

    def work() -> None:
        try:
            for place in places:
                if place >= len(todo) or stop.is_set():
                    return
                results[place] = function(todo[place])
        except BaseException:
            stop.set()
            raise

    helpers = [_pool().submit(work) for _ in range(n_helpers)]
    try:
        work()
    finally:
        started = [helper for helper in helpers if not helper.cancel()]
        wait(started)
    for helper in started:
        helper.result()
    return (results[place] for place in range(len(todo)))


def in_lone_threads(function: Callable[[_Value], _Result], values: Iterable[_Value]) -> Iterator[_Result]:
    """Applies a function like :func:`in_threads`, with torch limited to one thread per call.

    Many small matrix products gain nothing from more threads. How a library divides a product among threads can also
    change its rounding, so results would depend on the number of threads.
    """
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0

    def call_alone(value: _Value) -> _Result:
        if torch:
            torch.set_num_threads(1)
        return function(value)

    try:
        return iter(list(in_threads(call_alone, values)))
    finally:
        if torch:
            torch.set_num_threads(before)


def by_rows(function: Callable[[slice], _Result], n_rows: int) -> list[_Result]:
    """Applies a function to fixed-size row slices in parallel; the slicing depends only on the row count.

    Args:
        function: takes a slice of the rows; its results for a row do not depend on the slice.
        n_rows: number of rows.

    Returns:
        The results in order; one result, of an empty slice, if ``n_rows`` is 0.
    """
    slices = [slice(first, min(first + _SLICE_ROWS, n_rows)) for first in range(0, max(1, n_rows), _SLICE_ROWS)]
    return list(in_lone_threads(function, slices))


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_count(), thread_name_prefix="jacolbert")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child process has none of its parent's threads

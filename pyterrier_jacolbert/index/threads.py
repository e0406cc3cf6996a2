"""Functions that run in several threads; compiled kernels and matrix products release the interpreter lock."""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from itertools import count
from typing import Any, Generic, Self, TypeVar, overload

import threadpoolctl

#: Applies a function to each of several values: ``map`` or :func:`in_threads`.
MapFn = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]

#: Names of the threads of :func:`in_threads`, which wait for work while nothing is searched.
_THREAD_PREFIX = "jacolbert"
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
    return ThreadPoolExecutor(thread_count(), thread_name_prefix=_THREAD_PREFIX)


class cached_attribute(Generic[_Result]):  # noqa: N801
    """Computes an attribute once per object, like ``functools.cached_property``, with a lock per object.

    Python 3.11's ``cached_property`` holds one lock per class, so threads wait for each other's objects, and a child
    process that is forked meanwhile waits for a thread that it does not have.

    Args:
        function: computes the attribute of an object.
    """

    def __init__(self, function: Callable[[Any], _Result]) -> None:
        self._function = function
        self._name = function.__name__
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> _Result: ...

    def __get__(self, instance: object | None, owner: type) -> Self | _Result:
        if instance is None:
            return self
        # Python asks here only while the object has no attribute of the name.
        values, key = instance.__dict__, (id(instance), self._name)
        with _computing.setdefault(key, threading.RLock()):
            try:
                if self._name not in values:
                    values[self._name] = self._function(instance)
                value: _Result = values[self._name]
                return value
            finally:
                _computing.pop(key, None)


#: Locks of the attributes that threads compute at this moment, by id of the object and name.
_computing: dict[tuple[int, str], threading.RLock] = {}


def fork_safe_lock() -> threading.Lock:
    """Returns a lock that is free in a forked child, for sections of a few instructions; forking waits for them."""
    lock = threading.Lock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock


def lock_of(item: object) -> threading.RLock:
    """Returns the lock of an object that one thread at a time may use, such as a tokenizer.

    Forking waits until it is free, so a child neither waits for a thread that it does not have nor finds the object in
    the middle of a change.
    """
    return _locks.setdefault(item, threading.RLock())


_locks: weakref.WeakKeyDictionary[object, threading.RLock] = weakref.WeakKeyDictionary()

#: Locks that are held while this process forks: numba's, and those of objects.
_held: list[Any] = []

#: Seconds that forking waits for other threads: they may wait for what the forking thread imports or holds.
_LONGEST_WAIT = 10.0


def _before_fork() -> None:
    """Waits until no other thread uses a locked object, imports a module or compiles a kernel.

    In a child, it would stay locked.
    """
    _loaded_libraries[:] = _find_libraries()
    deadline = time.monotonic() + _LONGEST_WAIT
    for item_lock in list(_locks.values()):
        if item_lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            _held.append(item_lock)
    while True:
        lock = getattr(sys.modules.get("numba.core.compiler_lock"), "global_compiler_lock", None)
        if lock is not None:
            lock.acquire()
        if not _others_import() or time.monotonic() > deadline:
            break
        if lock is not None:
            lock.release()
        time.sleep(0.001)
    if lock is not None:
        _held.append(lock)


def _others_import() -> bool:
    """Returns whether another thread is importing a module."""
    locks = getattr(importlib._bootstrap, "_module_locks", {})
    owners = [getattr(reference(), "owner", None) for reference in list(locks.values())]
    return any(owner not in (None, threading.get_ident()) for owner in owners)


def _find_libraries() -> list[Any]:
    """Returns the libraries of matrix products if another thread may be in one; a child could not look for them."""
    others = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    if all(thread.name.startswith(_THREAD_PREFIX) or type(thread).__module__.startswith("tqdm.") for thread in others):
        return []  # products keep their threads, and so their rounding
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some machines have two kinds of OpenMP
        return list(threadpoolctl.ThreadpoolController().lib_controllers)


_loaded_libraries: list[Any] = []


def _after_fork() -> None:
    while _held:
        _held.pop().release()


def _after_fork_in_child() -> None:
    """Forgets the parent's threads, which a child does not have."""
    _after_fork()
    _pool.cache_clear()
    _computing.clear()
    _locks.clear()
    # OpenMP waits for its threads of the parent for ever, and OpenBLAS for the end of a product that another thread was
    # computing, unless they are to use none.
    for library in _loaded_libraries:
        library.set_num_threads(1)
    for name, setter in (("torch", "set_num_threads"), ("faiss", "omp_set_num_threads")):
        set_threads = getattr(sys.modules.get(name), setter, None)
        if set_threads is not None:
            set_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)

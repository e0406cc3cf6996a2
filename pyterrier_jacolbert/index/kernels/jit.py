"""Compilation of kernels, cached on disk between processes; without numba, their numpy references run instead."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

numba: Any
try:
    import numba
except ImportError:
    numba = None
    warnings.warn(
        "numba is not installed, so numpy searches and encodes indexes, which is many times slower: pip install numba",
        stacklevel=2,
    )

_Kernel = Callable[..., Any]
_warned = False


def kernel(reference: _Kernel) -> Callable[[_Kernel], _Kernel]:
    """Returns a decorator that compiles a function, or replaces it by its reference if numba is not installed.

    Args:
        reference: numpy implementation with the same arguments and results.
    """

    def compile_or_replace(function: _Kernel) -> _Kernel:
        if numba is None:
            return reference
        compiled: _Kernel
        try:
            compiled = numba.njit(nogil=True, cache=True)(function)
        except RuntimeError:  # numba finds no writable folder
            _warn_once()
            compiled = numba.njit(nogil=True)(function)
        return compiled

    return compile_or_replace


def _warn_once() -> None:
    global _warned
    if not _warned:
        warnings.warn(
            "No folder for compiled kernels is writable, so every process compiles them again, which takes some "
            "seconds; set NUMBA_CACHE_DIR to a writable folder.",
            stacklevel=4,
        )
    _warned = True

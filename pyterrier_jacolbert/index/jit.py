"""Compiling kernels: kept on disk between processes where that can be, and replaced by numpy where numba is missing."""

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
        "numba is not installed, so indexes are searched and coded by numpy, many times slower: pip install numba",
        stacklevel=2,
    )

_Kernel = Callable[..., Any]
_told = False


def kernel(reference: _Kernel) -> Callable[[_Kernel], _Kernel]:
    """Compiles a function; without numba, its reference takes its place.

    Args:
        reference: numpy code of the same arguments and results.
    """

    def compiled(function: _Kernel) -> _Kernel:
        if numba is None:
            return reference
        found: _Kernel
        try:
            found = numba.njit(nogil=True, cache=True)(function)
        except RuntimeError:  # numba finds no folder that it can write to
            _tell()
            found = numba.njit(nogil=True)(function)
        return found

    return compiled


def _tell() -> None:
    global _told
    if not _told:
        warnings.warn(
            "No folder for compiled kernels can be written to, so every process compiles them anew, which takes some "
            "seconds; set NUMBA_CACHE_DIR to a folder that can.",
            stacklevel=4,
        )
    _told = True

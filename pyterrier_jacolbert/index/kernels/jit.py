"""Compilation of kernels, cached on disk between processes; without numba, their numpy references run instead."""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import warnings
from collections.abc import Callable
from pathlib import Path
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
        compiled: Any
        try:
            compiled = numba.njit(nogil=True, cache=True)(function)
        except RuntimeError:  # numba finds no writable folder
            _warn_once()
            compiled = numba.njit(nogil=True)(function)
        else:
            _key_cache_by_sources(compiled, function)
        kernel: _Kernel = compiled
        return kernel

    return compile_or_replace


def _key_cache_by_sources(compiled: Any, function: _Kernel) -> None:
    """Moves the cache of a kernel into a folder whose name is a digest of all sources that it can depend on.

    numba looks at the time of the kernel's own file alone, so that it would run a stored kernel with the intrinsics and
    constants that an imported module had before. In a folder of their own, versions do not overwrite each other's files
    either, while processes of both are running. The folder is within the one that numba chooses.

    Args:
        compiled: numba's dispatcher.
        function: the kernel.
    """
    from numba.core.caching import FunctionCache

    digest = _sources_digest(Path(inspect.getfile(function)))
    if digest is None:
        return

    key = digest
    base: Any = FunctionCache

    class KeyedImpl(base._impl_class):  # type: ignore[misc]
        @property
        def locator(self) -> _KeyedLocator:
            return _KeyedLocator(super().locator, key)

    class KeyedCache(base):  # type: ignore[misc]
        _impl_class = KeyedImpl

    compiled._cache = KeyedCache(function)


class _KeyedLocator:
    """Places the files of a kernel, within the folder of another locator of numba.

    Args:
        locator: numba's.
        digest: of the sources.
    """

    def __init__(self, locator: Any, digest: str) -> None:
        self._locator = locator
        self._digest = digest

    def __getattr__(self, name: str) -> Any:
        return getattr(self._locator, name)

    def get_cache_path(self) -> str:
        """Returns the folder of the files."""
        return os.path.join(self._locator.get_cache_path(), f"jacolbert-{self._digest}")

    def ensure_cache_path(self) -> None:
        """Creates the folder."""
        self._locator.ensure_cache_path()
        os.makedirs(self.get_cache_path(), exist_ok=True)

    def get_source_stamp(self) -> str:
        """Returns the digest, with which the files must agree."""
        return self._digest


@functools.cache
def _sources_digest(file: Path) -> str | None:
    """Returns a digest of the sources of this package and of another file; None if there are no sources to read."""
    digest = hashlib.sha256()
    try:
        for source in (*sorted(Path(__file__).parent.glob("*.py")), file):
            content = source.read_bytes()
            digest.update(f"{source.name} {len(content)}\n".encode() + content)
    except OSError:
        return None
    return digest.hexdigest()[:16]


def _warn_once() -> None:
    global _warned
    if not _warned:
        warnings.warn(
            "No folder for compiled kernels is writable, so every process compiles them again, which takes some "
            "seconds; set NUMBA_CACHE_DIR to a writable folder.",
            stacklevel=4,
        )
    _warned = True

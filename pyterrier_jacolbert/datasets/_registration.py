"""Registers the datasets of this package in `ir_datasets` when somebody asks its registry, and imports neither before.

The import of `ir_datasets` creates folders in the home directory, and fails if there is none that can be written, so
importing this package must not import it. Yet `ir_datasets.load("jsquad/validation")` and
`pt.get_dataset("irds:jsquad/validation")` have to know the datasets. Both import `ir_datasets` and look the id up in
its registry. So a finder of Python's import system waits for the import, and then the registry for the first look-up.
Registering right after the import would be too early: if a module of this package is what imports `ir_datasets`, the
datasets that the module defines do not exist yet.
"""

import importlib.abc
import importlib.machinery
import sys
import threading
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

_IR_DATASETS = "ir_datasets"


def register_when_asked() -> None:
    """Makes the registry of `ir_datasets` register the datasets before its first look-up, once it is imported."""
    if _IR_DATASETS in sys.modules:
        _register_at_first_look_up(sys.modules[_IR_DATASETS])
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _register_at_first_look_up(module: ModuleType) -> None:
    """Replaces the look-up methods of the registry until the first call."""
    registry: Any = module.registry
    kind: Any = type(registry)
    if kind.__name__ == "WaitingRegistry":
        return
    lock = threading.RLock()
    waiting = True

    def register(registry: Any) -> None:
        nonlocal waiting
        with lock:  # other threads wait until all datasets are there
            if waiting:
                waiting = False  # registering looks ids up, too
                try:
                    from pyterrier_jacolbert.datasets import _catalog

                    _catalog.register()
                except BaseException:
                    waiting = True
                    raise
                registry.__class__ = kind

    class WaitingRegistry(kind):  # type: ignore[misc] # ir_datasets has no types
        def __getitem__(self, key: str) -> Any:
            register(self)
            return kind.__getitem__(self, key)  # not super(): the class of self is this one until now

        def __iter__(self) -> Iterator[str]:
            register(self)
            names: Iterator[str] = kind.__iter__(self)
            return names

    registry.__class__ = WaitingRegistry


class _Finder(importlib.abc.MetaPathFinder):
    """Finds `ir_datasets` as the other finders do, with a loader that prepares its registry."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Returns the specification of `ir_datasets`; None for any other module."""
        if fullname != _IR_DATASETS:
            return None
        for finder in list(sys.meta_path):
            if not isinstance(finder, _Finder) and hasattr(finder, "find_spec"):
                spec = finder.find_spec(fullname, path, target)
                if spec is not None:
                    spec.loader = None if spec.loader is None else _Loader(spec.loader)
                    return spec
        return None


class _Loader(importlib.abc.Loader):
    """Loads `ir_datasets` with its own loader, which the module keeps, and prepares its registry."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """Creates the module as its own loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Runs the module and prepares its registry."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        _register_at_first_look_up(module)

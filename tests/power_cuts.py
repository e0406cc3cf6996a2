"""Power cuts: from a given call of the operating system on, every call fails."""

import contextlib
import os
from collections.abc import Callable, Iterator

import pytest


class PowerCut(BaseException):
    """Not an Exception, so that code that handles errors does not catch it."""


@contextlib.contextmanager
def count_calls(*names: str) -> Iterator[list[str]]:
    """Counts calls of functions of ``os``.

    Args:
        *names: of the functions.

    Yields:
        The names of the called functions, in order; the list grows while the block runs.
    """
    calls: list[str] = []
    with _before_calls(names, calls.append):
        yield calls


@contextlib.contextmanager
def power_cut_after(n_calls: int, *names: str) -> Iterator[None]:
    """Raises :class:`PowerCut` in all but the first calls of functions of ``os``.

    Args:
        n_calls: number of calls, over all of the functions, that still work.
        *names: of the functions.
    """
    remaining = iter(range(n_calls))

    def cut_power(_: str) -> None:
        if next(remaining, None) is None:
            raise PowerCut

    with _before_calls(names, cut_power):
        yield


@contextlib.contextmanager
def _before_calls(names: tuple[str, ...], action: Callable[[str], object]) -> Iterator[None]:
    """Runs an action, with the name of the function, before each call of functions of ``os``."""
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setattr(os, name, _preceded(getattr(os, name), action, name))
        yield


def _preceded(function: Callable, action: Callable[[str], object], name: str) -> Callable:
    def call(*args, **kwargs):
        action(name)
        return function(*args, **kwargs)

    return call

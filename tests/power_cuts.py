"""Power cuts and kills: from a given call of the operating system on, every call fails, or the process is gone."""

import contextlib
import os
import signal
import sys
import traceback
import warnings
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


def killed_before_event(number: int, action: Callable[[], object]) -> bool:
    """Runs an action in a forked child that is killed just before one of its file events.

    An event creates, opens for writing, renames, truncates, removes or flushes a file or folder. What the child has
    not written to its files by then is lost.

    Args:
        number: of the event, from 0.
        action: what the child does.

    Returns:
        Whether the child was killed; False if the action ended before.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks beside threads
        child = os.fork()
    if child == 0:
        try:
            _kill_before_event(number)
            action()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or status == 0, "the action failed in the child"
    return killed


def _kill_before_event(number: int) -> None:
    """Kills this process before a file event; nothing undoes this."""
    remaining = iter(range(number))

    def kill_or_count(_: object = None) -> None:
        if next(remaining, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, arguments: tuple) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link"):
            kill_or_count()

    sys.addaudithook(audit)
    os.fsync = _preceded(os.fsync, kill_or_count, "fsync")

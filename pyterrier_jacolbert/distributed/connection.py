"""Connects to Ray, which is imported only here and on first use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: How often work that kills its process is tried.
ATTEMPTS = 3
#: Options of Ray's actors: a process that dies is restarted, and its calls are repeated up to a limit.
RESTARTED = {"max_restarts": -1, "max_task_retries": ATTEMPTS - 1}


def import_ray() -> Any:
    """Imports Ray and connects to a cluster; starts Ray on this machine if none runs.

    Raises:
        ImportError: Ray is not installed.
    """
    try:
        import ray
    except ImportError:
        raise ImportError("This needs Ray, which is not installed: pip install 'pyterrier-jacolbert[ray]'.") from None
    if not ray.is_initialized():
        ray.init(include_dashboard=False)
    return ray


def unwrap(get: Callable[[], Any]) -> Any:
    """Calls a function that gets a result from Ray, and raises the original error of a failed task."""
    from ray.exceptions import RayTaskError

    try:
        return get()
    except RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from None
        raise


def is_death(error: Exception) -> bool:
    """Returns whether an error of Ray says that a process or its machine died, rather than what a task raised."""
    from ray.exceptions import RayError, RayTaskError, TaskCancelledError

    return isinstance(error, RayError) and not isinstance(error, (RayTaskError, TaskCancelledError))

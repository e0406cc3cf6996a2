"""The checks on numbers that every search shares."""

from __future__ import annotations


def check_num_results(num_results: object) -> int:
    """Returns ``num_results`` if it is a number of documents to return.

    Raises:
        ValueError: it is not a positive integer.
    """
    if not isinstance(num_results, int) or isinstance(num_results, bool) or num_results < 1:
        raise ValueError(f"num_results must be a positive integer, not {num_results!r}.")
    return num_results

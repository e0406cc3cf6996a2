"""The checks on settings, which load nothing."""

from __future__ import annotations

#: What torch may multiply in.
TORCH_DTYPES = ("float32", "float16", "bfloat16", "int8")
#: Docids are 32 bits wide.
MOST_DOCUMENTS = 2**32 - 1
COMPRESSIONS = ("float16", "int8", "4bit", "2bit", "1bit")


def check_num_results(num_results: object) -> int:
    """Returns ``num_results`` if it is a number of documents to return.

    Raises:
        ValueError: it is not a positive integer.
    """
    if not isinstance(num_results, int) or isinstance(num_results, bool) or num_results < 1:
        raise ValueError(f"num_results must be a positive integer, not {num_results!r}.")
    return num_results


def check_compression(compression: object, *others: str) -> None:
    """Refuses what is no compression.

    Raises:
        ValueError: it is neither one of :data:`COMPRESSIONS` nor of ``others``.
    """
    if compression not in (*COMPRESSIONS, *others):
        names = ", ".join(map(repr, (*others, *COMPRESSIONS)))
        raise ValueError(f"compression must be one of {names}, not {compression!r}.")

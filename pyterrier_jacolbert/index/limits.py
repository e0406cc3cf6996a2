"""Checks of settings; imports nothing."""

from __future__ import annotations

#: dtypes of torch's matrix products.
TORCH_DTYPES = ("float32", "float16", "bfloat16", "int8")
#: Docids have 32 bits.
MAX_DOCUMENTS = 2**32 - 1
#: Most dimensions of a vector: a rotation of so many takes half a gigabyte while it is computed.
MAX_DIM = 8192
#: Centroid ids have 16 bits.
MAX_CENTROIDS = 65_536
#: Most bytes of a stored text, in UTF-8: a small file can stand for more bytes than a machine has.
MAX_TEXT_BYTES = 2**26
COMPRESSIONS = ("float16", "int8", "4bit", "2bit", "1bit")


def check_positive(*, optional: bool = False, **numbers: object) -> None:
    """Checks that settings are positive integers.

    Args:
        optional: whether None is allowed, too.
        **numbers: settings by name.

    Raises:
        ValueError: a setting is something else; True and False are no integers here.
    """
    for name, number in numbers.items():
        if number is None and optional:
            continue
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            expected = "a positive integer or None" if optional else "a positive integer"
            raise ValueError(f"{name} must be {expected}, not {number!r}.")


def check_choice(name: str, value: object, choices: tuple[str | None, ...]) -> None:
    """Checks that a setting is one of a few values.

    Raises:
        ValueError: it is something else; the message lists the choices.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}.")

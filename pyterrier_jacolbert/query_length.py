"""How many positions a query gets: its tokens, then [MASK] up to a length that a rule chooses.

[MASK] positions are query augmentation (Khattab and Zaharia 2020, section 3.2): their vectors take part in MaxSim.
"""

from __future__ import annotations

import math

#: A rule by name, a fixed number of positions, or None for no augmentation.
QueryLength = str | int | None

#: The fewest [MASK] positions that the named rules leave (JaColBERTv2.5, section 3.5).
MIN_MASKS = 8
_STEP = 32


def check_query_length(rule: QueryLength) -> None:
    """Checks that a rule is ``"auto"`` or one that :func:`target_length` knows.

    Raises:
        ValueError: it is not.
    """
    fixed = isinstance(rule, int) and not isinstance(rule, bool) and rule >= 4
    if rule is not None and rule not in ("auto", "dynamic", "evaluator") and not fixed:
        raise ValueError(
            "query_length must be 'auto', 'dynamic', 'evaluator', a number of positions (4 or more) or None, not "
            f"{rule!r}."
        )


def resolve_query_length(rule: QueryLength, augmented: bool) -> QueryLength:
    """What ``"auto"`` is for a checkpoint: ``"dynamic"`` if it was trained with augmentation, else None.

    Args:
        rule: any; all but ``"auto"`` stay.
        augmented: whether the checkpoint was trained with query augmentation.
    """
    if rule != "auto":
        return rule
    return "dynamic" if augmented else None


def target_length(rule: QueryLength, n_tokens: int) -> int:
    """The number of positions for a query, [MASK] positions included.

    Args:
        rule: ``"dynamic"``, the paper's: the next multiple of 32, and more where that leaves fewer than 8 masks
            (6 -> 32, 25 -> 33, 32 -> 40); ``"evaluator"``, what the author's evaluation code does: 8 masks more where
            the length is at most 8 past a multiple of 32, else the next multiple (6 -> 14, 20 -> 32, 30 -> 32);
            a number: that many; None: the tokens alone.
        n_tokens: the query's tokens, [CLS], marker and [SEP] included.

    Returns:
        The positions; fewer than ``n_tokens`` only for a number, which truncates.

    Source: JaColBERTv2.5 (arXiv 2407.20750), section 3.5; the JQaRA evaluator (github.com/hotchpotch/JQaRA, d2c3d64).
    """
    if rule is None:
        return n_tokens
    if rule == "dynamic":
        return max(_next_multiple(n_tokens), n_tokens + MIN_MASKS)
    if rule == "evaluator":
        return n_tokens + MIN_MASKS if n_tokens % _STEP <= MIN_MASKS else _next_multiple(n_tokens)
    return int(rule)


def most_tokens(rule: QueryLength, positions: int) -> int:
    """The most query tokens that leave room for the rule's masks.

    Args:
        rule: as for :func:`target_length`.
        positions: the most positions that the model takes.
    """
    if rule is None:
        return positions
    if isinstance(rule, str):
        return positions - MIN_MASKS
    return min(rule, positions)


def _next_multiple(n_tokens: int) -> int:
    return _STEP * math.ceil(n_tokens / _STEP)

"""Rules for the number of positions per query: its tokens, padded with [MASK] to a length that the rule chooses.

[MASK] positions are query augmentation (Khattab and Zaharia 2020, section 3.2): their vectors take part in MaxSim.
"""

from __future__ import annotations

import math

#: The name of a rule, a fixed number of positions, or None for no augmentation.
QueryLength = str | int | None

#: Minimum number of [MASK] positions under the named rules (JaColBERTv2.5, section 3.5).
MIN_MASKS = 8
_STEP = 32


def check_query_length(rule: QueryLength) -> None:
    """Checks that a rule is ``"auto"`` or one that :func:`target_length` accepts.

    Raises:
        ValueError: the rule is unknown.
    """
    fixed = isinstance(rule, int) and not isinstance(rule, bool) and rule >= 4
    if rule is not None and rule not in ("auto", "dynamic", "evaluator") and not fixed:
        raise ValueError(
            "query_length must be 'auto', 'dynamic', 'evaluator', a number of positions (4 or more) or None, not "
            f"{rule!r}."
        )


def resolve_query_length(rule: QueryLength, augmented: bool) -> QueryLength:
    """Resolves ``"auto"``: to ``"dynamic"`` for a checkpoint trained with query augmentation, else to None.

    Args:
        rule: any rule; all except ``"auto"`` are returned unchanged.
        augmented: whether the checkpoint was trained with query augmentation.
    """
    if rule != "auto":
        return rule
    return "dynamic" if augmented else None


def target_length(rule: QueryLength, n_tokens: int) -> int:
    """Returns the number of positions of a query, [MASK] positions included.

    Args:
        rule: ``"dynamic"``, the paper's rule: the next multiple of 32, or more if that would leave fewer than 8 masks
            (6 -> 32, 25 -> 33, 32 -> 40); ``"evaluator"``, the rule of the author's evaluation code: 8 masks more if
            the length is at most 8 past a multiple of 32, else the next multiple (6 -> 14, 20 -> 32, 30 -> 32);
            a number: that number of positions; None: the tokens alone.
        n_tokens: number of query tokens, [CLS], marker and [SEP] included.

    Returns:
        The number of positions; less than ``n_tokens`` only for a fixed number, which truncates the query.

    Source: JaColBERTv2.5 (arXiv 2407.20750), section 3.5; the JQaRA evaluator (github.com/hotchpotch/JQaRA, d2c3d64).
    """
    if rule is None:
        return n_tokens
    if rule == "dynamic":
        return max(_next_multiple(n_tokens), n_tokens + MIN_MASKS)
    if rule == "evaluator":
        return n_tokens + MIN_MASKS if n_tokens % _STEP <= MIN_MASKS else _next_multiple(n_tokens)
    return int(rule)


def max_query_tokens(rule: QueryLength, positions: int) -> int:
    """Returns the maximum number of query tokens that leaves room for the rule's masks.

    Args:
        rule: see :func:`target_length`.
        positions: maximum number of positions of the model.
    """
    if rule is None:
        return positions
    if isinstance(rule, str):
        return positions - MIN_MASKS
    return min(rule, positions)


def _next_multiple(n_tokens: int) -> int:
    return _STEP * math.ceil(n_tokens / _STEP)

"""The rules for query augmentation are those of the paper and of the author's evaluation code."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyterrier_jacolbert.encoding.query_length import (
    check_query_length,
    max_query_tokens,
    resolve_query_length,
    target_length,
)

tokens = st.integers(min_value=3, max_value=504)


@pytest.mark.parametrize(
    ("n", "length"), [(6, 32), (24, 32), (25, 33), (30, 38), (32, 40), (33, 64), (56, 64), (60, 68)]
)
def test_dynamic_is_the_papers_rule(n, length):
    assert target_length("dynamic", n) == length


@pytest.mark.parametrize(("n", "length"), [(6, 14), (8, 16), (9, 32), (20, 32), (30, 32), (32, 40), (36, 44), (45, 64)])
def test_evaluator_is_the_rule_of_the_authors_code(n, length):
    assert target_length("evaluator", n) == length


@given(n=tokens)
def test_dynamic_leaves_eight_masks_or_fills_a_multiple_of_32(n):
    length = target_length("dynamic", n)
    assert length - n >= 8
    assert length % 32 == 0 or length == n + 8


@given(n=tokens, fixed=st.integers(min_value=4, max_value=512))
def test_a_fixed_number_is_kept_and_none_adds_nothing(n, fixed):
    assert target_length(fixed, n) == fixed
    assert target_length(None, n) == n


@given(rule=st.sampled_from(["dynamic", "evaluator", 32, None]))
def test_the_longest_query_fits_the_models_positions(rule):
    assert target_length(rule, max_query_tokens(rule, 512)) <= 512


@pytest.mark.parametrize("augmented", [True, False])
@pytest.mark.parametrize("rule", ["dynamic", "evaluator", 32, None])
def test_only_auto_depends_on_the_checkpoint(rule, augmented):
    assert resolve_query_length(rule, augmented) == rule
    assert resolve_query_length("auto", augmented) == ("dynamic" if augmented else None)
    check_query_length("auto")


@pytest.mark.parametrize("rule", ["dynamical", 3, 0, -32, 32.0, True, "32"])
def test_an_unknown_rule_is_an_error_that_names_the_choices(rule):
    with pytest.raises(ValueError, match="'dynamic', 'evaluator', a number"):
        check_query_length(rule)

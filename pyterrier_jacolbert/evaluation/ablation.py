"""Checkpoints without their projection or their skip list, as the evaluators behind the paper loaded them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder


def without_projection(model: MultiVectorEncoder) -> MultiVectorEncoder:
    """Returns the model without its linear layer, so that token vectors are the encoder's hidden states.

    The weights are shared with the given model, which is not changed.
    """
    from sentence_transformers.base.modules import Dense

    return _rebuild(model, [module for module in model if not isinstance(module, Dense)])


def without_skip_list(model: MultiVectorEncoder) -> MultiVectorEncoder:
    """Returns the model with punctuation in documents scored like any other token.

    The weights are shared with the given model, which is not changed.
    """
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    modules: list[Any] = []
    for module in model:
        if isinstance(module, MultiVectorMask):
            module = copy.copy(module)
            module.skiplist_words = []
            module.resolve_with_tokenizer(model.tokenizer)
        modules.append(module)
    return _rebuild(model, modules)


def _rebuild(model: MultiVectorEncoder, modules: Sequence[Any]) -> MultiVectorEncoder:
    """Builds a model from the given modules with the prompts (markers) and device of another."""
    from sentence_transformers import MultiVectorEncoder

    prompts = {task: prompt for task, prompt in model.prompts.items() if prompt is not None}
    return MultiVectorEncoder(
        modules=list(modules), prompts=prompts, device=str(model.device), similarity_fn_name="maxsim"
    )

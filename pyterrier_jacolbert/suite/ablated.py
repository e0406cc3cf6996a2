"""A checkpoint without its projection or its skip list, as the evaluators that the paper used loaded it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder


def ablated(model: MultiVectorEncoder, *, projection: bool = True, skip_list: bool = True) -> MultiVectorEncoder:
    """The checkpoint with some of its modules left out; the weights are shared.

    Args:
        model: the checkpoint.
        projection: whether token vectors go through the linear layer; without it they are the encoder's hidden states.
        skip_list: whether punctuation in documents is left out of the scores.

    Returns:
        A model of the same encoder, markers and [MASK] augmentation; the given one is not changed.
    """
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    modules: list[Any] = []
    for module in model:
        if isinstance(module, Dense) and not projection:
            continue
        if isinstance(module, MultiVectorMask) and not skip_list:
            module = copy.copy(module)
            module.skiplist_words = []
            module.resolve_with_tokenizer(model.tokenizer)
        modules.append(module)
    prompts = {task: prompt for task, prompt in model.prompts.items() if prompt is not None}
    return MultiVectorEncoder(modules=modules, prompts=prompts, device=str(model.device), similarity_fn_name="maxsim")

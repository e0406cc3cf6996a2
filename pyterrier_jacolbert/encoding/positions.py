"""Finds out how many tokens a backbone can read."""

from __future__ import annotations

from typing import Any

import torch

#: Limit for backbones and tokenizers that name none (relative positions, as in T5), so that memory stays bounded:
#: attention is quadratic in the number of tokens.
UNBOUNDED_POSITIONS = 8192
#: transformers' mark of a tokenizer without a limit is 1e30; no tokenizer counts beyond this.
_LARGEST_LIMIT = 2**31 - 1


def max_positions(backbone: torch.nn.Module, tokenizer: Any) -> int:
    """Returns the maximum number of tokens per text, special tokens included.

    The smallest of: the configuration's ``max_position_embeddings``, the tokenizer's ``model_max_length``, and the rows
    of a position table that are left where positions start after the padding id (RoBERTa, LUKE: 514 rows, 512
    positions). :data:`UNBOUNDED_POSITIONS` if there is none of them.
    """
    config: Any = getattr(backbone, "config", None)
    if hasattr(config, "get_text_config"):
        config = config.get_text_config()
    limits = [getattr(config, "max_position_embeddings", None), tokenizer.model_max_length, *_offset_tables(backbone)]
    return min((int(limit) for limit in limits if limit and 0 < limit <= _LARGEST_LIMIT), default=UNBOUNDED_POSITIONS)


def _offset_tables(backbone: torch.nn.Module) -> list[int]:
    return [
        module.num_embeddings - module.padding_idx - 1
        for name, module in backbone.named_modules()
        if name.endswith("position_embeddings")
        and isinstance(module, torch.nn.Embedding)
        and module.padding_idx is not None
    ]

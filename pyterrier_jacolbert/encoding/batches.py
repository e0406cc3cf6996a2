"""Groups texts into batches of similar length, and pads their token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

#: Documents are padded to multiples of this number of tokens. oneDNN compiles kernels for each shape that it meets and
#: keeps them, so that memory would grow with every new combination of batch size and length.
LENGTH_STEP = 16


def padded_length(n_tokens: int, max_length: int) -> int:
    """Returns the length to which a document of a number of tokens is padded; never more than ``max_length``."""
    return min(max_length, -(-n_tokens // LENGTH_STEP) * LENGTH_STEP)


def batches(
    order: Sequence[int], lengths: Sequence[int], batch_tokens: int, same_length: bool = False
) -> Iterator[list[int]]:
    """Groups texts into batches of at most ``batch_tokens`` padded tokens, with at least one text each.

    Args:
        order: numbers of the texts, in order of length.
        lengths: padded length of each text.
        batch_tokens: maximum number of padded tokens per batch.
        same_length: whether all texts of a batch must have the same length.
    """
    batch: list[int] = []
    longest = 0
    for i in order:
        longest = max(longest, lengths[i])
        full = (len(batch) + 1) * longest > batch_tokens
        if batch and (full or (same_length and lengths[i] != lengths[batch[0]])):
            yield batch
            batch, longest = [], lengths[i]
        batch.append(i)
    if batch:
        yield batch


def pad(ids: Sequence[Sequence[int]], length: int, pad_id: int) -> dict[str, torch.Tensor]:
    """Pads token ids on the right, so that positions do not depend on the other texts of a batch.

    Returns:
        ``input_ids`` and ``attention_mask``, each int64 ``(n_texts, length)``.
    """
    input_ids = np.full((len(ids), length), pad_id, dtype=np.int64)
    attention = np.zeros((len(ids), length), dtype=np.int64)
    for row, tokens in enumerate(ids):
        input_ids[row, : len(tokens)] = tokens
        attention[row, : len(tokens)] = 1
    return {"input_ids": torch.from_numpy(input_ids), "attention_mask": torch.from_numpy(attention)}

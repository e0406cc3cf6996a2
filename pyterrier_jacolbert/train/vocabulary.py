"""Smaller vocabularies for encoders with a unigram tokenizer (SentencePiece), which leave more weights for layers.

Removed pieces are split into smaller pieces that are kept, so any text can still be encoded, in a few more tokens.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import BertModel, PreTrainedTokenizerFast


def frequent_pieces(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], size: int) -> list[int]:
    """Returns the ids to keep: special tokens, all characters of JIS X 0208, and the most frequent other pieces.

    Args:
        tokenizer: tokenizer of the encoder.
        texts: texts of the kind that will be encoded.
        size: number of pieces to keep.
    """
    counts: Counter[int] = Counter()
    for first in range(0, len(texts), 1000):
        for ids in tokenizer(list(texts[first : first + 1000]))["input_ids"]:
            counts.update(ids)
    pieces = tokenizer.get_vocab()
    kept = set(tokenizer.all_special_ids)
    kept |= {number for piece, number in pieces.items() if _is_one_character(piece.lstrip("▁"))}
    rest = sorted(pieces.values(), key=lambda number: (-counts[number], number))
    kept |= set([number for number in rest if number not in kept][: max(0, size - len(kept))])
    return sorted(kept)


def cut_vocabulary(
    model: BertModel, tokenizer: PreTrainedTokenizerFast, kept: Sequence[int]
) -> tuple[BertModel, PreTrainedTokenizerFast]:
    """Reduces a model and its tokenizer to some pieces of the vocabulary.

    Args:
        model: model with the full vocabulary; its embeddings are replaced.
        tokenizer: tokenizer of the model; it is not changed.
        kept: ids to keep, which are renumbered in this order.

    Returns:
        The same model, and a tokenizer with the new ids.

    Raises:
        ValueError: the tokenizer is of another kind.
    """
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    if content["model"]["type"] != "Unigram" or "special_tokens" not in (content["post_processor"] or {}):
        raise ValueError(
            f"The tokenizer is a {content['model']['type']}, and only the vocabulary of a Unigram tokenizer "
            "(SentencePiece) can be cut, whose texts can be split into smaller pieces; keep the whole vocabulary."
        )
    new_ids = {old: new for new, old in enumerate(kept)}
    unigrams = content["model"]["vocab"]
    content["model"]["vocab"] = [unigrams[old] for old in kept]
    content["model"]["unk_id"] = new_ids[content["model"]["unk_id"]]
    for token in content["added_tokens"]:
        token["id"] = new_ids[token["id"]]
    for token in content["post_processor"]["special_tokens"].values():
        token["ids"] = [new_ids[old] for old in token["ids"]]
    words: Any = model.embeddings.word_embeddings
    model.embeddings.word_embeddings = torch.nn.Embedding.from_pretrained(  # type: ignore[no-untyped-call]
        words.weight.detach()[list(kept)], freeze=False, padding_idx=new_ids[words.padding_idx]
    )
    config: Any = model.config
    config.vocab_size = len(kept)
    config.pad_token_id = new_ids[config.pad_token_id]
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    smaller: PreTrainedTokenizerFast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=Tokenizer.from_str(json.dumps(content)),
        model_max_length=tokenizer.model_max_length,
        **special,
    )
    return model, smaller


def _is_one_character(piece: str) -> bool:
    try:
        return len(piece) <= 1 and len(piece.encode("euc_jp")) <= 2
    except UnicodeEncodeError:
        return False

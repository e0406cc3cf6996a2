"""The tokens of a text: the characters that each stands for, and which tokens have a vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyterrier_jacolbert.encoding.spans import token_spans, trim
from pyterrier_jacolbert.index.threads import lock_of
from pyterrier_jacolbert.japanese.normalization import Span

if TYPE_CHECKING:
    from pyterrier_jacolbert.encoding.encoder import TokenEncoder

#: Kinds of tokens: characters of the text; markers, which stand for no character ([CLS], [SEP] and the prompt that the
#: model puts before each text); and positions of query augmentation.
TEXT, MARKER, MASK = "text", "marker", "mask"


@dataclass(frozen=True, slots=True)
class Token:
    """A token that has a vector.

    Attributes:
        piece: vocabulary entry.
        kind: ``"text"``, ``"marker"`` or ``"mask"``.
        start: first character of the token in the text; 0 if it stands for no character.
        end: character after the last; equal to ``start`` if the token stands for no character.
        spelling: those characters, as the text spells them; the piece if the token stands for no character.
    """

    piece: str
    kind: str
    start: int
    end: int
    spelling: str


def document_tokens(encoder: TokenEncoder, text: str) -> list[Token]:
    """Returns the tokens of a document that have vectors, in the row order of ``encoder.encode_documents([text])[0]``.

    Args:
        encoder: loaded checkpoint.
        text: text without lone surrogates; one of white space and ignorable characters alone has no tokens.
    """
    prepared, sources = encoder.preparation.prepare_with_spans(text)
    return _tokens(encoder, text, prepared, sources, encoder.document_ids(text), "document") if prepared else []


def query_tokens(encoder: TokenEncoder, text: str) -> list[Token]:
    """Returns the positions of a query, [MASK] included, in the row order of ``encoder.encode_queries([text])[0]``.

    Args:
        encoder: loaded checkpoint.
        text: text without lone surrogates.
    """
    prepared, sources = encoder.preparation.prepare_with_spans(text)
    return _tokens(encoder, text, prepared, sources, encoder.query_ids(text), "query")


def characters_read(encoder: TokenEncoder, text: str) -> int:
    """Returns the number of characters of a document that the model reads before it reaches its maximum length."""
    prepared, sources = encoder.preparation.prepare_with_spans(text)
    ids = encoder.document_ids(text)
    if len(ids) < encoder.max_document_length:
        return len(text)
    prompt = _prompt(encoder, "document")
    last = max(end for _, end in token_spans(encoder.tokenizer, prompt + prepared, ids)) - len(prompt)
    return len(text) if not prepared[last:].strip() else sources[last - 1][1] if last > 0 else 0


def token_counts(encoder: TokenEncoder, texts: Sequence[str]) -> list[int]:
    """Counts the tokens of documents before truncation, special tokens and skipped punctuation included."""
    if not texts:
        return []
    prompted = [_prompt(encoder, "document") + encoder.preparation.prepare(text) for text in texts]
    with lock_of(encoder.tokenizer):
        ids = encoder.tokenizer(prompted, truncation=False, padding=False, verbose=False)
    return [len(tokens) for tokens in ids["input_ids"]]


def token_starts(encoder: TokenEncoder, text: str) -> list[int]:
    """Returns the distinct first characters of a document's tokens before truncation, in ascending order."""
    prepared, sources = encoder.preparation.prepare_with_spans(text)
    prompt = _prompt(encoder, "document")
    with lock_of(encoder.tokenizer):
        ids = encoder.tokenizer(prompt + prepared, truncation=False, padding=False, verbose=False)["input_ids"]
    spans = token_spans(encoder.tokenizer, prompt + prepared, list(ids))
    return sorted({sources[start - len(prompt)][0] for start, end in spans if len(prompt) <= start < end})


def _tokens(
    encoder: TokenEncoder, text: str, prepared: str, sources: list[Span], ids: list[int], task: str
) -> list[Token]:
    prompt = _prompt(encoder, task)
    unmasked = len(ids) - _count_masks(encoder, ids, task)
    spans = token_spans(encoder.tokenizer, prompt + prepared, ids[:unmasked])
    pieces = encoder.tokenizer.convert_ids_to_tokens(ids)
    tokens = []
    for number, (piece, has_vector) in enumerate(zip(pieces, _have_vectors(encoder, ids, task), strict=True)):
        if not has_vector:
            continue
        kind, start, end = MASK, 0, 0
        if number < unmasked:
            start, end = (max(0, position - len(prompt)) for position in spans[number])
            kind = TEXT if start < end else MARKER
            start, end = trim(text, sources[start][0], sources[end - 1][1]) if kind == TEXT else (0, 0)
        tokens.append(Token(piece, kind, start, end, text[start:end] or piece))
    return tokens


def _prompt(encoder: TokenEncoder, task: str) -> str:
    return encoder.model.prompts.get(task) or ""


def _count_masks(encoder: TokenEncoder, ids: list[int], task: str) -> int:
    """Counts the positions of query augmentation at the end of a query."""
    if task != "query" or encoder.query_length is None:
        return 0
    mask = encoder.mask_id
    return next((count for count, token in enumerate(reversed(ids)) if token != mask), len(ids))


def _have_vectors(encoder: TokenEncoder, ids: list[int], task: str) -> list[bool]:
    """Tells for each token whether the modules of the checkpoint give it a vector."""
    import torch
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    features = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones((1, len(ids)), dtype=torch.long)}
    for module in encoder.model:
        if isinstance(module, MultiVectorMask):
            features = module(features, task=task)
    return [bool(value) for value in features["attention_mask"][0]]

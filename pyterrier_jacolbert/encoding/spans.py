"""Finds the characters of a text that each of its tokens stands for.

Fast tokenizers report these characters. ``BertJapaneseTokenizer``, the tokenizer of the JaColBERT family, does not: it
normalises the text (NFKC), cuts it into words (MeCab) and the words into pieces (WordPiece), and discards the offsets.
This module repeats these steps and keeps the offsets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyterrier_jacolbert.index.threads import lock_of
from pyterrier_jacolbert.japanese.normalization import Span, character_spans, compose_with_spans


def token_spans(tokenizer: Any, text: str, ids: list[int]) -> list[Span]:
    """Returns the characters of each token, and (0, 0) for tokens that stand for no character.

    Args:
        tokenizer: tokenizer of transformers (its tokenizers share no typed base class).
        text: tokenised text, including the prompt that the model puts before it.
        ids: tokens of the text, which may be truncated.
    """
    with lock_of(tokenizer):
        return _token_spans(tokenizer, text, ids)


def _token_spans(tokenizer: Any, text: str, ids: list[int]) -> list[Span]:
    if tokenizer.is_fast:
        truncation = {"truncation": True, "max_length": len(ids)} if ids else {}
        encoded = tokenizer(text, return_offsets_mapping=True, verbose=False, **truncation)
        if list(encoded["input_ids"]) == ids:
            return [(start, end) for start, end in encoded["offset_mapping"]]
    elif hasattr(tokenizer, "word_tokenizer") and hasattr(tokenizer, "subword_tokenizer"):
        pieces = list(_word_pieces(tokenizer, text))
        piece_ids = tokenizer.convert_tokens_to_ids([piece for piece, _ in pieces])
        special = int(tokenizer.num_special_tokens_to_add())
        count = len(ids) - special
        for before in range(special + 1):
            if ids[before : before + count] == piece_ids[:count]:
                nowhere = [(0, 0)]
                return nowhere * before + [span for _, span in pieces[:count]] + nowhere * (special - before)
    return search_spans(tokenizer, text, ids)


def search_spans(tokenizer: Any, text: str, ids: list[int]) -> list[Span]:
    """Approximates the spans for other kinds of tokenizers: the next occurrence of each piece in the text, or (0, 0).

    Args and result are those of :func:`token_spans`.
    """
    normalized, sources = _nfkc(text)
    spans, cursor = [], 0
    for piece in tokenizer.convert_ids_to_tokens(ids):
        spelling = piece.removeprefix("##").replace("▁", "")
        start = normalized.find(spelling, cursor) if spelling else -1
        if start < 0:
            spans.append((0, 0))
            continue
        cursor = start + len(spelling)
        spans.append((sources[start][0], sources[cursor - 1][1]))
    return spans


def trim(text: str, start: int, end: int) -> Span:
    """Narrows a span to exclude white space at its ends, unless it contains nothing else.

    SentencePiece counts white space as part of the following word.
    """
    while start < end - 1 and text[start].isspace():
        start += 1
    while start < end - 1 and text[end - 1].isspace():
        end -= 1
    return start, end


def _nfkc(text: str) -> tuple[str, list[Span]]:
    return compose_with_spans("NFKC", text, character_spans(text))


def _word_pieces(tokenizer: Any, text: str) -> Iterator[tuple[str, Span]]:
    """Yields the pieces of ``BertJapaneseTokenizer.tokenize(text)`` with their characters."""
    start = 0
    for part in tokenizer.tokens_trie.split(text):
        if part in tokenizer.added_tokens_encoder:
            yield part, (start, start + len(part))
        else:
            normalized, spans = _nfkc(part)
            if tokenizer.do_lower_case:
                spans = [span for character, span in zip(normalized, spans, strict=True) for _ in character.lower()]
                normalized = "".join(character.lower() for character in normalized)
            cursor = 0
            for word in tokenizer.word_tokenizer.tokenize(part, never_split=tokenizer.all_special_tokens):
                # MeCab omits nothing but white space.
                position = normalized.find(word, cursor)
                first = cursor if position < 0 else position
                cursor = first + len(word)
                sources = spans[first:cursor] or [(0, 0)]
                for piece, begin, end in _locate_pieces(tokenizer.subword_tokenizer.tokenize(word), len(word)):
                    covered = sources[begin:end] or sources
                    yield piece, (start + covered[0][0], start + covered[-1][1])
        start += len(part)


def _locate_pieces(pieces: list[str], length: int) -> Iterator[tuple[str, int, int]]:
    """Yields the pieces of a word of ``length`` characters with their span in it; an unknown piece spans all of it."""
    lengths = [len(piece.removeprefix("##").removeprefix("▁")) for piece in pieces]
    if sum(lengths) != length:
        lengths = [1] * length if len(pieces) == length else []
    start = 0
    for number, piece in enumerate(pieces):
        yield (piece, start, start + lengths[number]) if lengths else (piece, 0, length)
        start += lengths[number] if lengths else 0

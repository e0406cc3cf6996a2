"""The tokens of a text: the characters that each stands for, and which of them have a vector; no pandas, no PyTerrier.

Fast tokenizers know the characters themselves. ``BertJapaneseTokenizer``, which the JaColBERT family has, does not: it
normalises (NFKC), cuts into words (MeCab) and into pieces (WordPiece), and forgets where they came from. Here the same
steps are taken with their places.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyterrier_jacolbert.encoder import TokenEncoder

#: A first and a last character, the last not included.
Span = tuple[int, int]

#: What a token stands for: characters of the text; nothing ([CLS], [SEP], what the model puts before each text); or a
#: position of query augmentation.
TEXT, MARKER, MASK = "text", "marker", "mask"


@dataclass(frozen=True, slots=True)
class Token:
    """A token that has a vector.

    Attributes:
        piece: as the vocabulary spells it.
        kind: ``"text"``, ``"marker"`` or ``"mask"``.
        start: its first character in the text; 0 where it has none.
        end: the character after its last; equal to ``start`` where it has none.
        spelling: those characters, as the text spells them; the piece where there are none.
    """

    piece: str
    kind: str
    start: int
    end: int
    spelling: str


def document_tokens(encoder: TokenEncoder, text: str) -> list[Token]:
    """The tokens of a document that have vectors, in the order of the rows of ``encoder.encode_documents([text])[0]``.

    Args:
        encoder: a loaded checkpoint.
        text: without lone surrogates; "" has no tokens.
    """
    return _tokens(encoder, text, encoder.document_ids(text), "document") if text else []


def query_tokens(encoder: TokenEncoder, text: str) -> list[Token]:
    """The positions of a query, [MASK] positions included, as the rows of ``encoder.encode_queries([text])[0]``.

    Args:
        encoder: a loaded checkpoint.
        text: without lone surrogates.
    """
    return _tokens(encoder, text, encoder.query_ids(text), "query")


def characters_read(encoder: TokenEncoder, text: str) -> int:
    """How many characters of a document the model takes in before its length is used up."""
    ids = encoder.document_ids(text) if text else []
    if len(ids) < encoder.max_document_length:
        return len(text)
    prompt = _prompt(encoder, "document")
    last = max(end for _, end in _spans(encoder.tokenizer, prompt + text, ids)) - len(prompt)
    return len(text) if not text[last:].strip() else max(0, last)


def token_counts(encoder: TokenEncoder, texts: Sequence[str]) -> list[int]:
    """The tokens of documents, special tokens and skipped punctuation included, before any cut."""
    if not texts:
        return []
    prompt = _prompt(encoder, "document")
    ids = encoder.tokenizer([prompt + text for text in texts], truncation=False, padding=False, verbose=False)
    return [len(tokens) for tokens in ids["input_ids"]]


def token_starts(encoder: TokenEncoder, text: str) -> list[int]:
    """Where the tokens of a document begin, ascending and each once, before any cut."""
    prompt = _prompt(encoder, "document")
    ids = encoder.tokenizer(prompt + text, truncation=False, padding=False, verbose=False)["input_ids"]
    spans = _spans(encoder.tokenizer, prompt + text, list(ids))
    return sorted({start - len(prompt) for start, end in spans if start < end and start >= len(prompt)})


def normalised(text: str) -> tuple[str, list[Span]]:
    """A text in NFKC, and for each of its characters those of the text that it came from.

    Cut before each character that neither joins what stands before it nor changes its order, a text may be normalised
    piece by piece (Unicode Standard Annex 15, "Normalization Contexts Requiring Care in Optimizations").
    """
    characters: list[str] = []
    spans: list[Span] = []
    start = 0
    for end in range(1, len(text) + 1):
        if end == len(text) or _parts(text[start:end], text[end]):
            piece = unicodedata.normalize("NFKC", text[start:end])
            characters.append(piece)
            spans += [(start, end)] * len(piece)
            start = end
    return "".join(characters), spans


def _parts(before: str, character: str) -> bool:
    """Whether NFKC treats a character apart from what stands before it."""
    if unicodedata.combining(unicodedata.normalize("NFKD", character)[0]):
        return False
    apart = unicodedata.normalize("NFKC", before) + unicodedata.normalize("NFKC", character)
    return unicodedata.normalize("NFKC", before + character) == apart


def _tokens(encoder: TokenEncoder, text: str, ids: list[int], task: str) -> list[Token]:
    prompt = _prompt(encoder, task)
    plain = len(ids) - _masks(encoder, ids, task)
    spans = _spans(encoder.tokenizer, prompt + text, ids[:plain])
    pieces = encoder.tokenizer.convert_ids_to_tokens(ids)
    tokens = []
    for number, (piece, has_vector) in enumerate(zip(pieces, _scored(encoder, ids, task), strict=True)):
        if not has_vector:
            continue
        kind, start, end = MASK, 0, 0
        if number < plain:
            start, end = (max(0, place - len(prompt)) for place in spans[number])
            kind = TEXT if start < end else MARKER
            start, end = _trimmed(text, start, end) if kind == TEXT else (0, 0)
        tokens.append(Token(piece, kind, start, end, text[start:end] or piece))
    return tokens


def _prompt(encoder: TokenEncoder, task: str) -> str:
    return encoder.model.prompts.get(task) or ""


def _masks(encoder: TokenEncoder, ids: list[int], task: str) -> int:
    """How many positions of query augmentation stand at the end."""
    if task != "query" or encoder.query_length is None:
        return 0
    mask = encoder.mask_id
    return next((count for count, token in enumerate(reversed(ids)) if token != mask), len(ids))


def _scored(encoder: TokenEncoder, ids: list[int], task: str) -> list[bool]:
    """Which tokens have a vector, as the modules of the checkpoint say it."""
    import torch
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    features = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones((1, len(ids)), dtype=torch.long)}
    for module in encoder.model:
        if isinstance(module, MultiVectorMask):
            features = module(features, task=task)
    return [bool(value) for value in features["attention_mask"][0]]


def _trimmed(text: str, start: int, end: int) -> Span:
    """Without white space at its ends, which SentencePiece counts to the word behind it; as it is, if that is all."""
    while start < end - 1 and text[start].isspace():
        start += 1
    while start < end - 1 and text[end - 1].isspace():
        end -= 1
    return start, end


def _spans(tokenizer: Any, text: str, ids: list[int]) -> list[Span]:  # noqa: ANN401 (tokenizers share no typed base)
    """The characters of each token, (0, 0) for those that stand for none.

    Args:
        tokenizer: of transformers.
        text: what was tokenised, the model's own words before a text included.
        ids: its tokens, maybe cut.
    """
    if tokenizer.is_fast:
        cut = {"truncation": True, "max_length": len(ids)} if ids else {}
        encoded = tokenizer(text, return_offsets_mapping=True, verbose=False, **cut)
        if list(encoded["input_ids"]) == ids:
            return [(start, end) for start, end in encoded["offset_mapping"]]
    elif hasattr(tokenizer, "word_tokenizer") and hasattr(tokenizer, "subword_tokenizer"):
        pieces = list(_word_pieces(tokenizer, text))
        spelled = tokenizer.convert_tokens_to_ids([piece for piece, _ in pieces])
        special = int(tokenizer.num_special_tokens_to_add())
        count = len(ids) - special
        for before in range(special + 1):
            if ids[before : before + count] == spelled[:count]:
                nowhere = [(0, 0)]
                return nowhere * before + [span for _, span in pieces[:count]] + nowhere * (special - before)
    return _searched(tokenizer, text, ids)


def _word_pieces(tokenizer: Any, text: str) -> Iterator[tuple[str, Span]]:  # noqa: ANN401
    """The pieces of ``BertJapaneseTokenizer.tokenize(text)``, each with its characters."""
    start = 0
    for part in tokenizer.tokens_trie.split(text):
        if part in tokenizer.added_tokens_encoder:
            yield part, (start, start + len(part))
        else:
            normal, spans = normalised(part)
            if tokenizer.do_lower_case:
                spans = [span for character, span in zip(normal, spans, strict=True) for _ in character.lower()]
                normal = "".join(character.lower() for character in normal)
            cursor = 0
            for word in tokenizer.word_tokenizer.tokenize(part, never_split=tokenizer.all_special_tokens):
                # MeCab leaves out white space and nothing else, until it meets the end or a NUL.
                found = normal.find(word, cursor)
                first = cursor if found < 0 else found
                cursor = first + len(word)
                places = spans[first:cursor] or [(0, 0)]
                for piece, begin, end in _cut(tokenizer.subword_tokenizer.tokenize(word), len(word)):
                    covered = places[begin:end] or places
                    yield piece, (start + covered[0][0], start + covered[-1][1])
        start += len(part)


def _cut(pieces: list[str], length: int) -> Iterator[tuple[str, int, int]]:
    """The pieces of a word of so many characters with their place in it; a piece that is unknown has it all."""
    lengths = [len(piece.removeprefix("##").removeprefix("▁")) for piece in pieces]
    if sum(lengths) != length:
        lengths = [1] * length if len(pieces) == length else []
    place = 0
    for number, piece in enumerate(pieces):
        yield (piece, place, place + lengths[number]) if lengths else (piece, 0, length)
        place += lengths[number] if lengths else 0


def _searched(tokenizer: Any, text: str, ids: list[int]) -> list[Span]:  # noqa: ANN401
    """What can be said of tokenizers of other kinds: where the pieces next stand in the text, if they do."""
    normal, places = normalised(text)
    spans, cursor = [], 0
    for piece in tokenizer.convert_ids_to_tokens(ids):
        spelling = piece.removeprefix("##").replace("▁", "")
        found = normal.find(spelling, cursor) if spelling else -1
        if found < 0:
            spans.append((0, 0))
            continue
        cursor = found + len(spelling)
        spans.append((places[found][0], places[cursor - 1][1]))
    return spans

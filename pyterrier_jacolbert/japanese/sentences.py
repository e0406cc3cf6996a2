"""Splits Japanese text into sentences, and groups sentences into passages of limited length.

Nothing is lost or changed: concatenated, the sentences are the text, and so are passages that do not overlap.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

_CLOSER_OF = dict(zip("「『（(【〔《〈［[｛{“｢", "」』）)】〕》〉］]｝}”｣", strict=True))
_CLOSERS = "".join(_CLOSER_OF.values())
#: The end of a sentence: a Japanese full stop; ! or ?, except in what looks like a link; a full stop before white
#: space; or the end of a line; with any closing brackets and white space that follow.
_END = re.compile(
    rf"(?:[。｡！？‼⁇⁈⁉]|．(?![0-9A-Za-z０-９Ａ-Ｚａ-ｚ])|[!?](?![A-Za-z0-9=&/%#])|\.(?=[\"'’{re.escape(_CLOSERS)}]*\s))"
    rf"[。｡．！？!?.]*[\"'’{re.escape(_CLOSERS)}]*\s*|\n\s*"
)
_BLANK_LINE = re.compile(r"\n\s*\n")
#: The clauses at which a sentence that is too long for a passage is cut first.
_CLAUSE = re.compile(r"[^、，,;；:：。｡！？!?\s]*[、，,;；:：。｡！？!?\s]*")
#: Maximum number of characters whose tokens are counted at once: MeCab crashes on texts of hundreds of thousands.
_PIECE_CHARACTERS = 4096
#: Maximum number of characters per passage, which limits texts with almost no tokens, such as white space.
_PASSAGE_CHARACTERS = 16_384


def split_sentences(text: str) -> list[str]:
    """Splits a text into sentences.

    A sentence ends with 。！？ and similar characters, with a full stop before white space, and at the end of a line,
    but not within brackets: 「行こう。」と言った。 is one sentence. A bracket that is not closed before the next blank
    line is ignored.

    Args:
        text: any text.

    Returns:
        The sentences, each with the brackets and the white space that follow it; concatenated, they are the text.

    Example:
        >>> split_sentences("富士山（高い。）は山だ。「登ろう！」と言った。")
        ['富士山（高い。）は山だ。', '「登ろう！」と言った。']
    """
    inside = _inside_brackets(text)
    ends, position = [], 0
    while match := _END.search(text, position):
        position = match.start() + 1  # a mark within brackets may precede the true end: 「！」 before the end of a line
        if not inside[match.start()]:
            position = match.end()
            ends.append(position)
    bounds = sorted({0, *ends, len(text)})
    return [text[start:end] for start, end in zip(bounds, bounds[1:], strict=False)]


def _inside_brackets(text: str) -> list[bool]:
    """Tells for each character whether it is within a pair of matching brackets."""
    depths = [0] * (len(text) + 1)
    blank = {match.start() for match in _BLANK_LINE.finditer(text)}
    stack: list[tuple[str, int]] = []
    for position, character in enumerate(text):
        if position in blank:
            stack.clear()
        if character in _CLOSER_OF:
            stack.append((_CLOSER_OF[character], position))
        elif character in _CLOSERS:
            opened = next((n for n in reversed(range(len(stack))) if stack[n][0] == character), None)
            if opened is not None:
                depths[stack[opened][1]] += 1
                depths[position] -= 1
                del stack[opened:]
    inside, depth = [], 0
    for change in depths[:-1]:
        depth += change
        inside.append(depth > 0)
    return inside


def cut_passages(
    text: str,
    length: int,
    stride: int,
    *,
    count: Callable[[Sequence[str]], Sequence[int]],
    starts: Callable[[str], Sequence[int]],
    fits: Callable[[str], bool],
) -> list[tuple[int, int]]:
    """Groups whole sentences into passages, each with as many sentences as fit.

    A sentence that is too long is cut after a comma, and a clause that is too long is cut between tokens. Passages
    begin at most ``stride`` tokens apart, at the start of a sentence; together they contain the whole text.

    Args:
        text: any text.
        length: maximum number of tokens per passage.
        stride: maximum number of tokens between the starts of two passages; if it is at least ``length``, passages do
            not overlap, and concatenated they are the text.
        count: returns the number of tokens of each text.
        starts: returns the positions in a text at which its tokens start, ascending.
        fits: tells whether a passage is short enough as a whole, since its tokens can differ from those of its
            sentences.

    Returns:
        The first character of each passage and the character after its last; at least one passage.
    """
    units = list(_units(text, length, count, starts))
    bounds = [0]
    for unit, _ in units:
        bounds.append(bounds[-1] + len(unit))
    passages, first = [], 0
    while first < len(units):
        end, tokens = first + 1, units[first][1]
        last_bound = bounds[first] + _PASSAGE_CHARACTERS
        while end < len(units) and tokens + units[end][1] <= length and bounds[end + 1] <= last_bound:
            tokens += units[end][1]
            end += 1
        while end > first + 1 and not fits(text[bounds[first] : bounds[end]]):
            end -= 1
        passages.append((bounds[first], bounds[end]))
        if end == len(units):
            break
        following, passed = first + 1, units[first][1]
        while following < end and passed + units[following][1] <= stride:
            passed += units[following][1]
            following += 1
        first = following
    return passages or [(0, len(text))]


def _units(
    text: str, length: int, count: Callable[[Sequence[str]], Sequence[int]], starts: Callable[[str], Sequence[int]]
) -> Iterator[tuple[str, int]]:
    """Yields the units of passages with their numbers of tokens: sentences, or parts of sentences that are too long."""
    sentences = [piece for sentence in split_sentences(text) for piece in _pieces(sentence)]
    for sentence, tokens in zip(sentences, count(sentences), strict=True):
        if tokens <= length:
            yield sentence, tokens
            continue
        clauses = [clause for clause in _CLAUSE.findall(sentence) if clause]
        for clause, clause_tokens in zip(clauses, count(clauses), strict=True):
            if clause_tokens <= length:
                yield clause, clause_tokens
                continue
            bounds = sorted({0, *starts(clause), len(clause)})
            yield from ((clause[start:end], 1) for start, end in zip(bounds, bounds[1:], strict=False))


def _pieces(sentence: str) -> list[str]:
    return [sentence[start : start + _PIECE_CHARACTERS] for start in range(0, len(sentence), _PIECE_CHARACTERS)]

"""Japanese text to sentences, and sentences to passages of so many tokens; no pandas, no PyTerrier.

Nothing is lost or changed: sentences joined are the text, and so are passages that do not overlap.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

_CLOSER_OF = dict(zip("「『（(【〔《〈［[｛{“｢", "」』）)】〕》〉］]｝}”｣", strict=True))
_CLOSERS = "".join(_CLOSER_OF.values())
#: Where a sentence may end: full stops of Japanese; ! and ? but in what looks like a link; a full stop before white
#: space; the end of a line. Closing brackets behind it belong to it, as does white space.
_END = re.compile(
    rf"(?:[。｡！？‼⁇⁈⁉]|．(?![0-9A-Za-z０-９Ａ-Ｚａ-ｚ])|[!?](?![A-Za-z0-9=&/%#])|\.(?=[\"'’{re.escape(_CLOSERS)}]*\s))"
    rf"[。｡．！？!?.]*[\"'’{re.escape(_CLOSERS)}]*\s*|\n\s*"
)
_BLANK_LINE = re.compile(r"\n\s*\n")
#: Where a sentence that is too long for a passage is cut first.
_CLAUSE = re.compile(r"[^、，,;；:：。｡！？!?\s]*[、，,;；:：。｡！？!?\s]*")
#: Texts are counted in pieces of at most so many characters: MeCab crashes on those of hundreds of thousands.
_PIECE_CHARACTERS = 4096
#: The most characters of a passage, for texts with next to no tokens: white space, say.
_PASSAGE_CHARACTERS = 16_384


def split_sentences(text: str) -> list[str]:
    """Cuts a text into sentences.

    A sentence ends with 。！？ and the like, with a full stop before white space, and with the line, but not between
    brackets: 「行こう。」と言った。 is one sentence. A bracket that is not closed before the next blank line counts for
    nothing.

    Args:
        text: any text.

    Returns:
        The sentences, each with the brackets and the white space that follow it, so that they joined are the text.

    Example:
        >>> split_sentences("富士山（高い。）は山だ。「登ろう！」と言った。")
        ['富士山（高い。）は山だ。', '「登ろう！」と言った。']
    """
    inside = _inside_brackets(text)
    ends, place = [], 0
    while match := _END.search(text, place):
        place = match.start() + 1  # what ends nothing may stand before what does: 「！」 before the end of a line
        if not inside[match.start()]:
            place = match.end()
            ends.append(place)
    bounds = sorted({0, *ends, len(text)})
    return [text[start:end] for start, end in zip(bounds, bounds[1:], strict=False)]


def _inside_brackets(text: str) -> list[bool]:
    """For each character whether it stands between two brackets that belong together."""
    depths = [0] * (len(text) + 1)
    blank = {match.start() for match in _BLANK_LINE.finditer(text)}
    stack: list[tuple[str, int]] = []
    for place, character in enumerate(text):
        if place in blank:
            stack.clear()
        if character in _CLOSER_OF:
            stack.append((_CLOSER_OF[character], place))
        elif character in _CLOSERS:
            opened = next((n for n in reversed(range(len(stack))) if stack[n][0] == character), None)
            if opened is not None:
                depths[stack[opened][1]] += 1
                depths[place] -= 1
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
    """Cuts a text into passages of whole sentences, as many as go into each.

    A sentence that is too long is cut after a comma, and a clause that is too long between tokens. Passages begin
    ``stride`` tokens apart or less, where a sentence begins; together they hold the whole text.

    Args:
        text: any text.
        length: the most tokens of a passage.
        stride: the most tokens between the beginnings of two passages; from ``length`` on, passages do not overlap, and
            joined they are the text.
        count: the tokens of texts.
        starts: where the tokens of a text begin, ascending.
        fits: whether a passage is short enough as a whole: its tokens are not quite those of its sentences.

    Returns:
        The first character of each passage and the one after its last; one passage at least.
    """
    units = list(_units(text, length, count, starts))
    bounds = [0]
    for unit, _ in units:
        bounds.append(bounds[-1] + len(unit))
    passages, first = [], 0
    while first < len(units):
        end, tokens = first + 1, units[first][1]
        most = bounds[first] + _PASSAGE_CHARACTERS
        while end < len(units) and tokens + units[end][1] <= length and bounds[end + 1] <= most:
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
    """What passages are made of, with their tokens: sentences, or parts of those that are too long."""
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
    return [sentence[at : at + _PIECE_CHARACTERS] for at in range(0, len(sentence), _PIECE_CHARACTERS)]

"""Prepares text for a checkpoint's tokenizer: normalises it and removes special tokens and endless white space."""

from __future__ import annotations

import re
from typing import Any

import regex

from pyterrier_jacolbert.japanese.normalization import Span, normalize, normalize_with_spans, substitute

#: Longest run of white space that is kept.
_MAX_WHITE_SPACE = 32
_WHITE_SPACE = regex.compile(rf"\s{{{_MAX_WHITE_SPACE + 1},}}")
#: Tokens in brackets are special, whether or not the tokenizer declares them so: ``[unused0]``, ``<extra_id_0>``.
_IN_BRACKETS = re.compile(r"\[.+\]|<.+>|\{.+\}|\|.+\|")


class TextPreparation:
    """Prepares texts for a tokenizer.

    - A text is normalised (in NFC: the tokenizer itself replaces compatibility characters, if it was trained so).
    - What reads like a special token is broken by a space, so that it is text: ``[MASK]`` becomes ``[ MASK]``.
    - Long runs of white space are shortened.

    Args:
        tokenizer: tokenizer of transformers.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._special_token = _special_token_pattern(tokenizer)

    def prepare(self, text: str) -> str:
        """Returns a text as the tokenizer receives it; "" if it has only white space and ignorable characters.

        Args:
            text: text without a prompt.
        """
        text = normalize(text, compatibility=False)
        if not text or text.isspace():
            return ""
        special = self._special_token
        if special is not None:
            if special.search(text):
                text = special.sub(_break, text)
            # Tokenizers may look for special tokens after their own normalisation, for example in "＜mask＞".
            if special.search(normalize(text)):
                text = special.sub(_break, normalize(text))
        return str(_WHITE_SPACE.sub(_shorten, text)) if _WHITE_SPACE.search(text) else text

    def prepare_with_spans(self, text: str) -> tuple[str, list[Span]]:
        """Returns the prepared text and the span in ``text`` that each of its characters comes from."""
        prepared, spans = normalize_with_spans(text, compatibility=False)
        if not prepared or prepared.isspace():
            return "", []
        special = self._special_token
        if special is not None:
            prepared, spans = substitute(special, _break, prepared, spans)
            if special.search(normalize(prepared)):
                prepared, own_spans = normalize_with_spans(prepared)
                spans = [(spans[start][0], spans[end - 1][1]) for start, end in own_spans]
                prepared, spans = substitute(special, _break, prepared, spans)
        return substitute(_WHITE_SPACE, _shorten, prepared, spans)


def _shorten(match: regex.Match[str]) -> str:
    return str(match[0][:_MAX_WHITE_SPACE])


def _break(match: regex.Match[str]) -> str:
    return f"{match[0][0]} {match[0][1:]}"


def _special_token_pattern(tokenizer: Any) -> regex.Pattern[str] | None:
    """Returns a pattern of the tokens that a user's text must not contain; None if there are none."""
    special = set(tokenizer.all_special_tokens)
    tokens = {str(token) for token in special}
    any_case: set[str] = set()
    for added in tokenizer.added_tokens_decoder.values():
        content = str(added.content)
        if added.special or content in special or _IN_BRACKETS.fullmatch(content.strip()):
            # The tokenizer looks for such a token in the text after its own normalisation, which may lower the case.
            (any_case if added.normalized else tokens).add(content)
    patterns = [_alternatives(tokens, ""), _alternatives(any_case, "(?i:")]
    return regex.compile("|".join(filter(None, patterns))) if any(patterns) else None


def _alternatives(tokens: set[str], group: str) -> str:
    # A token of one character is text that cannot be broken.
    contents = {token.strip() for token in tokens if len(token.strip()) > 1}
    pattern = "|".join(map(regex.escape, sorted(contents, key=lambda content: (-len(content), content))))
    return f"{group}{pattern}{')' if group else ''}" if pattern else ""

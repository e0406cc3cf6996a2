"""Renders an alignment as HTML: the document's text, shaded by its contribution to the score, and a table of matches.

All styles are inline, without a script or a style sheet, because notebook viewers strip those.
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterator

import numpy as np

from pyterrier_jacolbert.encoding.token_offsets import MARKER, MASK, TEXT, Token
from pyterrier_jacolbert.explain.alignment import Alignment

#: Red, green and blue of the shades: for matches of the query's words, and of markers and [MASK] positions.
_WORD_COLOR, _MASK_COLOR = "255,153,0", "52,120,246"
#: Number of characters of the document to show on each side of a token.
_CONTEXT_CHARACTERS = 6
#: Style of secondary text.
_NOTE = "color:#57606a;font-size:13px"
_FONTS = "'Noto Sans JP','Hiragino Sans','Yu Gothic','Noto Sans CJK JP',Meiryo,system-ui,sans-serif"
#: Style of a table cell.
_CELL = "padding:2px 10px 2px 0;text-align:left;vertical-align:top;border:0;background:#fff;color:#1f2328"


def to_html(explanation: Alignment) -> str:
    """Renders an alignment as one ``<div>``."""
    parts = [
        f'<div style="font-family:{_FONTS};font-size:15px;line-height:1.8;color:#1f2328;background:#fff;'
        'max-width:60em;padding:12px 16px;border:1px solid #d0d7de;border-radius:6px">',
        _header(explanation),
        _shaded_text(explanation, (TEXT,), _WORD_COLOR),
        _table(explanation),
        _details(explanation, (MASK,), "[MASK] positions"),
        _details(explanation, (MARKER,), "Special tokens"),
        "</div>",
    ]
    return "".join(parts)


def shaded_segments(explanation: Alignment, *kinds: str) -> Iterator[tuple[str, float, list[int]]]:
    """Splits the document's text at the starts and ends of its tokens.

    Args:
        explanation: alignment of a query with the document.
        *kinds: kinds of query tokens whose contributions count: ``"text"``, ``"marker"``, ``"mask"``.

    Yields:
        The characters of the segment (concatenated, the segments are the text), the sum of the contributions that the
        tokens covering it received, and the numbers of these tokens.
    """
    received = explanation.received(*kinds)
    owners: list[list[int]] = [[] for _ in explanation.text]
    for number, token in enumerate(explanation.document_tokens):
        for character in range(token.start, token.end):
            owners[character].append(number)
    segments = itertools.groupby(enumerate(explanation.text), key=lambda pair: owners[pair[0]])
    for numbers, characters in segments:
        value = float(received[numbers].sum()) if numbers else 0.0
        yield "".join(character for _, character in characters), value, numbers


def _header(explanation: Alignment) -> str:
    parts = []
    for kind, name in ((TEXT, "words"), (MARKER, "special tokens"), (MASK, "[MASK]")):
        selected = explanation.of_kind(kind)
        if selected.any():
            parts.append(f"{name} {explanation.contributions[selected].sum():.2f}")
    docno = f" · {_escape(explanation.docno)}" if explanation.docno is not None else ""
    return (
        f'<div><b style="font-size:17px">{_escape(explanation.query)}</b></div>'
        f'<div style="{_NOTE};margin-bottom:8px">score {explanation.score:.4f} = '
        f"{' + '.join(parts)}{docno}</div>"
    )


def _shaded_text(explanation: Alignment, kinds: tuple[str, ...], color: str) -> str:
    """Renders the text, shaded by the contributions of some kinds of query tokens, with notes below it."""
    if not explanation.text:
        return f'<div style="{_NOTE}">The document has no text.</div>'
    segments = list(shaded_segments(explanation, *kinds))
    greatest = max([value for _, value, _ in segments], default=0.0) or 1.0
    matches = _matches(explanation, kinds)
    read, position = explanation.read, 0
    parts = ['<div style="white-space:pre-wrap;overflow-wrap:anywhere;padding:6px 0">']
    for characters, value, numbers in segments:
        if value > 0:
            shade = f"background:rgba({color},{0.12 + 0.73 * value / greatest:.2f})"
            title = ", ".join(itertools.chain.from_iterable(matches.get(number, []) for number in numbers))
            parts.append(
                f'<span style="{shade};border-radius:2px" title="{_escape(title)}">{_escape(characters)}</span>'
            )
        elif read is not None and position >= read:
            parts.append(f'<span style="color:#9aa4ae" title="truncated: not read">{_escape(characters)}</span>')
        else:
            parts.append(_escape(characters))
        position += len(characters)
    return "".join([*parts, "</div>", *_notes(explanation, explanation.received(*kinds))])


def _notes(explanation: Alignment, received: np.ndarray) -> Iterator[str]:
    """Yields notes on contributions to tokens that stand for no character, and on truncation."""
    outside = [
        f"{_escape(token.piece)} {value:.2f}"
        for token, value in zip(explanation.document_tokens, received, strict=True)
        if token.start == token.end and value > 0
    ]
    if outside:
        yield f'<div style="{_NOTE}">matches outside the text: {" · ".join(outside)}</div>'
    read, length = explanation.read, len(explanation.text)
    if read is not None and read < length:
        yield f'<div style="{_NOTE}">The model read the first {read} of {length} characters.</div>'


def _matches(explanation: Alignment, kinds: tuple[str, ...]) -> dict[int, list[str]]:
    """Lists for each document token the query tokens that match it, with their contributions."""
    matches: dict[int, list[str]] = {}
    selected = explanation.of_kind(*kinds) & (explanation.best >= 0)
    for number in np.flatnonzero(selected).tolist():
        match = f"{_visible_spelling(explanation.query_tokens[number])} {explanation.contributions[number]:.2f}"
        matches.setdefault(int(explanation.best[number]), []).append(match)
    return matches


def _table(explanation: Alignment) -> str:
    rows = np.flatnonzero(explanation.of_kind(TEXT)).tolist()
    if not rows:
        return ""
    head = "".join(
        f'<th style="{_CELL};color:#57606a;font-weight:normal;font-size:13px;white-space:nowrap">{name}</th>'
        for name in ("query", "document", "similarity", "share of the score")
    )
    parts = [f'<table style="border-collapse:collapse;margin:10px 0 4px 0;font-size:14px"><tr>{head}</tr>']
    for row in rows:
        value = float(explanation.contributions[row])
        share = f"{value / explanation.score:.1%}" if explanation.score else "–"
        width = min(60, max(0, round(value * 60)))
        bar = (
            '<span style="display:inline-block;width:66px"><span style="display:inline-block;height:9px;'
            f'width:{width}px;background:rgba({_WORD_COLOR},.75)"></span></span>'
        )
        cells = [
            f'<b style="white-space:nowrap">{_render_token(explanation.query_tokens[row])}</b>',
            _in_context(explanation, int(explanation.best[row])),
            f'<span style="white-space:nowrap">{bar}{value:.3f}</span>',
            share,
        ]
        parts.append("<tr>" + "".join(f'<td style="{_CELL}">{cell}</td>' for cell in cells) + "</tr>")
    return "".join([*parts, "</table>"])


def _details(explanation: Alignment, kinds: tuple[str, ...], name: str) -> str:
    """Renders the matches of query positions that stand for no word, folded away."""
    selected = explanation.of_kind(*kinds)
    if not selected.any():
        return ""
    total = float(explanation.contributions[selected].sum())
    share = f", {total / explanation.score:.0%} of the score" if explanation.score else ""
    return (
        f'<details style="margin-top:4px"><summary style="cursor:pointer;{_NOTE}">'
        f"{name}: {selected.sum()}, {total:.2f}{share}</summary>"
        f"{_shaded_text(explanation, kinds, _MASK_COLOR)}</details>"
    )


def _in_context(explanation: Alignment, number: int) -> str:
    """Renders a document token between its neighbouring characters."""
    if number < 0:
        return "–"
    token = explanation.document_tokens[number]
    if token.start == token.end:
        return _render_token(token)
    before = explanation.text[max(0, token.start - _CONTEXT_CHARACTERS) : token.start]
    after = explanation.text[token.end : token.end + _CONTEXT_CHARACTERS]
    grey = '<span style="color:#8c959f">{}</span>'
    sides = [
        grey.format(_escape(("…" if token.start > _CONTEXT_CHARACTERS else "") + before)),
        grey.format(_escape(after + ("…" if token.end + _CONTEXT_CHARACTERS < len(explanation.text) else ""))),
    ]
    return f"{sides[0]}<b>{_render_token(token)}</b>{sides[1]}"


def _render_token(token: Token) -> str:
    """Renders a token as the text spells it, followed in small print by the vocabulary's spelling if that differs."""
    piece = token.piece.removeprefix("##").removeprefix("▁")
    if token.kind != TEXT or piece in ("", token.spelling):
        return _escape(_visible_spelling(token))
    return f'{_escape(_visible_spelling(token))} <span style="color:#57606a;font-size:11px">{_escape(piece)}</span>'


def _visible_spelling(token: Token) -> str:
    return token.spelling if token.spelling.strip() else "␣"


def _escape(text: str) -> str:
    """Escapes text for HTML and replaces control characters, which HTML does not allow, with their symbols."""
    visible = "".join(chr(0x2400 + ord(c)) if ord(c) < 32 and c not in "\t\n" else c for c in text)
    return html.escape(visible)

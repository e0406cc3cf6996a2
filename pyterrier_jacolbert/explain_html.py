"""An explanation as HTML: the document's own text, shaded by what it gave to the score, and the alignment below.

Everything is in the elements' own styles, with neither script nor style sheet: what shows notebooks takes those out.
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pyterrier_jacolbert.tokens import MARKER, MASK, TEXT, Token

if TYPE_CHECKING:
    from pyterrier_jacolbert.explain import Explanation

#: Red, green and blue of the shades: what the query's words met, and what [MASK] positions met.
_WORDS, _MASKS = "255,153,0", "52,120,246"
#: Characters of the document that are shown on each side of a token.
_CONTEXT = 6
_FONTS = "'Noto Sans JP','Hiragino Sans','Yu Gothic','Noto Sans CJK JP',Meiryo,system-ui,sans-serif"
_CELL = "padding:2px 10px 2px 0;text-align:left;vertical-align:top;border:0;background:#fff;color:#1f2328"


def to_html(explanation: Explanation) -> str:
    """An explanation as one ``<div>``."""
    parts = [
        f'<div style="font-family:{_FONTS};font-size:15px;line-height:1.8;color:#1f2328;background:#fff;'
        'max-width:60em;padding:12px 16px;border:1px solid #d0d7de;border-radius:6px">',
        _header(explanation),
        _shaded_text(explanation, (TEXT,), _WORDS),
        _table(explanation),
        _apart(explanation, (MASK,), "[MASK] positions"),
        _apart(explanation, (MARKER,), "Special tokens"),
        "</div>",
    ]
    return "".join(parts)


def shaded_segments(explanation: Explanation, *kinds: str) -> Iterator[tuple[str, float, list[int]]]:
    """Cuts the document's text where tokens begin and end.

    Args:
        explanation: of which document.
        kinds: the query tokens whose contributions count: ``"text"``, ``"marker"``, ``"mask"``.

    Yields:
        characters, which in their order are the text; what the tokens that cover them received, in all; and these
        tokens' numbers.
    """
    received = explanation.received(*kinds)
    owners: list[list[int]] = [[] for _ in explanation.text]
    for number, token in enumerate(explanation.document_tokens):
        for character in range(token.start, token.end):
            owners[character].append(number)
    runs = itertools.groupby(enumerate(explanation.text), key=lambda pair: owners[pair[0]])
    for numbers, characters in runs:
        value = float(received[numbers].sum()) if numbers else 0.0
        yield "".join(character for _, character in characters), value, numbers


def _header(explanation: Explanation) -> str:
    parts = []
    for kind, name in ((TEXT, "words"), (MARKER, "special tokens"), (MASK, "[MASK]")):
        chosen = explanation.of_kind(kind)
        if chosen.any():
            parts.append(f"{name} {explanation.contributions[chosen].sum():.2f}")
    docno = f" · {_escaped(explanation.docno)}" if explanation.docno is not None else ""
    return (
        f'<div><b style="font-size:17px">{_escaped(explanation.query)}</b></div>'
        f'<div style="color:#57606a;font-size:13px;margin-bottom:8px">score {explanation.score:.4f} = '
        f"{' + '.join(parts)}{docno}</div>"
    )


def _shaded_text(explanation: Explanation, kinds: tuple[str, ...], colour: str) -> str:
    """The text, shaded, and below it what tokens that stand for no character received."""
    segments = list(shaded_segments(explanation, *kinds))
    received = explanation.received(*kinds)
    most = max([value for _, value, _ in segments], default=0.0) or 1.0
    given = _given(explanation, kinds)
    read, place = explanation.read, 0
    if not explanation.text:
        return '<div style="color:#57606a;font-size:13px">The document has no text.</div>'
    parts = ['<div style="white-space:pre-wrap;overflow-wrap:anywhere;padding:6px 0">']
    for characters, value, numbers in segments:
        if value > 0:
            shade = f"background:rgba({colour},{0.12 + 0.73 * value / most:.2f})"
            met = ", ".join(itertools.chain.from_iterable(given.get(number, []) for number in numbers))
            parts.append(
                f'<span style="{shade};border-radius:2px" title="{_escaped(met)}">{_escaped(characters)}</span>'
            )
        elif read is not None and place >= read:
            parts.append(f'<span style="color:#9aa4ae" title="cut: not read">{_escaped(characters)}</span>')
        else:
            parts.append(_escaped(characters))
        place += len(characters)
    parts.append("</div>")
    outside = [
        f"{_escaped(token.piece)} {value:.2f}"
        for token, value in zip(explanation.document_tokens, received, strict=True)
        if token.start == token.end and value > 0
    ]
    if outside:
        parts.append(f'<div style="color:#57606a;font-size:13px">met outside the text: {" · ".join(outside)}</div>')
    if read is not None and read < len(explanation.text):
        parts.append(
            f'<div style="color:#57606a;font-size:13px">The model read the first {read} of '
            f"{len(explanation.text)} characters.</div>"
        )
    return "".join(parts)


def _given(explanation: Explanation, kinds: tuple[str, ...]) -> dict[int, list[str]]:
    """For each document token what met it, in words."""
    given: dict[int, list[str]] = {}
    chosen = explanation.of_kind(*kinds)
    for number in np.flatnonzero(chosen & (explanation.best >= 0)).tolist():
        what = f"{_shown(explanation.query_tokens[number])} {explanation.contributions[number]:.2f}"
        given.setdefault(int(explanation.best[number]), []).append(what)
    return given


def _table(explanation: Explanation) -> str:
    rows = np.flatnonzero(explanation.of_kind(TEXT)).tolist()
    if not rows:
        return ""
    head = "".join(
        f'<th style="{_CELL};color:#57606a;font-weight:normal;font-size:13px;white-space:nowrap">{name}</th>'
        for name in ("query", "document", "similarity", "of the score")
    )
    parts = [f'<table style="border-collapse:collapse;margin:10px 0 4px 0;font-size:14px"><tr>{head}</tr>']
    for row in rows:
        value = float(explanation.contributions[row])
        share = f"{value / explanation.score:.1%}" if explanation.score else "–"
        width = min(60, max(0, round(value * 60)))
        bar = (
            '<span style="display:inline-block;width:66px"><span style="display:inline-block;height:9px;'
            f'width:{width}px;background:rgba({_WORDS},.75)"></span></span>'
        )
        cells = [
            f'<b style="white-space:nowrap">{_spelled(explanation.query_tokens[row])}</b>',
            _in_context(explanation, int(explanation.best[row])),
            f'<span style="white-space:nowrap">{bar}{value:.3f}</span>',
            share,
        ]
        parts.append("<tr>" + "".join(f'<td style="{_CELL}">{cell}</td>' for cell in cells) + "</tr>")
    return "".join([*parts, "</table>"])


def _apart(explanation: Explanation, kinds: tuple[str, ...], name: str) -> str:
    """What positions that stand for no word of the query met, folded up."""
    chosen = explanation.of_kind(*kinds)
    if not chosen.any():
        return ""
    total = float(explanation.contributions[chosen].sum())
    share = f", {total / explanation.score:.0%} of the score" if explanation.score else ""
    return (
        '<details style="margin-top:4px"><summary style="cursor:pointer;color:#57606a;font-size:13px">'
        f"{name}: {chosen.sum()}, {total:.2f}{share}</summary>{_shaded_text(explanation, kinds, _MASKS)}</details>"
    )


def _in_context(explanation: Explanation, number: int) -> str:
    """A document token between its neighbouring characters."""
    if number < 0:
        return "–"
    token = explanation.document_tokens[number]
    if token.start == token.end:
        return _spelled(token)
    before = explanation.text[max(0, token.start - _CONTEXT) : token.start]
    after = explanation.text[token.end : token.end + _CONTEXT]
    grey = '<span style="color:#8c959f">{}</span>'
    sides = [
        grey.format(_escaped(("…" if token.start > _CONTEXT else "") + before)),
        grey.format(_escaped(after + ("…" if token.end + _CONTEXT < len(explanation.text) else ""))),
    ]
    return f"{sides[0]}<b>{_spelled(token)}</b>{sides[1]}"


def _spelled(token: Token) -> str:
    """A token as the text spells it, and small beside it the vocabulary's spelling where that is another."""
    piece = token.piece.removeprefix("##").removeprefix("▁")
    if token.kind != TEXT or piece in ("", token.spelling):
        return _escaped(_shown(token))
    return f'{_escaped(_shown(token))} <span style="color:#57606a;font-size:11px">{_escaped(piece)}</span>'


def _shown(token: Token) -> str:
    return token.spelling if token.spelling.strip() else "␣"


def _escaped(text: str) -> str:
    """Text as HTML has it; control characters, which it has not, as their pictures."""
    visible = "".join(chr(0x2400 + ord(c)) if ord(c) < 32 and c not in "\t\n" else c for c in text)
    return html.escape(visible)

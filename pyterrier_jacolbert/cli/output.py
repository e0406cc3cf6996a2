"""Prints the lines of commands, with every character escaped that would address the terminal or forge a line.

Docnos, texts, paths and names of checkpoints may come from a stranger's index. Control characters move the cursor or
start escape sequences, bidirectional controls reorder what is read, and separators begin lines of their own.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from typing import Any, TextIO

#: Categories of Unicode whose characters are escaped: controls (C0, DEL, C1), formats (bidirectional controls, tags,
#: invisible characters), surrogates, which no encoding prints, and the separators of lines and paragraphs.
_ESCAPED_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
#: Format characters that belong to words and emoji: the zero-width joiner and non-joiner.
_KEPT = frozenset("\u200c\u200d")
_NOT_ASCII_TEXT = re.compile(r"[^ -~]")


def print_line(text: object, *, file: TextIO | None = None) -> None:
    """Prints one line.

    Args:
        text: content of the line, escaped with :func:`escape`.
        file: where to print; None prints to stdout.
    """
    print(escape(str(text)), file=file or sys.stdout)


def print_table(text: str, *, file: TextIO | None = None) -> None:
    """Prints a table or a report: several lines, each escaped with :func:`escape`."""
    for line in text.split("\n"):
        print_line(line, file=file)


def print_json(value: Any, indent: int | None = None) -> None:
    r"""Prints a value as JSON, where the characters that :func:`escape` escapes are ``\uXXXX``.

    Args:
        value: of JSON's types.
        indent: spaces per level; None prints one line.
    """
    # Outside strings, JSON has ASCII and line feeds alone, and inside them it escapes line feeds itself.
    lines = json.dumps(value, ensure_ascii=False, indent=indent).split("\n")
    print("\n".join(_NOT_ASCII_TEXT.sub(_json_escape, line) for line in lines))


def escape(text: str) -> str:
    r"""Escapes characters that address a terminal or end a line, as Python's string literals write them.

    Args:
        text: any text.

    Returns:
        The text, in which such characters are ``\n``, ``\x1b``, ``\u202e`` and the like; all others stay.
    """
    return _NOT_ASCII_TEXT.sub(lambda found: _escape_character(found[0]), text)


def _is_unsafe(character: str) -> bool:
    return unicodedata.category(character) in _ESCAPED_CATEGORIES and character not in _KEPT


def _escape_character(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii") if _is_unsafe(character) else character


def _json_escape(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1] if _is_unsafe(found[0]) else found[0]

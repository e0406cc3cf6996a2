"""Splits Japanese text into words: NFKC, then MeCab with unidic-lite or Sudachi, then lower case."""

from __future__ import annotations

import importlib.metadata
import re
import threading
import unicodedata
from typing import Any

#: Maximum number of characters that an analyzer receives at once: MeCab crashes with a segmentation fault on texts of
#: some 400,000 characters and takes quadratic time for long runs of letters.
_PIECE_CHARACTERS = 4096
#: Characters that separate words but are not words: white space, control characters (to MeCab, NUL ends the text) and
#: zero-width spaces, which NFKC keeps.
_SEPARATORS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200b\u2060\ufeff]+")
_PIECES = re.compile(
    rf".{{1,{_PIECE_CHARACTERS}}}\Z|.{{1,{_PIECE_CHARACTERS}}}(?<=[。！？!? ])|.{{1,{_PIECE_CHARACTERS}}}", re.DOTALL
)

#: The packages that each analyzer requires.
ANALYZERS = {"mecab": ("fugashi", "unidic-lite"), "sudachi": ("sudachipy", "sudachidict-core")}
#: The analyzers of each thread.
_thread = threading.local()


def check_analyzer(analyzer: object) -> str:
    """Checks that a name is one of :data:`ANALYZERS` and returns it.

    Raises:
        ValueError: the name is not one of them.
    """
    if analyzer not in ANALYZERS:
        raise ValueError(f"analyzer must be one of {', '.join(map(repr, ANALYZERS))}, not {analyzer!r}.")
    return str(analyzer)


def tokenize(text: str, analyzer: str = "mecab") -> list[str]:
    """Splits a text into words: the surface forms of fugashi (MeCab) with unidic-lite, in lower case.

    The text is first normalised with NFKC, so that full-width and half-width letters, digits and katakana give the same
    words. Words are lower-cased because people who type "python" want "Python"; this changes no ranking on JSQuAD.
    Words keep their inflection, and punctuation marks are words: BM25's idf already gives almost no weight to words
    that occur in every document, and "C++" and "♪" stay searchable.

    Texts of up to 4,096 characters are analysed as a whole. Longer texts are analysed in pieces that end after a
    sentence (or a space) where possible.

    Sudachi splits text into words as short as MeCab's (its mode A) and gives their normalised forms, so that 附属 and
    付属, or 引越し and 引っ越し, are the same word, as are the inflections of a word. BM25's nDCG@10 on JSQuAD is .940
    with Sudachi and .939 with MeCab.

    Args:
        text: any text. Control characters, NUL among them, count as white space, which is never part of a word.
        analyzer: ``"mecab"``, or ``"sudachi"`` (pip install sudachipy sudachidict-core).

    Returns:
        The words in the order of the text; none if the text contains nothing but white space.

    Raises:
        ImportError: a package that the analyzer requires is not installed.
        ValueError: the text contains a lone surrogate, or the analyzer is unknown.

    Example:
        >>> tokenize("ＪａＣｏｌＢＥＲＴは速い。")
        ['jacolbert', 'は', '速い', '。']
    """
    text = _SEPARATORS.sub(" ", unicodedata.normalize("NFKC", text)).strip()
    if not text:
        return []
    split_piece = _sudachi_words if check_analyzer(analyzer) == "sudachi" else _mecab_words
    try:
        words = [word for piece in _PIECES.findall(text) for word in split_piece(piece)]
    except UnicodeEncodeError as error:
        raise ValueError(
            f"The text contains a lone surrogate (U+{ord(error.object[error.start]):04X}), which is not a character; "
            "repair it, e.g. with text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')."
        ) from None
    return [word.lower() for word in words]


def tokenizer_metadata(analyzer: str = "mecab") -> dict[str, str]:
    """Returns the versions of the analyzer's packages and the normalisation, which an index records."""
    releases = {package: importlib.metadata.version(package) for package in ANALYZERS[analyzer]}
    forms = ", normalised forms of mode A" if analyzer == "sudachi" else ""
    return {**releases, "normalisation": f"NFKC, lower case{forms}"}


def _mecab_words(piece: str) -> list[str]:
    words: list[str] = _tagger().parse(piece).split()
    return words


def _sudachi_words(piece: str) -> list[str]:
    words = (morpheme.normalized_form().strip() for morpheme in _sudachi().tokenize(piece))
    return [word for word in words if word]


def _sudachi() -> Any:
    if not hasattr(_thread, "sudachi"):
        try:
            import sudachipy

            _thread.sudachi = sudachipy.Dictionary(dict="core").tokenizer(sudachipy.SplitMode.A)
        except ImportError as error:
            raise ImportError(
                f"The analyzer 'sudachi' needs sudachipy and sudachidict-core ({error}); "
                "pip install sudachipy sudachidict-core"
            ) from error
    return _thread.sudachi


def _tagger() -> Any:
    # One per thread: a MeCab tagger holds the lattice of its current sentence.
    if not hasattr(_thread, "tagger"):
        try:
            import fugashi
            import unidic_lite
        except ImportError as error:
            raise ImportError(
                f"The analyzer 'mecab' needs fugashi and unidic-lite ({error}); pip install fugashi unidic-lite"
            ) from error
        # fugashi.Tagger would prefer the full unidic if it is installed: different words, so different scores.
        dictionary = unidic_lite.DICDIR
        _thread.tagger = fugashi.GenericTagger(f'-Owakati -r "{dictionary}/mecabrc" -d "{dictionary}"')
    return _thread.tagger

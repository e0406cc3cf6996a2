"""Japanese text to words: NFKC, MeCab with unidic-lite or Sudachi, lower case; no pandas, no PyTerrier."""

from __future__ import annotations

import importlib.metadata
import re
import threading
import unicodedata
from typing import Any

#: MeCab dies of a segmentation fault on texts of some 400,000 characters, and takes quadratic time for long runs of
#: letters, so it never sees more characters than this at once.
_PIECE_CHARACTERS = 4096
#: Characters that separate words without being one: white space, controls (MeCab takes NUL for the end of the text)
#: and the zero-width spaces, which NFKC leaves in place.
_SEPARATORS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200b\u2060\ufeff]+")
_PIECES = re.compile(
    rf".{{1,{_PIECE_CHARACTERS}}}\Z|.{{1,{_PIECE_CHARACTERS}}}(?<=[。！？!? ])|.{{1,{_PIECE_CHARACTERS}}}", re.DOTALL
)

#: What cuts words, by name, and the packages it stands on.
ANALYZERS = {"mecab": ("fugashi", "unidic-lite"), "sudachi": ("sudachipy", "sudachidict-core")}
_own = threading.local()


def check_analyzer(analyzer: object) -> str:
    """Returns the name if it is one of :data:`ANALYZERS`.

    Raises:
        ValueError: it is not.
    """
    if analyzer not in ANALYZERS:
        raise ValueError(f"analyzer must be one of {', '.join(map(repr, ANALYZERS))}, not {analyzer!r}.")
    return str(analyzer)


def tokenize(text: str, analyzer: str = "mecab") -> list[str]:
    """Cuts a text into words: the surface forms of fugashi (MeCab) with unidic-lite, in lower case.

    The text is NFKC-normalised first, so that full-width and half-width letters, digits and katakana are the same
    words. Case is folded because people who type "python" want "Python"; it changes no ranking of JSQuAD. Words keep
    their inflection, and punctuation marks are words: BM25's idf already gives what is in every document next to
    nothing, and "C++" and "♪" stay searchable.

    Texts of up to 4,096 characters are cut as a whole. Longer ones go to MeCab in pieces that end with a sentence
    (or a space) where there is one.

    Sudachi cuts words as short as MeCab does (its mode A) and gives their normalised forms, so that 附属 and 付属, or
    引越し and 引っ越し, are one word, as are the inflections of one. BM25's nDCG@10 on JSQuAD is .940 with it, and .939
    with MeCab.

    Args:
        text: any text. Control characters, NUL among them, count as white space, which never comes out.
        analyzer: ``"mecab"``, or ``"sudachi"`` (pip install sudachipy sudachidict-core).

    Returns:
        The words in order of the text; none for a text without anything to read.

    Raises:
        ImportError: what the analyzer stands on is not installed.
        ValueError: the text holds a lone surrogate, or there is no such analyzer.

    Example:
        >>> tokenize("ＪａＣｏｌＢＥＲＴは速い。")
        ['jacolbert', 'は', '速い', '。']
    """
    text = _SEPARATORS.sub(" ", unicodedata.normalize("NFKC", text)).strip()
    if not text:
        return []
    cut = _words_of_sudachi if check_analyzer(analyzer) == "sudachi" else _words_of_mecab
    try:
        words = [word for piece in _PIECES.findall(text) for word in cut(piece)]
    except UnicodeEncodeError as error:
        raise ValueError(
            f"The text holds a lone surrogate (U+{ord(error.object[error.start]):04X}), which is not text; repair it, "
            "e.g. with text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')."
        ) from None
    return [word.lower() for word in words]


def tokenizer_facts(analyzer: str = "mecab") -> dict[str, str]:
    """What shaped the words, for an index to record: the releases of the analyzer's packages, and the normalisation."""
    releases = {package: importlib.metadata.version(package) for package in ANALYZERS[analyzer]}
    forms = ", normalised forms of mode A" if analyzer == "sudachi" else ""
    return {**releases, "normalisation": f"NFKC, lower case{forms}"}


def _words_of_mecab(piece: str) -> list[str]:
    words: list[str] = _tagger().parse(piece).split()
    return words


def _words_of_sudachi(piece: str) -> list[str]:
    words = (morpheme.normalized_form().strip() for morpheme in _sudachi().tokenize(piece))
    return [word for word in words if word]


def _sudachi() -> Any:  # noqa: ANN401 (sudachipy is imported late)
    if not hasattr(_own, "sudachi"):
        try:
            import sudachipy

            _own.sudachi = sudachipy.Dictionary(dict="core").tokenizer(sudachipy.SplitMode.A)
        except ImportError as error:
            raise ImportError(
                f"Sudachi's words need sudachipy and sudachidict-core ({error}); pip install sudachipy sudachidict-core"
            ) from error
    return _own.sudachi


def _tagger() -> Any:  # noqa: ANN401 (fugashi has no types, and is imported late)
    # One a thread: a MeCab tagger holds the lattice of its current sentence.
    if not hasattr(_own, "tagger"):
        try:
            import fugashi
            import unidic_lite
        except ImportError as error:
            raise ImportError(
                f"Japanese words need fugashi and unidic-lite ({error}); pip install fugashi unidic-lite"
            ) from error
        # fugashi.Tagger would take the full unidic where it is installed: other words, so other scores.
        dictionary = unidic_lite.DICDIR
        _own.tagger = fugashi.GenericTagger(f'-Owakati -r "{dictionary}/mecabrc" -d "{dictionary}"')
    return _own.tagger

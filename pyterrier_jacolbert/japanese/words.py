"""Splits Japanese text into words: normalisation, then MeCab with unidic-lite or Sudachi, then lower case."""

from __future__ import annotations

import importlib.metadata
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import regex

from pyterrier_jacolbert.japanese import normalization
from pyterrier_jacolbert.japanese.normalization import EMOJI_SEQUENCE
from pyterrier_jacolbert.japanese.spellings import DEFAULT_FOLDS, check_folds, fold_text, shorten_long_vowel

#: Maximum number of characters that an analyzer receives at once: MeCab crashes with a segmentation fault on texts of
#: some 400,000 characters and takes quadratic time for long runs of letters.
_PIECE_CHARACTERS = 4096
#: Words that need no analyzer: runs of letters or digits that are longer than the 24 characters that MeCab keeps
#: together (it cuts the rest into single letters), and emoji that consist of several characters.
_WHOLE_WORD = regex.compile(
    rf"[\p{{Latin}}\p{{Greek}}\p{{Cyrillic}}]{{25,{_PIECE_CHARACTERS}}}|\p{{Nd}}{{25,{_PIECE_CHARACTERS}}}"
    rf"|(?P<emoji>{EMOJI_SEQUENCE})",
    regex.V1,
)
#: A quick look for text that may have such words.
_MAY_HAVE_WHOLE_WORD = re.compile(r"[^\W\d_\u3040-\u9fff]{25}|\d{25}|[\u200d\ufe0f\u20e3\U000e0020-\U000e007f]")
#: Characters within emoji that MeCab takes for words.
_EMOJI_PARTS = regex.compile(r"[\u200d\ufe0f\u20e3\U000e0020-\U000e007f]")
#: The mark that asks for the colourful form of an emoji; with and without it, an emoji is the same word.
_EMOJI_PRESENTATION = "\ufe0f"
_WHITE_SPACE = re.compile(r"\s+")
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


def tokenize(text: str, analyzer: str = "mecab", normalize: str | Sequence[str] = DEFAULT_FOLDS) -> list[str]:
    """Splits a text into words: the surface forms of fugashi (MeCab) with unidic-lite, in lower case.

    The text is first normalised with NFKC, so that full-width and half-width letters, digits and katakana give the same
    words; ignorable characters (variation selectors, zero-width spaces, soft hyphens, ...) are removed.
    Words are lower-cased because people who type "python" want "Python"; this changes no ranking on JSQuAD.
    Words keep their inflection, and punctuation marks are words: BM25's idf already gives almost no weight to words
    that occur in every document, and "C++" and "♪" stay searchable. Runs of 25 and more Latin, Greek or Cyrillic
    letters, or digits, are one word, and so is a sequence of emoji with joiners.

    Texts of up to 4,096 characters are analysed as a whole. Longer texts are analysed in pieces that end after a
    sentence (or a space) where possible.

    Sudachi splits text into words as short as MeCab's (its mode A) and gives their normalised forms, so that 附属 and
    付属, or 引越し and 引っ越し, are the same word, as are the inflections of a word. BM25's nDCG@10 on JSQuAD is .940
    with Sudachi and .939 with MeCab.

    Args:
        text: any text. Control characters, NUL among them, count as white space, which is never part of a word.
        analyzer: ``"mecab"``, or ``"sudachi"`` (pip install sudachipy sudachidict-core).
        normalize: spellings that are folded beyond NFKC, some of :data:`~pyterrier_jacolbert.japanese.FOLDS`, or
            ``"all"``.

            - ``"dashes"``: hyphens, minus signs, dashes and lines after kana are ー, and others are "-".
            - ``"waves"``: 〜, ～ and ∼ are "~".
            - ``"kanji"``: old and variant forms are today's: 國 is 国, 髙 is 高.
            - ``"numbers"``: numbers lose the commas between groups of three digits: 1,000 is 1000.
            - ``"long_vowels"``: katakana words of four and more letters lose a final ー: サーバー is サーバ.

    Returns:
        The words in the order of the text; none if the text contains nothing but white space.

    Raises:
        ImportError: a package that the analyzer requires is not installed.
        ValueError: the text contains a lone surrogate, or the analyzer or a fold is unknown.

    Example:
        >>> tokenize("ＪａＣｏｌＢＥＲＴは速い。")
        ['jacolbert', 'は', '速い', '。']
    """
    split_piece = _sudachi_words if check_analyzer(analyzer) == "sudachi" else _mecab_words
    folds = check_folds(normalize)
    text = fold_text(normalization.normalize(text), folds)
    try:
        words = list(_split(text, split_piece))
    except UnicodeEncodeError as error:
        raise ValueError(
            f"The text contains a lone surrogate (U+{ord(error.object[error.start]):04X}), which is not a character; "
            "repair it, e.g. with text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')."
        ) from None
    if "long_vowels" in folds:
        words = [shorten_long_vowel(word) for word in words]
    return [word.lower() for word in words]


def tokenizer_metadata(analyzer: str = "mecab") -> dict[str, str]:
    """Returns the versions of the analyzer's packages and the normalisation, which an index records."""
    releases = {package: importlib.metadata.version(package) for package in ANALYZERS[analyzer]}
    forms = ", normalised forms of mode A" if analyzer == "sudachi" else ""
    return {**releases, "normalisation": f"NFKC without ignorable characters, long words whole, lower case{forms}"}


def _split(text: str, split_piece: Callable[[str], list[str]]) -> Iterator[str]:
    start = 0
    for match in _WHOLE_WORD.finditer(text) if _MAY_HAVE_WHOLE_WORD.search(text) else ():
        if match["emoji"] and not _EMOJI_PARTS.search(match[0]):
            continue
        yield from _analyze(text[start : match.start()], split_piece)
        yield match[0].replace(_EMOJI_PRESENTATION, "")
        start = match.end()
    yield from _analyze(text[start:], split_piece)


def _analyze(text: str, split_piece: Callable[[str], list[str]]) -> Iterator[str]:
    for piece in _PIECES.findall(_WHITE_SPACE.sub(" ", text).strip()):
        yield from split_piece(piece)


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

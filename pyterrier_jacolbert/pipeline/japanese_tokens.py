"""Japanese words as ``{word: count}`` dicts, for the pre-tokenised indexers of Terrier and PISA."""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.columns import DOCNO, QID, QUERY, QUERY_TOKS, TEXT, TOKS, check_column
from pyterrier_jacolbert.japanese.spellings import DEFAULT_FOLDS, check_folds
from pyterrier_jacolbert.japanese.words import check_analyzer, tokenize
from pyterrier_jacolbert.pipeline.base import RowTransformer
from pyterrier_jacolbert.pipeline.frames import factorize

_PISA_REMEDY = "index with index.toks_indexer(scale=1.) and retrieve with index.bm25(toks_scale=1.)"


class JapaneseTokens(RowTransformer):
    """Adds Japanese words as ``{word: count}`` dicts, for Terrier and PISA.

    The words are those of :func:`~pyterrier_jacolbert.japanese.tokenize`.

    Document frames get ``toks``, query frames ``query_toks``, and frames with both ``qid`` and ``docno`` get the
    columns that they have text for. An existing column is replaced; rows keep their order and index. A text without
    words gets an empty dict, which matches nothing.

    **PISA.** Its own tokenizer keeps only ASCII: Japanese text aborts the whole process. Its default scale of 100
    multiplies term frequencies, so that BM25 saturates. Therefore::

        index = PisaIndex("wiki.pisa", stemmer="none", stops="none")
        (JapaneseTokens() >> index.toks_indexer(scale=1.)).index(docs)
        bm25 = JapaneseTokens() >> index.bm25(k1=1.2, b=0.75, toks_scale=1.)

    ``JapaneseTokens() >> ...`` refuses indexers that abort, warns of scales other than 1, and raises a ValueError if
    PISA would abort because no document has a word. It sees only the transformer directly to its right: after other
    stages, write ``stages >> (JapaneseTokens() >> index.toks_indexer(scale=1.))``.

    **Terrier** (needs Java and, once, Maven). ``pretokenised`` switches off its tokenizer, stemmer and stop words, and
    ``query_toks`` bypasses its query parser, which rejects Japanese::

        indexer = pt.terrier.IterDictIndexer("/abs/path/wiki.terrier", meta={"docno": 64}, pretokenised=True)
        (JapaneseTokens() >> indexer).index(docs)
        bm25 = JapaneseTokens() >> pt.terrier.Retriever("/abs/path/wiki.terrier", wmodel="BM25")

    ``pt.terrier.TerrierIndex(path).toks_indexer()`` is the same indexer.

    Args:
        text_field: field with the text of a document.
        analyzer: ``"mecab"`` or ``"sudachi"``; see :func:`~pyterrier_jacolbert.japanese.tokenize`.
        normalize: spellings that are folded beyond NFKC; see :func:`~pyterrier_jacolbert.japanese.tokenize`.

    Raises:
        ValueError: the analyzer or a fold is unknown.

    Example:
        >>> tokens = JapaneseTokens()
        >>> tokens([{"qid": "1", "query": "すもももももも"}])[0]["query_toks"]
        {'すもも': 1, 'も': 2, 'もも': 1}
    """

    schematic: dict[str, Any] = {"label": "Japanese Tokens", "help_url": None}

    def __init__(
        self, text_field: str = TEXT, *, analyzer: str = "mecab", normalize: str | Sequence[str] = DEFAULT_FOLDS
    ) -> None:
        self.text_field = text_field
        self.analyzer = check_analyzer(analyzer)
        self.normalize = check_folds(normalize)

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Adds ``query_toks``, ``toks`` or both.

        Args:
            inp: a frame of queries, of documents with text, or of both.

        Returns:
            The frame with ``query_toks``, ``toks`` or both: the count of each word, per row.

        Raises:
            ImportError: a package that the analyzer needs is not installed.
            pt.validate.InputValidationError: the frame has neither queries nor documents with text.
            ValueError: a query or text is missing or not a string; the message names its id.
        """
        with pt.validate.any(inp, context=self) as allowed:
            allowed.document_frame([self.text_field], mode="documents")
            allowed.query_frame([QUERY], mode="queries")
            allowed.result_frame([QUERY, self.text_field], mode="results")
            allowed.result_frame([self.text_field], mode="results without query")
            allowed.result_frame([QUERY], mode="results without text")
        words = {}
        if QID in inp.columns and QUERY in inp.columns:
            words[QUERY_TOKS] = self._word_counts(check_column(inp, QUERY, QID))
        if DOCNO in inp.columns and self.text_field in inp.columns:
            words[TOKS] = self._word_counts(check_column(inp, self.text_field, DOCNO))
        columns = {name: pd.Series(counts, index=inp.index, dtype=object) for name, counts in words.items()}
        return inp.assign(**columns)

    def _word_counts(self, texts: list[str]) -> list[dict[str, int]]:
        numbers, distinct = factorize(texts)
        counts = [Counter(tokenize(text, self.analyzer, self.normalize)) for text in distinct]
        return [dict(counts[number]) for number in numbers]

    def __rshift__(self, right: Any) -> pt.Transformer:
        """Composes with ``right`` after checking that it is not a transformer of PISA with unsafe settings.

        Raises:
            ValueError: ``right`` is an indexer of PISA that would abort the process or distort the counts.
        """
        first: Any = right[0] if isinstance(right, pt.Compose) else right
        pisa = {base.__name__ for base in type(first).__mro__ if base.__module__.partition(".")[0] == "pyterrier_pisa"}
        if "PisaToksIndexer" in pisa:
            _warn_about_scale(first, "scale", first.scale, "term frequencies, so that BM25 saturates")
            if first is right:
                right = PisaTokensIndexer(first)
        elif "PisaRetrieve" in pisa:
            _warn_about_scale(first, "toks_scale", first.toks_scale, "the weights of query terms")
        elif pisa & {"PisaIndexer", "PisaIndex"}:
            raise ValueError(
                f"{type(first).__name__} cannot index Japanese words: PISA's tokenizer keeps only ASCII and aborts the "
                f"process, and its default scale multiplies counts by 100; {_PISA_REMEDY}."
            )
        return super().__rshift__(right)


class PisaTokensIndexer(pt.Indexer):
    """PISA's indexer of counts, which raises an error where PISA would abort: on a first batch without any word.

    Args:
        indexer: ``index.toks_indexer(scale=1.)``.
    """

    schematic: dict[str, Any] = {"label": "PISA Toks Indexer", "help_url": None}

    def __init__(self, indexer: Any) -> None:
        self.indexer = indexer

    def index(self, iter: Iterable[Mapping[str, Any]], **kwargs: Any) -> Any:
        """Indexes the documents, in one pass.

        Raises:
            ValueError: no document of the first batch has a word with a count above 0.
        """
        return self.indexer.index(self._check_first_batch(iter), **kwargs)

    def index_inputs(self) -> list[list[str]]:
        """Returns the columns that the indexer takes."""
        inputs: list[list[str]] = self.indexer.index_inputs()
        return inputs

    def subtransformers(self) -> dict[str, Any]:
        """Returns no transformers: the wrapped indexer is an implementation detail."""
        return {}

    def _check_first_batch(self, documents: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        remaining = iter(documents)
        held = []
        for document in itertools.islice(remaining, self.indexer.batch_size):
            held.append(document)
            counts = document[self.indexer.text_field].values()
            if any(int(count * self.indexer.scale) > 0 for count in counts):  # as PISA rounds them
                return itertools.chain(held, remaining)
        raise ValueError(
            f"None of the first {len(held)} documents has a word, so PISA would abort the process; leave out "
            "documents without text, or raise the batch_size of the PisaIndex."
        )

    def __repr__(self) -> str:
        return f"PisaTokensIndexer({self.indexer!r})"


def _warn_about_scale(transformer: Any, parameter: str, scale: float, effect: str) -> None:
    if scale != 1:
        warnings.warn(
            f"{type(transformer).__name__} multiplies {effect}, by {parameter}={scale:g}; {_PISA_REMEDY}.",
            stacklevel=3,
        )

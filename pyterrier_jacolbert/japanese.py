"""Japanese text for PyTerrier: words, BM25 over them, the words as dicts for Terrier and PISA, sentences, passages."""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.bm25 import JapaneseBM25
from pyterrier_jacolbert.frames import DOCNO, QID, QUERY, QUERY_TOKS, TEXT, TOKS, check_column, factorize
from pyterrier_jacolbert.morphology import check_analyzer, tokenize
from pyterrier_jacolbert.pipeline.bm25 import JapaneseBM25Retriever
from pyterrier_jacolbert.pipeline.passages import JapanesePassages
from pyterrier_jacolbert.sentences import split_sentences
from pyterrier_jacolbert.transformer import SettingsTransformer

if TYPE_CHECKING:
    from pyterrier_jacolbert.model import JaColBERT

__all__ = [
    "JapaneseBM25",
    "JapaneseBM25Retriever",
    "JapanesePassages",
    "JapaneseTokens",
    "passages",
    "split_sentences",
    "tokenize",
]

_PISA_REMEDY = "index with index.toks_indexer(scale=1.) and retrieve with index.bm25(toks_scale=1.)"


def passages(
    model: JaColBERT,
    *,
    length: int | None = None,
    stride: int | None = None,
    prepend: str | None = "title",
    text_field: str = TEXT,
) -> JapanesePassages:
    """A transformer that cuts long documents into passages of whole sentences, each short enough for the model.

    ``pt.text.sliding`` cuts at spaces, which Japanese has not. ``pt.text.max_passage()`` is the inverse: it gives each
    document the score of its best passage. To re-rank long documents, and to index and find them by passages::

        reranker = bm25 >> pt.text.get_text(data) >> passages(model) >> model.text_scorer() >> pt.text.max_passage()

        index = (passages(model) >> JaColBERTIndexer("long.jacolbert", model)).index(docs)
        retriever = index.retriever() >> pt.text.max_passage()

    Documents keep their spelling: width and compatibility characters (㌔, ｶﾞ, Ａ) are normalised (NFKC) by the model's
    tokenizer, when a passage is encoded, and by :func:`tokenize`, when its words are counted.

    Args:
        model: counts tokens with its own tokenizer, and gives the most of them that a document may have
            (``max_document_length``; 300 for JaColBERTv2.5); no passage has more.
        length: the most tokens of a passage, special tokens and what is prepended not counted; None takes as many as
            the model does beside those.
        stride: the most tokens from the beginning of a passage to the beginning of the next; None takes ``length``.
            With ``stride >= length`` passages do not overlap, and with ``prepend=None`` they joined are the text.
        prepend: a column put before each passage, with a space between, where it is not empty (a title of more than
            half the model's length is cut there); None puts nothing.
        text_field: the column with the text.

    Returns:
        A transformer for frames with ``docno`` and text, with or without queries: one row a passage, its docno
        ``DOCNO%p0`` and so on, without the prepended column.

    Raises:
        ValueError: ``length`` is less than 8, or ``stride`` less than 1.
    """
    return JapanesePassages(model, length=length, stride=stride, prepend=prepend, text_field=text_field)


class JapaneseTokens(SettingsTransformer):
    """Adds the words of :func:`tokenize` as ``{word: count}`` dicts, which Terrier and PISA read in place of text.

    Document frames get ``toks``, query frames ``query_toks``, and frames with both ``qid`` and ``docno`` get whichever
    of the two they have the text for. A column of that name is replaced; rows keep their order and index. A text
    without words gets an empty dict, which matches nothing.

    **PISA.** Its own tokenizer keeps ASCII only: Japanese text aborts the whole process. Its default scale of 100
    multiplies term frequencies, beyond which BM25 saturates. So::

        index = PisaIndex("wiki.pisa", stemmer="none", stops="none")
        (JapaneseTokens() >> index.toks_indexer(scale=1.)).index(docs)
        bm25 = JapaneseTokens() >> index.bm25(k1=1.2, b=0.75, toks_scale=1.)

    ``JapaneseTokens() >> ...`` refuses the indexers that abort, warns of scales that are not 1, and raises a
    ValueError where PISA would abort because no document has a word. It sees only what stands directly to its right:
    after other stages, write ``stages >> (JapaneseTokens() >> index.toks_indexer(scale=1.))``.

    **Terrier** (needs Java and, once, Maven). ``pretokenised`` switches off its tokenizer, stemmer and stop words, and
    ``query_toks`` goes past its query parser, which rejects Japanese::

        indexer = pt.terrier.IterDictIndexer("/abs/path/wiki.terrier", meta={"docno": 64}, pretokenised=True)
        (JapaneseTokens() >> indexer).index(docs)
        bm25 = JapaneseTokens() >> pt.terrier.Retriever("/abs/path/wiki.terrier", wmodel="BM25")

    ``pt.terrier.TerrierIndex(path).toks_indexer()`` is the same indexer.

    Args:
        text_field: the field with the text of a document.
        analyzer: what cuts words: ``"mecab"``, or ``"sudachi"``; see :func:`tokenize`.

    Raises:
        ValueError: there is no such analyzer.

    Example:
        >>> tokens = JapaneseTokens()
        >>> tokens([{"qid": "1", "query": "すもももももも"}])[0]["query_toks"]
        {'すもも': 1, 'も': 2, 'もも': 1}
    """

    schematic: dict[str, Any] = {"label": "Japanese Tokens", "help_url": None}

    def __init__(self, text_field: str = TEXT, *, analyzer: str = "mecab") -> None:
        self.text_field = text_field
        self.analyzer = check_analyzer(analyzer)

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Adds the columns.

        Args:
            inp: a frame of queries, of documents with text, or of both.

        Returns:
            The frame with ``query_toks``, ``toks`` or both: for each row the number of times that each word stands
            there.

        Raises:
            ImportError: what the analyzer stands on is not installed.
            pt.validate.InputValidationError: the frame has neither queries nor documents with text.
            ValueError: a query or text that is missing or not text, named by its id.
        """
        with pt.validate.any(inp, context=self) as allowed:
            allowed.document_frame([self.text_field], mode="documents")
            allowed.query_frame([QUERY], mode="queries")
            allowed.result_frame([QUERY, self.text_field], mode="results")
            allowed.result_frame([self.text_field], mode="results without query")
            allowed.result_frame([QUERY], mode="results without text")
        words = {}
        if QID in inp.columns and QUERY in inp.columns:
            words[QUERY_TOKS] = _count(check_column(inp, QUERY, QID), self.analyzer)
        if DOCNO in inp.columns and self.text_field in inp.columns:
            words[TOKS] = _count(check_column(inp, self.text_field, DOCNO), self.analyzer)
        columns = {name: pd.Series(counts, index=inp.index, dtype=object) for name, counts in words.items()}
        return inp.assign(**columns)

    def fuse_rank_cutoff(self, k: int) -> pt.Transformer:
        """``... >> tokens % k`` cuts first: rows that go need no words."""
        return pt.RankCutoff(k) >> self

    def __rshift__(self, right: Any) -> pt.Transformer:  # noqa: ANN401
        """``tokens >> right``, checked where ``right`` is PISA's.

        Raises:
            ValueError: ``right`` is an indexer of PISA that would abort the process or spoil the counts.
        """
        first: Any = right[0] if isinstance(right, pt.Compose) else right
        pisa = {base.__name__ for base in type(first).__mro__ if base.__module__.partition(".")[0] == "pyterrier_pisa"}
        if "PisaToksIndexer" in pisa:
            _warn_of_scale(first, "scale", first.scale, "term frequencies, beyond which BM25 saturates")
            if first is right:
                right = PisaTokensIndexer(first)
        elif "PisaRetrieve" in pisa:
            _warn_of_scale(first, "toks_scale", first.toks_scale, "the weights of query terms")
        elif pisa & {"PisaIndexer", "PisaIndex"}:
            raise ValueError(
                f"{type(first).__name__} cannot index Japanese words: PISA's tokenizer of texts keeps ASCII only and "
                f"aborts the process, and its default for counts multiplies them by 100; {_PISA_REMEDY}."
            )
        return super().__rshift__(right)


class PisaTokensIndexer(pt.Indexer):
    """PISA's indexer of counts, with an error where PISA aborts the process: a first batch without any word.

    Args:
        indexer: ``index.toks_indexer(scale=1.)``.
    """

    schematic: dict[str, Any] = {"label": "PISA Toks Indexer", "help_url": None}

    def __init__(self, indexer: Any) -> None:  # noqa: ANN401 (pyterrier_pisa is not imported here)
        self.indexer = indexer

    def index(self, iter: Iterable[Mapping[str, Any]], **kwargs: Any) -> Any:  # noqa: ANN401
        """Passes the documents on, in one pass.

        Raises:
            ValueError: no document of the first batch has a word that counts.
        """
        return self.indexer.index(self._from_first_word(iter), **kwargs)

    def index_inputs(self) -> list[list[str]]:
        """The columns that the indexer takes."""
        inputs: list[list[str]] = self.indexer.index_inputs()
        return inputs

    def subtransformers(self) -> dict[str, Any]:
        """None: the indexer is this one."""
        return {}

    def _from_first_word(self, documents: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        remaining = iter(documents)
        held = []
        for document in itertools.islice(remaining, self.indexer.batch_size):
            held.append(document)
            counts = document[self.indexer.text_field].values()
            if any(int(count * self.indexer.scale) > 0 for count in counts):  # as PISA rounds them
                return itertools.chain(held, remaining)
        raise ValueError(
            f"None of the first {len(held)} documents has a word, for which PISA aborts the process; leave out "
            "documents without text, or raise the batch_size of the PisaIndex."
        )

    def __repr__(self) -> str:
        return f"PisaTokensIndexer({self.indexer!r})"


def _count(texts: list[str], analyzer: str) -> list[dict[str, int]]:
    codes, distinct = factorize(texts)
    counts = [Counter(tokenize(text, analyzer)) for text in distinct]
    return [dict(counts[code]) for code in codes]


def _warn_of_scale(transformer: Any, parameter: str, scale: float, what: str) -> None:  # noqa: ANN401
    if scale != 1:
        warnings.warn(
            f"{type(transformer).__name__} multiplies {what}, by {parameter}={scale:g}; {_PISA_REMEDY}.",
            stacklevel=3,
        )

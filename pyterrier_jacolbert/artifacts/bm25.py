"""JapaneseBM25: BM25 for Japanese without Java, with bm25s over the words of MeCab, as a PyTerrier index."""

from __future__ import annotations

import warnings
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from pyterrier_jacolbert.artifacts.base import DirectoryArtifact
from pyterrier_jacolbert.building.documents import Documents, read_documents
from pyterrier_jacolbert.columns import DOCNO
from pyterrier_jacolbert.index.search.top_k import top_k
from pyterrier_jacolbert.index.storage.arrays import map_array
from pyterrier_jacolbert.index.storage.atomic import META_FILE, atomic_index, replace_json
from pyterrier_jacolbert.index.storage.blocks import seal_file
from pyterrier_jacolbert.index.storage.docnos import Docnos, write_docnos
from pyterrier_jacolbert.index.storage.manifest import entries_from_json, entries_to_json, header
from pyterrier_jacolbert.japanese.spellings import DEFAULT_FOLDS, check_folds
from pyterrier_jacolbert.japanese.words import check_analyzer, tokenize, tokenizer_metadata
from pyterrier_jacolbert.pipeline.bm25 import JapaneseBM25Retriever, JapaneseBM25Scorer

if TYPE_CHECKING:
    import bm25s

_DEFAULTS: dict[str, Any] = {
    "text_field": "text",
    "title_field": None,
    "k1": 1.2,
    "b": 0.75,
    "analyzer": "mecab",
    "normalize": DEFAULT_FOLDS,
}
#: Settings of indexes that were built before there was a choice, and that do not record them.
_UNRECORDED: dict[str, Any] = {"analyzer": "mecab", "normalize": ()}


class JapaneseBM25(DirectoryArtifact):
    """A BM25 index of Japanese documents, on bm25s (Lù 2024, arXiv 2407.03618) and the words of a Japanese analyzer.

    The score is Lucene's: the sum over the words of the query of
    ``ln(1 + (N - df + 0.5) / (df + 0.5)) * tf / (tf + k1 * (1 - b + b * length / mean length))``
    (Kamphuis et al. 2020, "accurate" variant). It is computed when the index is built, so ``k1`` and ``b`` are part of
    the index, and opening an index takes them from it.

    Building holds 4 bytes per word in memory, and 28 bytes per (word, document) pair at the end. An open index is
    mapped, 8 bytes per pair on disk.

    Args:
        path: the directory; None creates a temporary one to build in, which lives as long as this object.
        text_field: field with the text; "text" by default.
        title_field: field put before the text, with a space between, unless it is missing or blank.
        k1: saturation of term frequencies; 1.2 by default.
        b: length normalisation, 0 to 1; 0.75 by default.
        analyzer: splits text into words, ``"mecab"`` or ``"sudachi"`` (see
            :func:`~pyterrier_jacolbert.japanese.tokenize`); "mecab" by default.
        normalize: spellings that are folded beyond NFKC, some of ``"dashes"``, ``"waves"``, ``"kanji"``, ``"numbers"``
            and ``"long_vowels"``, or ``"all"`` (see :func:`~pyterrier_jacolbert.japanese.tokenize`); none by default.
        verbose: whether to show progress bars.

    Raises:
        ValueError: ``k1`` or ``b`` is out of its range, or the analyzer or a fold is unknown.

    Example:
        >>> bm25 = JapaneseBM25("wiki.bm25").index(docs).retriever()  # doctest: +SKIP
        >>> (bm25 % 10).search("日本で一番高い山は？")  # doctest: +SKIP
    """

    ARTIFACT_TYPE = "sparse_index"
    ARTIFACT_FORMAT = "jabm25"

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        text_field: str | None = None,
        title_field: str | None = None,
        k1: float | None = None,
        b: float | None = None,
        analyzer: str | None = None,
        normalize: str | Sequence[str] | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(path)
        if k1 is not None and not k1 >= 0:
            raise ValueError(f"k1 must be 0 or more, not {k1!r}.")
        if b is not None and not 0 <= b <= 1:
            raise ValueError(f"b must be between 0 and 1, not {b!r}.")
        self._text_field = text_field
        self._title_field = title_field
        self._k1 = k1
        self._b = b
        self._analyzer = None if analyzer is None else check_analyzer(analyzer)
        self._normalize = None if normalize is None else check_folds(normalize)
        self.verbose = verbose
        self._open: tuple[bm25s.BM25, Docnos] | None = None

    @property
    def text_field(self) -> str:
        """Field with the text: recorded by the index at the path, otherwise given, otherwise "text"."""
        field: str = self._effective("text_field")
        return field

    @property
    def title_field(self) -> str | None:
        """Field put before the text: recorded by the index at the path, otherwise given."""
        field: str | None = self._effective("title_field")
        return field

    @property
    def k1(self) -> float:
        """BM25's k1: recorded by the index at the path, otherwise given, otherwise 1.2."""
        return float(self._effective("k1"))

    @property
    def b(self) -> float:
        """BM25's b: recorded by the index at the path, otherwise given, otherwise 0.75."""
        return float(self._effective("b"))

    @property
    def analyzer(self) -> str:
        """Analyzer: recorded by the index at the path, otherwise given, otherwise "mecab"."""
        analyzer: str = self._effective("analyzer")
        return analyzer

    @property
    def normalize(self) -> tuple[str, ...]:
        """Spellings that are folded: recorded by the index at the path, otherwise given, otherwise the default."""
        return tuple(self._effective("normalize"))

    def tokenize(self, text: str) -> list[str]:
        """Splits a text into words, as this index splits its documents.

        Args:
            text: text of a query or document.

        Returns:
            The words, in the order of the text.
        """
        return self.tokenizer()(text)

    def tokenizer(self) -> Callable[[str], list[str]]:
        """Returns a function that splits texts as :meth:`tokenize` does, and reads the manifest only once.

        Returns:
            From a text to its words.
        """
        return partial(tokenize, analyzer=self.analyzer, normalize=self.normalize)

    def index(  # type: ignore[override] # PyTerrier calls it with the documents alone
        self, docs: Documents, *, mode: str = "create"
    ) -> JapaneseBM25:
        """Builds the index at this path, in one pass; it appears when it is complete, and not before.

        A document without words is indexed and never retrieved.

        Args:
            docs: dicts (any iterable or generator) or a frame, with ``docno`` and the text field.
            mode: ``"create"`` refuses a path that exists; ``"overwrite"`` replaces an index, with the settings of this
                object and not those of the replaced index.

        Returns:
            This index.

        Raises:
            FileExistsError: the path exists, and ``mode`` does not allow replacing it.
            ImportError: fugashi or unidic-lite is not installed.
            pt.validate.InputValidationError: a document lacks a field, or none of the first 2,048 has the title field
                (a KeyError); the message names the nearest field.
            ValueError: a document cannot be indexed (the message states its position), or there are no documents.
        """
        import bm25s

        settings = {name: self._given(name) for name in _DEFAULTS}
        documents = read_documents(docs, text_field=settings["text_field"], title_field=settings["title_field"])
        docnos: list[str] = []
        vocabulary: dict[str, int] = {}
        token_ids: list[array[int]] = []
        with atomic_index(self.path, mode=mode) as directory:
            for document in tqdm(documents, desc="tokenizing", unit=" documents", disable=not self.verbose):
                words = tokenize(document.text, settings["analyzer"], settings["normalize"])
                docnos.append(document.docno)
                token_ids.append(array("i", [vocabulary.setdefault(word, len(vocabulary)) for word in words]))
            model = bm25s.BM25(k1=settings["k1"], b=settings["b"], method="lucene")
            # A collection without words has a mean length of 0, by which bm25s divides.
            with np.errstate(invalid="ignore"):
                model.index((token_ids, vocabulary), create_empty_token=False, show_progress=self.verbose)
            model.save(directory, show_progress=False)
            files = {file.name: seal_file(directory, file.name) for file in sorted(directory.iterdir())}
            files |= write_docnos(directory, docnos)
            content = {
                **header(self.ARTIFACT_TYPE, self.ARTIFACT_FORMAT),
                "documents": len(docnos),
                **settings,
                "tokenizer": tokenizer_metadata(settings["analyzer"]),
                "files": entries_to_json(files),
            }
            replace_json(directory / META_FILE, content)
        self._open = None
        return self

    def index_inputs(self) -> list[list[str]]:
        """Returns the columns that :meth:`index` takes."""
        fields = [self._given("title_field"), self._given("text_field")]
        return [[DOCNO, *(field for field in fields if field)]]

    def retriever(self, num_results: int = 1000) -> JapaneseBM25Retriever:
        """Creates a retriever over this index.

        Args:
            num_results: maximum number of results per query.

        Returns:
            The transformer.

        Raises:
            ValueError: ``num_results`` is not a positive integer.
        """
        return JapaneseBM25Retriever(self, num_results=num_results)

    def scorer(self) -> JapaneseBM25Scorer:
        """Creates a re-ranker of the documents of a frame; a document that shares no word with the query gets 0.

        Returns:
            The transformer.
        """
        return JapaneseBM25Scorer(self)

    def __len__(self) -> int:
        return int(self.meta()["documents"])

    def docnos(self) -> Docnos:
        """Returns the docnos by docid.

        Returns:
            A sequence over mapped files, with look-ups both ways.
        """
        return self._opened()[1]

    def scores(self, words: list[str]) -> np.ndarray:
        """Scores all documents for the words of a query.

        Args:
            words: from :meth:`tokenize`; repeated words count repeatedly.

        Returns:
            float32 ``(n_docs,)``, by docid.
        """
        model, docnos = self._opened()
        token_ids = model.get_tokens_ids(words)
        return model.get_scores_from_ids(token_ids) if token_ids else np.zeros(len(docnos), dtype=np.float32)

    def best_documents(self, words: list[str], num_results: int) -> tuple[np.ndarray, np.ndarray]:
        """Finds the best documents for the words of a query.

        Args:
            words: see :meth:`scores`.
            num_results: maximum number of results.

        Returns:
            docids: int64 ``(n,)`` and scores: float32 ``(n,)``, all positive, best first, ties by docno descending
            (also at the cut).
        """
        # Not model.retrieve, which pads with documents that do not match and leaves ties in any order.
        scores = self.scores(words)
        matching = np.flatnonzero(scores > 0)
        docids = matching[top_k(scores[matching], num_results, self.docnos().ranks[matching])]
        return docids, scores[docids]

    def _given(self, name: str) -> Any:
        """Returns a setting as given to this object, or its default."""
        given = getattr(self, f"_{name}")
        return _DEFAULTS[name] if given is None else given

    def _effective(self, name: str) -> Any:
        """Returns a setting as recorded by the index at the path, or as given if there is none."""
        return self.meta().get(name, _UNRECORDED.get(name)) if self.built() else self._given(name)

    def _opened(self) -> tuple[bm25s.BM25, Docnos]:
        if self._open is None:
            import bm25s

            meta = self.meta()
            self._warn_about_differences(meta)
            entries = entries_from_json(meta["files"])
            for entry in entries.values():
                map_array(self.path, entry)  # bm25s would raise an error of its own for a missing or short file
            self._open = bm25s.BM25.load(self.path, mmap=True), Docnos(self.path, entries)
        return self._open

    def _warn_about_differences(self, meta: dict[str, Any]) -> None:
        for name in _DEFAULTS:
            given = getattr(self, f"_{name}")
            if given is not None and given != (built := getattr(self, name)):
                warnings.warn(
                    f"{self!r} was built with {name}={built!r}, which applies, not {name}={given!r}; to change it, "
                    "build the index again with mode='overwrite'.",
                    stacklevel=5,
                )
        if meta["tokenizer"] != (installed := tokenizer_metadata(self.analyzer)):
            warnings.warn(
                f"{self!r} was built with words of {meta['tokenizer']}, and {installed} may split queries differently; "
                "install those versions, or build the index again.",
                stacklevel=5,
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_open": None}

"""JapaneseBM25: BM25 for Japanese without Java, with bm25s over the words of MeCab, as a PyTerrier index."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyterrier_jacolbert.artifacts.base import DirectoryArtifact, OpenFiles
from pyterrier_jacolbert.building.bm25 import build_bm25
from pyterrier_jacolbert.building.documents import Documents
from pyterrier_jacolbert.columns import DOCNO
from pyterrier_jacolbert.index.bm25_checks import open_bm25
from pyterrier_jacolbert.index.bm25_reader import BM25Reader
from pyterrier_jacolbert.index.storage.bm25_manifest import BM25, SPARSE, BM25Manifest, BM25Settings
from pyterrier_jacolbert.index.storage.directory import read_consistently
from pyterrier_jacolbert.index.storage.docnos import Docnos
from pyterrier_jacolbert.japanese.spellings import DEFAULT_FOLDS, check_folds
from pyterrier_jacolbert.japanese.words import check_analyzer, tokenizer_metadata
from pyterrier_jacolbert.pipeline.bm25 import JapaneseBM25Retriever, JapaneseBM25Scorer, tokenizer_of


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

    ARTIFACT_TYPE = SPARSE
    ARTIFACT_FORMAT = BM25

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
        given: dict[str, Any] = {
            "text_field": text_field,
            "title_field": title_field,
            "k1": k1,
            "b": b,
            "analyzer": None if analyzer is None else check_analyzer(analyzer),
            "normalize": None if normalize is None else check_folds(normalize),
        }
        self._given = {name: value for name, value in given.items() if value is not None}
        self.verbose = verbose
        self._files: OpenFiles[BM25Reader] = OpenFiles()

    @property
    def text_field(self) -> str:
        """Field with the text: recorded by the index at the path, otherwise given, otherwise "text"."""
        return self._settings().text_field

    @property
    def title_field(self) -> str | None:
        """Field put before the text: recorded by the index at the path, otherwise given."""
        return self._settings().title_field

    @property
    def k1(self) -> float:
        """BM25's k1: recorded by the index at the path, otherwise given, otherwise 1.2."""
        return float(self._settings().k1)

    @property
    def b(self) -> float:
        """BM25's b: recorded by the index at the path, otherwise given, otherwise 0.75."""
        return float(self._settings().b)

    @property
    def analyzer(self) -> str:
        """Analyzer: recorded by the index at the path, otherwise given, otherwise "mecab"."""
        return self._settings().analyzer

    @property
    def normalize(self) -> tuple[str, ...]:
        """Spellings that are folded: recorded by the index at the path, otherwise given, otherwise the default."""
        return self._settings().normalize

    def manifest(self) -> BM25Manifest:
        """Reads the manifest.

        Returns:
            The manifest of the index, typed; :meth:`meta` returns it as JSON values.

        Raises:
            FileNotFoundError: there is no index at the path.
            ValueError: the manifest is damaged, belongs to an artifact of another kind, or has another format version.
        """
        return BM25Manifest.read(self.path)

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
        return tokenizer_of(self._settings())

    def index(  # type: ignore[override] # PyTerrier calls it with the documents alone
        self, docs: Documents, *, mode: str = "create"
    ) -> JapaneseBM25:
        """Builds the index at this path, in one pass; it appears when it is complete, and not before.

        A document without words is indexed and never retrieved. A killed build leaves nothing that counts: build again,
        with the same mode.

        Args:
            docs: dicts (any iterable or generator) or a frame, with ``docno`` and the text field.
            mode: ``"create"`` refuses a path that exists; ``"overwrite"`` replaces an index, with the settings of this
                object and not those of the replaced index, which stays readable until the new one is complete.

        Returns:
            This index.

        Raises:
            BlockingIOError: another process is writing to the index.
            FileExistsError: the path exists, and ``mode`` does not allow replacing it.
            ImportError: fugashi or unidic-lite is not installed.
            pt.validate.InputValidationError: a document lacks a field, or none of the first 2,048 has the title field
                (a KeyError); the message names the nearest field.
            ValueError: a document cannot be indexed (the message states its position), or there are no documents; or
                the path holds an index of another kind, or a damaged one.
        """
        build_bm25(self.path, docs, self._given_settings(), mode=mode, verbose=self.verbose)
        self._files.drop()
        return self

    def index_inputs(self) -> list[list[str]]:
        """Returns the columns that :meth:`index` takes."""
        settings = self._given_settings()
        return [[DOCNO, *(field for field in (settings.title_field, settings.text_field) if field)]]

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
        return self.manifest().documents

    def docnos(self) -> Docnos:
        """Returns the docnos by docid.

        Returns:
            A sequence over mapped files, with look-ups both ways.
        """
        return self.reader().docnos

    def scores(self, words: list[str]) -> np.ndarray:
        """Scores all documents for the words of a query.

        Args:
            words: from :meth:`tokenize`; repeated words count repeatedly.

        Returns:
            float32 ``(n_docs,)``, by docid.
        """
        return self.reader().scores(words)

    def best_documents(self, words: list[str], num_results: int) -> tuple[np.ndarray, np.ndarray]:
        """Finds the best documents for the words of a query.

        Args:
            words: see :meth:`scores`.
            num_results: maximum number of results.

        Returns:
            docids: int64 ``(n,)`` and scores: float32 ``(n,)``, all positive, best first, ties by docno descending
            (also at the cut).
        """
        return self.reader().best_documents(words, num_results)

    def reader(self) -> BM25Reader:
        """Opens the index, or returns the open one.

        Returns:
            A reader of one state of the index, whatever is built at its path meanwhile.
        """
        return self._files.open(self._open)

    def _open(self) -> BM25Reader:
        reader = read_consistently(self.manifest, functools.partial(BM25Reader, self.path))
        self._warn_about_differences(reader.manifest)
        return reader

    def verify(self) -> None:
        """Reads every file and compares it with its checksums; then makes every check of opening.

        Raises:
            ValueError: files are damaged; the message names them with the byte ranges.
            BlockingIOError: another process changes the index faster than it can be read.
        """
        super().verify()
        read_consistently(self.manifest, functools.partial(open_bm25, self.path))

    def _check_meta(self, meta: Mapping[str, Any]) -> None:
        BM25Manifest.from_json(meta)

    def _settings(self) -> BM25Settings:
        """Returns the settings of the open index, else those recorded at the path, else those given."""
        reader = self._files.current
        if reader is not None:
            return reader.manifest.settings
        return self.manifest().settings if self.built() else self._given_settings()

    def _given_settings(self) -> BM25Settings:
        return BM25Settings(**{"normalize": DEFAULT_FOLDS, **self._given})

    def _warn_about_differences(self, manifest: BM25Manifest) -> None:
        recorded = dataclasses.asdict(manifest.settings)
        for name, given in self._given.items():
            if given != recorded[name]:
                warnings.warn(
                    f"{self!r} was built with {name}={recorded[name]!r}, which applies, not {name}={given!r}; to "
                    "change it, build the index again with mode='overwrite'.",
                    stacklevel=7,
                )
        if manifest.tokenizer != (installed := tokenizer_metadata(manifest.settings.analyzer)):
            warnings.warn(
                f"{self!r} was built with words of {dict(manifest.tokenizer)}, and {installed} may split queries "
                "differently; install those versions, or build the index again.",
                stacklevel=7,
            )

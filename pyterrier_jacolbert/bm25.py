"""BM25 for Japanese without Java: bm25s over MeCab's words, as a PyTerrier index."""

from __future__ import annotations

import warnings
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from pyterrier_jacolbert.directory_artifact import DirectoryArtifact
from pyterrier_jacolbert.documents import read_documents
from pyterrier_jacolbert.frames import DOCNO
from pyterrier_jacolbert.index.files import map_array, replace_json, seal_file
from pyterrier_jacolbert.index.store import META_FILE, atomic_directory
from pyterrier_jacolbert.morphology import check_analyzer, tokenize, tokenizer_facts
from pyterrier_jacolbert.pipeline.bm25 import JapaneseBM25Retriever, JapaneseBM25Scorer

if TYPE_CHECKING:
    import bm25s

    from pyterrier_jacolbert.index.docnos import Docnos

_DEFAULTS: dict[str, Any] = {"text_field": "text", "title_field": None, "k1": 1.2, "b": 0.75, "analyzer": "mecab"}


class JapaneseBM25(DirectoryArtifact):
    """A BM25 index of Japanese documents, on bm25s (Lù 2024, arXiv 2407.03618) and :func:`tokenize`'s words.

    The score is Lucene's: the sum over the words of the query of
    ``ln(1 + (N - df + 0.5) / (df + 0.5)) * tf / (tf + k1 * (1 - b + b * length / mean length))``
    (Kamphuis et al. 2020, "accurate" variant). It is computed when the index is built, so ``k1`` and ``b`` are part of
    the index; opening one takes them from it.

    Building holds 4 bytes a word in memory, and 28 bytes for each (word, document) pair at the end; an open index is
    mapped, 8 bytes a pair on disk.

    Args:
        path: the directory; None makes a temporary one to build in, which lives as long as this object.
        text_field: the field with the text; "text" unless given.
        title_field: a field put before the text, with a space between, where it is not empty.
        k1: how slowly more occurrences of a word stop mattering; 1.2 unless given.
        b: how much long documents are held back, 0 to 1; 0.75 unless given.
        analyzer: what cuts words, ``"mecab"`` or ``"sudachi"`` (see :func:`tokenize`); "mecab" unless given.
        verbose: whether to show progress bars.

    Raises:
        ValueError: ``k1`` or ``b`` is out of its range, or there is no such analyzer.

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
        verbose: bool = False,
    ) -> None:
        super().__init__(path)
        if k1 is not None and not k1 >= 0:
            raise ValueError(f"k1 must be 0 or more, not {k1!r}.")
        if b is not None and not 0 <= b <= 1:
            raise ValueError(f"b must lie between 0 and 1, not {b!r}.")
        self._text_field = text_field
        self._title_field = title_field
        self._k1 = k1
        self._b = b
        self._analyzer = None if analyzer is None else check_analyzer(analyzer)
        self.verbose = verbose
        self._open: tuple[bm25s.BM25, Docnos] | None = None

    @property
    def text_field(self) -> str:
        """The field with the text: as the index at the path records it, else as given, else "text"."""
        field: str = self._current("text_field")
        return field

    @property
    def title_field(self) -> str | None:
        """The field put before the text: as the index at the path records it, else as given."""
        field: str | None = self._current("title_field")
        return field

    @property
    def k1(self) -> float:
        """BM25's k1: as the index at the path records it, else as given, else 1.2."""
        return float(self._current("k1"))

    @property
    def b(self) -> float:
        """BM25's b: as the index at the path records it, else as given, else 0.75."""
        return float(self._current("b"))

    @property
    def analyzer(self) -> str:
        """What cuts words: as the index at the path records it, else as given, else "mecab"."""
        analyzer: str = self._current("analyzer")
        return analyzer

    def index(  # type: ignore[override] # PyTerrier calls it with the documents alone
        self, docs: Iterable[Mapping[str, Any]] | pd.DataFrame, *, mode: str = "create"
    ) -> JapaneseBM25:
        """Builds the index at this path, in one pass; it appears when it is complete, and not before.

        A document without words is indexed and never retrieved.

        Args:
            docs: dicts (any iterable or generator) or a frame, with ``docno`` and the text field.
            mode: ``"create"`` refuses a path that exists; ``"overwrite"`` replaces an index, with the settings given
                to this object and not those of the replaced one.

        Returns:
            This index.

        Raises:
            FileExistsError: the path exists, and ``mode`` does not allow replacing it.
            ImportError: fugashi or unidic-lite is not installed.
            pt.validate.InputValidationError: a document lacks a field (a KeyError).
            ValueError: a document that cannot be indexed, named with its position; or no documents at all.
        """
        import bm25s

        from pyterrier_jacolbert.index.docnos import write_docnos

        settings = {name: self._chosen(name) for name in _DEFAULTS}
        documents = read_documents(docs, text_field=settings["text_field"], title_field=settings["title_field"])
        docnos: list[str] = []
        vocabulary: dict[str, int] = {}
        token_ids: list[array[int]] = []
        with atomic_directory(self.path, mode=mode) as directory:
            for document in tqdm(documents, desc="tokenizing", unit=" documents", disable=not self.verbose):
                words = tokenize(document.text, settings["analyzer"])
                docnos.append(document.docno)
                token_ids.append(array("i", [vocabulary.setdefault(word, len(vocabulary)) for word in words]))
            model = bm25s.BM25(k1=settings["k1"], b=settings["b"], method="lucene")
            # A collection without any word has a mean length of 0, by which bm25s divides.
            with np.errstate(invalid="ignore"):
                model.index((token_ids, vocabulary), create_empty_token=False, show_progress=self.verbose)
            model.save(directory, show_progress=False)
            files = {file.name: seal_file(directory, file.name) for file in sorted(directory.iterdir())}
            files |= write_docnos(directory, docnos)
            tokenizer = tokenizer_facts(settings["analyzer"])
            facts = {"documents": len(docnos), **settings, "tokenizer": tokenizer, "files": files}
            replace_json(directory / META_FILE, self.new_meta(**facts))
        self._open = None
        return self

    def index_inputs(self) -> list[list[str]]:
        """The columns that :meth:`index` takes."""
        fields = [self._chosen("title_field"), self._chosen("text_field")]
        return [[DOCNO, *(field for field in fields if field)]]

    def retriever(self, num_results: int = 1000) -> JapaneseBM25Retriever:
        """A retriever over this index.

        Args:
            num_results: the most documents a query gets.

        Returns:
            The transformer.

        Raises:
            ValueError: ``num_results`` is not a positive integer.
        """
        return JapaneseBM25Retriever(self, num_results=num_results)

    def scorer(self) -> JapaneseBM25Scorer:
        """A re-ranker that scores the documents of a frame; one that shares no word with the query gets 0.

        Returns:
            The transformer.
        """
        return JapaneseBM25Scorer(self)

    def __len__(self) -> int:
        return int(self.meta()["documents"])

    def docnos(self) -> Docnos:
        """The docnos, by docid: a sequence over mapped files, with look-ups both ways.

        Returns:
            The sequence.
        """
        return self._files()[1]

    def scores(self, words: list[str]) -> np.ndarray:
        """Scores all documents for the words of one query.

        Args:
            words: as :func:`tokenize` gives them for ``analyzer``; a word counts as often as it stands there.

        Returns:
            float32 ``(n_docs,)``, by docid.
        """
        model, docnos = self._files()
        token_ids = model.get_tokens_ids(words)
        return model.get_scores_from_ids(token_ids) if token_ids else np.zeros(len(docnos), dtype=np.float32)

    def best_documents(self, words: list[str], num_results: int) -> tuple[np.ndarray, np.ndarray]:
        """The best documents for the words of one query.

        Args:
            words: as :func:`tokenize` gives them for ``analyzer``; a word counts as often as it stands there.
            num_results: the most documents to return.

        Returns:
            docids: int64 ``(n,)`` and scores: float32 ``(n,)``, all positive, best first, ties by docno descending
            (also at the cut).
        """
        from pyterrier_jacolbert.index.topk import top_k

        # Not model.retrieve: it pads with documents that do not match, and leaves ties in any order.
        scores = self.scores(words)
        matching = np.flatnonzero(scores > 0)
        docids = matching[top_k(scores[matching], num_results, self.docnos().ranks[matching])]
        return docids, scores[docids]

    def _chosen(self, name: str) -> Any:  # noqa: ANN401
        given = getattr(self, f"_{name}")
        return _DEFAULTS[name] if given is None else given

    def _current(self, name: str) -> Any:  # noqa: ANN401
        # Indexes of before there was a choice record no analyzer.
        return self.meta().get(name, _DEFAULTS[name]) if self.built() else self._chosen(name)

    def _files(self) -> tuple[bm25s.BM25, Docnos]:
        if self._open is None:
            import bm25s

            from pyterrier_jacolbert.index.docnos import Docnos

            meta = self.meta()
            self._warn_of_differences(meta)
            for entry in meta["files"].values():
                map_array(self.path, entry)  # bm25s would stop with an error of its own
            self._open = bm25s.BM25.load(self.path, mmap=True), Docnos(self.path, meta["files"])
        return self._open

    def _warn_of_differences(self, meta: dict[str, Any]) -> None:
        for name in _DEFAULTS:
            given = getattr(self, f"_{name}")
            if given is not None and given != (built := self._current(name)):
                warnings.warn(
                    f"{self!r} was built with {name}={built!r}, which holds, not {name}={given!r}; to change it, "
                    "build the index again with mode='overwrite'.",
                    stacklevel=5,
                )
        if meta["tokenizer"] != (installed := tokenizer_facts(self.analyzer)):
            warnings.warn(
                f"{self!r} was built with words of {meta['tokenizer']}, and {installed} may cut queries differently; "
                "install those releases, or build it again.",
                stacklevel=5,
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_open": None}

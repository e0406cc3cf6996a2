"""Dense retrieval with any model of Sentence Transformers, through PyTerrier DR (extra ``train``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyterrier as pt

from pyterrier_jacolbert.encoding.checkpoint import not_found_error
from pyterrier_jacolbert.index.storage.atomic import META_FILE, replacing_directory


class DenseIndex:
    """Vectors of documents, one each, with a retriever and re-rankers; PyTerrier DR's, built when first needed.

    Args:
        path: folder of the index.
        encoder: encodes queries and documents.
        documents: returns the documents: ``docno`` and ``text``.
    """

    def __init__(self, path: Path, encoder: Any, documents: Callable[[], Iterable[dict[str, str]]]) -> None:
        self._path = path
        self._encoder = encoder
        self._documents = documents

    def retriever(self) -> pt.Transformer:
        """Returns a retriever that compares a query with every document."""
        index = self._index()
        retriever: pt.Transformer = self._encoder.query_encoder() >> index.np_retriever(drop_query_vec=True)
        return retriever >> _without_docids()

    def scorer(self) -> pt.Transformer:
        """Returns a re-ranker that reads the vectors of documents."""
        vectors = _without_docids() >> self._encoder.query_encoder() >> self._index().vec_loader()
        scorer: pt.Transformer = vectors >> self._encoder.scorer()
        return scorer

    def text_scorer(self) -> pt.Transformer:
        """Returns a re-ranker that encodes the texts of a frame."""
        scorer: pt.Transformer = self._encoder.text_scorer()
        return scorer

    def _index(self) -> Any:
        import pyterrier_dr

        if not (self._path / META_FILE).is_file():
            with replacing_directory(self._path, replace=False) as folder:
                (self._encoder >> pyterrier_dr.FlexIndex(str(folder / "index"), verbose=False)).index(self._documents())
                for file in (folder / "index").iterdir():
                    file.rename(folder / file.name)
                (folder / "index").rmdir()
        return pyterrier_dr.FlexIndex(str(self._path), verbose=False)


def _without_docids() -> pt.Transformer:
    """Returns a transformer that drops docids, which PyTerrier DR would take for its own."""
    without: pt.Transformer = pt.apply.generic(lambda frame: frame.drop(columns="docid", errors="ignore"))
    return without


def dense_encoder(name: str, *, device: str | None = None, prompts: dict[str, str] | None = None) -> Any:
    """Returns an encoder of PyTerrier DR for a dense model of Sentence Transformers. Its vectors have length 1.

    Args:
        name: folder or hub name of the model.
        device: device to run on; None uses a GPU if there is one.
        prompts: text before each ``"query"`` and ``"document"``; None takes those of the model.

    Raises:
        FileNotFoundError: the model is not on this machine and cannot be downloaded.
        ImportError: PyTerrier DR is not installed.
    """
    try:
        import pyterrier_dr
    except ImportError:
        raise ImportError(
            "Dense retrievers need PyTerrier DR; install it with: pip install 'pyterrier_jacolbert[train]'."
        ) from None
    from sentence_transformers import SentenceTransformer

    class SentenceTransformerEncoder(pyterrier_dr.BiEncoder):  # type: ignore[misc] # PyTerrier DR has no types
        """Encodes queries and documents."""

        def __init__(self) -> None:
            super().__init__()
            self.model_name = name
            try:
                self._model = SentenceTransformer(name, device=device, prompts=prompts)
            except OSError as error:
                raise not_found_error("dense model", name) from error

        def encode_queries(self, texts: list[str], batch_size: int | None = None) -> Any:
            """Encodes queries."""
            return self._model.encode_query(list(texts), **self._options(batch_size))

        def encode_docs(self, texts: list[str], batch_size: int | None = None) -> Any:
            """Encodes documents."""
            return self._model.encode_document(list(texts), **self._options(batch_size))

        def _options(self, batch_size: int | None) -> dict[str, Any]:
            return {
                "batch_size": batch_size or self.batch_size,
                "normalize_embeddings": True,
                "show_progress_bar": False,
            }

        def __repr__(self) -> str:
            return f"SentenceTransformerEncoder({name!r})"

    return SentenceTransformerEncoder()

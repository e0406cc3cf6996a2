"""The settings of an indexer, checked."""

from __future__ import annotations

from dataclasses import dataclass

from pyterrier_jacolbert.building.documents import BATCH_DOCUMENTS
from pyterrier_jacolbert.building.encoding import DocumentEncoder
from pyterrier_jacolbert.index.journal import BuildSettings
from pyterrier_jacolbert.index.limits import COMPRESSIONS, check_choice, check_positive
from pyterrier_jacolbert.index.storage.directory import MODES
from pyterrier_jacolbert.index.storage.manifest import ReadingSettings
from pyterrier_jacolbert.model import JaColBERT


@dataclass(frozen=True)
class IndexerSettings:
    """The settings of an indexer; :class:`~pyterrier_jacolbert.JaColBERTIndexer` describes them.

    Raises:
        ValueError: a setting is out of its range.
    """

    text_field: str = "text"
    title_field: str | None = None
    mode: str = "create"
    compression: str = "auto"
    n_centroids: int | None = None
    sample_tokens: int = 2**19
    batch_documents: int = BATCH_DOCUMENTS
    pool_factor: float | None = None
    store_text: bool = False
    verbose: bool = False

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, MODES)
        check_choice("compression", self.compression, ("auto", *COMPRESSIONS))
        check_positive(optional=True, n_centroids=self.n_centroids)
        check_positive(sample_tokens=self.sample_tokens, batch_documents=self.batch_documents)
        if self.pool_factor is not None and not self.pool_factor >= 1:
            raise ValueError(f"pool_factor must be 1 or more, or None, not {self.pool_factor!r}.")

    def reading_settings(self) -> ReadingSettings:
        """Returns how documents are read."""
        return ReadingSettings(self.text_field, self.title_field, self.store_text, self.pool_factor)

    def document_encoder(self, model: JaColBERT | None) -> DocumentEncoder:
        """Returns the encoder of documents for a checkpoint, or for that of an index that is appended to."""
        return DocumentEncoder(model, self.reading_settings(), self.batch_documents, self.verbose)

    def build_settings(self) -> BuildSettings:
        """Returns what decides the bytes of an index besides its documents and their vectors."""
        return BuildSettings(
            compression=self.compression,
            n_centroids=self.n_centroids,
            sample_tokens=self.sample_tokens,
            store_text=self.store_text,
        )

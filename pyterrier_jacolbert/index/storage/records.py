"""The parts of a manifest: shards, settings, the training of the codec, and the checkpoint."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, Self

from pyterrier_jacolbert.index.limits import MAX_CENTROIDS, MAX_DOCUMENTS
from pyterrier_jacolbert.index.storage.entries import is_digest
from pyterrier_jacolbert.index.storage.fields import FieldError, Fields

#: Name of the folder of a shard: no part of it leads out of the index.
_SHARD = re.compile(r"shards-[1-9][0-9]{0,14}/[0-9]{4,9}", re.ASCII)
#: Most tokens of a query or document.
_MAX_TOKENS = 2**20
#: What a manifest records of a checkpoint; see ``JaColBERT.settings``.
_MODEL_FIELDS = ("model", "revision", "query_length", "max_document_length", "truncate_dim", "fingerprint")


@dataclass(frozen=True)
class ShardEntry:
    """A shard of a sharded index.

    Attributes:
        folder: of the shard, relative to the index.
        documents: number of documents.
        tokens: number of token vectors.
        digest: checksum of the shard's own manifest.
    """

    folder: str
    documents: int
    tokens: int
    digest: str

    @classmethod
    def from_json(cls, value: object, place: str) -> Self:
        """Reads an entry.

        Raises:
            FieldError: a field has another type, or the folder's name leads elsewhere.
        """
        fields = Fields.of(value, place, ("folder", "documents", "tokens", "digest"))
        folder, digest = fields.text("folder"), fields.text("digest")
        if not _SHARD.fullmatch(folder):
            raise FieldError(f"{place}.folder is {folder[:60]!r}, not a name such as 'shards-1/0001'")
        if not digest or not is_digest(digest):
            raise FieldError(f"{place}.digest is {digest[:60]!r}, not a checksum")
        return cls(folder, fields.whole("documents", most=MAX_DOCUMENTS), fields.whole("tokens"), digest)


@dataclass(frozen=True)
class ReadingSettings:
    """Settings that documents were read and stored with.

    Attributes:
        text_field: field with the text.
        title_field: field put before the text; None if there is none.
        store_text: whether the text is stored.
        pool_factor: token pooling factor; None if nothing was pooled.
    """

    text_field: str = "text"
    title_field: str | None = None
    store_text: bool = False
    pool_factor: float | None = None

    @classmethod
    def from_fields(cls, given: Fields) -> Self:
        """Reads settings; fields of others are left alone.

        Raises:
            FieldError: a field has another type.
        """
        return cls(
            text_field=given.text("text_field"),
            title_field=given.optional(given.text, "title_field"),
            store_text=given.flag("store_text"),
            pool_factor=given.optional(lambda name: given.number(name, least=1), "pool_factor"),
        )


@dataclass(frozen=True)
class Training:
    """The training of the codec of an index, with the settings to repeat it.

    Attributes:
        tokens: number of token vectors of the collection when the codec was trained.
        sample: number of them that it was trained on; 0 if it has no parameters.
        error: mean squared distance between a vector and its code then.
        error_now: the same now, with the vectors that were appended since.
        n_centroids: number of centroids; None takes the default for the number of tokens.
        sample_tokens: maximum number of token vectors to train on.
        seed: of the sample, the rotation and the clustering.
    """

    tokens: int
    sample: int
    error: float
    error_now: float
    n_centroids: int | None
    sample_tokens: int
    seed: int

    @classmethod
    def from_fields(cls, given: Fields) -> Self:
        """Reads a record.

        Raises:
            FieldError: a field is missing or has another type.
        """
        Fields.of(given.content, given.place, [part.name for part in fields(cls)])
        return cls(
            tokens=given.whole("tokens"),
            sample=given.whole("sample"),
            error=given.number("error", least=0),
            error_now=given.number("error_now", least=0),
            n_centroids=given.optional(lambda name: given.whole(name, least=1, most=MAX_CENTROIDS), "n_centroids"),
            sample_tokens=given.whole("sample_tokens", least=1),
            seed=given.whole("seed"),
        )


def check_recorded_model(given: Fields) -> dict[str, Any]:
    """Checks and returns what an index records of the checkpoint that encoded its documents.

    Raises:
        FieldError: a field has another type.
    """
    Fields.of(given.content, given.place, _MODEL_FIELDS)
    for name in ("model", "revision", "fingerprint"):
        given.optional(given.text, name)
    for name, least in (("max_document_length", 4), ("truncate_dim", 1)):
        given.optional(lambda name, least=least: given.whole(name, least, _MAX_TOKENS), name)  # type: ignore[misc]
    if isinstance(given.content.get("query_length"), str):
        given.choice("query_length", ("auto", "dynamic", "evaluator"))
    else:
        given.optional(lambda name: given.whole(name, 4, _MAX_TOKENS), "query_length")
    return dict(given.content)

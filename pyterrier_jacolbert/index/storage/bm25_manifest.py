"""The manifest of a BM25 index, ``pt_meta.json``: its settings, and the files of one build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from pyterrier_jacolbert._version import __version__
from pyterrier_jacolbert.index.limits import MAX_DOCUMENTS
from pyterrier_jacolbert.index.storage.atomic import META_FILE
from pyterrier_jacolbert.index.storage.fields import FieldError, Fields
from pyterrier_jacolbert.index.storage.layout import check_bm25_layout
from pyterrier_jacolbert.index.storage.manifest import (
    MAX_GENERATION,
    Entries,
    check_kind,
    entries_from_json,
    entries_to_json,
    header,
    read_meta,
    read_typed,
)

#: Artifact type and format.
SPARSE, BM25 = "sparse_index", "jabm25"
#: Files that bm25s writes, by the arguments of its ``load`` and ``save``.
BM25S_FILES = {
    "data_name": "data.csc.index.npy",
    "indices_name": "indices.csc.index.npy",
    "indptr_name": "indptr.csc.index.npy",
    "vocab_name": "vocab.index.json",
    "params_name": "params.index.json",
}
#: Settings of indexes that were built before there was a choice, and that do not record them.
_UNRECORDED: dict[str, Any] = {"analyzer": "mecab", "normalize": ()}

#: Names that :mod:`pyterrier_jacolbert.japanese` knows, which lies above this package.
_ANALYZERS = ("mecab", "sudachi")
_FOLDS = ("dashes", "waves", "kanji", "numbers", "long_vowels")


@dataclass(frozen=True)
class BM25Settings:
    """Settings that, with the documents, decide the scores of a BM25 index.

    Attributes:
        text_field: field with the text.
        title_field: field put before the text; None if there is none.
        k1: saturation of term frequencies.
        b: length normalisation, 0 to 1.
        analyzer: splits text into words.
        normalize: spellings that are folded beyond NFKC.
    """

    text_field: str = "text"
    title_field: str | None = None
    k1: float = 1.2
    b: float = 0.75
    analyzer: str = "mecab"
    normalize: tuple[str, ...] = ()


@dataclass(frozen=True)
class BM25Manifest:
    """The manifest of a BM25 index.

    Attributes:
        documents: number of documents.
        settings: of the build.
        tokenizer: versions of the analyzer's packages, and the normalisation.
        files: entries of the files by name. They are in one folder per build; the first releases wrote them to the
            folder of the index itself.
        generation: number of this state of the index; each build at the path adds one.
        package_version: release that wrote the manifest.
    """

    documents: int
    settings: BM25Settings
    tokenizer: Mapping[str, str]
    files: Entries
    generation: int = 1
    package_version: str = __version__

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Reads the manifest of an index.

        Args:
            directory: of the index.

        Raises:
            FileNotFoundError: there is no index.
            ValueError: the manifest is damaged, belongs to an artifact of another kind, or has another format version.
            OSError: the file cannot be read.
        """
        content = read_meta(directory)
        check_kind(directory, content, SPARSE, (BM25,))
        return read_typed(directory / META_FILE, cls.from_json, content)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Reads a manifest from JSON values.

        Raises:
            FieldError: a field is missing, has another type or is out of its range.
        """
        given = Fields.of({**_UNRECORDED, **content})
        tokenizer, normalize = given.object("tokenizer"), given.texts("normalize")
        if unknown := sorted(set(normalize) - set(_FOLDS)):
            raise FieldError(f"normalize names {unknown[0][:60]!r}")
        files, documents = (
            entries_from_json(given.object("files").content),
            given.whole("documents", most=MAX_DOCUMENTS),
        )
        check_bm25_layout(files, BM25S_FILES.values(), documents)
        return cls(
            documents=documents,
            settings=BM25Settings(
                text_field=given.text("text_field"),
                title_field=given.optional(given.text, "title_field"),
                k1=given.number("k1", least=0),
                b=given.number("b", least=0, most=1),
                analyzer=given.choice("analyzer", _ANALYZERS),
                normalize=normalize,
            ),
            tokenizer={name: tokenizer.text(name) for name in tokenizer.content},
            files=files,
            generation=given.optional(lambda name: given.whole(name, least=1, most=MAX_GENERATION), "generation") or 1,
            package_version=given.text("package_version"),
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the manifest as JSON values, header first."""
        return {
            **header(SPARSE, BM25, self.package_version),
            "generation": self.generation,
            "documents": self.documents,
            **asdict(self.settings),
            "tokenizer": dict(self.tokenizer),
            "files": entries_to_json(self.files),
        }

"""The opened data sets of a recipe: queries, judgements and texts, apart by data set."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyterrier as pt

from pyterrier_jacolbert.columns import DOCNO, QID, QUERY, TEXT, check_ids
from pyterrier_jacolbert.document_files import DocumentFile
from pyterrier_jacolbert.index.threads import cached_attribute
from pyterrier_jacolbert.text_files import read_lines
from pyterrier_jacolbert.train.recipe import Recipe
from pyterrier_jacolbert.train.recipe_data import HeldOut, RecipeDataset
from pyterrier_jacolbert.train.texts import Texts
from pyterrier_jacolbert.trec_files import check_ids_of, read_qrels_rows

#: Separates the name of a data set from an id, in ids that are unique in a recipe.
_SEPARATOR = ":"
#: Documents of a data set from which a student's vocabulary and projection are computed.
_SAMPLED_DOCUMENTS = 100_000


class FileDataset(pt.datasets.Dataset):
    """A data set of PyTerrier in three files of a user.

    Args:
        settings: names of the files and fields.
        folder: folder to which the names are relative.

    Raises:
        FileNotFoundError: a file does not exist; the message names the data set.
    """

    def __init__(self, settings: RecipeDataset, folder: Path) -> None:
        self._settings = settings
        self._paths = {
            name: folder / getattr(settings, name)
            for name in ("documents", "queries", "qrels")
            if getattr(settings, name) is not None
        }
        for name, path in self._paths.items():
            if not path.is_file():
                raise FileNotFoundError(
                    f"The data set {settings.name!r} has its {name} in {path}, which does not exist; correct the name, "
                    "which is relative to the recipe's file."
                )

    def get_corpus_iter(self, *, verbose: bool = True) -> Iterator[dict[str, Any]]:
        """Yields the documents, with the text as ``text``.

        Args:
            verbose: ignored.
        """
        field = self._settings.text_field
        for number, document in enumerate(DocumentFile(str(self._paths["documents"])), start=1):
            for required in (DOCNO, field):
                if required not in document:
                    raise ValueError(
                        f"{self._paths['documents']}: document {number} has no {required!r}, only "
                        f"{', '.join(document)}; add it, or name another text_field in the recipe."
                    )
            yield {**document, TEXT: document[field]}

    def get_topics(self, variant: str | None = None) -> pd.DataFrame:
        """Reads the queries.

        Args:
            variant: ignored.

        Returns:
            ``qid`` and ``query``.

        Raises:
            ValueError: a line has no tab or lacks a field; the message gives its number.
        """
        path = self._paths["queries"]
        rows = []
        if ".jsonl" in path.suffixes or ".json" in path.suffixes:
            for number, row in enumerate(DocumentFile(str(path)), start=1):
                if not {QID, QUERY} <= row.keys():
                    raise ValueError(f"{path}: query {number} has no 'qid' or no 'query'; add it.")
                rows.append((row[QID], row[QUERY]))
        else:
            for number, line in read_lines(path):
                qid, tab, query = line.partition("\t")
                if line and not tab:
                    raise ValueError(f"{path}, line {number}: there is no tab; put one between qid and query.")
                if line:
                    rows.append((qid, query))
        topics = pd.DataFrame(rows, columns=[QID, QUERY])
        check_ids(topics, QID)
        return topics

    def get_qrels(self, variant: str | None = None) -> pd.DataFrame:
        """Reads the judgements.

        Args:
            variant: ignored.

        Returns:
            ``qid``, ``docno`` and ``label``.

        Raises:
            ValueError: there is no file of judgements, or a line has another form; the message gives its number.
        """
        if "qrels" not in self._paths:
            raise ValueError(f"The data set {self._settings.name!r} has no judgements; add 'qrels' to it.")
        path = self._paths["qrels"]
        try:
            rows = read_qrels_rows(path, short=True)
            check_ids_of((qid for qid, _, _ in rows), (docno for _, docno, _ in rows))
        except ValueError as error:
            raise ValueError(
                f"{path} is no file of judgements, QID 0 DOCNO LABEL or QID DOCNO LABEL ({error}); repair it."
            ) from None
        return pd.DataFrame(rows, columns=[QID, DOCNO, "label"])

    def __repr__(self) -> str:
        return f"FileDataset({self._settings!r})"


class RecipeCollection:
    """A data set of a recipe, read when it is first needed.

    Args:
        settings: of the data set.
        folder: folder to which names of files are relative.
        held_out: the part of it that is held out; None if it holds out nothing or everything.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: PyTerrier knows no such data set.
    """

    def __init__(self, settings: RecipeDataset, folder: Path, held_out: HeldOut | None = None) -> None:
        self.settings = settings
        self._held_out = held_out
        if settings.dataset is None:
            self.dataset: Any = FileDataset(settings, folder)
            return
        try:
            self.dataset = pt.get_dataset(settings.dataset)
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"The data set {settings.name!r} of the recipe is not known: {str(error.args[0]).rstrip('.')}."
            ) from None

    @cached_attribute
    def topics(self) -> pd.DataFrame:
        """``qid`` and ``query`` of all queries."""
        topics: pd.DataFrame = self.dataset.get_topics()
        return topics

    @cached_attribute
    def qrels(self) -> pd.DataFrame:
        """``qid``, ``docno`` and ``label``."""
        qrels: pd.DataFrame = self.dataset.get_qrels()
        return qrels

    @cached_attribute
    def texts(self) -> Texts:
        """Texts by docno, title first."""
        return Texts(self.dataset, self.settings.title_field)

    @cached_attribute
    def held_out_qids(self) -> frozenset[str]:
        """The qids of queries that are held out by a share; empty if none is."""
        if self._held_out is None or self._held_out.share is None:
            return frozenset()
        qids = self.topics[QID]
        keys = dict(zip(qids, qids, strict=True))
        if self._held_out.by == "title":
            keys |= self._titles()
        limit = self._held_out.share * 2**64
        return frozenset(qid for qid in qids if _hash(keys[qid]) < limit)

    @property
    def training_topics(self) -> pd.DataFrame:
        """``qid`` and ``query`` of the queries that are not held out by a share."""
        return self.topics[~self.topics[QID].isin(self.held_out_qids)]

    def training_texts(self, limit: int = _SAMPLED_DOCUMENTS) -> list[str]:
        """Returns texts of documents that are not relevant to a held-out query, evenly spaced.

        Args:
            limit: approximate number of texts.
        """
        held_out = self.qrels[self.qrels[QID].isin(self.held_out_qids)][DOCNO] if self.held_out_qids else ()
        excluded, step = set(held_out), max(1, len(self.texts) // limit)
        return [self.texts[docno] for docno in itertools.islice(self.texts, 0, None, step) if docno not in excluded]

    def _titles(self) -> dict[str, str]:
        """Returns the title of the first relevant document of each query that has one."""
        field = self.settings.title_field
        if field is None:
            raise ValueError(
                f"held_out of {self.settings.name!r} goes by title, and the data set names no title_field; add it."
            )
        titles = {document[DOCNO]: str(document.get(field, "")) for document in self.dataset.get_corpus_iter()}
        relevant = self.qrels[self.qrels["label"] > 0].drop_duplicates(QID)
        return {
            qid: titles[docno] for qid, docno in zip(relevant[QID], relevant[DOCNO], strict=True) if docno in titles
        }


def open_collections(recipe: Recipe, folder: Path) -> dict[str, RecipeCollection]:
    """Opens the data sets of a recipe.

    Args:
        recipe: the recipe.
        folder: folder to which names of files are relative.

    Returns:
        The collections by name.

    Raises:
        FileNotFoundError, ValueError: a data set does not exist.
    """
    held_out = {part.dataset: part for part in recipe.held_out}
    return {
        settings.name: RecipeCollection(settings, folder, held_out.get(settings.name)) for settings in recipe.datasets
    }


def prefixed(name: str, identifier: str) -> str:
    """Returns an id that is unique in a recipe: the name of its data set, and its own id."""
    return f"{name}{_SEPARATOR}{identifier}"


class PrefixedTexts(Mapping[str, str]):
    """Texts of several data sets by the ids of :func:`prefixed`, looked up on access.

    Args:
        texts: texts by id, by name of the data set.
    """

    def __init__(self, texts: Mapping[str, Mapping[str, str]]) -> None:
        self._texts = texts

    def __getitem__(self, identifier: str) -> str:
        name, _, own = identifier.partition(_SEPARATOR)
        return self._texts[name][own]

    def __iter__(self) -> Iterator[str]:
        return (prefixed(name, own) for name, texts in self._texts.items() for own in texts)

    def __len__(self) -> int:
        return sum(map(len, self._texts.values()))


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")

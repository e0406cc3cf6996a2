"""The trainer's dataset: examples and their texts in memory-mapped Arrow files.

Millions of examples fit, because memory holds only the ids of their documents, once each.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from more_itertools import chunked

from pyterrier_jacolbert.train.example_files import Example, validate
from pyterrier_jacolbert.train.stages import Stage

if TYPE_CHECKING:
    from datasets import Dataset

_EXAMPLES = pa.schema(
    {"query_id": pa.string(), "document_ids": pa.list_(pa.large_string()), "label": pa.list_(pa.float64())}
)
_TEXTS = pa.schema({"id": pa.large_string(), "text": pa.large_string()})
#: Rows per Arrow batch, which are held in memory while a file is written.
_BATCH = 10_000


def write(
    examples: Iterable[Example],
    queries: Mapping[str, str],
    documents: Mapping[str, str],
    stage: Stage,
    folder: Path,
) -> int:
    """Validates all examples and writes those that a stage uses, with their texts, in one pass.

    Args:
        examples: n-way examples, the positive first.
        queries: text by qid.
        documents: text by docno. Only the documents of the examples are looked up.
        stage: settings that decide the number of documents per example, whether scores are required, and which
            examples are used.
        folder: folder for the files; existing ones are replaced.

    Returns:
        The number of examples written.

    Raises:
        ValueError: :func:`~pyterrier_jacolbert.train.validate` rejects the examples.
    """
    folder.mkdir(parents=True, exist_ok=True)
    query_ids, document_ids = _LookedUpIds(queries), _LookedUpIds(documents)
    scored = stage.loss in ("kl", "margin_mse")
    numbers = itertools.count()
    n_written = 0

    def write_and_pass_on() -> Iterator[Example]:
        nonlocal n_written
        with pa.ipc.new_stream(str(folder / "examples.arrow"), _EXAMPLES) as writer:
            for batch in chunked(examples, _BATCH):
                used = [example for example in batch if next(numbers) % stage.every == 0]
                n_written += len(used)
                scores = [example.scores or (0.0,) * len(example.docnos) for example in used]
                columns = [[example.qid for example in used], [example.docnos for example in used], scores]
                writer.write_batch(pa.record_batch(columns, schema=_EXAMPLES))
                yield from batch

    validate(write_and_pass_on(), n_ways=stage.n_ways, scored=scored, queries=query_ids, documents=document_ids)
    for name, known, texts in (("queries", query_ids, queries), ("documents", document_ids, documents)):
        with pa.ipc.new_stream(str(folder / f"{name}.arrow"), _TEXTS) as writer:
            for ids in chunked(sorted(known), _BATCH):
                writer.write_batch(pa.record_batch([ids, [texts[text_id] for text_id in ids]], schema=_TEXTS))
    return n_written


def read(folder: Path) -> Dataset:
    """Opens the files of :func:`write` as a dataset.

    Args:
        folder: folder with the files.

    Returns:
        Rows with ``query``, ``document_1`` to ``document_n`` and ``label``. Ids are replaced by texts on access.
    """
    from datasets import Dataset
    from sentence_transformers.util import resolve_ids

    examples, queries, documents = (
        Dataset.from_file(str(folder / f"{name}.arrow")) for name in ("examples", "queries", "documents")
    )
    examples.set_transform(resolve_ids({"query_id": queries, "document_ids": documents}))
    return examples


class _LookedUpIds(Collection[str]):
    """Ids of a mapping that were tested for membership; each is looked up once."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts
        self._known: dict[str, bool] = {}

    def __contains__(self, key: object) -> bool:
        assert isinstance(key, str)
        if key not in self._known:
            self._known[key] = key in self._texts
        return self._known[key]

    def __iter__(self) -> Iterator[str]:
        return (key for key, known in self._known.items() if known)

    def __len__(self) -> int:
        return sum(self._known.values())

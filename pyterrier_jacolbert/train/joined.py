"""What the trainer reads: examples and the texts they name, in Arrow files that are mapped, not held in memory.

Millions of examples fit: what memory holds of them is the ids of the documents that they name, once each.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from pyterrier_jacolbert.batches import batched
from pyterrier_jacolbert.train.example_files import Example, validate
from pyterrier_jacolbert.train.recipe import Stage

if TYPE_CHECKING:
    from datasets import Dataset

_EXAMPLES = pa.schema(
    {"query_id": pa.string(), "document_ids": pa.list_(pa.large_string()), "label": pa.list_(pa.float64())}
)
_TEXTS = pa.schema({"id": pa.large_string(), "text": pa.large_string()})
#: Rows that memory holds while a file is written.
_BATCH = 10_000


def write(
    examples: Iterable[Example],
    queries: Mapping[str, str],
    documents: Mapping[str, str],
    stage: Stage,
    folder: Path,
) -> int:
    """Writes the examples that a stage takes, and their texts, in one pass over all examples, which checks them.

    Args:
        examples: n-way, the positive first.
        queries: the text of a qid.
        documents: the text of a docno; asked for the documents that examples name, only.
        stage: says how many documents an example has, whether it needs scores, and which examples are taken.
        folder: gets the files; what it held of them is replaced.

    Returns:
        The number of examples that were taken.

    Raises:
        ValueError: what :func:`~pyterrier_jacolbert.train.example_files.validate` finds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    used_queries, used_documents = _Asked(queries), _Asked(documents)

    scored = stage.loss in ("kl", "margin_mse")
    numbers = itertools.count()
    taken = 0

    def written() -> Iterator[Example]:
        nonlocal taken
        with pa.ipc.new_stream(str(folder / "examples.arrow"), _EXAMPLES) as writer:
            for batch in batched(examples, _BATCH):
                own = [example for example in batch if next(numbers) % stage.every == 0]
                taken += len(own)
                scores = [example.scores or (0.0,) * len(example.docnos) for example in own]
                columns = [[example.qid for example in own], [example.docnos for example in own], scores]
                writer.write_batch(pa.record_batch(columns, schema=_EXAMPLES))
                yield from batch

    validate(written(), n_ways=stage.n_ways, scored=scored, queries=used_queries, documents=used_documents)
    for name, used, texts in (("queries", used_queries, queries), ("documents", used_documents, documents)):
        with pa.ipc.new_stream(str(folder / f"{name}.arrow"), _TEXTS) as writer:
            for ids in batched(sorted(used), _BATCH):
                writer.write_batch(pa.record_batch([ids, [texts[each] for each in ids]], schema=_TEXTS))
    return taken


def read(folder: Path) -> Dataset:
    """The examples of :func:`write` as ``query``, ``document_1`` to ``document_n`` and ``label``, joined when read."""
    from datasets import Dataset
    from sentence_transformers.util import resolve_ids

    examples, queries, documents = (
        Dataset.from_file(str(folder / f"{name}.arrow")) for name in ("examples", "queries", "documents")
    )
    examples.set_transform(resolve_ids({"query_id": queries, "document_ids": documents}))
    return examples


class _Asked(Collection[str]):
    """The ids of a mapping that were asked for; each is looked up once."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts
        self._known: dict[str, bool] = {}

    def __contains__(self, key: object) -> bool:
        assert isinstance(key, str)
        if key not in self._known:
            self._known[key] = key in self._texts
        return self._known[key]

    def __iter__(self) -> Iterator[str]:
        return (key for key, there in self._known.items() if there)

    def __len__(self) -> int:
        return sum(self._known.values())

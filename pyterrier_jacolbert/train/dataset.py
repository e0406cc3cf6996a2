"""The trainer's dataset: examples and their texts in memory-mapped Arrow files.

Millions of examples fit, because memory holds only the ids of their documents, once each, with a hash of their texts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from more_itertools import chunked

from pyterrier_jacolbert.train.example_files import Example
from pyterrier_jacolbert.train.stages import Stage
from pyterrier_jacolbert.train.validation import Degenerate, ExampleChecker, LookedUpTexts, Rules

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
    degenerate: Degenerate = "drop",
) -> int:
    """Validates all examples and writes those that a stage uses, with their texts, in one pass.

    Args:
        examples: n-way examples, the positive first.
        queries: text by qid.
        documents: text by docno. Only the documents of the examples are looked up.
        stage: settings that decide the number of documents per example, whether scores are required, which examples
            teach nothing, and which are used. Lines that are left out count for its stride.
        folder: folder for the files; existing ones are replaced.
        degenerate: whether examples that teach nothing are left out, with a warning, or are errors.

    Returns:
        The number of examples written.

    Raises:
        ValueError: :func:`~pyterrier_jacolbert.train.validate` rejects the examples.
    """
    folder.mkdir(parents=True, exist_ok=True)
    query_ids, document_ids = LookedUpTexts(queries, "query"), LookedUpTexts(documents, "document")
    scored = stage.loss in ("kl", "margin_mse")
    rules = Rules(
        n_ways=stage.n_ways,
        loss=stage.loss,
        scored=scored,
        normalize_student=stage.normalize_student,
        normalize_teacher=stage.normalize_teacher,
        queries=query_ids,
        documents=document_ids,
    )
    checker = ExampleChecker(rules, degenerate)
    numbers = itertools.count()
    n_written = 0
    with pa.ipc.new_stream(str(folder / "examples.arrow"), _EXAMPLES) as writer:
        for batch in chunked(examples, _BATCH):
            used = [example for example in batch if checker.accepts(example) & (next(numbers) % stage.every == 0)]
            n_written += len(used)
            # Losses that need no scores ignore those that are there.
            scores = [example.scores if scored else (0.0,) * len(example.docnos) for example in used]
            columns = [[example.qid for example in used], [example.docnos for example in used], scores]
            writer.write_batch(pa.record_batch(columns, schema=_EXAMPLES))
    checker.finish()
    if not n_written:
        raise ValueError(
            f"No example that teaches anything is on a line that stage {stage.name!r} takes; lower its 'every' of "
            f"{stage.every}."
        )
    for name, known, texts in (("queries", query_ids, queries), ("documents", document_ids, documents)):
        with pa.ipc.new_stream(str(folder / f"{name}.arrow"), _TEXTS) as writer:
            for ids in chunked(sorted(known), _BATCH):
                writer.write_batch(pa.record_batch([ids, [texts[text_id] for text_id in ids]], schema=_TEXTS))
    return n_written


def read(folder: Path, prepare: Callable[[str], str] = str) -> Dataset:
    """Opens the files of :func:`write` as a dataset.

    Args:
        folder: folder with the files.
        prepare: returns a text as the student's tokenizer receives it; by default, unchanged.

    Returns:
        Rows with ``query``, ``document_1`` to ``document_n`` and ``label``. Ids are replaced by texts on access.
    """
    from datasets import Dataset
    from sentence_transformers.util import resolve_ids

    examples, queries, documents = (
        Dataset.from_file(str(folder / f"{name}.arrow")) for name in ("examples", "queries", "documents")
    )
    resolve = resolve_ids({"query_id": queries, "document_ids": documents})

    def prepared_texts(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        columns = resolve(batch)
        return {
            name: values if name == "label" else [prepare(text) for text in values] for name, values in columns.items()
        }

    examples.set_transform(prepared_texts)
    return examples

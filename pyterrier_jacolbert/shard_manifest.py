"""The manifest of a sharded index: it names the shards, and what it does not name is no part of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyterrier_jacolbert.artifact import JaColBERTIndex
from pyterrier_jacolbert.index.files import digest_of
from pyterrier_jacolbert.index.manifest import JOURNAL_FILE, publish

if TYPE_CHECKING:
    from pyterrier_jacolbert.sharded import ShardedIndex

#: Of a shard's manifest, what the whole one says too.
_COMMON = ("model", "settings", "compression", "dim", "parameters")


def shards_folder(data: str) -> str:
    """The folder of the shards that are built together with a folder ``data-N``."""
    return data.replace("data", "shards")


def publish_shards(
    index: ShardedIndex, folders: Sequence[str], data: str, deleted: Mapping[str, Any] | None = None
) -> None:
    """Makes shards the index, in one step; what was the index before and is no more is removed after.

    Args:
        index: whose writer this process is.
        folders: of the shards, relative to the index's.
        data: a folder within the index for the tables by which docnos are found and sorted.
        deleted: the entry of the file with the docids that are deleted.

    Raises:
        ValueError: a docno that two documents have, or too many documents.
    """
    from pyterrier_jacolbert.index.docnos import write_tables
    from pyterrier_jacolbert.index.limits import MOST_DOCUMENTS
    from pyterrier_jacolbert.index.shards import StoredShards

    shards = [JaColBERTIndex(index.path / folder) for folder in folders]
    metas = [shard.meta() for shard in shards]
    documents = sum(meta["documents"] for meta in metas)
    if documents > MOST_DOCUMENTS:
        raise ValueError(f"An index holds at most {MOST_DOCUMENTS} documents; split the collection.")
    (index.path / data).mkdir(exist_ok=True)
    names, starts = StoredShards.names([shard.token_vectors() for shard in shards])
    files: dict[str, Any] = write_tables(index.path, f"{data}/", names, starts)
    if deleted is not None:
        files["deleted"] = dict(deleted)
    entries = [
        {"folder": folder, "documents": meta["documents"], "tokens": meta["tokens"], "digest": digest_of(meta)}
        for folder, meta in zip(folders, metas, strict=True)
    ]
    totals = {"documents": documents, "tokens": sum(meta["tokens"] for meta in metas)}
    common = {name: metas[0][name] for name in _COMMON}
    meta = index.new_meta(**common, **totals, shards=entries, files=files)
    stored = index._opened(meta)
    twice = stored.docnos.repeated()
    if twice is not None:
        one, other = (shards[int(np.searchsorted(stored.bounds, docid, side="right")) - 1] for docid in twice)
        raise ValueError(
            f"{one.path} and {other.path} both have a document {stored.docnos[twice[0]]!r}; rename or drop one of the "
            "two, and build again."
        )
    publish(index.path, meta)
    sweep_shards(index.path, meta)


def sweep_shards(directory: Path, meta: Mapping[str, Any]) -> None:
    """Removes the shards that no manifest names, but for those of an interrupted build."""
    named = {directory / entry["folder"] for entry in meta["shards"]}
    for generation in directory.glob("shards-*"):
        begun = directory / generation.name.replace("shards", "data") / JOURNAL_FILE
        if begun.is_file():
            continue
        for folder in [*generation.glob("*"), *generation.glob(".*")]:
            if folder not in named:
                shutil.rmtree(folder, ignore_errors=True)
        if not any(generation.iterdir()):
            generation.rmdir()

"""Encodes the shards of an index one by one, for example on several machines, and joins them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sized
from pathlib import Path
from typing import Any

import pandas as pd

from pyterrier_jacolbert.building.batches import BUILD_FOLDER
from pyterrier_jacolbert.building.documents import Documents
from pyterrier_jacolbert.building.encoding import DocumentEncoder
from pyterrier_jacolbert.building.executors import Executor, SerialExecutor
from pyterrier_jacolbert.building.shard_manifest import shard_folder, shards_folder
from pyterrier_jacolbert.building.sharded_build import ShardedBuild, check_no_links
from pyterrier_jacolbert.index.builder import Builder
from pyterrier_jacolbert.index.journal import BuildSettings, first_difference
from pyterrier_jacolbert.index.storage.directory import (
    check_mode,
    discard_folder,
    interrupted_build,
    is_built,
    sweep,
    writing,
)
from pyterrier_jacolbert.index.storage.fields import Fields
from pyterrier_jacolbert.index.storage.manifest import read_typed

#: Greatest number of shards that are encoded one by one.
_MAX_SHARDS = 10**6


def encode_shard(
    path: Path,
    docs: Documents,
    encoder: DocumentEncoder,
    settings: BuildSettings,
    *,
    number: int,
    of: int,
    mode: str = "create",
) -> None:
    """Encodes one of several shards that lie side by side at a path.

    Shards are cut between batches, so that a document is encoded with the same others as in a build of all shards.

    Args:
        path: of the index.
        docs: all documents of the collection: a list, a frame, or an iterable that can be read twice.
        encoder: reads and encodes them.
        settings: of the build.
        number: of the shard, from 1.
        of: number of shards.
        mode: ``"create"``, ``"overwrite"`` or ``"resume"``, of this shard.

    Raises:
        FileExistsError: the index is complete, or the mode does not allow what is there.
        ValueError: there are fewer batches than shards, or a document cannot be indexed.
        BlockingIOError: another process is encoding the shard.
    """
    if not 1 <= number <= of:
        raise ValueError(f"There is no shard {number} of {of}; give a number from 1 to {of}.")
    if iter(docs) is docs:
        raise ValueError("index_shard counts all documents before it reads its own; give a list, not a generator.")
    total = len(docs) if isinstance(docs, Sized) else sum(1 for _ in docs)
    batches = -(-total // encoder.batch_documents)
    if batches < of:
        raise ValueError(
            f"{total} documents in batches of {encoder.batch_documents} fill at most {batches} shards, not {of}; ask "
            "for fewer shards, or for smaller batches with batch_documents."
        )
    first, end = (shard * batches // of * encoder.batch_documents for shard in (number - 1, number))
    records = docs.iloc[first:end] if isinstance(docs, pd.DataFrame) else itertools.islice(docs, first, end)
    if is_built(path):
        raise FileExistsError(f"{path} already exists; choose another path.")
    check_no_links(path, shards_folder(BUILD_FOLDER))
    directory = shard_folder(path / shards_folder(BUILD_FOLDER), number - 1)
    with writing(directory):
        interrupted = interrupted_build(directory, None)
        check_mode(mode, directory, None, interrupted)
        sweep(directory, None)
        if interrupted and mode != "resume":
            discard_folder(directory, interrupted)
        origin = {**encoder.origin(), "shard": number, "of": of}
        builder = Builder(directory, BUILD_FOLDER, settings, origin)
        try:
            encoder.encode_into(builder, encoder.read(records, first), min(end, total) - first)
            builder.stop()
        finally:
            builder.close()


def join_shards(path: Path, executor: Executor | None = None, *, verbose: bool = False) -> None:
    """Makes an index of shards that were encoded one by one with :func:`encode_shard`.

    Args:
        path: folder that holds all of the shards.
        executor: compresses the shards; None does so in this process.
        verbose: whether to show a progress bar.

    Raises:
        FileExistsError: it is an index already.
        FileNotFoundError: there are no shards.
        ValueError: a shard is missing or not complete, or the shards were encoded with different settings.
        BlockingIOError: another process is writing to the index.
    """
    if is_built(path):
        raise FileExistsError(f"{path} is an index already; open it with ShardedIndex.")
    if not path.is_dir():
        raise FileNotFoundError(f"There are no shards in {path}; encode them with JaColBERTIndexer.index_shard.")
    with writing(path):
        interrupted = interrupted_build(path, None)
        if interrupted:
            build = ShardedBuild(path, interrupted, None)
        else:
            build = ShardedBuild(path, BUILD_FOLDER, *_encoded_shards(path))
        if build.journal["shards"] is None:
            raise ValueError(
                f"The documents of {path} are not all encoded; continue with the indexer and mode='resume'."
            )
        build.finish(executor or SerialExecutor(), generation=1, verbose=verbose)


def _encoded_shards(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns the common settings of shards that were encoded one by one, and the content of each.

    Raises:
        FileNotFoundError: there are no shards.
        ValueError: a shard is missing or not complete, or the shards were encoded with different settings.
    """
    check_no_links(path, shards_folder(BUILD_FOLDER))
    folders = sorted((path / shards_folder(BUILD_FOLDER)).glob("[0-9]*"))
    folders = [folder for folder in folders if folder.is_dir() and folder.name.isdecimal()]
    if not folders:
        raise FileNotFoundError(f"There are no shards in {path}; encode them with JaColBERTIndexer.index_shard.")
    head: dict[str, Any] | None = None
    shards: dict[int, dict[str, Any]] = {}
    for folder in folders:
        build = Builder.resume(folder, BUILD_FOLDER)
        given = Fields.of(build.origin, "origin")
        numbers = read_typed(
            folder, lambda given: [given.optional(given.whole, name) for name in ("shard", "of")], given
        )
        number = int(folder.name) if numbers[0] is None else numbers[0]
        if not build.encoded:
            raise ValueError(f"{folder} is not complete; encode shard {number} again, with mode='resume'.")
        origin = {name: value for name, value in build.origin.items() if name != "shard"}
        own = {"settings": dataclasses.asdict(build.settings), "origin": origin}
        if head is not None and (difference := first_difference(head, own)):
            raise ValueError(f"The first shard and {folder} differ in {difference}; encode all with the same settings.")
        head = head or own
        shards[number] = {"documents": build.documents, "digest": None}
    assert head is not None
    count = head["origin"].get("of", len(shards))
    missing = [number for number in range(1, count + 1) if number not in shards]
    if beyond := [number for number in sorted(shards) if not 1 <= number <= count]:
        raise ValueError(f"{path} has a shard {beyond[0]} of {count}; encode all shards again.")
    if missing:
        raise ValueError(f"{path} has {len(shards)} of {count} shards; shard {missing[0]} is missing, so encode it.")
    return head, [shards[number] for number in sorted(shards)]


def _number_of(origin: Mapping[str, Any]) -> int | None:
    """Returns the number of a shard, which its build records, after checking the number of all shards."""
    given = Fields.of(origin, "origin")
    given.optional(lambda name: given.whole(name, 1, _MAX_SHARDS), "of")
    return given.optional(lambda name: given.whole(name, 1, _MAX_SHARDS), "shard")

"""Building a sharded index: blocks of documents are encoded anywhere, put together, trained on together, and coded.

Documents come in blocks, in order; so many blocks are a shard. A block is encoded by whoever is free, and waits as a
*piece*, a small build of its own, beside the shards; when all pieces of a shard are there they become its build. When
all documents are encoded, the codec is trained on a sample of all, the shards are coded around it, one by one or side
by side, and a manifest makes them an index. What stands on the disk is never made again, and every step is there at
once or not at all; so whatever dies, ``mode="resume"`` goes on, and the bytes do not depend on who did what.
"""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from pyterrier_jacolbert.artifact import JaColBERTIndex
from pyterrier_jacolbert.executors import BUILD, Executor, SerialExecutor
from pyterrier_jacolbert.index.files import map_array, read_json, replace_json, write_array
from pyterrier_jacolbert.index.manifest import (
    JOURNAL_FILE,
    begin_folder,
    check_mode,
    interrupted_build,
    next_folder,
    publish,
    remove_if_empty,
    sweep,
    writing,
)
from pyterrier_jacolbert.indexer import JaColBERTIndexer
from pyterrier_jacolbert.shard_encode import ShardedEncoding, shard_of
from pyterrier_jacolbert.shard_manifest import publish_shards, shards_folder
from pyterrier_jacolbert.sharded import ShardedIndex

#: What a manifest says of how documents were read.
_READING = ("text_field", "title_field", "store_text", "pool_factor")


def build_sharded(
    indexer: JaColBERTIndexer, docs: Iterable[Mapping[str, Any]] | pd.DataFrame, executor: Executor
) -> ShardedIndex:
    """Builds a sharded index; see :meth:`JaColBERTIndexer.index`.

    Raises:
        FileExistsError, ValueError, BlockingIOError: as that method.
    """
    index = ShardedIndex(indexer.path, indexer.model)
    if indexer.mode == "append":
        raise ValueError(f"mode='append' takes no executor; add documents to {index!r} with its append.")
    documents = indexer.read(docs)
    with writing(index.path):
        meta = index.meta() if index.built() else None
        begun = interrupted_build(index.path, meta)
        check_mode(indexer.mode, index.path, meta, begun)
        sweep(index.path, meta)
        if indexer.mode == "resume" and meta is not None and not begun:
            return index
        if begun and indexer.mode != "resume":
            for folder in (begun, shards_folder(begun)):
                shutil.rmtree(index.path / folder, ignore_errors=True)
            begun = None
        build = _Build(index, begun or next_folder(meta), _head(indexer, executor))
        try:
            encoding = ShardedEncoding(build.shards, indexer, executor)
            if build.journal["shards"] is None:
                total = len(docs) if isinstance(docs, Sized) else None
                build.save(shards=encoding.run(documents, total))
            else:
                build.check(encoding.read(documents))
            build.finish(executor, verbose=indexer.verbose)
        except BaseException as error:
            if any(build.shards.glob("*/*")):
                error.add_note(f"What is done in {index.path} is kept; mode='resume' goes on from there.")
            else:
                build.forget()
            raise
    return index


def encode_shard(
    indexer: JaColBERTIndexer, docs: Iterable[Mapping[str, Any]] | pd.DataFrame, number: int, of: int
) -> None:
    """Encodes one of several shards; see :meth:`JaColBERTIndexer.index_shard`.

    Shards are cut where the indexer's blocks are, so that a document is encoded with the same others in either way.
    """
    if not 1 <= number <= of:
        raise ValueError(f"There is no shard {number} of {of}; give a number from 1 to {of}.")
    if iter(docs) is docs:
        raise ValueError("index_shard counts all documents before it reads its own; give a list, not a generator.")
    total = len(docs) if isinstance(docs, Sized) else sum(1 for _ in docs)
    blocks = -(-total // indexer.shard_documents)
    if blocks < of:
        raise ValueError(
            f"{total} documents in blocks of {indexer.shard_documents} make no more shards than {blocks}, not {of}; "
            "ask for fewer, or for smaller blocks with shard_documents."
        )
    first, end = (place * blocks // of * indexer.shard_documents for place in (number - 1, number))
    records = docs.iloc[first:end] if isinstance(docs, pd.DataFrame) else itertools.islice(docs, first, end)
    if indexer.path is None:
        raise ValueError("Shards lie side by side at a path; give one to JaColBERTIndexer.")
    path = Path(indexer.path)
    if ShardedIndex(path).built():
        raise FileExistsError(f"{path} exists already; choose another path.")
    directory = shard_of(path / shards_folder(BUILD), number - 1)
    from pyterrier_jacolbert.index.build import Builder

    with writing(directory):
        begun = interrupted_build(directory, None)
        check_mode(indexer.mode, directory, None, begun)
        sweep(directory, None)
        if begun and indexer.mode != "resume":
            shutil.rmtree(directory / begun)
        builder = Builder(directory, BUILD, indexer.build_settings(), {**indexer.origin(), "shard": number, "of": of})
        try:
            indexer.encode(builder, indexer.read(records, first), min(end, total) - first)
            builder.stop()
        finally:
            builder.close()


def join_shards(path: str | Path, executor: Executor | None = None, *, verbose: bool = False) -> ShardedIndex:
    """Makes an index of shards that were encoded one by one with :meth:`JaColBERTIndexer.index_shard`.

    Args:
        path: where they lie, all of them.
        executor: codes them; None does so in this process.
        verbose: whether to show a progress bar.

    Raises:
        FileExistsError: it is an index already.
        FileNotFoundError: there are no shards.
        ValueError: a shard is missing or not complete, or they were not encoded alike.
        BlockingIOError: another process is writing there.
    """
    index = ShardedIndex(path)
    if index.built():
        raise FileExistsError(f"{index.path} is an index already; open it with ShardedIndex.")
    if not index.path.is_dir():
        raise FileNotFoundError(f"There are no shards in {index.path}; encode them with JaColBERTIndexer.index_shard.")
    with writing(index.path):
        begun = interrupted_build(index.path, None)
        if begun:
            build = _Build(index, begun, None)
        else:
            build = _Build(index, BUILD, *_encoded_shards(index.path))
        if build.journal["shards"] is None:
            raise ValueError(
                f"The documents of {index.path} are not all encoded; go on with the indexer and mode='resume'."
            )
        build.finish(executor or SerialExecutor(), verbose=verbose)
    return index


class _Build:
    """What is common to the shards of a build, in a journal of its own, new or taken up.

    Args:
        index: what is built.
        folder: of the journal, within the index's folder.
        head: the settings and the origin, must be the same when a build is taken up; None takes those that are there.
        shards: what is in each, where a new build finds them encoded.

    Attributes:
        journal: what is done: ``shards``, what is in each, when all are encoded; ``compression`` and ``parameters``,
            when the codec is trained.
    """

    def __init__(
        self,
        index: ShardedIndex,
        folder: str,
        head: Mapping[str, Any] | None,
        shards: list[dict[str, Any]] | None = None,
    ) -> None:
        from pyterrier_jacolbert.index.build import first_difference

        self._index = index
        self._folder = folder
        self.shards = index.path / shards_folder(folder)
        journal = read_json(index.path / folder / JOURNAL_FILE)
        if journal is None:
            journal = {**(head or {}), "shards": shards, "compression": None, "parameters": None, "model": None}
            begin_folder(index.path, folder, journal)
        elif head and (different := first_difference({key: journal[key] for key in head}, head)):
            raise ValueError(
                f"The interrupted build in {index.path} was begun with {different}; give the same settings to go on, "
                "or begin anew with mode='overwrite'."
            )
        self.journal: dict[str, Any] = journal

    def save(self, **changes: Any) -> None:  # noqa: ANN401
        """Brings what is done to the disk."""
        self.journal |= changes
        replace_json(self._index.path / self._folder / JOURNAL_FILE, self.journal)

    def forget(self) -> None:
        """Removes a build of which nothing is done."""
        for folder in (self._index.path / self._folder, self.shards):
            shutil.rmtree(folder, ignore_errors=True)
        remove_if_empty(self._index.path)

    def check(self, found: Sequence[Mapping[str, Any]]) -> None:
        """Refuses other documents than those that were encoded.

        Raises:
            ValueError: a shard is another one.
        """
        for number, (there, now) in enumerate(itertools.zip_longest(self.journal["shards"], found), start=1):
            if there != now:
                raise ValueError(
                    f"The documents of shard {number} are not those that the interrupted build in {self._index.path} "
                    "encoded; give the same documents in the same order, or begin anew with mode='overwrite'."
                )

    def finish(self, executor: Executor, *, verbose: bool) -> None:
        """Trains, codes and publishes."""
        folders = [shard_of(self.shards, number) for number in range(len(self.journal["shards"]))]
        if self.journal["compression"] is None:
            self._train(folders)
        settings = {name: self.journal["origin"][name] for name in _READING}
        facts = {name: self.journal[name] for name in ("compression", "parameters", "model")} | {"settings": settings}
        arguments = [(folder.absolute(), self._index.path.absolute(), facts) for folder in folders]
        coded = [executor.start(code_shard, *of_one) for of_one in arguments]
        for wait in tqdm(coded, desc="coding", unit=" shards", disable=not verbose):
            wait()
        names = [folder.relative_to(self._index.path).as_posix() for folder in folders]
        publish_shards(self._index, names, self._folder)

    def _train(self, folders: Sequence[Path]) -> None:
        from pyterrier_jacolbert.index.build import Builder, decide_coding

        parts = [Builder.taken_up(folder, BUILD) for folder in folders]
        models = [part.model for part in parts if part.model is not None]
        for model in models:
            if model != models[0]:
                raise ValueError(f"Shards were encoded with {models[0]} and {model}; encode all with one checkpoint.")
        coding = decide_coding(parts)
        parameters = {
            name: write_array(self._index.path, f"{self._folder}/{name}", array)
            for name, array in coding.parameters.items()
        }
        self.save(compression=coding.compression, parameters=parameters, model=models[0] if models else None)


def code_shard(directory: Path, whole: Path, facts: Mapping[str, Any]) -> None:
    """Codes an encoded shard, and makes it an index, if it is none yet.

    Args:
        directory: of the shard.
        whole: the folder that the codec's parameters lie in.
        facts: ``compression``, ``parameters`` (their files' entries), ``model`` and ``settings``.
    """
    from pyterrier_jacolbert.index.build import Builder, Coding

    index = JaColBERTIndex(directory)
    with writing(directory):
        if not index.built():
            parameters = {name: map_array(whole, entry) for name, entry in facts["parameters"].items()}
            builder = Builder.taken_up(directory, BUILD)
            found = builder.finish(coding=Coding(facts["compression"], parameters))
            publish(directory, index.new_meta(model=facts["model"], settings=facts["settings"], **found))


def _head(indexer: JaColBERTIndexer, executor: Executor) -> dict[str, Any]:
    origin = {**indexer.origin(), "documents_per_shard": executor.documents_per_shard}
    return {"settings": dataclasses.asdict(indexer.build_settings()), "origin": origin}


def _encoded_shards(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What shards that were encoded one by one have in common, and what is in each.

    Raises:
        FileNotFoundError: there are none.
        ValueError: one is missing or not complete, or they were not encoded alike.
    """
    from pyterrier_jacolbert.index.build import Builder, first_difference

    folders = sorted((path / shards_folder(BUILD)).glob("[0-9]*"))
    if not folders:
        raise FileNotFoundError(f"There are no shards in {path}; encode them with JaColBERTIndexer.index_shard.")
    head: dict[str, Any] | None = None
    shards: dict[int, dict[str, Any]] = {}
    for folder in folders:
        builder = Builder.taken_up(folder, BUILD)
        number = builder.origin.get("shard", int(folder.name))
        if not builder.encoded:
            raise ValueError(f"{folder} is not complete; encode shard {number} again, with mode='resume'.")
        origin = {name: value for name, value in builder.origin.items() if name != "shard"}
        own = {"settings": dataclasses.asdict(builder.settings), "origin": origin}
        if head is not None and (different := first_difference(head, own)):
            raise ValueError(f"The first shard and {folder} differ in {different}; encode all with the same settings.")
        head = head or own
        shards[number] = {"documents": builder.documents, "digest": None}
    assert head is not None
    count = head["origin"].get("of", len(shards))
    absent = [number for number in range(1, count + 1) if number not in shards]
    if absent or len(shards) != count:
        raise ValueError(f"{path} has {len(shards)} shards of {count}; shard {absent[0]} is missing, so encode it.")
    return head, [shards[number] for number in sorted(shards)]

"""Commands that build and maintain indexes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pyterrier_jacolbert.cli.options import Subparsers, add_command, add_model_options
from pyterrier_jacolbert.cli.output import print_json, print_line
from pyterrier_jacolbert.document_files import DocumentFile

if TYPE_CHECKING:
    from pyterrier_jacolbert import JaColBERT
    from pyterrier_jacolbert.artifacts.multivector import MultiVectorIndex


def add_commands(subparsers: Subparsers) -> None:
    """Adds ``index``, ``stats``, ``verify``, ``delete``, ``compact`` and ``merge``."""
    _add_index(subparsers)
    for name, run, summary in (
        ("stats", run_stats, "print statistics of an index as JSON"),
        ("verify", run_verify, "compare every file of an index with its checksums"),
        ("compact", run_compact, "free the disk space of deleted documents"),
        ("delete", run_delete, "delete documents from an index"),
    ):
        command = add_command(subparsers, name, run, summary)
        command.add_argument("index", type=Path, help="the index")
        if name == "delete":
            command.add_argument("docno", nargs="+", help="one or more docnos")
    merge = add_command(subparsers, "merge", run_merge, "merge indexes into one, or join encoded shards")
    merge.add_argument("out", type=Path, help="the index to create")
    merge.add_argument("index", type=Path, nargs="*", help="the indexes, in order; none: join the shards in OUT")


def _add_index(subparsers: Subparsers) -> None:
    command = add_command(subparsers, "index", run_index, "index documents from a JSONL or TSV file")
    command.add_argument("docs", help="JSONL with docno and text, or TSV of docno and text; - reads JSONL from stdin")
    command.add_argument("index", type=Path, help="the index to create")
    summary = "checkpoint: a folder or hub name (default: answerdotai/JaColBERTv2.5, or that of the index with append)"
    add_model_options(command, None, summary)
    command.add_argument("--text-field", default="text", help="JSONL field with the text (default: text)")
    command.add_argument("--title-field", help="JSONL field to put before the text")
    command.add_argument("--mode", default="create", help="create, overwrite, resume or append (default: create)")
    command.add_argument(
        "--compression", default="auto", help="auto, float16, int8, 4bit, 2bit or 1bit (default: auto)"
    )
    command.add_argument("--store-text", action="store_true", help="store the text of documents")
    command.add_argument(
        "--batch-documents",
        type=int,
        default=2048,
        help="number of documents that are encoded and written together (default: 2048)",
    )
    command.add_argument(
        "--shard", metavar="I/N", help="encode only shard I of N; when all are encoded, merge joins them to an index"
    )
    command.add_argument("--num-workers", type=int, help="encode with this number of Ray workers, and build shards")
    command.add_argument("--num-gpus-per-worker", type=float, default=0, help="GPUs of each worker (default: 0)")
    command.add_argument("--documents-per-shard", type=int, default=2**18, help="with --num-workers (default: 262144)")


def run_index(args: argparse.Namespace) -> None:
    """Indexes the documents of a file, or encodes one shard of them."""
    from pyterrier_jacolbert import JaColBERTIndexer

    executor = None
    if args.num_workers is not None:
        from pyterrier_jacolbert.distributed import RayExecutor

        executor = RayExecutor(args.num_workers, args.num_gpus_per_worker, documents_per_shard=args.documents_per_shard)
    indexer = JaColBERTIndexer(
        args.index,
        _model_of(args),
        text_field=args.text_field,
        title_field=args.title_field,
        mode=args.mode,
        compression=args.compression,
        store_text=args.store_text,
        batch_documents=args.batch_documents,
        executor=executor,
        verbose=True,
    )
    if args.shard is None:
        _print_size(indexer.index(DocumentFile(args.docs)))
        return
    number, slash, of = args.shard.partition("/")
    if not (slash and number.isdigit() and of.isdigit()):
        raise ValueError(f"--shard takes I/N, such as 3/8, not {args.shard!r}.")
    if args.docs == "-":
        raise ValueError("--shard counts the documents before it reads its own; give a file, not stdin.")
    indexer.index_shard(DocumentFile(args.docs), int(number), int(of))
    print_line(
        f"{args.index}: shard {number} of {of} is encoded; when all are, run: pyterrier-jacolbert merge {args.index}"
    )


def _model_of(args: argparse.Namespace) -> JaColBERT | None:
    """Returns the checkpoint that the options name, or else the one that the index to append to records, if any."""
    from pyterrier_jacolbert.artifacts.open import open_index
    from pyterrier_jacolbert.building.encoding import recorded_model
    from pyterrier_jacolbert.model import DEFAULT_CHECKPOINT, JaColBERT

    if args.model is not None or args.mode != "append":
        return JaColBERT(args.model or DEFAULT_CHECKPOINT, device=args.device, dtype=args.dtype)
    model = recorded_model(open_index(args.index).manifest())
    if model is not None:
        model.device, model.dtype = args.device, args.dtype
    return model


def run_stats(args: argparse.Namespace) -> None:
    """Prints statistics of an index."""
    from pyterrier_jacolbert.artifacts.open import open_index

    print_json(open_index(args.index).stats(), indent=1)


def run_verify(args: argparse.Namespace) -> None:
    """Compares files with their checksums."""
    from pyterrier_jacolbert.artifacts.open import open_index

    open_index(args.index).verify()
    print_line(f"{args.index}: every file is as it was written")


def run_compact(args: argparse.Namespace) -> None:
    """Frees the disk space of deleted documents."""
    from pyterrier_jacolbert.artifacts.open import open_index

    _print_size(open_index(args.index).compact())


def run_delete(args: argparse.Namespace) -> None:
    """Deletes documents."""
    from pyterrier_jacolbert.artifacts.open import open_index

    _print_size(open_index(args.index).delete(args.docno))


def run_merge(args: argparse.Namespace) -> None:
    """Merges indexes, or joins encoded shards."""
    from pyterrier_jacolbert import JaColBERTIndex, ShardedIndex

    if args.index:
        _print_size(JaColBERTIndex.merge(args.index, args.out))
    else:
        _print_size(ShardedIndex.join(args.out, verbose=True))


def _print_size(index: MultiVectorIndex) -> None:
    stats = index.stats()
    deleted = f" (and {stats['deleted']} deleted)" if stats["deleted"] else ""
    print_line(
        f"{index.path}: {stats['documents']} documents{deleted}, {stats['tokens']} token vectors of {stats['dim']} "
        f"dimensions, {stats['compression']}, {stats['bytes_per_token']:.1f} bytes per token"
    )

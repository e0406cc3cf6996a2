"""The command line: ``pyterrier-jacolbert COMMAND``. Thin: everything it does is one call away."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from pyterrier_jacolbert import commands

#: What messages name as one writes it in Python, and how the command line has it.
_OPTIONS = {
    r"mode='(\w+)'": r"--mode \1",
    r"shard_documents": "--block",
    r"JaColBERTIndexer\.index_shard": "index --shard I/N",
    r"build one there with \.index\(docs\)": "build one there with: pyterrier-jacolbert index",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: the command line without the program's name; None takes the process's.

    Returns:
        The exit status: 0, or 1 where something was wrong, which is said in one line on stderr.
    """
    chosen = _parser().parse_args(arguments)
    try:
        chosen.run(chosen)
    except (OSError, ValueError, KeyError, ImportError) as error:
        print(f"pyterrier-jacolbert: {_told(error)}", file=sys.stderr)
        return 1
    return 0


def _told(error: Exception) -> str:
    """What an error says, in the words of the command line."""
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"There is no {error.filename}; check the path."
    message = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    for word, option in _OPTIONS.items():
        message = re.sub(word, option, message)
    return message


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pyterrier-jacolbert", description="Japanese multi-vector retrieval.")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    index = subparsers.add_parser("index", help="index documents from a JSONL or TSV file")
    index.add_argument("docs", help="JSONL with docno and text, or TSV of docno and text; - reads JSONL from stdin")
    index.add_argument("index", type=Path, help="the index to make")
    _add_model(index)
    index.add_argument("--text-field", default="text", help="the JSONL field with the text (default: text)")
    index.add_argument("--title-field", help="a JSONL field to put before the text")
    index.add_argument("--mode", default="create", help="create, overwrite, resume or append (default: create)")
    index.add_argument("--compression", default="auto", help="auto, float16, int8, 4bit, 2bit or 1bit (default: auto)")
    index.add_argument("--store-text", action="store_true", help="keep the documents' text")
    index.add_argument("--block", type=int, default=2048, help="documents that are encoded together (default: 2048)")
    index.add_argument(
        "--shard", metavar="I/N", help="encode the I-th of N shards alone; merge-index makes them an index when all are"
    )
    index.add_argument("--workers", type=int, help="encode by so many processes of a Ray cluster, and make shards")
    index.add_argument("--gpus-per-worker", type=float, default=0, help="GPUs of each (default: 0)")
    index.add_argument("--documents-per-shard", type=int, default=2**18, help="with --workers (default: 262144)")
    index.set_defaults(run=commands.run_index)

    upkeep = {
        "stats": (commands.run_stats, "tell what an index holds, as JSON"),
        "verify": (commands.run_verify, "compare every file of an index with its checksums"),
        "compact": (commands.run_compact, "free the space of deleted documents"),
        "delete": (commands.run_delete, "delete documents from an index"),
    }
    for name, (run, note) in upkeep.items():
        command = subparsers.add_parser(name, help=note)
        command.add_argument("index", type=Path, help="the index")
        if name == "delete":
            command.add_argument("docno", nargs="+", help="one or more docnos")
        command.set_defaults(run=run)
    joined = subparsers.add_parser("merge-index", help="make one index of several, or a sharded one of its shards")
    joined.add_argument("out", type=Path, help="the index to make")
    joined.add_argument("index", type=Path, nargs="*", help="the indexes, in order; without any, the shards in OUT")
    joined.set_defaults(run=commands.run_merge_index)

    search = subparsers.add_parser("search", help="search an index")
    search.add_argument("index", type=Path, help="the index")
    search.add_argument("query", nargs="+", help="one or more queries")
    search.add_argument("-k", type=int, default=10, help="documents a query (default: 10)")
    search.add_argument("--json", action="store_true", help="one JSON object a line in place of columns")
    _add_model(search, default=None, note="the checkpoint to encode queries (default: the one the index records)")
    search.set_defaults(run=commands.run_search)

    demo = subparsers.add_parser("demo", help="search a small built-in collection, and evaluate")
    _add_model(demo, default="mini", note="a ColBERT checkpoint (default: mini, which ships with the package)")
    demo.set_defaults(run=commands.run_demo)

    evaluate = subparsers.add_parser("evaluate", help="run the benchmarks, measured beside published")
    evaluate.add_argument(
        "systems",
        nargs="+",
        metavar="SYSTEM",
        help="a checkpoint (mini, a folder, a hub name), bm25, MODULE:NAME of a pipeline or of a function that makes "
        "one for a task, a run file, a folder with TASK.trec for each task; NAME=SYSTEM names it in the tables",
    )
    evaluate.add_argument("--tasks", default="paper", help="with commas between; paper (default): its five; all")
    evaluate.add_argument("--output", type=Path, default=Path("evaluation"), help="default: evaluation")
    evaluate.add_argument("--protocol", default="corrected", help="corrected (default) or paper-v1")
    evaluate.add_argument("--baseline", metavar="NAME", help="the system that the others are tested against")
    evaluate.add_argument(
        "--qrels", action="append", default=[], metavar="TASK=FILE", help="judgements in place of the data set's"
    )
    evaluate.add_argument("--fresh", action="store_true", help="make runs again that are there")
    evaluate.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    evaluate.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16: how documents are encoded")
    evaluate.set_defaults(run=commands.run_evaluate)

    sizing = subparsers.add_parser("plan", help="tell what a collection will take: hours, disk, memory, milliseconds")
    sizing.add_argument("--documents", type=int, required=True, help="how many")
    sizing.add_argument("--mean-tokens", type=float, required=True, help="token vectors of a document, on average")
    sizing.add_argument("--dim", type=int, default=128, help="numbers of a token vector (default: 128)")
    sizing.add_argument("--no-probe", action="store_true", help="do not measure this machine, which takes 10 seconds")
    _add_model(sizing)
    sizing.set_defaults(run=commands.run_plan)

    recipes = {
        "mine": (commands.run_mine, "make the examples of a recipe"),
        "train": (commands.run_train, "run the stages of a recipe"),
        "merge": (commands.run_merge, "make the averages of a recipe"),
    }
    for name, (run, note) in recipes.items():
        command = subparsers.add_parser(name, help=note)
        command.add_argument("recipe", type=Path, help="a recipe in YAML")
        command.add_argument("--output", type=Path, help="the folder of the runs (default: beside the recipe)")
        if name != "merge":
            command.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
        if name == "train":
            command.add_argument("--tensorboard", action="store_true", help="write TensorBoard's files too")
        command.set_defaults(run=run)
    return parser


def _add_model(
    parser: argparse.ArgumentParser,
    default: str | None = "answerdotai/JaColBERTv2.5",
    note: str = "the checkpoint: a folder or hub name (default: answerdotai/JaColBERTv2.5)",
) -> None:
    parser.add_argument("--model", default=default, metavar="PATH", help=note)
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    parser.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16: how documents are encoded")


if __name__ == "__main__":
    sys.exit(main())

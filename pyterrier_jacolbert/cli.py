"""The command line: ``pyterrier-jacolbert COMMAND``. Thin: everything it does is one call away."""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from pyterrier_jacolbert import JaColBERT
    from pyterrier_jacolbert.searched import SearchedIndex


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
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    index = commands.add_parser("index", help="index documents from a JSONL or TSV file")
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
    index.set_defaults(run=_index)

    upkeep = {
        "stats": (_stats, "tell what an index holds, as JSON"),
        "verify": (_verify, "compare every file of an index with its checksums"),
        "compact": (_compact, "free the space of deleted documents"),
        "delete": (_delete, "delete documents from an index"),
    }
    for name, (run, note) in upkeep.items():
        command = commands.add_parser(name, help=note)
        command.add_argument("index", type=Path, help="the index")
        if name == "delete":
            command.add_argument("docno", nargs="+", help="one or more docnos")
        command.set_defaults(run=run)
    joined = commands.add_parser("merge-index", help="make one index of several, or a sharded one of its shards")
    joined.add_argument("out", type=Path, help="the index to make")
    joined.add_argument("index", type=Path, nargs="*", help="the indexes, in order; without any, the shards in OUT")
    joined.set_defaults(run=_merge_index)

    search = commands.add_parser("search", help="search an index")
    search.add_argument("index", type=Path, help="the index")
    search.add_argument("query", nargs="+", help="one or more queries")
    search.add_argument("-k", type=int, default=10, help="documents a query (default: 10)")
    search.add_argument("--json", action="store_true", help="one JSON object a line in place of columns")
    _add_model(search, default=None, note="the checkpoint to encode queries (default: the one the index records)")
    search.set_defaults(run=_search)

    demo = commands.add_parser("demo", help="search a small built-in collection, and evaluate")
    _add_model(demo, default="mini", note="a ColBERT checkpoint (default: mini, which ships with the package)")
    demo.set_defaults(run=_demo)

    evaluate = commands.add_parser("evaluate", help="run the benchmarks, measured beside published")
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
    evaluate.set_defaults(run=_evaluate)

    sizing = commands.add_parser("plan", help="tell what a collection will take: hours, disk, memory, milliseconds")
    sizing.add_argument("--documents", type=int, required=True, help="how many")
    sizing.add_argument("--mean-tokens", type=float, required=True, help="token vectors of a document, on average")
    sizing.add_argument("--dim", type=int, default=128, help="numbers of a token vector (default: 128)")
    sizing.add_argument("--no-probe", action="store_true", help="do not measure this machine, which takes 10 seconds")
    _add_model(sizing)
    sizing.set_defaults(run=_plan)

    recipes = {
        "mine": (_mine, "make the examples of a recipe"),
        "train": (_train, "run the stages of a recipe"),
        "merge": (_merge, "make the averages of a recipe"),
    }
    for name, (run, note) in recipes.items():
        command = commands.add_parser(name, help=note)
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


def _model(chosen: argparse.Namespace) -> JaColBERT:
    from pyterrier_jacolbert import JaColBERT

    return JaColBERT(chosen.model, device=chosen.device, dtype=chosen.dtype)


def _index(chosen: argparse.Namespace) -> None:
    from pyterrier_jacolbert import JaColBERTIndexer

    executor = None
    if chosen.workers is not None:
        from pyterrier_jacolbert.distributed import RayExecutor

        executor = RayExecutor(chosen.workers, chosen.gpus_per_worker, documents_per_shard=chosen.documents_per_shard)
    indexer = JaColBERTIndexer(
        chosen.index,
        _model(chosen),
        text_field=chosen.text_field,
        title_field=chosen.title_field,
        mode=chosen.mode,
        compression=chosen.compression,
        store_text=chosen.store_text,
        shard_documents=chosen.block,
        executor=executor,
        verbose=True,
    )
    if chosen.shard is None:
        _print_size(indexer.index(_read_docs(chosen.docs)))
        return
    number, slash, of = chosen.shard.partition("/")
    if not (slash and number.isdigit() and of.isdigit()):
        raise ValueError(f"--shard takes I/N, such as 3/8, not {chosen.shard!r}.")
    if chosen.docs == "-":
        raise ValueError("--shard counts the documents before it reads its own; give a file, not stdin.")
    indexer.index_shard(_Docs(chosen.docs), int(number), int(of))
    print(f"{chosen.index}: shard {number} of {of} is encoded; when all are, merge-index {chosen.index}")


class _Docs:
    """The documents of a file, as often as they are asked for."""

    def __init__(self, source: str) -> None:
        self._source = source

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return _read_docs(self._source)


def _stats(chosen: argparse.Namespace) -> None:
    from pyterrier_jacolbert.sharded import open_index

    print(json.dumps(open_index(chosen.index).stats(), ensure_ascii=False, indent=1))


def _verify(chosen: argparse.Namespace) -> None:
    from pyterrier_jacolbert.sharded import open_index

    open_index(chosen.index).verify()
    print(f"{chosen.index}: every file is as it was written")


def _compact(chosen: argparse.Namespace) -> None:
    from pyterrier_jacolbert.sharded import open_index

    _print_size(open_index(chosen.index).compact())


def _delete(chosen: argparse.Namespace) -> None:
    from pyterrier_jacolbert.sharded import open_index

    _print_size(open_index(chosen.index).delete(chosen.docno))


def _merge_index(chosen: argparse.Namespace) -> None:
    from pyterrier_jacolbert import JaColBERTIndex
    from pyterrier_jacolbert.shard_build import join_shards

    if chosen.index:
        _print_size(JaColBERTIndex.merge(chosen.index, chosen.out))
    else:
        _print_size(join_shards(chosen.out, verbose=True))


def _print_size(index: SearchedIndex) -> None:
    stats = index.stats()
    deleted = f" ({stats['deleted']} more are deleted)" if stats["deleted"] else ""
    print(
        f"{index.path}: {stats['documents']} documents{deleted}, {stats['tokens']} token vectors of {stats['dim']} "
        f"numbers, {stats['compression']}, {stats['bytes_per_token']:.1f} bytes each"
    )


def _search(chosen: argparse.Namespace) -> None:
    import pandas as pd

    from pyterrier_jacolbert.sharded import open_index

    index = open_index(chosen.index, _model(chosen) if chosen.model else None)
    topics = pd.DataFrame({"qid": [str(n) for n in range(1, len(chosen.query) + 1)], "query": chosen.query})
    ranking = pd.DataFrame(index.retriever(num_results=chosen.k)(topics))[["qid", "query", "rank", "docno", "score"]]
    if chosen.json:
        for row in ranking.to_dict("records"):
            print(json.dumps(row, ensure_ascii=False))
    else:
        for _, rows in ranking.groupby("qid", sort=False):
            print(rows["query"].iloc[0])
            for rank, score, docno in zip(rows["rank"], rows["score"], rows["docno"], strict=True):
                print(f"  {rank + 1:3d}  {score:8.4f}  {docno}")


def _plan(chosen: argparse.Namespace) -> None:
    from pyterrier_jacolbert.plan import plan
    from pyterrier_jacolbert.sizing import Size, measurements, probe

    if chosen.documents < 1 or not chosen.mean_tokens > 0:
        raise ValueError("--documents and --mean-tokens must be more than 0.")
    size = Size(chosen.documents, round(chosen.documents * chosen.mean_tokens), chosen.dim)
    probed = None if chosen.no_probe else probe(_model(chosen), chosen.mean_tokens)
    print(plan(size, measurements(), probed, chosen.model))


def _demo(chosen: argparse.Namespace) -> None:
    import pandas as pd
    import pyterrier as pt
    from ir_measures import RR, nDCG

    from pyterrier_jacolbert import JaColBERTIndexer, JapaneseBM25
    from pyterrier_jacolbert.datasets.demo import no_shared_word

    dataset = pt.get_dataset("jacolbert:demo")
    docs, topics = pd.DataFrame(list(dataset.get_corpus_iter(verbose=False))), dataset.get_topics()
    hard = no_shared_word()
    with tempfile.TemporaryDirectory() as folder:
        bm25 = JapaneseBM25(Path(folder) / "bm25", title_field="title").index(docs).retriever()
        index = JaColBERTIndexer(Path(folder) / "jacolbert", _model(chosen), title_field="title").index(docs)
        jacolbert = index.retriever()
        systems: dict[str, Any] = {
            "BM25": bm25,
            "JaColBERT": jacolbert,
            "BM25 % 100 >> JaColBERT": bm25 % 100 >> index.scorer(),
        }
        _print_best(pd.DataFrame(jacolbert(topics.iloc[:: len(topics) // 3].head(3))), docs.set_index("docno")["text"])
        measures: list[Any] = [nDCG @ 10, RR, "mrt"]
        tables = {
            f"all {len(topics)} questions": pt.Experiment(systems, topics, dataset.get_qrels(), measures),
            f"the {len(hard)} that share no word with their answer": pt.Experiment(
                systems, topics[topics["qid"].isin(hard)], dataset.get_qrels(), measures
            ),
        }
    for name, table in tables.items():
        print(f"\n{len(docs)} documents, {name} (mrt: milliseconds a question):")
        print(table[["name", "nDCG@10", "RR", "mrt"]].to_string(index=False, float_format="{:.3f}".format))


def _evaluate(chosen: argparse.Namespace) -> None:
    from pyterrier_jacolbert.suite import evaluate, system, write_report
    from pyterrier_jacolbert.suite.protocols import task_names
    from pyterrier_jacolbert.suite.report import summary
    from pyterrier_jacolbert.suite.runs import read_qrels

    given = dict(option.partition("=")[::2] for option in chosen.qrels)
    results = evaluate(
        [system(spec, device=chosen.device, dtype=chosen.dtype) for spec in chosen.systems],
        output=chosen.output,
        tasks=task_names(chosen.tasks),
        protocol=chosen.protocol,
        baseline=chosen.baseline,
        qrels={task: read_qrels(Path(file)) for task, file in given.items()},
        fresh=chosen.fresh,
        progress=lambda line: print(line, file=sys.stderr),
    )
    print(summary(results))
    print("\n".join(map(str, write_report(results, chosen.output))))


def _mine(chosen: argparse.Namespace) -> None:
    from pyterrier_jacolbert.train.recipe import Recipe
    from pyterrier_jacolbert.train.run import mine_recipe

    print(mine_recipe(Recipe.read(chosen.recipe), _runs(chosen), device=chosen.device))


def _train(chosen: argparse.Namespace) -> None:
    from pyterrier_jacolbert.train.recipe import Recipe
    from pyterrier_jacolbert.train.run import train_recipe

    folder = _runs(chosen)
    settings = {"device": chosen.device, "tensorboard": chosen.tensorboard}
    results = train_recipe(Recipe.read(chosen.recipe), folder, examples_folder=folder, **settings)
    for name, checkpoint in results.items():
        print(f"{name}: {checkpoint}")


def _merge(chosen: argparse.Namespace) -> None:
    from pyterrier_jacolbert.train.recipe import Recipe
    from pyterrier_jacolbert.train.run import merge_recipe

    for name, checkpoint in merge_recipe(Recipe.read(chosen.recipe), _runs(chosen)).items():
        print(f"{name}: {checkpoint}")


def _runs(chosen: argparse.Namespace) -> Path:
    recipe: Path = chosen.recipe
    return chosen.output or recipe.with_suffix("")


def _print_best(ranking: pd.DataFrame, texts: pd.Series) -> None:
    best = ranking[ranking["rank"] < 2]
    for query, rows in best.groupby("query", sort=False):
        print(f"\n{query}")
        for docno, score in zip(rows["docno"], rows["score"], strict=True):
            print(f"  {score:7.3f}  {docno}: {texts[docno]}")


def _read_docs(source: str) -> Iterator[dict[str, Any]]:
    with sys.stdin if source == "-" else open(source, encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if source.endswith(".tsv"):
                docno, tab, text = line.rstrip("\r\n").partition("\t")
                if not tab:
                    raise ValueError(f"{source}, line {number}: there is no tab; put one between docno and text.")
                yield {"docno": docno, "text": text}
            elif line.strip():
                try:
                    doc = json.loads(line)
                except json.JSONDecodeError as error:
                    raise ValueError(
                        f"{source}, line {number}: this is not JSON ({error.msg}); repair it, or give a .tsv file."
                    ) from None
                if not isinstance(doc, dict):
                    raise ValueError(
                        f"{source}, line {number}: this is not a JSON object; put docno and text into one."
                    )
                yield doc


if __name__ == "__main__":
    sys.exit(main())

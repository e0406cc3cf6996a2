"""What each command of the command line does with the arguments that were parsed."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from pyterrier_jacolbert import JaColBERT
    from pyterrier_jacolbert.searched import SearchedIndex


def _model(chosen: argparse.Namespace) -> JaColBERT:
    from pyterrier_jacolbert import JaColBERT

    return JaColBERT(chosen.model, device=chosen.device, dtype=chosen.dtype)


def run_index(chosen: argparse.Namespace) -> None:
    """Indexes the documents of a file, or one shard of them."""
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


def run_stats(chosen: argparse.Namespace) -> None:
    """Prints what an index holds."""
    from pyterrier_jacolbert.sharded import open_index

    print(json.dumps(open_index(chosen.index).stats(), ensure_ascii=False, indent=1))


def run_verify(chosen: argparse.Namespace) -> None:
    """Compares files with their checksums."""
    from pyterrier_jacolbert.sharded import open_index

    open_index(chosen.index).verify()
    print(f"{chosen.index}: every file is as it was written")


def run_compact(chosen: argparse.Namespace) -> None:
    """Frees the space of deleted documents."""
    from pyterrier_jacolbert.sharded import open_index

    _print_size(open_index(chosen.index).compact())


def run_delete(chosen: argparse.Namespace) -> None:
    """Deletes documents."""
    from pyterrier_jacolbert.sharded import open_index

    _print_size(open_index(chosen.index).delete(chosen.docno))


def run_merge_index(chosen: argparse.Namespace) -> None:
    """Makes one index of several, or a sharded one of its shards."""
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


def run_search(chosen: argparse.Namespace) -> None:
    """Prints the ranking of each query."""
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


def run_plan(chosen: argparse.Namespace) -> None:
    """Prints what a collection will take."""
    from pyterrier_jacolbert.plan import plan
    from pyterrier_jacolbert.sizing import Size, measurements, probe

    if chosen.documents < 1 or not chosen.mean_tokens > 0:
        raise ValueError("--documents and --mean-tokens must be more than 0.")
    size = Size(chosen.documents, round(chosen.documents * chosen.mean_tokens), chosen.dim)
    probed = None if chosen.no_probe else probe(_model(chosen), chosen.mean_tokens)
    print(plan(size, measurements(), probed, chosen.model))


def run_demo(chosen: argparse.Namespace) -> None:
    """Searches the built-in collection, and evaluates."""
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


def run_evaluate(chosen: argparse.Namespace) -> None:
    """Runs the benchmarks, and prints measured beside published."""
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


def run_mine(chosen: argparse.Namespace) -> None:
    """Makes the examples of a recipe."""
    from pyterrier_jacolbert.train.recipe import Recipe
    from pyterrier_jacolbert.train.run import mine_recipe

    print(mine_recipe(Recipe.read(chosen.recipe), _runs(chosen), device=chosen.device))


def run_train(chosen: argparse.Namespace) -> None:
    """Runs the stages of a recipe."""
    from pyterrier_jacolbert.train.recipe import Recipe
    from pyterrier_jacolbert.train.run import train_recipe

    folder = _runs(chosen)
    settings = {"device": chosen.device, "tensorboard": chosen.tensorboard}
    results = train_recipe(Recipe.read(chosen.recipe), folder, examples_folder=folder, **settings)
    for name, checkpoint in results.items():
        print(f"{name}: {checkpoint}")


def run_merge(chosen: argparse.Namespace) -> None:
    """Makes the averages of a recipe."""
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

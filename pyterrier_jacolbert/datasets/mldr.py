"""The Japanese part of MLDR: questions about long articles; find the article."""

from ir_datasets.datasets.base import Dataset
from ir_datasets.formats import GenericQrel, GenericQuery

from pyterrier_jacolbert.datasets._collection import Counts, Records, TitledDoc
from pyterrier_jacolbert.datasets._hub import HubFiles, hub_dataset, read_rows
from pyterrier_jacolbert.datasets._irds import Documentation

#: The commit that added the data.
_REVISION = "f3837caa8004c6b49954bb6b511d424222eb9161"

_BIBTEX = """@misc{chen2024bge,
    title = {BGE M3-Embedding: Multi-Lingual, Multi-Functionality, Multi-Granularity Text Embeddings Through
        Self-Knowledge Distillation},
    author = {Jianlv Chen and Shitao Xiao and Peitian Zhang and Kun Luo and Defu Lian and Zheng Liu},
    year = {2024},
    eprint = {2402.03216},
    archivePrefix = {arXiv},
}"""


def define(split: str, counts: Counts) -> Dataset:
    """Defines the dataset of a split.

    Args:
        split: name of the split.
        counts: expected record counts.
    """
    folder = "mldr-v1.0-ja"
    return hub_dataset(
        f"mldr-ja/{split}",
        HubFiles("Shitao/MLDR", _REVISION, (f"{folder}/corpus.jsonl.gz", f"{folder}/{split}.jsonl.gz")),
        _read,
        counts=counts,
        documentation=Documentation(
            pretty_name=f"MLDR, Japanese, {split}",
            url="https://huggingface.co/datasets/Shitao/MLDR",
            desc=(
                "<p>Questions that GPT-3.5 wrote about a paragraph of a long article (Wikipedia, mC4). The documents "
                "are 10,000 whole articles; the article of the paragraph is the only relevant document. Encoders with "
                "a low length limit see only the beginning of most articles.</p>"
            ),
            licence="MIT",
            bibtex=_BIBTEX,
        ),
        relevance={1: "the article that the question was written about"},
    )


def _read(files: HubFiles) -> Records:
    corpus_paths, query_paths = files.paths()
    queries, qrels = [], []
    for row in read_rows(query_paths, ["query_id", "query", "positive_passages"]):
        queries.append(GenericQuery(row["query_id"], row["query"]))
        qrels += [GenericQrel(row["query_id"], passage["docid"], 1) for passage in row["positive_passages"]]
    docs = (TitledDoc(row["docid"], "", row["text"]) for row in read_rows(corpus_paths, ["docid", "text"]))
    return Records(docs, queries, qrels)


# Counts from MTEB's publication of the same data.
DATASETS = {f"mldr-ja/{split}": define(split, Counts(docs=10000, queries=200, qrels=200)) for split in ("dev", "test")}

"""Papers of the Journal of Natural Language Processing: given a title or abstract, find another part."""

from ir_datasets.datasets.base import Dataset

from pyterrier_jacolbert.datasets._collection import Counts
from pyterrier_jacolbert.datasets._hub import HubFiles, hub_dataset
from pyterrier_jacolbert.datasets._irds import Documentation
from pyterrier_jacolbert.datasets._jmteb import MTEB_PATTERNS, read_mteb

#: For each dataset: MTEB's repository of JMTEB v2, its commit, and the parts of a paper used as query and document.
_DATASET_SOURCES = {
    "title-abs": ("TitleAbs", "7ea085c4107e8554f92409193358790fe40516f8", "title", "abstract"),
    "title-intro": ("TitleIntro", "39b53c8298ce1948d2a4caaa55fee5b34eeb647e", "title", "introduction"),
    "abs-intro": ("AbsIntro", "8a7ae2cbcd62a3df5a880f4e4afff30a977afe0d", "abstract", "introduction"),
    "abs-article": ("AbsArticle", "683ad149644acc21180dceeac3a5c57eac171df3", "abstract", "whole article"),
}

_BIBTEX = """@inproceedings{li-etal-2026-jmteb,
    title = {{JMTEB} and {JMTEB}-lite: {J}apanese Massive Text Embedding Benchmark and Its Lightweight Version},
    author = {Li, Shengzhe and Ohagi, Masaya and Ri, Ryokan and Fukuchi, Akihiko and Shibata, Tomohide and
        Kawahara, Daisuke},
    booktitle = {Proceedings of the Fifteenth Language Resources and Evaluation Conference},
    year = {2026},
    url = {https://aclanthology.org/2026.lrec-1.588/},
    pages = {7423--7434},
}"""


def define(name: str, counts: Counts) -> Dataset:
    """Defines one of the datasets.

    Args:
        name: name of the dataset, such as `"title-abs"`.
        counts: expected record counts.
    """
    repository, revision, query, document = _DATASET_SOURCES[name]
    return hub_dataset(
        f"nlp-journal/{name}",
        HubFiles(f"mteb/NLPJournal{repository}Retrieval.V2", revision, MTEB_PATTERNS),
        read_mteb,
        counts=counts,
        documentation=Documentation(
            pretty_name=f"NLP Journal (JMTEB v2), {query} to {document}",
            url="https://huggingface.co/datasets/sbintuitions/JMTEB",
            desc=(
                "<p>From the LaTeX corpus of the Japanese Journal of Natural Language Processing (as of June 2025). "
                f"Each query is the {query} of a paper, and each document the {document} of a paper; the one of the "
                "same paper is the only relevant document. JMTEB v2's test split, as published by MTEB.</p>"
            ),
            licence="CC BY 4.0",
            bibtex=_BIBTEX,
        ),
        relevance={1: f"the {document} of the same paper"},
    )


# Counts from MTEB's descriptive statistics.
DATASETS = {f"nlp-journal/{name}": define(name, Counts(docs=637, queries=510, qrels=510)) for name in _DATASET_SOURCES}

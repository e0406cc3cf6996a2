"""Papers of the Journal of Natural Language Processing: from a title or an abstract, find another part of the paper."""

from ir_datasets.datasets.base import Dataset

from pyterrier_jacolbert.datasets._collection import Counts, Documentation
from pyterrier_jacolbert.datasets._hub import HubFiles, hub_dataset
from pyterrier_jacolbert.datasets._jmteb import MTEB_PATTERNS, read_mteb

#: For each set: MTEB's repository of JMTEB v2 and its commit; what a query and what a document is.
_SETS = {
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
    """One of the sets.

    Args:
        name: Which.
        counts: How many records it must have.
    """
    repository, revision, query, document = _SETS[name]
    return hub_dataset(
        f"nlp-journal/{name}",
        HubFiles(f"mteb/NLPJournal{repository}Retrieval.V2", revision, MTEB_PATTERNS),
        read_mteb,
        counts=counts,
        documentation=Documentation(
            pretty_name=f"NLP Journal (JMTEB v2), {query} to {document}",
            url="https://huggingface.co/datasets/sbintuitions/JMTEB",
            desc=(
                "<p>From the LaTeX corpus of the Japanese Journal of Natural Language Processing (as of June 2025): a "
                f"query is the {query} of a paper, a document the {document} of one; that of the same paper is the one "
                "relevant document. The test split of JMTEB v2, as MTEB publishes it.</p>"
            ),
            licence="CC BY 4.0",
            bibtex=_BIBTEX,
        ),
        relevance={1: f"the {document} of the same paper"},
    )


# Counts of MTEB's descriptive statistics.
DATASETS = {f"nlp-journal/{name}": define(name, Counts(docs=637, queries=510, qrels=510)) for name in _SETS}

"""The Japanese part of Amazon's Shopping Queries (ESCI) in JMTEB's version, which the paper uses: find products."""

from ir_datasets.datasets.base import Dataset

from pyterrier_jacolbert.datasets._collection import Counts
from pyterrier_jacolbert.datasets._hub import HubFiles, hub_dataset
from pyterrier_jacolbert.datasets._irds import Documentation
from pyterrier_jacolbert.datasets._jmteb import read_jmteb_reranking

#: Not pinned: JMTEB's commits from the time of the paper hold scripts that create the tables, not the tables.
_FILES = HubFiles("sbintuitions/JMTEB", None, ("esci-query/test*.parquet", "esci-corpus/corpus*.parquet"))

_BIBTEX = """@article{reddy2022shopping,
    title = {Shopping Queries Dataset: A Large-Scale {ESCI} Benchmark for Improving Product Search},
    author = {Chandan K. Reddy and Llu{\\'i}s M{\\`a}rquez and Fran Valero and Nikhil Rao and Hugo Zaragoza and
        Sambaran Bandyopadhyay and Arnab Biswas and Anlu Xing and Karthik Subbian},
    year = {2022},
    eprint = {2206.06588},
    archivePrefix = {arXiv},
}"""


def define(counts: Counts) -> Dataset:
    """Defines the dataset.

    Args:
        counts: expected record counts.
    """
    return hub_dataset(
        "esci-ja/test",
        _FILES,
        read_jmteb_reranking,
        counts=counts,
        documentation=Documentation(
            pretty_name="ESCI (Shopping Queries), Japanese, JMTEB's version, test",
            url="https://github.com/sbintuitions/JMTEB",
            desc=(
                "<p>Queries from Amazon's Japanese shop, and products with title and description. Products are judged "
                "as exact, substitute, complement or irrelevant for a query. Labels are JMTEB's `relevance_scores`: "
                "higher for a better match, 0 for an irrelevant product. They are the gains of nDCG without conversion "
                "(linear, as in JMTEB's evaluator). The JaColBERTv2.5 paper (arXiv 2407.20750) searches all products; "
                "JMTEB re-ranks the judged ones, which are the candidates here. The source has no query ids, so "
                "queries are numbered. MTEB's ESCIReranking is a different selection (1,850 queries).</p>"
            ),
            licence="Apache-2.0",
            bibtex=_BIBTEX,
        ),
        relevance={
            0: "irrelevant",
            1: "JMTEB's lowest score above irrelevant (complement)",
            2: "JMTEB's middle score (substitute)",
            3: "JMTEB's highest score (exact)",
        },
        candidates=True,
    )


# Counts from the paper (arXiv 2407.20750, table 1).
DATASETS = {"esci-ja/test": define(Counts(docs=149999, queries=4206, qrels=None))}

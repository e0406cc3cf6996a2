"""The Japanese part of Amazon's Shopping Queries (ESCI), in JMTEB's cut, as the paper uses it: find the products."""

from ir_datasets.datasets.base import Dataset

from pyterrier_jacolbert.datasets._collection import Counts, Documentation
from pyterrier_jacolbert.datasets._hub import HubFiles, hub_dataset
from pyterrier_jacolbert.datasets._jmteb import read_jmteb_reranking

#: Not pinned: JMTEB's commits of the paper's time hold scripts that make the tables, and no tables.
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
    """The data set.

    Args:
        counts: How many records it must have.
    """
    return hub_dataset(
        "esci-ja/test",
        _FILES,
        read_jmteb_reranking,
        counts=counts,
        documentation=Documentation(
            pretty_name="ESCI (Shopping Queries), Japanese, JMTEB's cut, test",
            url="https://github.com/sbintuitions/JMTEB",
            desc=(
                "<p>Queries of Amazon's Japanese shop and products with title and description. Products are judged "
                "exact, substitute, complement or irrelevant for a query; a label is JMTEB's `relevance_scores`, "
                "higher for a better match and 0 for an irrelevant product, and is the gain in nDCG as it stands "
                "(linear, as in JMTEB's evaluator). The JaColBERTv2.5 paper (arXiv 2407.20750) searches all products; "
                "JMTEB re-ranks the judged ones, which are the candidates here. Queries have no ids there and are "
                "numbered. MTEB's ESCIReranking is another cut (1,850 queries).</p>"
            ),
            licence="Apache-2.0",
            bibtex=_BIBTEX,
        ),
        relevance={
            0: "irrelevant",
            1: "the least of JMTEB's scores above irrelevant (complement)",
            2: "the next (substitute)",
            3: "the best (exact)",
        },
        candidates=True,
    )


# Counts of the paper (arXiv 2407.20750, table 1).
DATASETS = {"esci-ja/test": define(Counts(docs=149999, queries=4206, qrels=None))}

"""JaGovFaqs-22k: questions of the FAQs of Japanese ministries, and all their answers to search."""

from ir_datasets.datasets.base import Dataset

from pyterrier_jacolbert.datasets._collection import Counts, Documentation
from pyterrier_jacolbert.datasets._hub import HubFiles, hub_dataset
from pyterrier_jacolbert.datasets._jmteb import MTEB_PATTERNS, read_mteb

_FILES = HubFiles("mteb/JaGovFaqsRetrieval", "0726b2af53c907628067871e2e7c84e0d8e099c2", MTEB_PATTERNS)


def define(counts: Counts) -> Dataset:
    """The data set.

    Args:
        counts: How many records it must have.
    """
    return hub_dataset(
        "jagovfaqs-22k/test",
        _FILES,
        read_mteb,
        counts=counts,
        documentation=Documentation(
            pretty_name="JaGovFaqs-22k, test",
            url="https://huggingface.co/datasets/matsuxr/JaGovFaqs-22k",
            desc=(
                "<p>Questions from the FAQs of Japanese ministries and agencies. Documents are all 22,794 answers; a "
                "question's own answer is the one relevant document, though some answers are written the same. The "
                "split of JMTEB, as MTEB publishes it. JaColBERTv2.5 was post-trained on this source, without a word "
                "on which part.</p>"
            ),
            licence="CC BY 4.0",
            bibtex="""@misc{jagovfaqs-22k,
    title = {JaGovFaqs-22k},
    author = {Yuichi Matsushita},
    year = {2023},
    url = {https://huggingface.co/datasets/matsuxr/JaGovFaqs-22k},
}""",
        ),
        relevance={1: "the answer to the question"},
    )


# Counts of MTEB's descriptive statistics.
DATASETS = {"jagovfaqs-22k/test": define(Counts(docs=22794, queries=2048, qrels=2048))}

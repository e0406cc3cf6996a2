"""JaGovFaqs-22k: questions from the FAQs of Japanese ministries; find the answer among all answers."""

from ir_datasets.datasets.base import Dataset

from pyterrier_jacolbert.datasets._collection import Counts
from pyterrier_jacolbert.datasets._hub import HubFiles, hub_dataset
from pyterrier_jacolbert.datasets._irds import Documentation
from pyterrier_jacolbert.datasets._jmteb import MTEB_PATTERNS, read_mteb

_FILES = HubFiles("mteb/JaGovFaqsRetrieval", "0726b2af53c907628067871e2e7c84e0d8e099c2", MTEB_PATTERNS)


def define(counts: Counts) -> Dataset:
    """Defines the dataset.

    Args:
        counts: expected record counts.
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
                "<p>Questions from the FAQs of Japanese ministries and agencies. The documents are all 22,794 answers; "
                "a question's own answer is its only relevant document, although some answers have the same wording. "
                "JMTEB's split, as published by MTEB. JaColBERTv2.5 was post-trained on this source; its paper does "
                "not say on which part.</p>"
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


# Counts from MTEB's descriptive statistics.
DATASETS = {"jagovfaqs-22k/test": define(Counts(docs=22794, queries=2048, qrels=2048))}

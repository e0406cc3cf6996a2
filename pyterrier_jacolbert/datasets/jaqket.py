"""JAQKET as a retrieval task: find the Wikipedia article that answers a quiz question, among 114,229 articles."""

from ir_datasets.datasets.base import Dataset

from pyterrier_jacolbert.datasets._collection import Counts
from pyterrier_jacolbert.datasets._hub import HubFiles, hub_dataset
from pyterrier_jacolbert.datasets._irds import Documentation
from pyterrier_jacolbert.datasets._jmteb import MTEB_OLDER_PATTERNS, read_mteb

_FILES = HubFiles("mteb/jaqket", "3a5b92dad489a61e664c05ed2175bc9220230199", MTEB_OLDER_PATTERNS)


def define(counts: Counts) -> Dataset:
    """Defines the dataset.

    Args:
        counts: expected record counts.
    """
    return hub_dataset(
        "jaqket/test",
        _FILES,
        read_mteb,
        counts=counts,
        documentation=Documentation(
            pretty_name="JAQKET (JMTEB), test",
            url="https://sites.google.com/view/project-aio/competition1",
            desc=(
                "<p>Quiz questions whose answers are titles of Wikipedia articles. The documents are the articles "
                "(3,749 characters on average); the article of the answer is the only relevant document. JMTEB's "
                "split, as published by MTEB.</p>"
            ),
            licence="CC BY-SA 4.0",
            bibtex="""@inproceedings{suzuki2020jaqket,
    title = {JAQKET: クイズを題材にした日本語 QA データセットの構築},
    author = {鈴木正敏 and 鈴木潤 and 松田耕史 and 西田京介 and 井之上直也},
    booktitle = {言語処理学会第26回年次大会},
    year = {2020},
    url = {https://www.anlp.jp/proceedings/annual_meeting/2020/pdf_dir/P2-24.pdf},
}""",
        ),
        relevance={1: "the article of the answer"},
    )


# Counts from MTEB's descriptive statistics.
DATASETS = {"jaqket/test": define(Counts(docs=114229, queries=997, qrels=997))}

"""JSQuAD, JGLUE's reading comprehension dataset, as the paper uses it: find the paragraph of a question."""

import re

from ir_datasets.datasets.base import Dataset

from pyterrier_jacolbert.datasets._collection import Counts
from pyterrier_jacolbert.datasets._irds import Documentation, lazy_dataset
from pyterrier_jacolbert.datasets._source import Source
from pyterrier_jacolbert.datasets._squad import RELEVANCE, read_squad

JGLUE = "https://raw.githubusercontent.com/yahoojapan/JGLUE/6f071c09316baae89c3d083a90985b4b1cb9968c/datasets"

_VALIDATION = Source(
    path="jsquad/valid-v1.3.json",
    url=f"{JGLUE}/jsquad-v1.3/valid-v1.3.json",
    md5="81ef814e093102549d5595bc700e232b",
)
_TRAIN = Source(
    path="jsquad/train-v1.3.json",
    url=f"{JGLUE}/jsquad-v1.3/train-v1.3.json",
    # Blob hash in the repository; no MD5 of the file is published.
    git_blob="87b42821ac5487246164483d625b928bf8904344",
)

_DESCRIPTION = (
    "<p>Questions that crowd workers wrote about paragraphs of the Japanese Wikipedia, from JGLUE v1.3{version}. Every "
    "paragraph is a document, and a question's own paragraph is its only relevant document, as in the JaColBERTv2.5 "
    "paper (arXiv 2407.20750). Document ids are the part of the question ids that identifies the paragraph.</p>"
)
BIBTEX = """@inproceedings{kurihara-etal-2022-jglue,
    title = "{JGLUE}: {J}apanese General Language Understanding Evaluation",
    author = "Kurihara, Kentaro and Kawahara, Daisuke and Shibata, Tomohide",
    booktitle = "Proceedings of the Thirteenth Language Resources and Evaluation Conference",
    month = jun,
    year = "2022",
    address = "Marseille, France",
    publisher = "European Language Resources Association",
    url = "https://aclanthology.org/2022.lrec-1.317",
    pages = "2957--2966",
}"""


def define(split: str, source: Source, counts: Counts) -> Dataset:
    """Defines the dataset of a split.

    Args:
        split: name of the split.
        source: file of the split.
        counts: expected record counts.
    """
    version = " (the same file in all versions)" if split == "validation" else ""
    return lazy_dataset(
        f"jsquad/{split}",
        lambda: read_squad(source, doc_id=_paragraph_id, text=_strip_title),
        counts=counts,
        documentation=Documentation(
            pretty_name=f"JSQuAD (JGLUE), {split}",
            url="https://github.com/yahoojapan/JGLUE",
            desc=_DESCRIPTION.format(version=version),
            licence="CC BY-SA 4.0",
            bibtex=BIBTEX,
        ),
        relevance=RELEVANCE,
    )


def _paragraph_id(question_id: str) -> str:
    """Returns the id of a question's paragraph: `a10336p0` for `a10336p0q2`."""
    return re.sub(r"q\d+$", "", question_id)


def _strip_title(title: str, context: str) -> str:
    """Returns the text of a context, which JGLUE writes as "TITLE [SEP] TEXT"."""
    return context.removeprefix(f"{title} [SEP] ")


DATASETS = {
    # According to JGLUE's README, v1.3 has 62,697 questions (v1.1: 62,859). It gives no number of paragraphs.
    "jsquad/train": define("train", _TRAIN, Counts(docs=None, queries=62697, qrels=62697)),
    "jsquad/validation": define("validation", _VALIDATION, Counts(docs=1145, queries=4442, qrels=4442)),
}

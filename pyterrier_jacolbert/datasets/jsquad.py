"""JSQuAD, the reading comprehension part of JGLUE, as the paper uses it: find the paragraph a question is about."""

import re

from pyterrier_jacolbert.datasets._collection import Collection, Counts, Documentation, dataset
from pyterrier_jacolbert.datasets._source import Source
from pyterrier_jacolbert.datasets._squad import RELEVANCE, read_squad

_JGLUE = "https://raw.githubusercontent.com/yahoojapan/JGLUE/6f071c09316baae89c3d083a90985b4b1cb9968c/datasets"

_VALIDATION = Source(
    path="jsquad/valid-v1.3.json",
    url=f"{_JGLUE}/jsquad-v1.3/valid-v1.3.json",
    md5="81ef814e093102549d5595bc700e232b",
)

_DOCUMENTATION = Documentation(
    pretty_name="JSQuAD (JGLUE), validation",
    url="https://github.com/yahoojapan/JGLUE",
    desc=(
        "<p>Questions that crowd workers wrote about paragraphs of the Japanese Wikipedia, from JGLUE v1.3 (the same "
        "file in all versions). Every paragraph is a document, and a question's own paragraph is the one relevant "
        "document, as in the JaColBERTv2.5 paper (arXiv 2407.20750). A doc_id is the part of its question ids that "
        "names the paragraph.</p>"
    ),
    licence="CC BY-SA 4.0",
    bibtex="""@inproceedings{kurihara-etal-2022-jglue,
    title = "{JGLUE}: {J}apanese General Language Understanding Evaluation",
    author = "Kurihara, Kentaro and Kawahara, Daisuke and Shibata, Tomohide",
    booktitle = "Proceedings of the Thirteenth Language Resources and Evaluation Conference",
    month = jun,
    year = "2022",
    address = "Marseille, France",
    publisher = "European Language Resources Association",
    url = "https://aclanthology.org/2022.lrec-1.317",
    pages = "2957--2966",
}""",
)


def _read_validation() -> Collection:
    return read_squad(_VALIDATION.file(), doc_id=_paragraph_id, text=_without_title)


def _paragraph_id(question_id: str) -> str:
    """`a10336p0q2` is a question about paragraph `a10336p0`."""
    return re.sub(r"q\d+$", "", question_id)


def _without_title(title: str, context: str) -> str:
    """JGLUE writes a context as "TITLE [SEP] TEXT"."""
    return context.removeprefix(f"{title} [SEP] ")


DATASETS = {
    "jsquad/validation": dataset(
        "jsquad/validation",
        _read_validation,
        counts=Counts(docs=1145, queries=4442, qrels=4442),
        documentation=_DOCUMENTATION,
        relevance=RELEVANCE,
    )
}

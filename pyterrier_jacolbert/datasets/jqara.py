"""JQaRA: quiz questions with Wikipedia passages to re-rank by whether they help to answer."""

from collections.abc import Iterator

from ir_datasets.datasets.base import Dataset
from ir_datasets.formats import GenericQuery

from pyterrier_jacolbert.datasets._candidates import Candidate, collect
from pyterrier_jacolbert.datasets._collection import Counts, Documentation, Records, TitledDoc
from pyterrier_jacolbert.datasets._hub import HubFiles, hub_dataset, rows

#: The commit that brought the data; all later ones of the repository change its README only.
_REVISION = "6172542a3159fd43ade568d9d7267d1b3d364cc9"

_BIBTEX = """@misc{yuichi-tateno-2024-jqara,
    url = {https://huggingface.co/datasets/hotchpotch/JQaRA},
    title = {JQaRA: Japanese Question Answering with Retrieval Augmentation},
    author = {Yuichi Tateno},
}"""


def define(split: str, counts: Counts) -> Dataset:
    """The data set of a split.

    Args:
        split: Its name.
        counts: How many records it must have.
    """
    n_candidates = 100 if split == "test" else 50
    return hub_dataset(
        f"jqara/{split}",
        HubFiles("hotchpotch/JQaRA", _REVISION, (f"data/{split}-*.parquet",)),
        _read,
        counts=counts,
        documentation=Documentation(
            pretty_name=f"JQaRA, {split}",
            url="https://github.com/hotchpotch/JQaRA",
            desc=(
                f"<p>Quiz questions of JAQKET and {n_candidates} Wikipedia passages for each, found by five embedding "
                "models; a passage is relevant if it holds the answer and language models could answer with it. The "
                "JaColBERTv2.5 paper (arXiv 2407.20750) re-ranks the test split and trains on the other two. "
                "Documents are the candidates of the split; there is no larger collection.</p>"
            ),
            licence="questions CC BY-SA 4.0; passages CC BY-SA 4.0 or GFDL",
            bibtex=_BIBTEX,
        ),
        relevance={0: "does not help to answer", 1: "helps to answer"},
        candidates=True,
    )


def _read(files: HubFiles) -> Records:
    (paths,) = files.files()
    columns = ["q_id", "question", "passage_row_id", "title", "text", "label"]
    return collect(_candidates(rows(paths, columns)))


def _candidates(found: Iterator[dict[str, object]]) -> Iterator[Candidate]:
    for row in found:
        yield Candidate(
            GenericQuery(str(row["q_id"]), str(row["question"])),
            TitledDoc(str(row["passage_row_id"]), str(row["title"] or ""), str(row["text"] or "")),
            int(str(row["label"])),
        )


# The README gives the questions; 100 candidates each in the test split, whose published runs name 144,372 passages.
# "50 each" in the others is not checked: whether it holds of every question could not be seen.
DATASETS = {
    "jqara/dev": define("dev", Counts(docs=None, queries=1737, qrels=None)),
    "jqara/test": define("test", Counts(docs=144372, queries=1667, qrels=166700, scoreddocs=166700)),
    "jqara/unused": define("unused", Counts(docs=None, queries=498, qrels=None)),
}

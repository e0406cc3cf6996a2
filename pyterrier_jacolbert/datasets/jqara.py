"""JQaRA: quiz questions with Wikipedia passages, to be re-ranked by whether they help to answer the question."""

from ir_datasets.datasets.base import Dataset
from ir_datasets.formats import GenericQuery

from pyterrier_jacolbert.datasets._candidates import Candidate, collect_candidates
from pyterrier_jacolbert.datasets._collection import Counts, Records, TitledDoc
from pyterrier_jacolbert.datasets._hub import HubFiles, hub_dataset, read_rows
from pyterrier_jacolbert.datasets._irds import Documentation

#: The commit that added the data; all later commits change only the README.
_REVISION = "6172542a3159fd43ade568d9d7267d1b3d364cc9"

_BIBTEX = """@misc{yuichi-tateno-2024-jqara,
    url = {https://huggingface.co/datasets/hotchpotch/JQaRA},
    title = {JQaRA: Japanese Question Answering with Retrieval Augmentation},
    author = {Yuichi Tateno},
}"""


def define(split: str, counts: Counts) -> Dataset:
    """Defines the dataset of a split.

    Args:
        split: name of the split.
        counts: expected record counts.
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
                f"<p>Quiz questions from JAQKET, each with {n_candidates} Wikipedia passages found by five embedding "
                "models. A passage is relevant if it contains the answer and language models could answer the question "
                "with it. The JaColBERTv2.5 paper (arXiv 2407.20750) re-ranks the test split and trains on the other "
                "two. The documents are the candidates of the split; no larger collection exists.</p>"
            ),
            licence="questions CC BY-SA 4.0; passages CC BY-SA 4.0 or GFDL",
            bibtex=_BIBTEX,
        ),
        relevance={0: "does not help to answer the question", 1: "helps to answer the question"},
        candidates=True,
    )


def _read(files: HubFiles) -> Records:
    (paths,) = files.paths()
    columns = ["q_id", "question", "passage_row_id", "title", "text", "label"]
    return collect_candidates(_to_candidate(row) for row in read_rows(paths, columns))


def _to_candidate(row: dict[str, object]) -> Candidate:
    return Candidate(
        GenericQuery(str(row["q_id"]), str(row["question"])),
        TitledDoc(str(row["passage_row_id"]), str(row["title"] or ""), str(row["text"] or "")),
        int(str(row["label"])),
    )


# From the README: numbers of questions, and 100 candidates per question in the test split. From the published runs of
# that split: 144,372 passages. The 50 candidates per question in the other splits are not checked because it could not
# be verified that every question has them.
DATASETS = {
    "jqara/dev": define("dev", Counts(docs=None, queries=1737, qrels=None)),
    "jqara/test": define("test", Counts(docs=144372, queries=1667, qrels=166700, scoreddocs=166700)),
    "jqara/unused": define("unused", Counts(docs=None, queries=498, qrels=None)),
}

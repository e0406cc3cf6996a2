"""JaQuAD: questions about paragraphs of the Japanese Wikipedia in the SQuAD layout; find the paragraph."""

from ir_datasets.datasets.base import Dataset

from pyterrier_jacolbert.datasets._collection import Counts
from pyterrier_jacolbert.datasets._irds import Documentation, lazy_dataset
from pyterrier_jacolbert.datasets._source import Source
from pyterrier_jacolbert.datasets._squad import RELEVANCE, read_squad

_JAQUAD = "https://raw.githubusercontent.com/SkelterLabsInc/JaQuAD/23f5d72cc273c49b35e2d9efe0f51757aa1770bd/data"

#: MD5 checksums in the order of the files.
_MD5 = {
    "train": """
        326b0c29d1c56d8f08ef246f58d1440f
        73b7560d827cfe9d0e54440e4e372345
        acdc88d14957be8e6f50f1cceba5e4aa
        0deb03966244cafa014ef8adbe744c40
        56518d8fa2135cad4bf1333964eec127
        1c7df5d1b0335ce8f0ffdd59234c5302
        88b60df69c9b5dd84a30a50a75c13b9f
        ccbadf3daa5b5e3ac1e8f6fd0e61541c
        502250233e01fa711d9148724ba725d7
        1e5460cc087ef879117cd2bf4afff45c
        cc1a02d1f4b7f146f2bb2bf37d923b2c
        5c5c314f0559778d9c631a02cfceae3b
        60af67c3b64b256893ce9187c712417b
        e8ba2917f7a748e9eaf043086eaf7133
        9b457501df5c2a316e757518ded8d246
        d9e6f02d8f1337584d88f3bcd7dfd241
        cd5dff1fdcfd36facef6e029668b8c81
        f45bf7991c64a81613d69d4e0da8849c
        ca0f0a22f61138a0acd0303cc059afe0
        cedca55c5302de5720345f4f9cada7a0
        15b0ad145050d744f4e5e38ff75ea100
        ef2f4347a4c8097bfb0e6668c2bfb095
        1dd4892f4da8205903792f3fa460b6b3
        12b30e2bc2afe25ed32926f9a7b592eb
        d2567e4520a54c4ed6b6fa260ca85c44
        7d7ee8c769552def5a25e4d7e6eeb800
        ca1e32279c8275752437d8f3c3561c59
        c3d4fc51f3b51b493bbcb4c263d93998
        efbb235ffbdb342bb63073b2e3eb1eb2
        1ec8175e22e200ce2463a5d09c1d8f99
    """,
    "dev": """
        a707fc36e3cc187fba6f3e6d221a92cf
        1b20f7e6c7e231bcf25bcb1ab7c93603
        eb0104c375a635f72d5ae1a71b53602f
        8399338b5b2872334845e43914f3bd80
    """,
}

_BIBTEX = """@misc{so2022jaquad,
    title = {{JaQuAD: Japanese Question Answering Dataset for Machine Reading Comprehension}},
    author = {ByungHoon So and Kyuhong Byun and Kyungwon Kang and Seongjin Cho},
    year = {2022},
    eprint = {2202.01764},
    archivePrefix = {arXiv},
    primaryClass = {cs.CL},
}"""


def sources(split: str) -> tuple[Source, ...]:
    """Returns the files of a split with their checksums."""
    names = [f"{split}/jaquad_{split}_{number:04d}.json" for number in range(len(_MD5[split].split()))]
    return tuple(
        Source(path=f"jaquad/{name}", url=f"{_JAQUAD}/{name}", md5=md5)
        for name, md5 in zip(names, _MD5[split].split(), strict=True)
    )


def define(split: str, files: tuple[Source, ...], counts: Counts) -> Dataset:
    """Defines the dataset of a split.

    Args:
        split: name of the split.
        files: files of the split.
        counts: expected record counts.
    """
    return lazy_dataset(
        f"jaquad/{split}",
        lambda: read_squad(*files, doc_id=_paragraph_id),
        counts=counts,
        documentation=Documentation(
            pretty_name=f"JaQuAD, {split}",
            url="https://github.com/SkelterLabsInc/JaQuAD",
            desc=(
                "<p>Questions that annotators wrote about contexts from articles of the Japanese Wikipedia. Every "
                "context is a document, and a question's own context is its only relevant document. Document ids are "
                "the part of the question ids that identifies the context. The splits share no article; the test set "
                "is not public.</p>"
            ),
            licence="CC BY-SA 3.0",
            bibtex=_BIBTEX,
        ),
        relevance=RELEVANCE,
    )


def _paragraph_id(question_id: str) -> str:
    """Returns the id of a question's context: `tr-000-00` for `tr-000-00-001`."""
    return question_id.rpartition("-")[0]


# Counts from the repository's README.
DATASETS = {
    "jaquad/train": define("train", sources("train"), Counts(docs=9713, queries=31748, qrels=31748)),
    "jaquad/dev": define("dev", sources("dev"), Counts(docs=1431, queries=3939, qrels=3939)),
}

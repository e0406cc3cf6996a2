"""The Japanese benchmarks, as `ir_datasets` definitions and as PyTerrier data sets.

`pt.get_dataset("jacolbert:jsquad/validation")` works in any process where the package is installed; after
`import pyterrier_jacolbert`, `ir_datasets.load("jsquad/validation")` and
`pt.get_dataset("irds:jsquad/validation")` do too. (`demo` is `jacolbert-demo` in `ir_datasets`.)

| name | documents | queries | what | licence |
|---|---|---|---|---|
| `demo` | 330 | 114 | short documents within the package: no network needed | MIT |
| `jsquad/validation` | 1,145 | 4,442 | JGLUE's JSQuAD: find the paragraph of a question | CC BY-SA 4.0 |
| `jsquad/train` | | 62,697 | the same, v1.3 | CC BY-SA 4.0 |
| `jqara/test` | 144,372 | 1,667 | quiz questions, 100 passages each to re-rank | CC BY-SA 4.0 (or GFDL) |
| `jqara/dev`, `jqara/unused` | | 1,737, 498 | the same for training, 50 passages each | CC BY-SA 4.0 (or GFDL) |
| `jacwir/test` | | 5,000 | questions about web pages, 100 candidates each | research, non-commercial |
| `jacwir/retrieval` | 513,107 | 5,000 | the same questions over all pages | research, non-commercial |
| `esci-ja/test` | 149,999 | 4,206 | queries and products of a shop, graded | Apache-2.0 |
| `miracl-ja-small/dev` | 197,610 | 860 | MIRACL-ja cut down to BM25's best 250 | Apache-2.0 |
| `jaquad/train`, `jaquad/dev` | 9,713, 1,431 | 31,748, 3,939 | find the context of a question | CC BY-SA 3.0 |
| `jagovfaqs-22k/test` | 22,794 | 2,048 | find the answer in FAQs of ministries | CC BY 4.0 |
| `nlp-journal/{title-abs,title-intro,abs-intro,abs-article}` | 637 | 510 | find a part of a paper | CC BY 4.0 |
| `jaqket/test` | 114,229 | 997 | find the Wikipedia article that answers | CC BY-SA 4.0 |
| `mldr-ja/dev`, `mldr-ja/test` | 10,000 | 200 | find a long article | MIT |
| `miracl/ja/{train,dev,test-a,test-b}` | 6,953,614 | 3,477, 860, ... | `ir_datasets`' own | Apache-2.0 |
| `mr-tydi/ja/{train,dev,test}` | 7,000,027 | 3,697, 928, 720 | `ir_datasets`' own | Apache-2.0 |
| `mmarco/v2/ja/{train,dev,dev/small}` | 8,841,823 | 808,731, ... | `ir_datasets`' own | MS MARCO's terms |

The last three rows come with `ir_datasets`; they are not repeated here, but have names here too.

A data set is downloaded when it is first needed, into the folder of `ir_datasets` (`~/.ir_datasets`, or
`$IR_DATASETS_HOME`); those of the hub go through the cache of `huggingface_hub`, need the extra `evaluate`, and are
kept in the formats of `ir_datasets`. Files are checked against published checksums or a fixed revision, and all sets
against the record counts above. To use copies of your own instead, set the environment variable `JACOLBERT_DATA` to a
folder that holds them under the names below, or call `use_local` with it.

    jsquad/valid-v1.3.json                          JGLUE's files, JaQuAD's; a file may be gzipped (NAME.gz)
    jsquad/train-v1.3.json
    jaquad/train/jaquad_train_0000.json             ... to 0029; jaquad/dev/jaquad_dev_0000.json to 0003
    hotchpotch/JQaRA/data/test-00000-of-00001.parquet   files of the hub: OWNER/NAME/ and the repository's own names
    miracl-ja-small/miracl_ja_bm25_top1000.json

A new data set is one small file beside this one that ends in `DATASETS`, and a line in `_modules`.
"""

import difflib
from collections.abc import Iterable
from types import ModuleType

import ir_datasets
import pyterrier as pt

# The module is private, but its class is what `irds:` gives, and only there do get_text, docstore and languages work.
from pyterrier.datasets._irds import IRDSDataset

from pyterrier_jacolbert.datasets import (
    demo,
    esci,
    jacwir,
    jagovfaqs,
    jaqket,
    jaquad,
    jqara,
    jsquad,
    miracl_small,
    mldr,
    nlp_journal,
)
from pyterrier_jacolbert.datasets._source import use_local

__all__ = ["JaColBERTDataset", "JaColBERTDatasetProvider", "register", "use_local"]

_modules: tuple[ModuleType, ...] = (
    demo,
    jsquad,
    jqara,
    jacwir,
    esci,
    miracl_small,
    jaquad,
    jagovfaqs,
    nlp_journal,
    jaqket,
    mldr,
)
_DATASETS = {irds_id: dataset for module in _modules for irds_id, dataset in module.DATASETS.items()}
#: What ir_datasets itself has.
_BORROWED = (
    *(f"miracl/ja{split}" for split in ("", "/train", "/dev", "/test-a", "/test-b")),
    *(f"mr-tydi/ja{split}" for split in ("", "/train", "/dev", "/test")),
    *(f"mmarco/v2/ja{split}" for split in ("", "/train", "/dev", "/dev/small")),
)
# `jacolbert:jacolbert-demo` would stutter; elsewhere the name is the id.
_IRDS_IDS = {irds_id.removeprefix("jacolbert-"): irds_id for irds_id in (*_DATASETS, *_BORROWED)}

_MMARCO_NOTICE = (
    "mMARCO is a translation of MS MARCO, whose terms allow non-commercial research only "
    "(https://microsoft.github.io/msmarco/), whatever the translation's own licence says."
)


def register() -> None:
    """Add the data sets to `ir_datasets.registry`.

    Nothing is read or downloaded until a data set is used. An id that is there already is left as it is, so a second
    call changes nothing.
    """
    known = set(ir_datasets.registry)
    for irds_id, dataset in _DATASETS.items():
        if irds_id not in known:
            ir_datasets.registry.register(irds_id, dataset)


class JaColBERTDataset(IRDSDataset):
    """A data set of this package: PyTerrier's own adapter of `ir_datasets`, with the address of its home page."""

    def info_url(self) -> str | None:
        """The home page of the data; of those that `ir_datasets` has itself, its page.

        Returns:
            The address, or None if there is none.
        """
        if self._irds_id in _BORROWED:
            page: str | None = super().info_url()  # type: ignore[no-untyped-call] # PyTerrier's has no types
            return page
        home: str | None = self.irds_ref().documentation().get("url")  # type: ignore[no-untyped-call]
        return home


class JaColBERTDatasetProvider(pt.datasets.DatasetProvider):
    """Gives `pt.get_dataset` the names that start with `jacolbert:`."""

    def get_dataset(self, name: str) -> JaColBERTDataset:
        """A data set by its name.

        Args:
            name: One of `list_dataset_names()`.

        Returns:
            The data set. It reads its files when its topics, qrels or documents are asked for.

        Raises:
            KeyError: There is no such data set; the message names those that are near.
        """
        if name not in _IRDS_IDS:
            raise KeyError(f"There is no data set {name!r} here; there are {_nearest(name)}.")
        register()
        if name.startswith("mmarco/") and not (ir_datasets.util.home_path() / "mmarco").exists():
            ir_datasets.log.easy().info(f"[{name}] {_MMARCO_NOTICE}")
        return JaColBERTDataset(_IRDS_IDS[name])  # type: ignore[no-untyped-call] # PyTerrier's has no types

    def list_dataset_names(self) -> Iterable[str]:
        """The names of the data sets.

        Returns:
            The names, without `jacolbert:`, in alphabetical order.
        """
        return sorted(_IRDS_IDS)


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, _IRDS_IDS, n=4, cutoff=0.5)
    same_set = [known for known in sorted(_IRDS_IDS) if known.split("/")[0] == name.split("/")[0]]
    found = list(dict.fromkeys([*same_set[:6], *near]))
    return ", ".join(found or sorted(_IRDS_IDS))

"""Japanese benchmarks as `ir_datasets` definitions and as PyTerrier datasets.

`pt.get_dataset("jacolbert:jsquad/validation")` works in every process if the package is installed. After
`import pyterrier_jacolbert`, `ir_datasets.load("jsquad/validation")` and
`pt.get_dataset("irds:jsquad/validation")` work, too. (`demo` is called `jacolbert-demo` in `ir_datasets`.)

| name | documents | queries | task | licence |
|---|---|---|---|---|
| `demo` | 330 | 114 | find short documents in the package; needs no network | MIT |
| `jsquad/validation` | 1,145 | 4,442 | JGLUE's JSQuAD: find the paragraph of a question | CC BY-SA 4.0 |
| `jsquad/train` | | 62,697 | the same, v1.3 | CC BY-SA 4.0 |
| `jqara/test` | 144,372 | 1,667 | re-rank 100 passages per quiz question | CC BY-SA 4.0 (or GFDL) |
| `jqara/dev`, `jqara/unused` | | 1,737, 498 | the same for training, 50 passages each | CC BY-SA 4.0 (or GFDL) |
| `jacwir/test` | | 5,000 | re-rank 100 web pages per question | research, non-commercial |
| `jacwir/retrieval` | 513,107 | 5,000 | the same questions, searching all pages | research, non-commercial |
| `esci-ja/test` | 149,999 | 4,206 | find products for shop queries; graded labels | Apache-2.0 |
| `miracl-ja-small/dev` | 197,610 | 860 | MIRACL-ja reduced to BM25's top 250 per query | Apache-2.0 |
| `jaquad/train`, `jaquad/dev` | 9,713, 1,431 | 31,748, 3,939 | find the context of a question | CC BY-SA 3.0 |
| `jagovfaqs-22k/test` | 22,794 | 2,048 | find the answer in FAQs of ministries | CC BY 4.0 |
| `nlp-journal/{title-abs,title-intro,abs-intro,abs-article}` | 637 | 510 | find a part of a paper | CC BY 4.0 |
| `jaqket/test` | 114,229 | 997 | find the Wikipedia article that answers a question | CC BY-SA 4.0 |
| `mldr-ja/dev`, `mldr-ja/test` | 10,000 | 200 | find a long article | MIT |
| `miracl/ja/{train,dev,test-a,test-b}` | 6,953,614 | 3,477, 860, ... | defined by `ir_datasets` | Apache-2.0 |
| `mr-tydi/ja/{train,dev,test}` | 7,000,027 | 3,697, 928, 720 | defined by `ir_datasets` | Apache-2.0 |
| `mmarco/v2/ja/{train,dev,dev/small}` | 8,841,823 | 808,731, ... | defined by `ir_datasets` | MS MARCO's terms |

The last three rows come with `ir_datasets`; this package only gives them names.

A dataset is downloaded on first use into the folder of `ir_datasets` (`~/.ir_datasets`, or `$IR_DATASETS_HOME`).
Datasets from the hub go through the cache of `huggingface_hub`, need the extra `evaluate`, and are kept in the formats
of `ir_datasets`. Files are checked against published checksums or a fixed revision, and all datasets against the
record counts above. To use your own copies instead, set the environment variable `JACOLBERT_DATA` to a folder that
contains them under the names below, or call `use_local` with that folder.

    jsquad/valid-v1.3.json                          JGLUE and JaQuAD; a file may be gzipped (NAME.gz)
    jsquad/train-v1.3.json
    jaquad/train/jaquad_train_0000.json             ... to 0029; jaquad/dev/jaquad_dev_0000.json to 0003
    hotchpotch/JQaRA/data/test-00000-of-00001.parquet   files of the hub: OWNER/NAME/ and the repository's file names
    miracl-ja-small/miracl_ja_bm25_top1000.json

To add a dataset, write a module here that ends in `DATASETS`, and list it in `_BENCHMARK_MODULES`.
"""

import difflib
from collections.abc import Iterable
from types import ModuleType

import ir_datasets
import pyterrier as pt

# The module is private, but `irds:` returns its class, and get_text, docstore and languages work with no other class.
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
from pyterrier_jacolbert.datasets.demo import no_shared_word

__all__ = ["JaColBERTDataset", "JaColBERTDatasetProvider", "no_shared_word", "register", "use_local"]

_BENCHMARK_MODULES: tuple[ModuleType, ...] = (
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
_DATASET_BY_IRDS_ID = {
    irds_id: dataset for module in _BENCHMARK_MODULES for irds_id, dataset in module.DATASETS.items()
}
#: Datasets defined by ir_datasets.
_IRDS_BUILTIN_IDS = (
    *(f"miracl/ja{split}" for split in ("", "/train", "/dev", "/test-a", "/test-b")),
    *(f"mr-tydi/ja{split}" for split in ("", "/train", "/dev", "/test")),
    *(f"mmarco/v2/ja{split}" for split in ("", "/train", "/dev", "/dev/small")),
)
# The prefix is dropped because `jacolbert:jacolbert-demo` would stutter. All other names are the ids.
_IRDS_ID_BY_NAME = {
    irds_id.removeprefix("jacolbert-"): irds_id for irds_id in (*_DATASET_BY_IRDS_ID, *_IRDS_BUILTIN_IDS)
}

_MMARCO_NOTICE = (
    "mMARCO is a translation of MS MARCO, whose terms allow only non-commercial research "
    "(https://microsoft.github.io/msmarco/), regardless of the translation's own licence."
)


def register() -> None:
    """Adds the datasets to `ir_datasets.registry`.

    Nothing is read or downloaded until a dataset is used. An id that is already registered is left as it is, so a
    second call changes nothing.
    """
    registered_ids = set(ir_datasets.registry)
    for irds_id, dataset in _DATASET_BY_IRDS_ID.items():
        if irds_id not in registered_ids:
            ir_datasets.registry.register(irds_id, dataset)


class JaColBERTDataset(IRDSDataset):
    """A dataset of this package: PyTerrier's adapter for `ir_datasets`, with the address of the dataset's home page."""

    def info_url(self) -> str | None:
        """Returns the address of the dataset's home page, or of `ir_datasets`' page for its own datasets.

        Returns:
            The address, or None if there is none.
        """
        if self._irds_id in _IRDS_BUILTIN_IDS:
            page: str | None = super().info_url()  # type: ignore[no-untyped-call] # PyTerrier's has no types
            return page
        home: str | None = self.irds_ref().documentation().get("url")  # type: ignore[no-untyped-call]
        return home


class JaColBERTDatasetProvider(pt.datasets.DatasetProvider):
    """Provides `pt.get_dataset` with the names that start with `jacolbert:`."""

    def get_dataset(self, name: str) -> JaColBERTDataset:
        """Returns a dataset by name.

        Args:
            name: a name from :meth:`list_dataset_names`.

        Returns:
            The dataset. It reads its files when its topics, qrels or documents are requested.

        Raises:
            KeyError: the name is unknown. The message lists similar names.
        """
        if name not in _IRDS_ID_BY_NAME:
            raise KeyError(f"The dataset {name!r} is unknown; choose from {_similar_names(name)}.")
        register()
        if name.startswith("mmarco/") and not (ir_datasets.util.home_path() / "mmarco").exists():
            ir_datasets.log.easy().info(f"[{name}] {_MMARCO_NOTICE}")
        return JaColBERTDataset(_IRDS_ID_BY_NAME[name])  # type: ignore[no-untyped-call] # PyTerrier's has no types

    def list_dataset_names(self) -> Iterable[str]:
        """Lists the names of the datasets.

        Returns:
            The names without `jacolbert:`, in alphabetical order.
        """
        return sorted(_IRDS_ID_BY_NAME)


def _similar_names(name: str) -> str:
    spelled_similarly = difflib.get_close_matches(name, _IRDS_ID_BY_NAME, n=4, cutoff=0.5)
    same_benchmark = [known for known in sorted(_IRDS_ID_BY_NAME) if known.split("/")[0] == name.split("/")[0]]
    names = list(dict.fromkeys([*same_benchmark[:6], *spelled_similarly]))
    return ", ".join(names or sorted(_IRDS_ID_BY_NAME))

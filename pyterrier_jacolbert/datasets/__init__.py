"""The Japanese benchmarks, as `ir_datasets` definitions and as PyTerrier data sets.

`pt.get_dataset("jacolbert:jsquad/validation")` works in any process where the package is installed; after
`import pyterrier_jacolbert`, `ir_datasets.load("jsquad/validation")` and
`pt.get_dataset("irds:jsquad/validation")` do too.

| `jacolbert:` name | `ir_datasets` id | what |
|---|---|---|
| `demo` | `jacolbert-demo` | 330 short documents and 114 questions, within the package: no network needed |
| `jsquad/validation` | `jsquad/validation` | JGLUE's JSQuAD: 1,145 Wikipedia paragraphs, 4,442 questions |

A data set's file is downloaded when it is first needed, into the folder of `ir_datasets` (`~/.ir_datasets`, or
`$IR_DATASETS_HOME`). To use copies of your own instead, set the environment variable `JACOLBERT_DATA` to a folder that
holds them under the names below, or call `use_local` with it; each is checked against the checksum of the original.

    jsquad/valid-v1.3.json

A new data set is one small file beside this one that ends in `DATASETS`, and a line in `_modules`.
"""

from collections.abc import Iterable
from types import ModuleType

import ir_datasets
import pyterrier as pt

# The module is private, but its class is what `irds:` gives, and only there do get_text, docstore and languages work.
from pyterrier.datasets._irds import IRDSDataset

from pyterrier_jacolbert.datasets import demo, jsquad
from pyterrier_jacolbert.datasets._source import use_local

__all__ = ["JaColBERTDataset", "JaColBERTDatasetProvider", "register", "use_local"]

_modules: tuple[ModuleType, ...] = (demo, jsquad)
_DATASETS = {irds_id: dataset for module in _modules for irds_id, dataset in module.DATASETS.items()}
# `jacolbert:jacolbert-demo` would stutter; elsewhere the name is the id.
_IRDS_IDS = {irds_id.removeprefix("jacolbert-"): irds_id for irds_id in _DATASETS}


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
        """The home page of the data; `ir_datasets` has no page on them.

        Returns:
            The address, or None if there is none.
        """
        return self.irds_ref().documentation().get("url")


class JaColBERTDatasetProvider(pt.datasets.DatasetProvider):
    """Gives `pt.get_dataset` the names that start with `jacolbert:`."""

    def get_dataset(self, name: str) -> JaColBERTDataset:
        """A data set by its name.

        Args:
            name: One of `list_dataset_names()`.

        Returns:
            The data set. It reads its file when its topics, qrels or documents are asked for.

        Raises:
            KeyError: There is no such data set; the message names those there are.
        """
        if name not in _IRDS_IDS:
            raise KeyError(f"There is no data set {name!r} here; there are {', '.join(self.list_dataset_names())}.")
        register()
        return JaColBERTDataset(_IRDS_IDS[name])

    def list_dataset_names(self) -> Iterable[str]:
        """The names of the data sets.

        Returns:
            The names, without `jacolbert:`, in alphabetical order.
        """
        return sorted(_IRDS_IDS)

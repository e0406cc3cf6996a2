"""Provides the datasets of this package to `pt.get_dataset`."""

import difflib
from collections.abc import Iterable

import ir_datasets
import pyterrier as pt

# The module is private, but `irds:` returns its class, and get_text, docstore and languages work with no other class.
from pyterrier.datasets._irds import IRDSDataset

from pyterrier_jacolbert.datasets._catalog import IRDS_BUILTIN_IDS, IRDS_ID_BY_NAME, register

_MMARCO_NOTICE = (
    "mMARCO is a translation of MS MARCO, whose terms allow only non-commercial research "
    "(https://microsoft.github.io/msmarco/), regardless of the translation's own licence."
)


class JaColBERTDataset(IRDSDataset):
    """A dataset of this package: PyTerrier's adapter for `ir_datasets`, with the address of the dataset's home page."""

    def info_url(self) -> str | None:
        """Returns the address of the dataset's home page, or of `ir_datasets`' page for its own datasets.

        Returns:
            The address, or None if there is none.
        """
        if self._irds_id in IRDS_BUILTIN_IDS:
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
        if name not in IRDS_ID_BY_NAME:
            raise KeyError(f"The dataset {name!r} is unknown; choose from {_similar_names(name)}.")
        register()
        if name.startswith("mmarco/") and not (ir_datasets.util.home_path() / "mmarco").exists():
            ir_datasets.log.easy().info(f"[{name}] {_MMARCO_NOTICE}")
        return JaColBERTDataset(IRDS_ID_BY_NAME[name])  # type: ignore[no-untyped-call] # PyTerrier's has no types

    def list_dataset_names(self) -> Iterable[str]:
        """Lists the names of the datasets.

        Returns:
            The names without `jacolbert:`, in alphabetical order.
        """
        return sorted(IRDS_ID_BY_NAME)


def _similar_names(name: str) -> str:
    spelled_similarly = difflib.get_close_matches(name, IRDS_ID_BY_NAME, n=4, cutoff=0.5)
    same_benchmark = [known for known in sorted(IRDS_ID_BY_NAME) if known.split("/")[0] == name.split("/")[0]]
    names = list(dict.fromkeys([*same_benchmark[:6], *spelled_similarly]))
    return ", ".join(names or sorted(IRDS_ID_BY_NAME))

"""The datasets of this package by name, and their registration in `ir_datasets`."""

from types import ModuleType

import ir_datasets

from pyterrier_jacolbert.datasets import (
    demo,
    esci,
    jacwir,
    jagovfaqs,
    jaqket,
    jaquad,
    jglue,
    jqara,
    jsquad,
    miracl_small,
    mldr,
    nlp_journal,
)

BENCHMARK_MODULES: tuple[ModuleType, ...] = (
    demo,
    jsquad,
    jqara,
    jacwir,
    esci,
    miracl_small,
    jaquad,
    jglue,
    jagovfaqs,
    nlp_journal,
    jaqket,
    mldr,
)
DATASET_BY_IRDS_ID = {irds_id: dataset for module in BENCHMARK_MODULES for irds_id, dataset in module.DATASETS.items()}
#: Datasets defined by ir_datasets.
IRDS_BUILTIN_IDS = (
    *(f"miracl/ja{split}" for split in ("", "/train", "/dev", "/test-a", "/test-b")),
    *(f"mr-tydi/ja{split}" for split in ("", "/train", "/dev", "/test")),
    *(f"mmarco/v2/ja{split}" for split in ("", "/train", "/dev", "/dev/small")),
)
# The prefix is dropped because `jacolbert:jacolbert-demo` would stutter. All other names are the ids.
IRDS_ID_BY_NAME = {irds_id.removeprefix("jacolbert-"): irds_id for irds_id in (*DATASET_BY_IRDS_ID, *IRDS_BUILTIN_IDS)}


def register() -> None:
    """Adds the datasets to `ir_datasets.registry`.

    Nothing is read or downloaded until a dataset is used. An id that is already registered is left as it is, so a
    second call changes nothing.
    """
    registered_ids = set(ir_datasets.registry)
    for irds_id, dataset in DATASET_BY_IRDS_ID.items():
        if irds_id not in registered_ids:
            ir_datasets.registry.register(irds_id, dataset)

"""Japanese benchmarks as `ir_datasets` definitions and as PyTerrier datasets.

`pt.get_dataset("jacolbert:jsquad/validation")` works in every process if the package is installed. After
`import pyterrier_jacolbert`, `ir_datasets.load("jsquad/validation")` and
`pt.get_dataset("irds:jsquad/validation")` work, too. (`demo` is called `jacolbert-demo` in `ir_datasets`.) Importing
the package does not import `ir_datasets`, which creates its folder; the datasets are registered when its registry is
first asked.

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
| `jsts/train` | 11,804 | 1,185 | JGLUE's JSTS: find a paraphrase among captions | CC BY-SA 4.0 |
| `jcommonsenseqa/train` | 12,802 | 8,939 | JGLUE's JCommonsenseQA: find the short answer | CC BY-SA 4.0 |
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
    jglue/jsts-train-v1.3.json                      and jglue/jcommonsenseqa-train-v1.3.json
    hotchpotch/JQaRA/data/test-00000-of-00001.parquet   files of the hub: OWNER/NAME/ and the repository's file names
    miracl-ja-small/miracl_ja_bm25_top1000.json

To add a dataset, write a module here that ends in `DATASETS`, and list it in `BENCHMARK_MODULES` of `_catalog.py`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pyterrier_jacolbert.datasets._registration import register_when_asked as register_when_asked

if TYPE_CHECKING:
    from pyterrier_jacolbert.datasets._catalog import register
    from pyterrier_jacolbert.datasets._provider import JaColBERTDataset, JaColBERTDatasetProvider
    from pyterrier_jacolbert.datasets._source import use_local
    from pyterrier_jacolbert.datasets.demo import no_shared_word

__all__ = ["JaColBERTDataset", "JaColBERTDatasetProvider", "no_shared_word", "register", "use_local"]

#: The module of each public name.
_MODULES = {
    "JaColBERTDataset": "_provider",
    "JaColBERTDatasetProvider": "_provider",
    "no_shared_word": "demo",
    "register": "_catalog",
    "use_local": "_source",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    except OSError as error:
        raise type(error)(
            error.errno,
            f"The datasets need ir_datasets, which cannot create its folder ({error.strerror}: {error.filename}); set "
            "IR_DATASETS_HOME to a folder that can be written",
        ) from error


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])

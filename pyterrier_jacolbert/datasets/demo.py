"""A little collection within the package, so that the command-line demo and the examples need no network.

Documents and questions were written for this project and come under its licence. Each subject has near neighbours (four
mountains, five writers, two firsts in Nobel prizes), so that a ranking has something to get wrong.
"""

import json
from importlib.resources import files

from ir_datasets.formats import GenericQrel, GenericQuery

from pyterrier_jacolbert.datasets._collection import Collection, Counts, Documentation, TitledDoc, dataset


def _read() -> Collection:
    content = json.loads(files(__package__).joinpath("demo.json").read_text(encoding="utf-8"))
    return Collection(
        [TitledDoc(**doc) for doc in content["docs"]],
        [GenericQuery(**query) for query in content["queries"]],
        [GenericQrel(**qrel) for qrel in content["qrels"]],
    )


DATASETS = {
    "jacolbert-demo": dataset(
        "jacolbert-demo",
        _read,
        counts=Counts(docs=40, queries=15, qrels=21),
        documentation=Documentation(
            pretty_name="pyterrier_jacolbert demo",
            desc="<p>Forty short Japanese documents on general knowledge and fifteen questions.</p>",
            licence="MIT",
        ),
        relevance={1: "touches on the answer", 2: "answers the question"},
    )
}

"""The dataset on disk has the given examples and texts, and looks up only the texts that examples use."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyterrier_jacolbert.train import Example, Stage, dataset

DOCUMENTS = {f"d{i}": f"文書{i}の本文" * min(i, 2) for i in range(9)}
QUERIES = {f"問{i}": f"問い{i}\n二行目" for i in range(4)}


def stage(**changes):
    return Stage(name="s", start="x", examples="e", n_ways=3, **changes)


def rows(folder):
    opened = dataset.read(folder)
    return [
        (row["query"], [row[f"document_{k}"] for k in (1, 2, 3)], row["label"])
        for row in (opened[i] for i in range(len(opened)))
    ]


three_way = st.tuples(
    st.sampled_from(sorted(QUERIES)),
    st.permutations(sorted(DOCUMENTS)).map(lambda docnos: tuple(docnos[:3])),
    st.lists(st.floats(-(2.0**126), 2.0**126, width=32), min_size=3, max_size=3, unique=True),
)


@given(st.lists(three_way, min_size=1, max_size=7), st.integers(1, 3))
def test_reading_returns_what_was_written(tmp_path_factory, lines, every):
    folder = tmp_path_factory.mktemp("texts")
    examples = [Example(qid, docnos, tuple(scores)) for qid, docnos, scores in lines]
    n_written = dataset.write(iter(examples), QUERIES, DOCUMENTS, stage(every=every), folder)
    expected = [(QUERIES[e.qid], [DOCUMENTS[docno] for docno in e.docnos], list(e.scores)) for e in examples[::every]]
    assert n_written == len(expected)
    assert rows(folder) == expected


def test_hard_labels_need_no_scores(tmp_path):
    dataset.write([Example("問1", ("d1", "d2", "d3"))], QUERIES, DOCUMENTS, stage(loss="hard_labels"), tmp_path)
    assert rows(tmp_path) == [(QUERIES["問1"], [DOCUMENTS[f"d{i}"] for i in (1, 2, 3)], [0, 0, 0])]


def test_unused_lines_are_validated_under_their_own_number(tmp_path):
    good = Example("問1", ("d1", "d2", "d3"), (3.0, 2.0, 1.0))
    wrong = Example("問1", ("d1", "d2", "absent"), (3.0, 2.0, 1.0))
    with pytest.raises(
        ValueError,
        match="1 problem in 3 examples; repair or remove the lines: line 2: document 'absent' is not in the collection",
    ):
        dataset.write([good, wrong, good], QUERIES, DOCUMENTS, stage(every=2), tmp_path)


def test_each_text_is_looked_up_at_most_twice(tmp_path):
    class Slow(Mapping):
        def __init__(self):
            self.looked_up = []

        def __getitem__(self, key):
            self.looked_up.append(key)
            return DOCUMENTS[key]

        def __iter__(self):
            raise AssertionError("iterated over a collection that may be larger than memory")

        __len__ = __iter__

    slow = Slow()
    examples = [Example("問1", ("d1", "d2", "d3"), (3.0, 2.0, 1.0 / (i + 1))) for i in range(50)]
    dataset.write(examples, QUERIES, slow, stage(), tmp_path)
    assert sorted(slow.looked_up) == ["d1", "d1", "d2", "d2", "d3", "d3"]

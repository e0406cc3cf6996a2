"""Examples joined with their texts on disk: what is read is what was given; only what was asked for is looked up."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyterrier_jacolbert.train import joined
from pyterrier_jacolbert.train.examples import Example
from pyterrier_jacolbert.train.recipe import Stage

DOCUMENTS = {f"d{i}": f"文書{i}の本文" * (i % 3) for i in range(9)}
QUERIES = {f"問{i}": f"問い{i}\n二行目" for i in range(4)}


def stage(**changes):
    return Stage(name="s", start="x", examples="e", n_ways=3, **changes)


def rows(dataset):
    return [
        (row["query"], [row[f"document_{k}"] for k in (1, 2, 3)], row["label"])
        for row in (dataset[i] for i in range(len(dataset)))
    ]


three = st.tuples(
    st.sampled_from(sorted(QUERIES)),
    st.permutations(sorted(DOCUMENTS)).map(lambda docnos: tuple(docnos[:3])),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3, unique=True),
)


@given(st.lists(three, min_size=1, max_size=7), st.integers(1, 3))
def test_what_is_read_is_what_was_given(tmp_path_factory, lines, every):
    folder = tmp_path_factory.mktemp("texts")
    examples = [Example(qid, docnos, tuple(scores)) for qid, docnos, scores in lines]
    taken = joined.write(iter(examples), QUERIES, DOCUMENTS, stage(every=every), folder)
    expected = [(QUERIES[e.qid], [DOCUMENTS[docno] for docno in e.docnos], list(e.scores)) for e in examples[::every]]
    assert taken == len(expected)
    assert rows(joined.read(folder)) == expected


def test_hard_labels_need_no_scores(tmp_path):
    joined.write([Example("問1", ("d1", "d2", "d3"))], QUERIES, DOCUMENTS, stage(loss="hard_labels"), tmp_path)
    assert rows(joined.read(tmp_path)) == [(QUERIES["問1"], [DOCUMENTS[f"d{i}"] for i in (1, 2, 3)], [0, 0, 0])]


def test_a_line_that_is_not_taken_is_checked_too_and_named_by_its_own_number(tmp_path):
    good = Example("問1", ("d1", "d2", "d3"), (3.0, 2.0, 1.0))
    wrong = Example("問1", ("d1", "d2", "absent"), (3.0, 2.0, 1.0))
    with pytest.raises(
        ValueError,
        match="1 problem in 3 examples; repair .*: line 2: document 'absent' is not in the collection",
    ):
        joined.write([good, wrong, good], QUERIES, DOCUMENTS, stage(every=2), tmp_path)


def test_each_text_is_looked_up_twice_at_most_however_many_examples_name_it(tmp_path):
    class Slow(Mapping):
        def __init__(self):
            self.asked = []

        def __getitem__(self, key):
            self.asked.append(key)
            return DOCUMENTS[key]

        def __iter__(self):
            raise AssertionError("the collection may be larger than memory")

        __len__ = __iter__

    slow = Slow()
    examples = [Example("問1", ("d1", "d2", "d3"), (3.0, 2.0, 1.0 / (i + 1))) for i in range(50)]
    joined.write(examples, QUERIES, slow, stage(), tmp_path)
    assert sorted(slow.asked) == ["d1", "d1", "d2", "d2", "d3", "d3"]

"""Reading, mining, scoring, resuming and validating n-way examples."""

import json
import re

import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyterrier_jacolbert import JapaneseBM25
from pyterrier_jacolbert.train import Example, ensemble, mine, read, read_colbert, read_released, save, score, validate


@pytest.fixture(scope="module")
def demo():
    return pt.get_dataset("jacolbert:demo")


@pytest.fixture(scope="module")
def docs(demo):
    return {doc["docno"]: doc["text"] for doc in demo.get_corpus_iter(verbose=False)}


@pytest.fixture(scope="module")
def bm25(docs, tmp_path_factory):
    path = tmp_path_factory.mktemp("bm25") / "index"
    return JapaneseBM25(path).index({"docno": docno, "text": text} for docno, text in docs.items())


class Counting(pt.Transformer):
    """Passes frames on, counts their queries, and fails after a number of them. Its repr contains its address."""

    def __init__(self, inner, fail_after=None):
        self.inner = inner
        self.fail_after = fail_after
        self.seen = 0

    def transform(self, inp):
        if self.fail_after is not None and self.seen >= self.fail_after:
            raise RuntimeError("power cut")
        self.seen += inp["qid"].nunique()
        return self.inner(inp)


ids = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
scored = st.lists(st.tuples(ids, st.floats(allow_nan=False, allow_infinity=False)), min_size=1, max_size=5)


@given(st.lists(st.tuples(ids, scored), max_size=6), st.booleans())
def test_reading_returns_what_was_saved(tmp_path_factory, lines, with_scores):
    expected = [
        Example(qid, tuple(d for d, _ in documents), tuple(s for _, s in documents) if with_scores else None)
        for qid, documents in lines
    ]
    path = save(iter(expected), tmp_path_factory.mktemp("examples") / "e.jsonl")
    assert list(read(path)) == expected
    assert [file.name for file in path.parent.iterdir()] == ["e.jsonl"]


def test_colbert_s_format_is_read(tmp_path):
    path = tmp_path / "triples.jsonl"
    path.write_text('[1, [7, 0.5], [8, -1]]\n\n["q", "a", "b"]\n', encoding="utf-8")
    assert list(read_colbert(path)) == [Example("1", ("7", "8"), (0.5, -1.0)), Example("q", ("a", "b"))]


@pytest.mark.parametrize("line", ["[1]", "[1, [2]]", "[1, [2, 3], 4]", "{}", "3", "[[1], [2, 3]]", '[1, [2, "x"]]'])
def test_malformed_lines_are_reported_by_number(tmp_path, line):
    path = tmp_path / "triples.jsonl"
    path.write_text(f"[1, [7, 0.5]]\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"triples.jsonl, line 2: expected \[qid, \[pid, score\]"):
        list(read_colbert(path))
    path.write_text('{"qid": "q", "docnos": ["a"]}\n{"qid": 3\n', encoding="utf-8")
    with pytest.raises(ValueError, match="line 2: this is not JSON"):
        list(read(path))


def test_the_released_dataset_is_read_from_its_files(tmp_path):
    rows = {"query_id": [3], "pos_id": [9], "neg_ids": [[4, 5]], "pos_score": [0.75], "neg_scores": [[0.5, 0.25]]}
    pd.DataFrame(rows).to_parquet(tmp_path / "M3-00000-of-00001.parquet")
    released = list(read_released("M3", source=str(tmp_path)))
    assert released == [Example("3", ("9", "4", "5"), (0.75, 0.5, 0.25))]
    with pytest.raises(FileNotFoundError, match="has no monot5"):
        list(read_released("monot5", source=str(tmp_path)))


def test_mining_excludes_relevant_and_too_good_candidates(demo, bm25):
    topics, qrels = demo.get_topics(), demo.get_qrels()
    mined = list(mine(bm25.retriever(), topics, qrels, n_ways=4, false_negative_margin=0.5))
    assert mined
    ranking = bm25.retriever()(topics).set_index(["qid", "docno"])["score"]
    relevant = set(zip(qrels["qid"], qrels["docno"], strict=True))
    for example in mined:
        assert (example.qid, example.docnos[0]) in relevant
        assert len(set(example.docnos)) == 4
        for docno in example.docnos[1:]:
            assert (example.qid, docno) not in relevant
            assert ranking[example.qid, docno] <= 0.5 * ranking.get((example.qid, example.docnos[0]), np.inf)


def test_the_draw_depends_only_on_the_seed_and_the_pair(demo, bm25):
    topics, qrels = demo.get_topics(), demo.get_qrels()

    def drawn(topics, **settings):
        return {(e.qid, e.docnos[0]): e for e in mine(bm25.retriever(), topics, qrels, n_ways=4, **settings)}

    expected = drawn(topics)
    assert drawn(topics.iloc[::-1], batch_size=2) == expected
    assert drawn(topics.iloc[3:7], batch_size=1).items() <= expected.items()
    assert drawn(topics, seed=1) != expected


def test_pairs_with_too_few_candidates_are_left_out_and_counted(demo, bm25):
    pairs = len(demo.get_qrels())
    with pytest.warns(UserWarning, match=rf"\d+ of {pairs} pairs had fewer than 199 negatives and were left out"):
        mined = list(mine(bm25.retriever(), demo.get_topics(), demo.get_qrels(), n_ways=200))
    assert len(mined) < pairs


def test_mining_rejects_invalid_input(demo, bm25):
    union = bm25.retriever() % 5 | bm25.retriever() % 10
    with pytest.raises(ValueError, match=r"have no scores, as those of a union; add a scorer"):
        list(mine(union, demo.get_topics(), demo.get_qrels(), n_ways=2))
    assert list(mine(union >> bm25.scorer(), demo.get_topics(), demo.get_qrels(), n_ways=2))
    with pytest.raises(ValueError, match="n_ways must be 2 or more"):
        mine(bm25.retriever(), demo.get_topics(), demo.get_qrels(), n_ways=1)
    with pytest.raises(ValueError, match=r"None of the \d+ queries has a relevant document in qrels"):
        mine(bm25.retriever(), demo.get_topics().assign(qid=lambda topics: "other " + topics["qid"]), demo.get_qrels())
    with pytest.raises(ValueError, match="must hold strings"):
        mine(bm25.retriever(), demo.get_topics().assign(qid=range(len(demo.get_topics()))), demo.get_qrels())


def test_scores_are_those_of_the_teacher(demo, bm25, docs):
    topics = demo.get_topics()
    mined = list(mine(bm25.retriever(), topics, demo.get_qrels(), n_ways=4))
    rescored = list(score(mined, bm25.scorer(), topics, batch_size=3))
    assert [(e.qid, e.docnos) for e in rescored] == [(e.qid, e.docnos) for e in mined]
    ranking = bm25.retriever()(topics).set_index(["qid", "docno"])["score"]
    for example in rescored:
        expected = [ranking.get((example.qid, docno), 0.0) for docno in example.docnos]
        np.testing.assert_allclose(example.scores, expected)
    lengths = pt.apply.doc_score(lambda row: float(len(row["text"])))
    for example in score(mined, lengths, topics, documents=docs):
        assert example.scores == tuple(float(len(docs[docno])) for docno in example.docnos)


def test_teachers_must_score_every_document(demo, bm25):
    topics = demo.get_topics()
    mined = list(mine(bm25.retriever(), topics, demo.get_qrels(), n_ways=4))
    with pytest.raises(ValueError, match="The teacher gave document .* no score"):
        list(score(mined, bm25.scorer() % 2, topics))
    with pytest.raises(ValueError, match="is not among the topics"):
        list(score(mined, bm25.scorer(), topics.tail(1)))


def test_an_interrupted_save_resumes_where_it_stopped(demo, bm25, tmp_path):
    topics, qrels = demo.get_topics(), demo.get_qrels()

    def stream(candidates, teacher):
        mined = mine(candidates, topics, qrels, n_ways=4, batch_size=4)
        return score(mined, teacher, topics, batch_size=4)

    whole = save(stream(Counting(bm25.retriever()), Counting(bm25.scorer())), tmp_path / "whole.jsonl")
    with pytest.raises(RuntimeError, match="power cut"):
        save(stream(Counting(bm25.retriever()), Counting(bm25.scorer(), fail_after=8)), tmp_path / "e.jsonl")
    assert not (tmp_path / "e.jsonl").exists()
    part = tmp_path / "e.jsonl.part"
    done = len(part.read_bytes().splitlines()) - 1
    assert done >= 8
    with part.open("ab") as file:
        file.write(b'{"qid": "torn')  # a line that a crash truncated
    teacher = Counting(bm25.scorer())
    save(stream(Counting(bm25.retriever()), teacher), tmp_path / "e.jsonl")
    assert (tmp_path / "e.jsonl").read_bytes() == whole.read_bytes()
    assert teacher.seen <= len(qrels) - done
    assert sorted(file.name for file in tmp_path.iterdir()) == ["e.jsonl", "whole.jsonl"]


def test_a_save_with_other_settings_does_not_resume(demo, bm25, tmp_path):
    topics, qrels = demo.get_topics(), demo.get_qrels()
    with pytest.raises(RuntimeError):
        save(mine(Counting(bm25.retriever(), 2), topics, qrels, n_ways=4, batch_size=1), tmp_path / "e.jsonl")
    with pytest.raises(ValueError, match=r"e.jsonl.part was written with other settings; remove it"):
        save(mine(Counting(bm25.retriever()), topics, qrels, n_ways=5, batch_size=1), tmp_path / "e.jsonl")


def test_an_ensemble_adds_normalised_scores(demo, bm25):
    candidates = (bm25.retriever() % 5)(demo.get_topics())
    length = pt.apply.doc_score(lambda row: float(len(row["docno"])))
    summed = ensemble(bm25.scorer(), length, weights=[2.0, 1.0])(candidates)
    for qid, rows in candidates.groupby("qid"):
        lengths = rows["docno"].str.len().to_numpy(float)
        scores = rows["score"].to_numpy()

        def minmax(x):
            return (x - x.min()) / (x.max() - x.min()) if x.max() > x.min() else 0 * x

        expected = dict(zip(rows["docno"], 2 * minmax(scores) + minmax(lengths), strict=True))
        got = summed[summed["qid"] == qid].set_index("docno")["score"].to_dict()
        assert got == pytest.approx(expected, abs=1e-5)
    z = ensemble(bm25.scorer(), normalize="zscore")(candidates)
    groups = z.groupby("qid")["score"]
    np.testing.assert_allclose(groups.mean(), 0, atol=1e-6)
    assert set(groups.std(ddof=0).round(4)) <= {0.0, 1.0}


def test_ensembles_reject_invalid_teachers(demo, bm25):
    with pytest.raises(ValueError, match="needs at least one teacher"):
        ensemble()
    with pytest.raises(ValueError, match="normalize must be one of"):
        ensemble(bm25.scorer(), normalize="softmax")
    candidates = (bm25.retriever() % 5)(demo.get_topics())
    with pytest.raises(ValueError, match="gave document .* no score; use a re-ranker"):
        ensemble(bm25.scorer() % 2)(candidates)


GOOD = Example("q", ("a", "b"), (1.0, 0.0))
QRELS = pd.DataFrame([["q", "a", 1], ["q", "c", 0]], columns=["qid", "docno", "label"])


@pytest.mark.parametrize(
    ("example", "problem"),
    [
        (Example("q", ("a", "b", "c"), (1, 2, 3)), "query 'q' has 3 documents, not 2"),
        (Example("q", ("a", "a"), (1, 2)), "document 'a' is repeated"),
        (Example("q", ("a", "b"), (1, float("nan"))), "has a score that is NaN or infinite"),
        (Example("q", ("a", "b"), (1, float("inf"))), "has a score that is NaN or infinite"),
        (Example("q", ("a", "b"), (2, 2)), "are all equal, so min-max normalisation is undefined"),
        (
            Example("q", ("b", "a"), (1, 2)),
            "the first document of query 'q' is not judged relevant",
        ),
        (Example("q", ("a", "z"), (1, 2)), "document 'z' is not in the collection"),
        (Example("r", ("a", "b"), (1, 2)), "query 'r' is not among the queries"),
        (Example("q", ("a", "b")), "query 'q' has no scores"),
        (Example("q", ("a", "b"), (1, 2, 3)), "has 3 scores for 2 documents"),
    ],
)
def test_validation_reports_line_and_problem(example, problem):
    known = {"n_ways": 2, "qrels": QRELS, "queries": {"q"}, "documents": {"a", "b", "c"}}
    assert validate([GOOD, GOOD], **known) == 2
    with pytest.raises(ValueError, match=re.escape(problem)) as caught:
        validate([GOOD, example, GOOD], **known)
    assert "line 2: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_validation_reports_first_problems_and_counts_the_rest():
    with pytest.raises(
        ValueError,
        match=r"^8 problems in 9 examples; repair or remove the lines: line 2: .*line 6: .*; and 3 more\.$",
    ):
        validate([GOOD] + [Example("q", ("a", "b"))] * 8, n_ways=2)
    with pytest.raises(ValueError, match="There are no examples"):
        validate([], n_ways=2)


def test_lines_are_plain_json(tmp_path):
    path = save(iter([Example("質問", ("あ", "い"), (0.1, 0.2))]), tmp_path / "e.jsonl")
    content = {"qid": "質問", "docnos": ["あ", "い"], "scores": [0.1, 0.2]}
    assert json.loads(path.read_text(encoding="utf-8")) == content

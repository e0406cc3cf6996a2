"""Checks of the behaviours that PyTerrier's users and tools rely on, for any transformer or index.

Each dict maps a behaviour to a check. A test module runs them all with one parametrised test, so that every behaviour
is a test of its own::

    @pytest.mark.parametrize("behaviour", conformance.RETRIEVER)
    def test_retriever(behaviour, index, topics):
        conformance.RETRIEVER[behaviour](lambda **kw: index.retriever(**kw), topics, len(index))
"""

import contextlib
import copy
import functools
import http.server
import json
import os
import pickle
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from ir_measures import RR, nDCG

RETRIEVER: dict[str, Callable] = {}
SCORER: dict[str, Callable] = {}
INDEXER: dict[str, Callable] = {}
ARTIFACT: dict[str, Callable] = {}

#: Scores of a query in different batches may differ by the rounding of float32 sums.
TOLERANCE = 1e-5


def behaviour(registry, name):
    """Registers a check under the name of a behaviour."""

    def register(check):
        registry[name] = check
        return check

    return register


retriever = functools.partial(behaviour, RETRIEVER)
scorer = functools.partial(behaviour, SCORER)
indexer = functools.partial(behaviour, INDEXER)
artifact = functools.partial(behaviour, ARTIFACT)


def assert_same_ranking(found, expected, message):
    """Checks that queries, documents and ranks are the same, in the same order, and scores within the tolerance."""
    columns = ["qid", "docno", "rank"]
    assert found[columns].values.tolist() == expected[columns].values.tolist(), message
    np.testing.assert_allclose(found["score"], expected["score"], atol=TOLERANCE, rtol=TOLERANCE, err_msg=message)


def assert_valid_ranking(frame, message=""):
    """Checks types, ranks (0..n-1 by descending score, ties by docno descending), and that no docno is repeated."""
    if len(frame):
        assert {type(v) for v in frame["qid"]} | {type(v) for v in frame["docno"]} == {str}, f"{message}: ids are str"
    assert pd.api.types.is_float_dtype(frame["score"]), f"{message}: score is a float"
    assert frame["score"].dtype.itemsize >= 4, f"{message}: half precision makes ties that change the measures"
    assert pd.api.types.is_integer_dtype(frame["rank"]), f"{message}: rank is an int"
    assert not frame["score"].isna().any(), f"{message}: no score is NaN"
    for qid, group in frame.groupby("qid"):
        assert group["rank"].tolist() == list(range(len(group))), f"{message}: ranks of {qid} are 0..n-1 in order"
        assert group["docno"].is_unique, f"{message}: no document of {qid} is repeated"
        keys = list(zip(group["score"], group["docno"], strict=True))
        assert keys == sorted(keys, reverse=True), f"{message}: {qid} is ordered by score, then docno, descending"


@contextlib.contextmanager
def no_network():
    """Makes name look-ups and connections fail while the block runs."""
    error = AssertionError("this uses the network")
    with mock.patch("socket.getaddrinfo", side_effect=error), mock.patch("socket.socket.connect", side_effect=error):
        yield


# ----------------------------------------------------------------------------------------------------------------------
# Retrievers: check(make, topics, n_docs). make(num_results=...) creates a retriever; topics (qid, query) has at least
# three queries with at least two results each.


@retriever("R01 is a transformer")
def is_a_transformer(make, topics, n_docs):
    assert isinstance(make(), pt.Transformer), "not a pt.Transformer"
    assert pt.inspect.transformer_type(make()) == pt.inspect.TransformerType.transformer, "of another type"


@retriever("R02 inputs are inferable")
def inputs_are_inferable(make, topics, n_docs):
    assert pt.inspect.transformer_inputs(make())[0] == ["qid", "query"], (
        "the first set of input columns is not (qid, query)"
    )


@retriever("R03 inferred outputs are the real columns in order")
def outputs_are_inferable(make, topics, n_docs):
    for frame in (topics, topics.assign(qextra=1)):
        columns = list(frame.columns)
        assert pt.inspect.transformer_outputs(make(), columns) == list(make()(frame).columns), "inferred other columns"


@retriever("R04 query columns are kept and aligned")
def query_columns_are_kept(make, topics, n_docs):
    marked = topics.assign(query_note=["note of " + qid for qid in topics["qid"]], weight=range(len(topics)))
    found = make()(marked)
    expected = marked.set_index("qid").loc[found["qid"]].reset_index()
    for column in marked.columns:
        assert found[column].tolist() == expected[column].tolist(), f"{column} is not its query's"


@retriever("R05 a frame without columns is an input error naming qid")
def no_columns(make, topics, n_docs):
    with pytest.raises(pt.validate.InputValidationError, match="qid"):
        make()(pd.DataFrame())


@retriever("R06 a missing query column is an input error")
def missing_query(make, topics, n_docs):
    with pytest.raises(pt.validate.InputValidationError, match="query"):
        make()(topics[["qid"]])


@retriever("R07 an empty frame gives the same columns")
def empty_frame(make, topics, n_docs):
    found = make()(topics.iloc[:0])
    assert len(found) == 0, "results without queries"
    assert list(found.columns) == list(make()(topics).columns), "other columns"


@retriever("R08 an empty frame has the dtypes of a full one")
def empty_dtypes(make, topics, n_docs):
    found, full = make()(topics.iloc[:0]), make()(topics)
    assert found.dtypes.to_dict() == full.dtypes.to_dict(), "other dtypes"


@retriever("R09 ids are str, scores float, ranks int")
@retriever("R10 ranks run from 0 with scores not increasing and no docno twice")
def valid_ranking(make, topics, n_docs):
    found = make()(topics)
    assert len(found) >= 2 * len(topics), "too few results for this check; give other topics"
    assert_valid_ranking(found)


@retriever("R11 queries come in the order of the input")
def query_order(make, topics, n_docs):
    for frame in (topics, topics.iloc[::-1]):
        assert list(dict.fromkeys(make()(frame)["qid"])) == frame["qid"].tolist(), "queries in another order"


@retriever("R12 a query's results do not depend on the other queries")
def batch_independence(make, topics, n_docs):
    alone = pd.concat([make()(topics.iloc[i : i + 1]) for i in range(len(topics))], ignore_index=True)
    assert_same_ranking(make()(topics), alone, "results differ when a query is alone in its frame")


@retriever("R13 the same input gives the same output")
def determinism(make, topics, n_docs):
    pd.testing.assert_frame_equal(make()(topics), make()(topics))


@retriever("R14 the input is not changed, regardless of its index")
def input_unmodified(make, topics, n_docs):
    odd = topics.set_axis([7] * len(topics))
    before = odd.copy(deep=True)
    found = make()(odd)
    pd.testing.assert_frame_equal(odd, before)
    pd.testing.assert_frame_equal(found, make()(topics))


@retriever("R15 a list of dicts gives a list of dicts")
def list_of_dicts(make, topics, n_docs):
    found = make()(topics.to_dict(orient="records"))
    assert isinstance(found, list), "not a list"
    assert found == make()(topics).to_dict(orient="records"), "other results than from a frame"


@retriever("R16 a generator gives an iterable")
def generator(make, topics, n_docs):
    found = list(make()(record for record in topics.to_dict(orient="records")))
    assert found == make()(topics).to_dict(orient="records"), "other results than from a frame"


@retriever("R17 a rank cutoff fuses and changes nothing")
def cutoff_fuses(make, topics, n_docs):
    cut = make() % 2
    assert isinstance(cut.compile(), type(make())), "the cutoff stays a stage of its own"
    assert_same_ranking(cut.compile()(topics), cut(topics), "the fused cutoff gives other results")


@retriever("R18 a looser rank cutoff does not relax a stricter one")
def cutoff_never_relaxes(make, topics, n_docs):
    strict = make(num_results=2)
    assert strict.fuse_rank_cutoff(5000) is strict, "not itself"
    assert (strict % 5000).compile() == strict, "the cutoff stays in the pipeline"


@retriever("R19 one result per query is a row of scalars")
def one_result(make, topics, n_docs):
    found = make(num_results=1)(topics)
    assert len(found) == len(topics), "not one row per query"
    assert {type(v) for v in found["docno"]} == {str}, "a docno is not a str"
    assert all(np.isscalar(v) for v in found["score"]), "a score is not a scalar"
    full = make()(topics)
    assert_same_ranking(found, full[full["rank"] == 0].reset_index(drop=True), "not the best document")


@retriever("R20 asking for more results than documents pads nothing")
def no_padding(make, topics, n_docs):
    found = make(num_results=n_docs + 1000)(topics)
    assert_valid_ranking(found)
    assert found.groupby("qid").size().max() <= n_docs, "more results than documents"


@retriever("R21 repr names the class and settings")
def repr_names_settings(make, topics, n_docs):
    text = repr(make(num_results=7))
    assert text.startswith(type(make()).__name__), "does not start with the class"
    assert "7" in text, "does not show num_results"
    assert " at 0x" not in text, "shows a memory address"


@retriever("R22 equal settings make equal transformers")
def equality(make, topics, n_docs):
    assert make() == make(), "equal settings, unequal"
    assert hash(make()) == hash(make()), "equal settings, other hash"
    assert make() != make(num_results=7), "other settings, equal"
    assert make() != pt.Transformer.identity(), "equal to another class"


@retriever("R23 attributes can be read and replaced")
def attributes(make, topics, n_docs):
    names = {attribute.name for attribute in pt.inspect.transformer_attributes(make())}
    assert "num_results" in names, "num_results is not an attribute"
    assert pt.inspect.transformer_apply_attributes(make(), num_results=7) == make(num_results=7), "not replaced"


@retriever("R24 pickles and deep copies give the same results")
def copies(make, topics, n_docs):
    original = make()
    expected = original(topics)
    for twin in (pickle.loads(pickle.dumps(original)), copy.deepcopy(original)):
        assert twin == original, "the copy is not equal"
        assert_same_ranking(twin(topics), expected, "the copy gives other results")


@retriever("R25 the schematic has a short label")
def schematic_label(make, topics, n_docs):
    label = pt.schematic.transformer_schematic(make(), input_columns=["qid", "query"])["label"]
    assert 0 < len(label) <= 20, f"{label!r} has {len(label)} characters"


@retriever("R26 the schematic is drawn without a network")
def schematic_offline(make, topics, n_docs):
    with no_network():
        # Not in a pipeline: PyTerrier looks up links for its own stages.
        assert "<" in pt.schematic.draw(make()), "no drawing"


@retriever("R27 experiments agree for every plan and batch size")
def experiments(make, topics, n_docs):
    qrels = make()(topics).query("rank == 1")[["qid", "docno"]].assign(label=1)
    systems, measures = [make(), make() % 10, make(num_results=2)], [nDCG @ 10, RR]

    def run(**kw):
        return pt.Experiment(systems, topics, qrels, measures, validate="error", names=list("abc"), **kw)

    linear = run()
    assert linear["RR"].between(0.5 - 1e-6, 0.5 + 1e-6).all(), "the second document has reciprocal rank 1/2"
    pd.testing.assert_frame_equal(run(batch_size=1), linear)
    pd.testing.assert_frame_equal(run(plan="tree"), linear)


@retriever("R28 the operators combine it")
def operators(make, topics, n_docs):
    one = make(num_results=5)
    single = one(topics).set_index(["qid", "docno"])["score"].sort_index()
    for pipeline in (one + one, 2 * one, one * 2):
        doubled = pipeline(topics).set_index(["qid", "docno"])["score"].sort_index()
        np.testing.assert_allclose(doubled, 2 * single, rtol=1e-6, err_msg=repr(pipeline))
    for pipeline in (one | one, one & one, one ^ one):
        found = pipeline(topics).set_index(["qid", "docno"]).index
        assert set(found) == set(single.index), f"{pipeline!r} has other documents"
    assert len((one >> pt.Transformer.identity() >> pt.RankCutoff(1))(topics)) == len(topics), "does not compose"


@retriever("R29 a TREC run is read as it was written")
def trec_run(make, topics, n_docs):
    found = make()(topics)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/run.res.gz"
        pt.io.write_results(found, path)
        read = pt.io.read_results(path)
    assert_same_ranking(read.reset_index(drop=True), found, "the run file has other results")


ODD_QUERIES = ["", "   ", "\u3000", "😀👍🏽", "ＡＢＣ　１２３", "漢" * 5000]
ODD_QUERIES += ["a\x00b", "\x01", '"(~*:^AND OR', "\u200b", "が\u3099"]


@retriever("R30 odd queries are answered or get no rows")
def odd_queries(make, topics, n_docs):
    odd = pd.DataFrame({"qid": [f"odd{i}" for i in range(len(ODD_QUERIES))], "query": ODD_QUERIES})
    both = pd.concat([odd, topics[["qid", "query"]]], ignore_index=True)
    found = make()(both)
    assert_valid_ranking(found, "odd queries")
    plain = found[~found["qid"].isin(odd["qid"])].reset_index(drop=True)
    assert_same_ranking(plain, make()(topics), "odd queries change the others")
    for query in ODD_QUERIES:
        assert_valid_ranking(make().search(query), repr(query))


@retriever("R31 ids and queries that are not text are one clear error")
def not_text(make, topics, n_docs):
    with pytest.raises(ValueError, match="astype"):
        make()(pd.DataFrame({"qid": [1, 2], "query": ["東京", "大阪"]}))
    for value in (None, float("nan"), 7):
        frame = pd.DataFrame({"qid": ["q1", "q2"], "query": pd.Series(["東京", value], dtype=object)})
        with pytest.raises(ValueError, match="q2"):
            make()(frame)


@retriever("R32 num_results must be a positive integer")
def num_results_checked(make, topics, n_docs):
    for value in (0, -1, 2.5, "10", None, True):
        with pytest.raises(ValueError, match="num_results"):
            make(num_results=value)


# ----------------------------------------------------------------------------------------------------------------------
# Re-rankers: check(make, frame). make() creates a re-ranker; frame is a ranking (qid, query, docno, score, rank, and
# the columns that the re-ranker reads) with at least two queries of at least three documents, whose scores differ from
# those of the re-ranker.


@scorer("S01 inputs are inferable")
def scorer_inputs(make, frame):
    inputs = pt.inspect.transformer_inputs(make())
    assert {"qid", "docno"} <= set(inputs[0]), "the first set of input columns lacks qid or docno"
    assert set(inputs[0]) <= set(frame.columns), "the first set of input columns has some that the frame lacks"


@scorer("S02 inferred outputs are the real columns in order")
def scorer_outputs(make, frame):
    assert pt.inspect.transformer_outputs(make(), list(frame.columns)) == list(make()(frame).columns), (
        "inferred other columns"
    )


@scorer("S03 the same documents get new scores, with every other column kept")
def scorer_keeps_rows(make, frame):
    marked = frame.assign(note=[f"{q}/{d}" for q, d in zip(frame["qid"], frame["docno"], strict=True)])
    found = make()(marked)
    assert found.columns.is_unique, "a column is repeated"
    assert sorted(found["note"]) == sorted(marked["note"]), "other documents"
    assert (found["qid"] + "/" + found["docno"]).tolist() == found["note"].tolist(), "rows are not aligned"
    assert not np.allclose(
        found.set_index("note")["score"].sort_index(), marked.set_index("note")["score"].sort_index()
    ), "the old scores were kept"
    without = make()(marked.drop(columns=["score", "rank"]))
    assert_same_ranking(without, found, "old scores or ranks change the new ones")


@scorer("S04 ranks follow the new scores")
def scorer_ranks(make, frame):
    assert_valid_ranking(make()(frame))


@scorer("S05 the order of the rows does not matter")
def scorer_row_order(make, frame):
    expected = make()(frame).sort_values(["qid", "rank"], ignore_index=True)
    for seed in range(3):
        shuffled = frame.sample(frac=1, random_state=seed)
        found = make()(shuffled).sort_values(["qid", "rank"], ignore_index=True)
        assert_same_ranking(found, expected, "shuffled rows give other results")


@scorer("S06 an empty frame gives the same columns and dtypes")
def scorer_empty(make, frame):
    found, full = make()(frame.iloc[:0]), make()(frame)
    assert len(found) == 0, "results without candidates"
    assert found.dtypes.to_dict() == full.dtypes.to_dict(), "other columns or dtypes"


@scorer("S07 a missing column is an input error")
def scorer_missing_columns(make, frame):
    needed = pt.inspect.transformer_inputs(make())[0]
    for column in needed:
        with pytest.raises(pt.validate.InputValidationError, match=column):
            make()(frame[[name for name in needed if name != column]])


@scorer("S08 the input is not changed, regardless of its index")
def scorer_input_unmodified(make, frame):
    odd = frame.set_axis([7] * len(frame))
    before = odd.copy(deep=True)
    found = make()(odd)
    pd.testing.assert_frame_equal(odd, before)
    pd.testing.assert_frame_equal(found, make()(frame))


@scorer("S09 a rank cutoff cuts after scoring")
def scorer_cutoff(make, frame):
    assert not hasattr(make(), "fuse_rank_cutoff"), "a re-ranker that fuses a cutoff would cut before scoring"
    full = make()(frame)
    cut = (make() % 2).compile()(frame)
    assert_same_ranking(
        cut.reset_index(drop=True),
        full[full["rank"] < 2].reset_index(drop=True),
        "the cutoff was applied before scoring",
    )


@scorer("S10 feature unions take its scores as features")
def scorer_features(make, frame):
    found = (make() ** make())(frame).set_index(["qid", "docno"])["features"]
    scores = make()(frame).set_index(["qid", "docno"])["score"]
    assert len(found) == len(scores), "other documents"
    for key, score in scores.items():
        np.testing.assert_allclose(found[key], [score, score], atol=TOLERANCE, rtol=TOLERANCE)


# ----------------------------------------------------------------------------------------------------------------------
# Indexes: check(make, docs, folder). make(path) creates an indexer, or an index that is not built; docs is a list of
# dicts with docno and text; folder is an empty directory.


@indexer("I01 index_inputs names the columns")
def index_inputs(make, docs, folder):
    inputs = pt.inspect.indexer_inputs(make(folder / "index"))
    assert inputs == make(folder / "index").index_inputs(), "inspection finds other columns"
    assert inputs[0][0] == "docno", "docno is not the first"
    assert set(inputs[0]) <= set(docs[0]), "it names columns that the documents lack"


@indexer("I02 a one-pass iterator is indexed and the artifact returned")
def one_pass(make, docs, folder):
    built = make(folder / "index").index(doc for doc in docs)
    assert isinstance(built, pt.Artifact), "not an artifact"
    assert built.built(), "not built"
    assert len(built) == len(docs), "another number of documents"
    assert list(built.docnos()) == [doc["docno"] for doc in docs], "other docnos"
    from_frame = make(folder / "frame").index(pd.DataFrame(docs))
    assert list(from_frame.docnos()) == [doc["docno"] for doc in docs], "other docnos from a frame"


def contents(folder):
    """Returns the content of every file in a folder, by its relative path."""
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@indexer("I03 an index is overwritten only on request")
def refuses_overwrite(make, docs, folder):
    make(folder / "index").index(docs)
    before = contents(folder / "index")
    with pytest.raises(FileExistsError, match="overwrite"):
        make(folder / "index").index(docs[:1])
    assert contents(folder / "index") == before, "files changed"


@indexer("I04 a failure midway leaves nothing")
def failure_midway(make, docs, folder):
    def failing():
        yield from docs[: len(docs) // 2]
        raise RuntimeError("the disk with the documents went away")

    with pytest.raises(RuntimeError, match="went away"):
        make(folder / "index").index(failing())
    assert list(folder.iterdir()) == [], "files are left"
    assert len(make(folder / "index").index(docs)) == len(docs), "a second attempt fails"


@indexer("I05 a missing docno or text is an input error")
def missing_field(make, docs, folder):
    for field in ("docno", "text"):
        broken = [*docs[:1], {name: value for name, value in docs[1].items() if name != field}]
        with pytest.raises(KeyError, match=field):
            make(folder / "index").index(broken)
    assert list(folder.iterdir()) == [], "files are left"


@indexer("I06 a repeated docno is an error naming both positions")
def repeated_docno(make, docs, folder):
    with pytest.raises(ValueError, match=f"{docs[1]['docno']!r}.*1.*{len(docs)}"):
        make(folder / "index").index([*docs, docs[1]])
    assert list(folder.iterdir()) == [], "files are left"


@indexer("I07 no documents are an error")
def no_documents(make, docs, folder):
    with pytest.raises(ValueError, match="no documents"):
        make(folder / "index").index([])
    assert list(folder.iterdir()) == [], "files are left"


@indexer("I08 it ends an indexing pipeline")
def indexing_pipeline(make, docs, folder):
    pipeline = pt.apply.text(lambda row: row["text"] + "。") >> make(folder / "index")
    built = pipeline.index(doc for doc in docs)
    assert list(built.docnos()) == [doc["docno"] for doc in docs], "other docnos"


# ----------------------------------------------------------------------------------------------------------------------
# Artifacts: check(index, same, folder). index is built; same(index) returns a value that is equal for equal indexes,
# such as a list of results; folder is an empty directory.


@artifact("A01 pt_meta.json names type, format and package")
def meta_file(index, same, folder):
    meta = json.loads((index.path / "pt_meta.json").read_text(encoding="utf-8"))
    assert meta["type"] == index.ARTIFACT_TYPE, "another type"
    assert meta["format"] == index.ARTIFACT_FORMAT, "another format"
    assert meta["package_hint"] == "pyterrier-jacolbert", "another package"
    assert pt.inspect.artifact_type_format(index) == (meta["type"], meta["format"]), (
        "inspection finds another type or format"
    )


@artifact("A02 pt.Artifact.load finds the class")
def generic_load(index, same, folder):
    loaded = pt.Artifact.load(str(index.path))
    assert type(loaded) is type(index), "another class"
    assert same(loaded) == same(index), "other results"


@artifact("A03 a package is downloaded over HTTP")
def package_over_http(index, same, folder):
    (folder / "served").mkdir()
    index.build_package(str(folder / "served" / "artifact.tar.lz4"), verbose=False)
    handler = functools.partial(_QuietHandler, directory=folder / "served")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with mock.patch.dict(os.environ, PYTERRIER_HOME=str(folder / "home"), NO_PROXY="127.0.0.1"):
            loaded = pt.Artifact.from_url(f"http://127.0.0.1:{server.server_port}/artifact.tar.lz4")
            assert loaded.path.is_relative_to(folder / "home"), "not the downloaded one"
            assert type(loaded) is type(index), "another class"
            assert same(loaded) == same(index), "other results"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@artifact("A04 a moved index works")
def relocatable(index, same, folder):
    shutil.copytree(index.path, folder / "first")
    (folder / "first").rename(folder / "second")
    assert same(pt.Artifact.load(str(folder / "second"))) == same(index), "other results"
    texts = (file.read_bytes() for file in (folder / "second").rglob("*") if file.is_file())
    assert not any(str(Path(index.path).absolute()).encode() in text for text in texts), "a file contains the old path"


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass

"""Runs and judgements keep every id as it is, on every path, and refuse what their lines cannot hold."""

import gzip
import json
import tracemalloc

import pandas as pd
import pyterrier as pt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyterrier_jacolbert.cli import main
from pyterrier_jacolbert.evaluation import (
    PipelineSystem,
    RunSystem,
    TaskProtocol,
    evaluate,
    protocols,
    read_qrels,
    read_run,
    write_run,
)
from pyterrier_jacolbert.evaluation.runs import RunStore

#: Ids that tables of other tools take as missing values, quotation, comments or numbers, or normalise.
ODD_IDS = [
    "NA",
    "null",
    "NaN",
    "None",
    '"a',
    "'b",
    '"c"',
    "#d",
    "007",
    "1e5",
    "é",
    "e\u0301",
    "文書",
    "ｱ",
    "😀",
    "a\u200bb",
]
#: White space and line ends of Unicode's property White_Space, and the separators that str.splitlines splits at.
WHITE_SPACE = [*" \t\n\r\v\f\x1c\x1d\x1e\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000"]

#: Any Unicode but white space, NUL, ESC and lone surrogates.
ids = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\x1b\ufeff").filter(lambda letter: not letter.isspace()),
    min_size=1,
)


def run_of(qid, docnos):
    return pd.DataFrame({"qid": qid, "docno": docnos, "score": [float(-i) for i in range(len(docnos))]})


class TestReaderAndWriter:
    @given(st.dictionaries(ids, st.lists(ids, min_size=1, unique=True), min_size=1))
    def test_any_unicode_comes_back_as_it_is(self, tmp_path_factory, docnos):
        run = pd.concat([run_of(qid, found) for qid, found in docnos.items()])
        for name in ("r.trec", "r.trec.gz"):
            path = tmp_path_factory.mktemp("run") / name
            write_run(run, path)
            there = read_run(path)
            assert {qid: rows["docno"].tolist() for qid, rows in there.groupby("qid")} == docnos
            assert there["rank"].tolist() == [i for _, found in sorted(docnos.items()) for i in range(len(found))]

    def test_odd_ids_of_a_foreign_file(self, tmp_path):
        (tmp_path / "r.run").write_text("".join(f"NA Q0 {docno} 0 1 x\n" for docno in ODD_IDS), encoding="utf-8")
        (tmp_path / "q").write_text("".join(f"NA 0 {docno} 1\n" for docno in ODD_IDS), encoding="utf-8")
        for there in (read_run(tmp_path / "r.run"), read_qrels(tmp_path / "q")):
            assert there["docno"].tolist() == ODD_IDS
            assert set(there["qid"]) == {"NA"}

    @given(st.lists(st.floats(allow_nan=False, width=32), min_size=1, max_size=20))
    def test_scores_come_back_to_the_last_bit(self, tmp_path_factory, scores):
        run = pd.DataFrame({"qid": "q", "docno": [f"d{i}" for i in range(len(scores))], "score": scores})
        path = tmp_path_factory.mktemp("run") / "r.trec"
        write_run(run, path)
        there = read_run(path).set_index("docno")["score"]
        assert there[run["docno"]].tolist() == scores

    @pytest.mark.parametrize("column", ["qid", "docno"])
    @pytest.mark.parametrize("character", [*WHITE_SPACE, "\0", "\x1b"])
    def test_separators_in_an_id_are_named_and_nothing_is_written(self, tmp_path, column, character):
        run = run_of("q", ["d"]).assign(**{column: f"a{character}b"})
        with pytest.raises(ValueError, match=rf"{column} .*U\+{ord(character):04X} at character 1"):
            write_run(run, tmp_path / "r.trec")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("value", ["", None, float("nan"), 3, "\ud800"])
    @pytest.mark.parametrize("column", ["qid", "docno"])
    def test_what_is_no_id_is_refused(self, tmp_path, column, value):
        run = run_of("q", ["d"]).astype({column: object})
        run.at[0, column] = value
        with pytest.raises(ValueError, match=column):
            write_run(run, tmp_path / "r.trec")

    @pytest.mark.parametrize(
        ("line", "named"),
        [
            ("q Q0 my doc 3 2.5 x", "7 fields"),
            ("q Q0 my doc 3 2.5", "my"),
            ("q Q0 d 3", "4 fields"),
            ("q Q0 d 3 nan x", "NaN"),
            ("q Q0 a 3 2.5 x", "'a' twice"),
        ],
    )
    def test_lines_that_would_be_misread_are_named(self, tmp_path, line, named):
        (tmp_path / "r.trec").write_text(f"q Q0 a 0 3.5 x\n\n{line}\n")
        with pytest.raises(ValueError, match=rf"r\.trec.*line 3.*{named}"):
            read_run(tmp_path / "r.trec")

    @pytest.mark.parametrize("line", ["q 0 my d 1", "q 0 d", "q 0 d 1.5", "q 0 d 99999999999", "q 0 a 0"])
    def test_judgements_that_would_be_misread_are_named(self, tmp_path, line):
        (tmp_path / "q").write_text(f"q 0 a 1\nq 0 a 1\n{line}\n")
        with pytest.raises(ValueError, match="line 3"):
            read_qrels(tmp_path / "q")

    def test_a_line_that_does_not_end_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr("pyterrier_jacolbert.text_files.LONGEST_LINE", 2**20)
        for name, compress in (("r.trec.gz", gzip.compress), ("r.trec", bytes)):
            (tmp_path / name).write_bytes(compress(b"q Q0 a 0 3.5 x\n" + b"q" * 2**24))
            tracemalloc.start()
            with pytest.raises(ValueError, match=r"r\.trec.* line 2"):
                read_run(tmp_path / name)
            assert tracemalloc.get_traced_memory()[1] < 2**23
            tracemalloc.stop()

    def test_a_broken_gzip_file_is_named(self, tmp_path):
        whole = gzip.compress(b"q Q0 a 0 3.5 x\n" * 100)
        for content in (whole[:-9], b"q Q0 a 0 3.5 x\n", whole[:20] + b"\0\0\0\0" + whole[24:]):
            (tmp_path / "r.trec.gz").write_bytes(content)
            with pytest.raises(ValueError, match=r"r\.trec\.gz is not a run"):
                read_run(tmp_path / "r.trec.gz")


class TestCompressedRuns:
    def write(self, path, content, layers=1):
        cbor2, frame = pytest.importorskip("cbor2"), pytest.importorskip("lz4.frame")
        encoded = content if isinstance(content, bytes) else cbor2.dumps(content)
        for _ in range(layers):
            encoded = frame.compress(encoded)
        path.write_bytes(encoded)

    @pytest.mark.parametrize("layers", [1, 2])
    def test_odd_ids_come_back_as_they_are(self, tmp_path, layers):
        self.write(tmp_path / "r.lz4", {"NA": {docno: 1.0 for docno in ODD_IDS}}, layers)
        assert read_run(tmp_path / "r.lz4")["docno"].tolist() == ODD_IDS

    @pytest.mark.parametrize("layers", [1, 2])
    def test_decompression_is_bounded(self, tmp_path, monkeypatch, layers):
        monkeypatch.setattr("pyterrier_jacolbert.evaluation.runs._LONGEST_RUN", 2**20)
        self.write(tmp_path / "r.lz4", b"\0" * (2**20 + 1), layers)
        with pytest.raises(ValueError, match=r"r\.lz4.*more than 1 MiB"):
            read_run(tmp_path / "r.lz4")

    @pytest.mark.parametrize(
        "content",
        [
            {},
            [],
            7,
            {"q": []},
            {"q": {"d": "high"}},
            {"q": {"d": None}},
            {"q": {"d": True}},
            {"q": {"d": float("nan")}},
            {"q": {"d": 10**400}},
            {"q": {1: 1.0}},
            {1: {"d": 1.0}},
            {"q": {b"d": 1.0}},
            b"\x81" * 100_000,
            b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
            b"\xd8\x1d\x00",
            b"\xd8\x23\x61(",
            b"\xa1\xa0\xa0",
        ],
        ids=lambda value: repr(value)[:30],
    )
    def test_other_content_is_one_clear_error(self, tmp_path, content):
        self.write(tmp_path / "r.lz4", content)
        with pytest.raises(ValueError, match=r"r\.lz4 is not a run"):
            read_run(tmp_path / "r.lz4")


class TestEvaluation:
    """The demo collection stands for any task."""

    @pytest.fixture(autouse=True)
    def demo(self, monkeypatch):
        demo = TaskProtocol("demo", "corrected", "demo", "retrieve", "nDCG@10", ("R@1",), queries=114, documents=330)
        monkeypatch.setitem(protocols._CORRECTED, "demo", demo)
        monkeypatch.setattr(protocols, "TASKS", (*protocols.TASKS, "demo"))

    @pytest.fixture
    def qrels(self):
        frame = pt.get_dataset("jacolbert:demo").get_qrels().head(1)
        return pd.concat([frame.assign(docno=docno, label=1) for docno in ODD_IDS], ignore_index=True)

    def test_odd_ids_are_measured_from_file_to_table(self, tmp_path, qrels, capsys):
        qid = qrels["qid"][0]
        (tmp_path / "demo.trec").write_text("".join(f"{qid} Q0 {docno} 0 1 x\n" for docno in ODD_IDS), encoding="utf-8")
        (tmp_path / "q").write_text("".join(f"{qid} 0 {docno} 1\n" for docno in ODD_IDS), encoding="utf-8")
        command = ["evaluate", f"mine={tmp_path / 'demo.trec'}", "--tasks", "demo", "--qrels", f"demo={tmp_path / 'q'}"]
        assert main([*command, "--output", str(tmp_path / "out")]) == 0
        values = json.loads((tmp_path / "out" / "results.json").read_text())["tasks"]["demo"]["systems"]["mine"]
        assert values["values"]["nDCG@10"] == 1.0  # every result is relevant
        assert values["values"]["R@1"] == pytest.approx(1 / len(ODD_IDS))

    @pytest.mark.parametrize("column", ["qid", "docno"])
    def test_judgements_are_refused_before_anything_is_searched(self, tmp_path, qrels, column):
        def pipeline(protocol):
            raise AssertionError("searched")

        qrels.loc[3, column] = "a\u2028b"
        with pytest.raises(ValueError, match=rf"{column}.*U\+2028"):
            evaluate([PipelineSystem("p", pipeline)], output=tmp_path, tasks=["demo"], qrels={"demo": qrels})

    @pytest.mark.parametrize("system", ["mini", "bm25"])
    @pytest.mark.parametrize("kind", ["qid", "docno"])
    def test_a_collection_is_refused_before_anything_is_searched(self, tmp_path, monkeypatch, capsys, system, kind):
        dataset = pt.get_dataset("jacolbert:demo")
        topics, docs = dataset.get_topics(), list(dataset.get_corpus_iter(verbose=False))[:3]
        if kind == "qid":
            topics.loc[1, "qid"] = "a b"
        else:
            docs[1]["docno"] = "a b"
        monkeypatch.setattr(type(dataset), "get_topics", lambda *_, **__: topics)
        monkeypatch.setattr(type(dataset), "get_corpus_iter", lambda *_, **__: iter(docs))
        assert main(["evaluate", system, "--tasks", "demo", "--output", str(tmp_path / "out")]) == 1
        assert f"{kind} 'a b'" in capsys.readouterr().err
        assert not list(tmp_path.rglob("*.trec.gz"))

    def test_a_run_that_cannot_be_stored_names_its_system(self, tmp_path):
        store = RunStore(tmp_path)
        for run, named in ((run_of("q", ["a b"]), "'a b'"), (run_of("q", ["a", "a"]), "'a' twice")):
            with pytest.raises(ValueError, match=rf"mine.*t\.p.*{named}"):
                store.get("mine", "t.p", {}, lambda run=run: run)
            assert not store.has("mine", "t.p", {})
        assert not list(tmp_path.rglob("*.trec.gz"))

    def test_stored_runs_keep_odd_ids(self, tmp_path):
        store = RunStore(tmp_path)
        there = store.get("mine", "t.p", {}, lambda: run_of("NA", ODD_IDS))
        assert there["docno"].tolist() == ODD_IDS
        assert RunSystem("mine", store.path("mine", "t.p")).path.is_file()

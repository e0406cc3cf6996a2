"""The evaluation: protocols of the paper, stored runs, measures, and published values in the report."""

import gzip
import json

import ir_datasets
import miniatures
import numpy as np
import pandas as pd
import pyterrier as pt
import pytest

from pyterrier_jacolbert import JaColBERT, JaColBERTIndexer
from pyterrier_jacolbert.cli.parser import main
from pyterrier_jacolbert.datasets import jqara
from pyterrier_jacolbert.datasets._catalog import IRDS_ID_BY_NAME
from pyterrier_jacolbert.datasets._collection import Counts
from pyterrier_jacolbert.encoding.checkpoint import load_checkpoint
from pyterrier_jacolbert.evaluation import (
    PAPER_TASKS,
    TASKS,
    CheckpointSystem,
    PipelineSystem,
    RunSystem,
    TaskProtocol,
    evaluate,
    protocol_of,
    protocols,
    system,
    write_report,
)
from pyterrier_jacolbert.evaluation.ablation import without_projection, without_skip_list
from pyterrier_jacolbert.evaluation.evaluate import measure
from pyterrier_jacolbert.evaluation.protocols import task_names
from pyterrier_jacolbert.evaluation.published import published, same_model
from pyterrier_jacolbert.evaluation.results import Results, SystemResult, TaskResult
from pyterrier_jacolbert.evaluation.runs import RunStore, read_qrels, read_run, slug
from pyterrier_jacolbert.evaluation.systems import bm25
from pyterrier_jacolbert.evaluation.tables import tables
from pyterrier_jacolbert.evaluation.task_data import documents

DEMO = TaskProtocol("demo", "corrected", "demo", "retrieve", "nDCG@10", ("R@1",), queries=114, documents=330)
MINI_JQARA = protocols.replace(protocol_of("jqara"), task="mini-jqara", dataset="mini-jqara", queries=2, candidates=3)


@pytest.fixture(autouse=True)
def tasks_of_tests(monkeypatch, tmp_path):
    """Adds two small tasks: retrieval in the demo, and re-ranking in a miniature of JQaRA."""
    monkeypatch.setitem(protocols._CORRECTED, "demo", DEMO)
    monkeypatch.setitem(protocols._CORRECTED, "mini-jqara", MINI_JQARA)
    monkeypatch.setattr(protocols, "TASKS", (*TASKS, "demo", "mini-jqara"))
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path / "ir_datasets"))
    monkeypatch.setenv("JACOLBERT_DATA", str(tmp_path / "copies"))
    for path, content in miniatures.jqara().items():
        target = tmp_path / "copies" / "hotchpotch" / "JQaRA" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    monkeypatch.setitem(ir_datasets.registry._registered, "mini-jqara", jqara.define("test", Counts(5, 2, 6, 6)))
    monkeypatch.setitem(IRDS_ID_BY_NAME, "mini-jqara", "mini-jqara")


# Protocols according to the paper and its evaluators.
PAPER_PROTOCOLS = {
    # task: (dataset, stage, measure, queries, documents, candidates)
    "jsquad": ("jsquad/validation", "retrieve", "R@3", 4442, 1145, None),
    "miracl": ("miracl/ja/dev", "retrieve", "nDCG@10", 860, 6953614, None),
    "jqara": ("jqara/test", "rerank", "nDCG@10", 1667, None, 100),
    "jacwir": ("jacwir/test", "rerank", "AP@10", 5000, None, 100),
    "esci": ("esci-ja/test", "retrieve", "nDCG@10", 4206, 149999, None),
}


@pytest.mark.parametrize("protocol", ["corrected", "paper-v1"])
@pytest.mark.parametrize("task", PAPER_PROTOCOLS)
def test_protocols_follow_the_paper_and_its_evaluators(task, protocol):
    how = protocol_of(task, protocol)
    actual = (how.dataset, how.stage, how.measure, how.queries, how.documents, how.candidates)
    assert actual == PAPER_PROTOCOLS[task]
    assert how.protocol == protocol
    assert how.projection == (protocol == "corrected" or task not in ("jqara", "jacwir"))
    if task in ("jqara", "jacwir"):
        assert (how.max_document_length, how.separator, how.skip_punctuation) == (512, " ", False)
        augmented = task == "jqara" or protocol == "corrected"
        assert how.query_length == ("evaluator" if augmented else None)
    assert how.note


def test_paper_v1_runs_jsquad_like_its_evaluator():
    how = protocol_of("jsquad", "paper-v1")
    assert (how.separator, how.query_length, how.max_document_length) == (" [SEP] ", 32, 300)
    assert protocol_of("jsquad").other_measures == ("R@1", "R@5", "R@10", "nDCG@10")
    assert PAPER_TASKS == tuple(PAPER_PROTOCOLS)


def test_every_task_has_a_dataset_of_the_published_size():
    for task in TASKS:
        how = protocol_of(task)
        data = pt.get_dataset(f"jacolbert:{how.dataset}").irds_ref()
        assert data.queries_count() == how.queries
        assert how.documents in (None, data.docs_count())
        assert (how.candidates is not None) == (how.stage == "rerank")
        assert how.stage == "retrieve" or data.has_scoreddocs()


def test_unknown_names_are_errors_with_similar_names():
    with pytest.raises(ValueError, match="'jsqad'.* jsquad"):
        protocol_of("jsqad")
    with pytest.raises(ValueError, match="'paper'.* corrected or paper-v1"):
        protocol_of("jsquad", "paper")
    assert task_names("paper") == PAPER_TASKS
    assert task_names("jsquad, jqara,jsquad") == ("jsquad", "jqara")
    assert set(TASKS) <= set(task_names("all"))


def test_without_projection_vectors_are_hidden_states(checkpoint):
    loaded = load_checkpoint(str(checkpoint), device="cpu")
    text, query = "富士山! は、山.", "日本一高い山は?"
    whole = JaColBERT(loaded, dtype="float32", query_length="evaluator")
    before = whole.encode_documents([text])[0]
    ablated = JaColBERT(without_skip_list(without_projection(loaded)), dtype="float32", query_length="evaluator")
    (vectors,) = ablated.encode_documents([text])
    assert vectors.shape == (before.shape[0] + 2, 64)  # "!" and "." are scored, vectors are 64 wide and not 128
    import torch

    ids = torch.tensor([ablated.encoder.document_ids(text)])
    features = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.inference_mode():
        hidden = loaded[0](features)["token_embeddings"][0]
    np.testing.assert_allclose(vectors, torch.nn.functional.normalize(hidden, dim=-1).numpy(), atol=1e-5)
    assert ablated.encoder.query_ids(query) == whole.encoder.query_ids(query)
    assert ablated.encode_queries([query])[0].shape == (len(whole.encoder.query_ids(query)), 64)
    np.testing.assert_array_equal(whole.encode_documents([text])[0], before)


def test_a_checkpoint_follows_the_protocol(checkpoint):
    colbert = CheckpointSystem("c", str(checkpoint))
    without = colbert.model_for(protocols.replace(MINI_JQARA, projection=False))
    assert (without.dim, without.encoder.query_length, without.encoder.max_document_length) == (64, "evaluator", 512)
    assert colbert.model_for(MINI_JQARA).dim == 128
    assert colbert.model_for(DEMO).encoder.query_length == "dynamic"
    assert colbert.settings(MINI_JQARA)["fingerprint"] == colbert.model.fingerprint
    mini = CheckpointSystem("mini", "mini")  # was not trained with [MASK] positions
    assert mini.model_for(MINI_JQARA).encoder.query_length is None


def test_documents_have_the_protocol_s_text_format():
    first = next(documents(protocols.replace(DEMO, separator=" [SEP] ")))
    title, _, text = first["text"].partition(" [SEP] ")
    source = next(iter(pt.get_dataset("jacolbert:demo").get_corpus_iter(verbose=False)))
    assert (first["docno"], title, text) == (source["docno"], source["title"], source["text"])


def test_pipelines_and_checkpoints_rerank_the_candidates(checkpoint, tmp_path):
    systems = [CheckpointSystem("random", str(checkpoint)), PipelineSystem("BM25", bm25)]
    results = evaluate(systems, tasks=["mini-jqara"], output=tmp_path / "out")
    run = read_run(tmp_path / "out" / "runs" / "random" / "mini-jqara.corrected.trec.gz")
    candidates = pt.get_dataset("jacolbert:mini-jqara").get_results()
    assert set(zip(run["qid"], run["docno"], strict=True)) == set(
        zip(candidates["qid"], candidates["docno"], strict=True)
    )
    assert results.tasks["mini-jqara"].queries == 2
    best = run[run["rank"] == 0].set_index("qid")["docno"]
    bm25_run = read_run(tmp_path / "out" / "runs" / "BM25" / "mini-jqara.corrected.trec.gz")
    assert bm25_run[(bm25_run["qid"] == "QA-1") & (bm25_run["rank"] == 0)]["docno"].tolist() == ["221102"]
    model = JaColBERT(
        without_skip_list(load_checkpoint(str(checkpoint), device="cpu")),
        query_length="evaluator",
        max_document_length=512,
    )
    store = pt.get_dataset("jacolbert:mini-jqara").irds_ref().docs_store()
    texts = {doc.doc_id: f"{doc.title} {doc.text}" for doc in store}
    direct = model.text_scorer()(candidates.assign(text=candidates["docno"].map(texts)))
    assert direct[direct["rank"] == 0].set_index("qid")["docno"].to_dict() == best.to_dict()


def test_a_checkpoint_searches_an_index_of_the_documents(checkpoint, tmp_path):
    loaded = JaColBERT(str(checkpoint), dtype="float32")
    results = evaluate([CheckpointSystem("random", loaded)], tasks=["demo"], output=tmp_path / "out")
    assert (results.tasks["demo"].queries, results.mean("random")) == (114, None)
    run = read_run(tmp_path / "out" / "runs" / "random" / "demo.corrected.trec.gz")
    assert run.groupby("qid").size().eq(100).all()
    data = pt.get_dataset("jacolbert:demo")
    indexer = JaColBERTIndexer(tmp_path / "index", loaded, title_field="title", compression="float16")
    index = indexer.index(data.get_corpus_iter(verbose=False))
    direct = index.retriever(num_results=100)(data.get_topics().head(5))
    kept = run[run["qid"].isin(direct["qid"])].sort_values(["qid", "rank"])
    direct = direct.sort_values(["qid", "rank"])
    assert kept["docno"].tolist() == direct["docno"].tolist()
    np.testing.assert_allclose(kept["score"], direct["score"], atol=1e-9)
    settings = json.loads((tmp_path / "out" / "runs" / "random" / "demo.corrected.json").read_text())
    assert settings["settings"]["fingerprint"] == loaded.fingerprint
    assert settings["settings"]["protocol"]["dataset"] == "demo"
    assert settings["versions"]["pyterrier"] == pt.__version__


def counting_bm25(protocol):
    """Builds BM25 and records the task."""
    counting_bm25.tasks.append(protocol.task)
    return bm25(protocol)


def test_an_interrupted_evaluation_computes_only_missing_runs(tmp_path, monkeypatch):
    output = tmp_path / "out"
    counting_bm25.tasks = []

    def interrupted(protocol):
        raise KeyboardInterrupt

    both = [PipelineSystem("first", counting_bm25), PipelineSystem("second", interrupted)]
    with pytest.raises(KeyboardInterrupt):
        evaluate(both, tasks=["demo"], output=output)
    assert counting_bm25.tasks == ["demo"]
    assert not (output / "results.json").exists()
    lines = []
    again = [PipelineSystem("first", counting_bm25), PipelineSystem("second", bm25)]
    results = evaluate(again, tasks=["demo"], output=output, progress=lines.append)
    assert counting_bm25.tasks == ["demo"]  # the stored run is not computed again
    assert lines == ["demo: first, stored run", "demo: second, running"]
    assert results.tasks["demo"].systems["first"] == results.tasks["demo"].systems["second"]
    evaluate([PipelineSystem("first", counting_bm25, version="2")], tasks=["demo"], output=output)
    assert counting_bm25.tasks == ["demo", "demo"]  # other settings need another run
    evaluate([PipelineSystem("first", counting_bm25, version="2")], tasks=["demo"], output=output, fresh=True)
    assert counting_bm25.tasks == ["demo", "demo", "demo"]


def test_run_settings_contain_the_encoding_but_no_measures():
    how = protocol_of("jqara")
    same = protocols.replace(how, note="another", measure="RR@10", other_measures=())
    assert same.run_settings() == how.run_settings()
    assert protocol_of("jqara", "paper-v1").run_settings() != how.run_settings()
    assert json.loads(json.dumps(how.run_settings())) == how.run_settings()


def test_a_partly_written_run_is_computed_again(tmp_path):
    store = RunStore(tmp_path)
    run = pd.DataFrame({"qid": ["1"], "docno": ["a"], "score": [0.1 + 0.2], "rank": [0]})
    calls = []
    for _ in range(2):
        pd.testing.assert_frame_equal(store.get("s", "t", {"a": 1}, lambda: calls.append(1) or run), run)
    assert len(calls) == 1
    store.path("s", "t").with_name("t.json").unlink()
    store.get("s", "t", {"a": 1}, lambda: calls.append(1) or run)
    assert len(calls) == 2
    content = store.path("s", "t").read_bytes()
    store.path("s", "t").unlink()
    store.get("s", "t", {"a": 1}, lambda: run)
    assert store.path("s", "t").read_bytes() == content  # equal runs have equal bytes
    assert gzip.decompress(content) == b"1 Q0 a 0 0.30000000000000004 s\n"


def test_different_names_become_different_file_names():
    assert slug("BM25") == "BM25"
    assert slug("a/b") != slug("a b")
    assert "/" not in slug("bclavie/JaColBERT")
    assert slug("...") != slug("")


def test_two_evaluations_write_the_same_results(tmp_path):
    for folder in ("one", "two"):
        systems = [PipelineSystem("BM25", bm25), PipelineSystem("cut", lambda how: bm25(how) % 2)]
        evaluate(systems, tasks=["demo"], output=tmp_path / folder, baseline="BM25")
    text = (tmp_path / "one" / "results.json").read_text()
    assert text == (tmp_path / "two" / "results.json").read_text()
    assert str(tmp_path) not in text
    written = json.loads(text)["tasks"]["demo"]["systems"]
    assert written["BM25"]["values"]["nDCG@10"] > written["cut"]["values"]["nDCG@10"] > 0.3
    assert 0 < written["cut"]["p_values"]["nDCG@10"] < 0.05
    assert "p_values" not in written["BM25"]


def test_missing_queries_count_as_zero_in_paired_t_tests():
    from scipy import stats

    qrels = pd.DataFrame({"qid": list("abcd"), "docno": ["1"] * 4, "label": [1] * 4})
    good = pd.DataFrame({"qid": list("abc"), "docno": ["1"] * 3, "score": [1.0] * 3, "rank": [0] * 3})
    bad = pd.DataFrame({"qid": list("ab"), "docno": ["1", "2"], "score": [1.0, 1.0], "rank": [0, 0]})
    result = measure(
        {"good": good, "bad": bad}, protocols.replace(DEMO, measure="R@1", other_measures=()), qrels, "bad"
    )
    assert result.systems["good"].values["R@1"] == 0.75
    expected = stats.ttest_rel([1, 1, 1, 0], [1, 0, 0, 0]).pvalue
    assert result.systems["good"].p_values["R@1"] == pytest.approx(expected)
    with pytest.raises(ValueError, match="other .* 4 judged queries"):
        measure({"other": good.assign(qid="z")}, DEMO, qrels)


def test_published_rows_have_known_tasks_and_correct_means():
    rows = published()
    assert len(rows) > 40
    for row in rows:
        assert row.source_title
        assert row.url.startswith("https://")
        assert set(row.scores) <= set(PAPER_TASKS)
        for task, scores in row.scores.items():
            assert protocol_of(task).measure in scores
            assert set(scores) <= set(protocol_of(task).measures)
            assert all(0 < value < 1 for value in scores.values())
        if row.mean is not None:
            values = [row.scores[task][protocol_of(task).measure] for task in PAPER_TASKS]
            assert sum(values) / 5 == pytest.approx(row.mean, abs=0.0011)
    paper = {row.model: row for row in rows if row.source == "paper"}
    assert len(paper) == 15
    assert paper["JaColBERTv2.5"].scores["jsquad"] == {"R@3": 0.974, "R@1": 0.930, "R@5": 0.982, "R@10": 0.987}
    assert paper["JaColBERTv2.5"].without_projection == ("jqara", "jacwir")
    assert paper["JaColBERTv2.5"].in_domain == ("miracl", "jqara")
    corrected = {row.model: row.scores["jqara"]["nDCG@10"] for row in rows if row.source == "jqara"}
    assert (corrected["JaColBERTv2.5"], corrected["BM25"]) == (0.642, 0.458)


def test_models_are_recognised_by_name():
    assert same_model("answerdotai/JaColBERTv2.5", "JaColBERTv2.5")
    assert same_model("JapaneseBM25", "BM25")
    assert not same_model("JaColBERTv2", "JaColBERTv2.5")
    assert not same_model("mini", "mE5-small")


def test_published_runs_of_jqara_reach_the_published_values(shared, tmp_path, capsys):
    folder = shared / "data" / "jqara"
    names = {"bm25": "BM25", "JaColBERTv2": "JaColBERTv2", "JaColBERTv2.5": "JaColBERTv2.5"}
    arguments = [f"{name}={folder / 'runs' / file}.lz4" for file, name in names.items()]
    qrels = f"jqara={folder / 'qrels' / 'qrels.trec'}"
    output = tmp_path / "out"
    options = ["--tasks", "jqara", "--qrels", qrels, "--output", str(output), "--baseline", "JaColBERTv2"]
    assert main(["evaluate", *arguments, *options]) == 0
    assert "jqara  BM25  nDCG@10 0.4580" in capsys.readouterr().out
    written = json.loads((output / "results.json").read_text())["tasks"]["jqara"]
    values = {name: system["values"]["nDCG@10"] for name, system in written["systems"].items()}
    assert written["queries"] == 1667
    assert round(values["BM25"], 4) == 0.4580
    assert values["JaColBERTv2.5"] == pytest.approx(0.642, abs=0.003)
    assert values["JaColBERTv2"] == pytest.approx(0.5906, abs=0.003)
    report = (output / "report.md").read_text(encoding="utf-8")
    assert "| **BM25** | .4580 | .458 |" in report
    assert "| **JaColBERTv2.5** | .6409 | .642 | -.0011 |" in report
    assert "| JaColBERTv2.5 |  | .618*† |" in report  # the paper's value, with the reason
    assert "without the linear layer until caea57e" in report
    assert report.index("ruri-reranker-large") < report.index("**JaColBERTv2.5**") < report.index("**BM25**")
    page = (output / "report.html").read_text(encoding="utf-8")
    assert '<tr class="measured"><td>JaColBERTv2.5</td><td>.6409</td>' in page
    assert (output / "plot.png").read_bytes().startswith(b"\x89PNG")
    # Every published run of the test split has the 144,372 passages that the loader expects.
    run = read_run(folder / "runs" / "bm25.lz4")
    assert (len(run), run["docno"].nunique()) == (166700, jqara.DATASETS["jqara/test"].docs_count())


def results_on_five_tasks(values):
    """Builds results of a system on the paper's five tasks."""
    tasks = {
        task: TaskResult(
            protocol_of(task),
            protocol_of(task).queries,
            {"mine": SystemResult({m: value for m in protocol_of(task).measures}, {})},
        )
        for task, value in zip(PAPER_TASKS, values, strict=True)
    }
    return Results("corrected", tasks)


def test_the_mean_table_has_every_published_mean(tmp_path):
    results = results_on_five_tasks([0.974, 0.778, 0.642, 0.928, 0.462])
    assert results.mean("mine") == pytest.approx(0.7568)
    first = tables(results)[0]
    assert [row.name for row in first.rows][:2] == ["mine", "JaColBERTv2.5"]
    assert first.rows[0].cells[0] == ".7568"
    assert first.rows[1].cells[:2] == (".752", ".974")
    assert len(first.rows) == 16
    write_report(results, tmp_path)
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert first.title in report
    assert "\n- * " not in report  # Markdown would read a nested list
    four = Results("corrected", {task: result for task, result in results.tasks.items() if task != "esci"})
    assert four.mean("mine") is None


def test_names_are_escaped_in_the_reports(tmp_path):
    run = pd.DataFrame({"qid": ["1"], "docno": ["d"], "score": [1.0], "rank": [0]})
    qrels = pd.DataFrame({"qid": ["1"], "docno": ["d"], "label": [1]})
    result = measure({"<b>|x": run}, DEMO, qrels)
    write_report(Results("corrected", {"demo": result}), tmp_path)
    assert "<td>&lt;b&gt;|x</td>" in (tmp_path / "report.html").read_text()
    assert "**<b>\\|x**" in (tmp_path / "report.md").read_text()
    assert "114 queries" in (tmp_path / "report.md").read_text()  # the note that only one query is judged


def test_systems_from_command_line_arguments(tmp_path, checkpoint):
    assert isinstance(system("bm25"), PipelineSystem)
    assert system("baseline=bm25").name == "baseline"
    assert system("test_evaluation:counting_bm25").pipeline is counting_bm25
    loaded = system(f"mine={checkpoint}")
    assert (type(loaded), loaded.name) == (CheckpointSystem, "mine")
    assert system("answerdotai/JaColBERTv2.5").name == "JaColBERTv2.5"
    (tmp_path / "r.trec.gz").write_bytes(gzip.compress(b"1 Q0 d 0 1.5 x\n"))
    reader = system(str(tmp_path / "r.trec.gz"))
    assert (type(reader), reader.name) == (RunSystem, "r")
    assert reader.run(DEMO)["score"].tolist() == [1.5]
    folder = system(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="demo.trec"):
        folder.run(DEMO)
    (tmp_path / "demo.run").write_text("1 Q0 d 0 2.5 x\n")
    assert folder.run(DEMO)["score"].tolist() == [2.5]
    with pytest.raises(ValueError, match="test_evaluation:PAPER_PROTOCOLS"):
        system("test_evaluation:PAPER_PROTOCOLS")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        system("./nowhere")


def test_wrong_runs_and_options_are_one_line_errors(tmp_path, capsys):
    (tmp_path / "bad.lz4").write_bytes(b"\x04\x22\x4d\x18 nothing")
    (tmp_path / "bad.trec").write_text("a b\n")
    out = ["--output", str(tmp_path / "out")]
    for arguments, message in (
        ([str(tmp_path / "bad.lz4"), "--tasks", "demo"], "bad.lz4"),
        ([str(tmp_path / "bad.trec"), "--tasks", "demo"], "bad.trec"),
        (["bm25", "--tasks", "jsquat"], "'jsquat' is unknown; choose from jsquad"),
        (["bm25", "--tasks", "demo", "--protocol", "v2"], "'v2' is unknown; choose corrected or paper-v1"),
        (["bm25", "--tasks", "demo", "--baseline", "x"], "'x' is not one of the systems; name one of BM25"),
        (["bm25", "bm25", "--tasks", "demo"], "NAME=SYSTEM"),
        (["bm25", "--tasks", "demo", "--qrels", f"demo={tmp_path}/none"], f"{tmp_path}/none"),
    ):
        assert main(["evaluate", *arguments, *out]) == 1
        error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("pyterrier-jacolbert: ")]
        assert len(error) == 1
        assert message in error[0]
    (tmp_path / "q.trec").write_text("1 0 d one\n")
    with pytest.raises(ValueError, match="q.trec"):
        read_qrels(tmp_path / "q.trec")


@pytest.mark.slow
def test_mini_on_jsquad_reproduces_the_readme(shared, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JACOLBERT_DATA", str(shared / "data"))
    command = ["evaluate", "mini", "bm25", "--tasks", "jsquad", "--output", str(tmp_path / "out")]
    assert main(command) == 0
    written = json.loads((tmp_path / "out" / "results.json").read_text())["tasks"]["jsquad"]["systems"]
    expected = {"R@1": 0.932, "R@3": 0.973, "R@10": 0.985}
    for name, value in expected.items():
        assert written["mini"]["values"][name] == pytest.approx(value, abs=0.0015)
    assert written["mini"]["values"]["nDCG@10"] == pytest.approx(0.9607, abs=0.001)
    assert written["BM25"]["values"]["nDCG@10"] == pytest.approx(0.939, abs=0.001)
    capsys.readouterr()
    assert main(command) == 0
    assert capsys.readouterr().err.count("stored run") == 2

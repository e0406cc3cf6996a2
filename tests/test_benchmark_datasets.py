"""Each benchmark's loader on a miniature of its source, through the real download path or from a local copy."""

import hashlib
import json

import huggingface_hub.constants as hub_constants
import ir_datasets
import miniatures
import pandas as pd
import pyterrier as pt
import pytest
from hub_server import Hub, serve
from ir_datasets.formats import GenericQrel, GenericQuery

from pyterrier_jacolbert.datasets import (
    esci,
    jacwir,
    jagovfaqs,
    jaqket,
    jaquad,
    jqara,
    jsquad,
    miracl_small,
    mldr,
    nlp_journal,
)
from pyterrier_jacolbert.datasets._collection import Collection, Counts, Documentation, TitledDoc, dataset
from pyterrier_jacolbert.datasets._source import Source

#: The data set of a miniature, what its source has, its repository, its pinned commit.
SETS = {
    "jqara/test": (lambda: jqara.define("test", Counts(5, 2, 6, 6)), miniatures.jqara, "hotchpotch/JQaRA"),
    "jacwir/test": (lambda: jacwir.define("test", Counts(3, 3, 9, 9)), miniatures.jacwir, "hotchpotch/JaCWIR"),
    "jacwir/retrieval": (lambda: jacwir.define("retrieval", Counts(4, 3, 3)), miniatures.jacwir, "hotchpotch/JaCWIR"),
    "esci-ja/test": (lambda: esci.define(Counts(3, 2, 4, 4)), miniatures.esci, "sbintuitions/JMTEB"),
    "jagovfaqs-22k/test": (lambda: jagovfaqs.define(Counts(3, 2, 2)), miniatures.mteb, "mteb/JaGovFaqsRetrieval"),
    "nlp-journal/abs-article": (
        lambda: nlp_journal.define("abs-article", Counts(3, 2, 2)),
        miniatures.mteb,
        "mteb/NLPJournalAbsArticleRetrieval.V2",
    ),
    "jaqket/test": (
        lambda: jaqket.define(Counts(3, 2, 2)),
        lambda: miniatures.mteb(older=True, id_column="_id"),
        "mteb/jaqket",
    ),
    "mldr-ja/dev": (lambda: mldr.define("dev", Counts(2, 1, 1)), miniatures.mldr, "Shitao/MLDR"),
}
PINS = {
    "hotchpotch/JQaRA": jqara._REVISION,
    "hotchpotch/JaCWIR": jacwir._FILES.revision,
    "mteb/JaGovFaqsRetrieval": jagovfaqs._FILES.revision,
    "mteb/NLPJournalAbsArticleRetrieval.V2": nlp_journal._SETS["abs-article"][1],
    "mteb/jaqket": jaqket._FILES.revision,
    "Shitao/MLDR": mldr._REVISION,
    "sbintuitions/JMTEB": "0" * 40,  # not pinned: the newest commit, whichever it is
}
pytestmark = pytest.mark.filterwarnings("ignore:No revision of sbintuitions/JMTEB is pinned")


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """The folder of ir_datasets, empty."""
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path / "ir_datasets"))
    monkeypatch.setenv("IR_DATASETS_TMP", str(tmp_path / "tmp"))
    monkeypatch.setenv("IR_DATASETS_DL_TRIES", "1")
    monkeypatch.delenv("JACOLBERT_DATA", raising=False)
    monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "ir_datasets"


@pytest.fixture
def hub(monkeypatch):
    """A hub on this machine with all the miniatures at the commits that the loaders are pinned to."""
    with serve(Hub()) as hub:
        for _, files, repo in SETS.values():
            for path, content in files().items():
                hub.add(repo, path, content, PINS[repo])
        monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hub_constants, "ENDPOINT", hub.root)
        template = hub.root + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield hub


def copy(folder, repo, files):
    """Lays the files out as a user's own copies."""
    for path, content in files.items():
        target = folder / repo / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def frames(data, monkeypatch):
    """Topics, qrels, documents and candidates as PyTerrier gives them."""
    monkeypatch.setattr(ir_datasets, "load", lambda name: data)
    adapter = pt.datasets._irds.IRDSDataset("x")
    found = {
        "topics": adapter.get_topics(),
        "qrels": adapter.get_qrels(),
        "docs": pd.DataFrame(adapter.get_corpus_iter(verbose=False)),
    }
    if data.has_scoreddocs():
        found["results"] = adapter.get_results()
    monkeypatch.undo()
    return found


@pytest.mark.parametrize("from_hub", [True, False], ids=["downloaded", "copied"])
@pytest.mark.parametrize("name", SETS)
def test_a_miniature_gives_topics_qrels_documents_and_candidates(name, from_hub, hub, home, tmp_path, monkeypatch):
    define, files, repo = SETS[name]
    if not from_hub:
        copy(tmp_path / "copies", repo, files())
        monkeypatch.setenv("JACOLBERT_DATA", str(tmp_path / "copies"))
    data = define()
    # Reads everything once, while the environment is that of the test.
    n_docs = len(list(data.docs_iter()))
    assert bool(hub.asked) == from_hub
    if from_hub:
        assert all(PINS[repo] in path for path in hub.asked if "/resolve/" in path)
    found = frames(data, monkeypatch)
    topics, qrels, docs = found["topics"], found["qrels"], found["docs"]
    assert list(topics.columns) == ["qid", "query"]
    assert all(type(value) is str and value for column in topics for value in topics[column])
    assert topics["qid"].is_unique
    assert list(qrels.columns) == ["qid", "docno", "label"]
    assert pd.api.types.is_integer_dtype(qrels["label"])
    assert set(docs.columns) == {"docno", "title", "text"}
    assert all(type(value) is str for column in docs for value in docs[column])
    assert docs["docno"].is_unique
    assert len(docs) == n_docs
    assert set(qrels["qid"]) == set(topics["qid"])
    assert set(qrels["docno"]) <= set(docs["docno"])
    if "results" in found:
        results = found["results"]
        assert {"qid", "docno", "score", "query"} <= set(results.columns)
        assert set(zip(results["qid"], results["docno"], strict=True)) == set(
            zip(qrels["qid"], qrels["docno"], strict=True)
        )
        assert (results["score"] == 0).all()  # the order of a source may tell what is relevant


def test_what_the_loaders_make_of_rows(hub):
    data = jqara.define("test", Counts(5, 2, 6, 6))
    assert next(data.docs_iter()) == TitledDoc("221102", "富士山", "日本一高い山。")
    assert list(data.qrels_iter())[:2] == [GenericQrel("QA-1", "221102", 1), GenericQrel("QA-1", "49534", 0)]
    assert data.docs_store().get("28979").title == "東京"
    assert [doc.doc_id for doc in data.docs_iter()[1:3]] == ["49534", "28979"]
    assert data.docs[-1].doc_id == "8"
    data = jacwir.define("test", Counts(3, 3, 9, 9))
    ids = ["q_id##doc_id#a1", "q_id##doc_id#a1-2", "q_id##doc_id#c3"]
    assert [query.query_id for query in data.queries_iter()] == ids
    assert sum(qrel.relevance for qrel in data.qrels_iter()) == 3
    assert list(jacwir.define("retrieval", Counts(4, 3, 3)).docs_iter())[3] == TitledDoc("doc_id#d4", "山", "")
    data = esci.define(Counts(3, 2, 4, 4))
    assert [tuple(qrel[:3]) for qrel in data.qrels_iter()] == [
        *(("0", "B001", 3), ("0", "B002", 0)),
        *(("1", "B003", 2), ("1", "B001", 1)),
    ]
    assert [query.text for query in jagovfaqs.define(Counts(3, 2, 2)).queries_iter()] == ["どこで申請?", "いくら?"]
    assert list(mldr.define("dev", Counts(2, 1, 1)).qrels_iter()) == [GenericQrel("q-ja-dev", "doc-ja-0", 1)]


def test_a_set_is_fetched_once_and_kept_in_the_formats_of_ir_datasets(hub, home):
    counts = Counts(5, 2, 6, 6)
    first = list(jqara.define("test", counts).docs_iter())
    asked = len(hub.asked)
    again = jqara.define("test", counts)
    assert list(again.docs_iter()) == first
    assert len(hub.asked) == asked
    kept = home / "jqara" / "test"
    from ir_datasets.formats import JsonlDocs, TrecQrels, TrecScoredDocs
    from ir_datasets.util import LocalDownload

    assert list(JsonlDocs(LocalDownload(kept / "docs.jsonl"), doc_cls=TitledDoc)._iter()) == first
    assert [q.relevance for q in TrecQrels(LocalDownload(kept / "qrels.trec"), {}).qrels_iter()] == [1, 0, 0, 1, 0, 0]
    assert len(list(TrecScoredDocs(LocalDownload(kept / "scoreddocs.trec")).scoreddocs_iter())) == 6
    assert json.loads((kept / "source.json").read_text())["revision"] == jqara._REVISION
    assert not [path for path in home.rglob("*") if path.suffix in (".pkl", ".pklz4")]


def test_a_set_of_another_revision_is_fetched_again(hub, home, monkeypatch):
    counts = Counts(5, 2, 6, 6)
    list(jqara.define("test", counts).docs_iter())
    newer = "f" * 40
    for path, content in miniatures.jqara().items():
        hub.add("hotchpotch/JQaRA", path, content, newer)
    monkeypatch.setattr(jqara, "_REVISION", newer)
    assert len(list(jqara.define("test", counts).docs_iter())) == 5
    assert json.loads((home / "jqara" / "test" / "source.json").read_text())["revision"] == newer


def test_a_licence_that_forbids_a_use_is_shown_when_the_set_is_fetched_and_not_again(hub, capfd):
    list(jacwir.define("retrieval", Counts(4, 3, 3)).docs_iter())
    assert "not commercially" in capfd.readouterr().err
    data = jacwir.define("retrieval", Counts(4, 3, 3))
    list(data.docs_iter())
    assert "not commercially" not in capfd.readouterr().err
    assert "not commercially" in data.documentation()["notice"]
    assert "non-commercial" in data.documentation()["licence"]


def test_the_terms_of_mmarco_are_shown_while_it_is_not_on_the_machine(home, capfd):
    pt.get_dataset("jacolbert:mmarco/v2/ja/dev/small")
    assert "non-commercial research only" in capfd.readouterr().err
    (home / "mmarco").mkdir(parents=True)
    pt.get_dataset("jacolbert:mmarco/v2/ja/dev/small")
    assert capfd.readouterr().err == ""


def test_a_revision_that_is_not_pinned_is_said(hub):
    with pytest.warns(UserWarning, match="No revision of sbintuitions/JMTEB is pinned"):
        list(esci.define(Counts(3, 2, 4, 4)).docs_iter())


def one_sentence(error) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert error.value.__suppress_context__ or error.value.__cause__ is None
    return message


def nothing_kept(home) -> bool:
    return not any(path.is_file() for path in home.rglob("*"))


def test_no_network_is_one_sentence_with_both_remedies(home):
    data = jqara.define("test", Counts(5, 2, 6, 6))
    with pytest.raises(FileNotFoundError) as error:
        data.docs_iter()
    message = one_sentence(error)
    assert "connect to the network, or set JACOLBERT_DATA" in message
    assert "https://huggingface.co/datasets/hotchpotch/JQaRA" in message
    assert nothing_kept(home)


def test_a_hub_without_the_revision_is_one_sentence(hub, home, monkeypatch):
    monkeypatch.setattr(jqara, "_REVISION", "e" * 40)
    hub.files = {key: content for key, content in hub.files.items() if key[0] != "hotchpotch/JQaRA"}
    with pytest.raises(FileNotFoundError) as error:
        jqara.define("test", Counts(5, 2, 6, 6)).docs_iter()
    assert "hotchpotch/JQaRA" in one_sentence(error)
    assert nothing_kept(home)


def test_a_truncated_file_is_one_sentence_and_nothing_is_kept(home, tmp_path, monkeypatch):
    for repo, define, files in (
        ("hotchpotch/JQaRA", lambda: jqara.define("test", Counts(5, 2, 6, 6)), miniatures.jqara()),
        ("Shitao/MLDR", lambda: mldr.define("dev", Counts(2, 1, 1)), miniatures.mldr()),
    ):
        copy(tmp_path / "copies", repo, {path: content[: len(content) // 2] for path, content in files.items()})
        monkeypatch.setenv("JACOLBERT_DATA", str(tmp_path / "copies"))
        with pytest.raises(ValueError, match="cannot be read .*; remove it") as error:
            define().docs_iter()
        one_sentence(error)
        assert nothing_kept(home)


def test_a_download_that_is_cut_off_goes_on_where_it_was(hub, home, monkeypatch):
    # The library counts what it has in chunks, of 10 MB unless told otherwise: more than a miniature has.
    monkeypatch.setattr(hub_constants, "DOWNLOAD_CHUNK_SIZE", 100)
    path = next(iter(miniatures.jqara()))
    hub.cut[path] = 1
    assert len(list(jqara.define("test", Counts(5, 2, 6, 6)).docs_iter())) == 5
    assert hub.resumed == [path]


def test_a_download_that_fails_is_not_kept_and_the_next_one_is(hub, home):
    path = next(iter(miniatures.jqara()))
    hub.cut[path] = 1000
    data = jqara.define("test", Counts(5, 2, 6, 6))
    with pytest.raises(FileNotFoundError, match="could not be downloaded") as error:
        data.docs_iter()
    one_sentence(error)
    assert nothing_kept(home)
    hub.cut.clear()
    assert len(list(data.docs_iter())) == 5


def test_a_missing_column_is_one_sentence_with_the_columns_there_are(home, tmp_path, monkeypatch):
    import pyarrow as pa

    files = {"data/test-00000-of-00001.parquet": miniatures.parquet({"q_id": (pa.string(), ["QA-1"])})}
    copy(tmp_path / "copies", "hotchpotch/JQaRA", files)
    monkeypatch.setenv("JACOLBERT_DATA", str(tmp_path / "copies"))
    with pytest.raises(ValueError, match="has no column 'question' but 'q_id'") as error:
        jqara.define("test", Counts(5, 2, 6, 6)).docs_iter()
    one_sentence(error)
    copy(tmp_path / "copies", "Shitao/MLDR", {**miniatures.mldr(), "mldr-v1.0-ja/dev.jsonl.gz": b"{}\n"})
    with pytest.raises(ValueError, match="dev.jsonl.gz cannot be read"):
        mldr.define("dev", Counts(2, 1, 1)).docs_iter()
    assert nothing_kept(home)


def test_wrong_counts_are_one_sentence_and_nothing_is_kept(hub, home):
    data = jqara.define("test", Counts(docs=144372, queries=1667, qrels=166700))
    with pytest.raises(ValueError, match=r"jqara/test should have Counts\(docs=144372.*docs=5") as error:
        data.docs_iter()
    one_sentence(error)
    assert nothing_kept(home)
    assert list(home.rglob("*.tmp")) == []


def test_a_copy_without_a_file_is_downloaded_and_a_hub_without_it_is_one_sentence(hub, home, tmp_path, monkeypatch):
    files = miniatures.esci()
    copy(tmp_path / "copies", "sbintuitions/JMTEB", {path: files[path] for path in list(files)[:1]})
    monkeypatch.setenv("JACOLBERT_DATA", str(tmp_path / "copies"))
    assert len(list(esci.define(Counts(3, 2, 4, 4)).docs_iter())) == 3
    assert any("/resolve/" in path for path in hub.asked)
    del hub.files["hotchpotch/JaCWIR", "collection/collection-00000-of-00001.parquet"]
    with pytest.raises(FileNotFoundError, match=r"hotchpotch/JaCWIR has no collection/\*.parquet at the rev") as error:
        jacwir.define("test", Counts(3, 3, 9, 9)).docs_iter()
    one_sentence(error)


def test_squad_files_come_from_a_server_checked(hub, home):
    content = miniatures.squad()
    hub.add("", "valid.json", content, "")
    source = Source("jsquad/mini.json", f"{hub.root}/valid.json", md5=hashlib.md5(content).hexdigest())
    data = jsquad.define("mini", source, Counts(2, 3, 3))
    assert list(data.docs_iter())[1] == TitledDoc("a1p1", "富士山", "静岡と山梨。")
    assert (home / "jsquad" / "mini.json").read_bytes() == content
    wrong = Source("jsquad/wrong.json", f"{hub.root}/valid.json", md5="0" * 32)
    with pytest.raises(ValueError, match="is not the published file") as error:
        jsquad.define("mini", wrong, Counts(2, 3, 3)).docs_iter()
    one_sentence(error)
    hub.cut["valid.json"] = 1
    cut = Source("jsquad/cut.json", f"{hub.root}/valid.json", md5=hashlib.md5(content).hexdigest())
    with pytest.raises(FileNotFoundError, match="could not be downloaded") as error:
        jsquad.define("mini", cut, Counts(2, 3, 3)).docs_iter()
    one_sentence(error)
    assert sorted(path.name for path in home.rglob("*") if path.is_file()) == ["mini.json"]


def test_jaquad_is_thirty_files_and_four():
    assert (len(jaquad.sources("train")), len(jaquad.sources("dev"))) == (30, 4)
    assert jaquad.sources("dev")[3].url.endswith("/data/dev/jaquad_dev_0003.json")


@pytest.fixture
def miracl(monkeypatch):
    """A tiny MIRACL: six passages, two queries, as ir_datasets gives it."""
    docs = [TitledDoc(f"{n}#0", f"題{n}", f"文{n}") for n in range(6)]
    queries = [GenericQuery("0", "何?"), GenericQuery("3", "誰?")]
    qrels = [GenericQrel("0", "0#0", 1), GenericQrel("0", "5#0", 0), GenericQrel("3", "4#0", 1)]
    counts = Counts(6, 2, 3)
    full = dataset(
        "tiny/miracl",
        lambda: Collection(docs, queries, qrels),
        counts=counts,
        documentation=Documentation(),
        relevance={},
    )
    load = ir_datasets.load
    monkeypatch.setattr(ir_datasets, "load", lambda name: full if name == "tiny/miracl" else load(name))


@pytest.mark.filterwarnings("ignore:No checksum of")
@pytest.mark.parametrize("form", ["lists", "records by query text"])
def test_miracl_small_is_what_bm25_found_and_the_positives(form, hub, miracl, home):
    rankings = {"0": ["1#0", "0#0", "2#0", "3#0"], "3": ["2#0", "1#0", "0#0"]}
    if form != "lists":
        names = {"0": "何?", "3": "誰?"}
        rankings = {names[query]: {"docids": doc_ids} for query, doc_ids in rankings.items()}
    hub.add("", "bm25.json", json.dumps(rankings).encode(), "")
    source = Source("miracl-ja-small/bm25.json", f"{hub.root}/bm25.json")
    data = miracl_small.define(Counts(4, 2, 2, 4), source=source, miracl="tiny/miracl", depth=2)
    assert [doc.doc_id for doc in data.docs_iter()] == ["0#0", "1#0", "2#0", "4#0"]
    assert list(data.qrels_iter()) == [GenericQrel("0", "0#0", 1), GenericQrel("3", "4#0", 1)]
    assert [tuple(row) for row in data.scoreddocs_iter()] == [
        *(("0", "1#0", 0.0), ("0", "0#0", 0.0), ("3", "2#0", 0.0), ("3", "1#0", 0.0)),
    ]
    assert data.docs_store().get("4#0") == TitledDoc("4#0", "題4", "文4")


def test_miracl_small_says_that_no_checksum_is_known_and_what_is_wrong_with_a_list(hub, miracl):
    hub.add("", "bm25.json", b"<html>", "")
    source = Source("miracl-ja-small/bm25.json", f"{hub.root}/bm25.json")
    data = miracl_small.define(Counts(4, 2, 2), source=source, miracl="tiny/miracl", depth=2)
    with (
        pytest.warns(UserWarning, match="No checksum of .* is known"),
        pytest.raises(ValueError, match="is not the list that was published .*; remove it") as error,
    ):
        data.docs_iter()
    one_sentence(error)


@pytest.mark.parametrize(
    ("name", "counts", "topics", "qrels"),
    [
        ("miracl/ja/dev", (860, 8354), "topics.miracl-v1.0-ja-dev.tsv", "qrels.miracl-v1.0-ja-dev.tsv"),
        ("miracl/ja/train", (3477, 34387), "topics.miracl-v1.0-ja-train.tsv", "qrels.miracl-v1.0-ja-train.tsv"),
        ("mr-tydi/ja/train", (3697, 3697), "topics.mrtydi-v1.1-ja.train.txt.gz", "qrels.mrtydi-v1.1-ja.train.txt"),
        ("mr-tydi/ja/dev", (928, 928), "topics.mrtydi-v1.1-ja.dev.txt.gz", "qrels.mrtydi-v1.1-ja.dev.txt"),
        ("mr-tydi/ja/test", (720, 923), "topics.mrtydi-v1.1-ja.test.txt.gz", "qrels.mrtydi-v1.1-ja.test.txt"),
    ],
)
def test_what_ir_datasets_says_of_its_own_sets_agrees_with_the_published_files(name, counts, topics, qrels, shared):
    folder = shared / "data" / "miracl-mrtydi-ja"
    queries = pd.read_csv(folder / "topics" / topics, sep="\t", names=["qid", "query"], dtype=str, quoting=3)
    judgements = pd.read_csv(folder / "qrels" / qrels, sep=r"\s+", names=["qid", "q0", "docno", "label"], dtype=str)
    metadata = ir_datasets.load(name).metadata()
    assert (len(queries), len(judgements)) == counts
    assert (metadata["queries"]["count"], metadata["qrels"]["count"]) == counts
    labels = judgements["label"].value_counts().to_dict()
    assert metadata["qrels"]["fields"]["relevance"]["counts_by_value"] == labels
    assert set(judgements["qid"]) <= set(queries["qid"])

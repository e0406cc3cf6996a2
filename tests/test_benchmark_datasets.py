"""The loader of each benchmark on a miniature of its source, downloaded or read from a local copy."""

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
    _provider,
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
from pyterrier_jacolbert.datasets._collection import Collection, Counts, TitledDoc
from pyterrier_jacolbert.datasets._irds import Documentation, lazy_dataset
from pyterrier_jacolbert.datasets._source import Source

#: For each dataset: its definition on the miniature, the files of the miniature, the repository.
MINIATURES = {
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
#: The pinned commit of each repository.
REVISIONS = {
    "hotchpotch/JQaRA": jqara._REVISION,
    "hotchpotch/JaCWIR": jacwir._FILES.revision,
    "mteb/JaGovFaqsRetrieval": jagovfaqs._FILES.revision,
    "mteb/NLPJournalAbsArticleRetrieval.V2": nlp_journal._DATASET_SOURCES["abs-article"][1],
    "mteb/jaqket": jaqket._FILES.revision,
    "Shitao/MLDR": mldr._REVISION,
    "sbintuitions/JMTEB": "0" * 40,  # not pinned: any newest commit
}
pytestmark = pytest.mark.filterwarnings("ignore:No revision of sbintuitions/JMTEB is pinned")


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """Empty folder of ir_datasets."""
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path / "ir_datasets"))
    monkeypatch.setenv("IR_DATASETS_TMP", str(tmp_path / "tmp"))
    monkeypatch.setenv("IR_DATASETS_DL_TRIES", "1")
    monkeypatch.delenv("JACOLBERT_DATA", raising=False)
    monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "ir_datasets"


@pytest.fixture
def hub(monkeypatch):
    """A hub on this machine with all miniatures at the pinned commits."""
    with serve(Hub()) as hub:
        for _, files, repo in MINIATURES.values():
            for path, content in files().items():
                hub.add(repo, path, content, REVISIONS[repo])
        monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hub_constants, "ENDPOINT", hub.root)
        template = hub.root + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield hub


def copy(folder, repo, files):
    """Writes the files as a user's local copy."""
    for path, content in files.items():
        target = folder / repo / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def frames(data, monkeypatch):
    """Returns topics, qrels, documents and candidates as PyTerrier reads them."""
    monkeypatch.setattr(ir_datasets, "load", lambda name: data)
    adapter = pt.datasets._irds.IRDSDataset("x")
    pyterrier_frames = {
        "topics": adapter.get_topics(),
        "qrels": adapter.get_qrels(),
        "docs": pd.DataFrame(adapter.get_corpus_iter(verbose=False)),
    }
    if data.has_scoreddocs():
        pyterrier_frames["results"] = adapter.get_results()
    monkeypatch.undo()
    return pyterrier_frames


@pytest.mark.parametrize("from_hub", [True, False], ids=["downloaded", "copied"])
@pytest.mark.parametrize("name", MINIATURES)
def test_miniatures_give_topics_qrels_documents_candidates(name, from_hub, hub, home, tmp_path, monkeypatch):
    define, files, repo = MINIATURES[name]
    if not from_hub:
        copy(tmp_path / "copies", repo, files())
        monkeypatch.setenv("JACOLBERT_DATA", str(tmp_path / "copies"))
    data = define()
    # This reads everything before `frames` undoes the changes to the environment.
    n_docs = len(list(data.docs_iter()))
    assert bool(hub.requests) == from_hub
    if from_hub:
        assert all(REVISIONS[repo] in path for path in hub.requests if "/resolve/" in path)
    pyterrier_frames = frames(data, monkeypatch)
    topics, qrels, docs = pyterrier_frames["topics"], pyterrier_frames["qrels"], pyterrier_frames["docs"]
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
    if "results" in pyterrier_frames:
        results = pyterrier_frames["results"]
        assert {"qid", "docno", "score", "query"} <= set(results.columns)
        assert set(zip(results["qid"], results["docno"], strict=True)) == set(
            zip(qrels["qid"], qrels["docno"], strict=True)
        )
        assert (results["score"] == 0).all()  # the order of a source may reveal the relevant document


def test_loaders_convert_the_rows_of_their_sources(hub):
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


def test_a_dataset_is_fetched_once_and_kept_in_irds_formats(hub, home):
    counts = Counts(5, 2, 6, 6)
    first = list(jqara.define("test", counts).docs_iter())
    n_requests = len(hub.requests)
    again = jqara.define("test", counts)
    assert list(again.docs_iter()) == first
    assert len(hub.requests) == n_requests
    kept = home / "jqara" / "test"
    from ir_datasets.formats import JsonlDocs, TrecQrels, TrecScoredDocs
    from ir_datasets.util import LocalDownload

    assert list(JsonlDocs(LocalDownload(kept / "docs.jsonl"), doc_cls=TitledDoc)._iter()) == first
    assert [q.relevance for q in TrecQrels(LocalDownload(kept / "qrels.trec"), {}).qrels_iter()] == [1, 0, 0, 1, 0, 0]
    assert len(list(TrecScoredDocs(LocalDownload(kept / "scoreddocs.trec")).scoreddocs_iter())) == 6
    assert json.loads((kept / "source.json").read_text())["revision"] == jqara._REVISION
    assert not [path for path in home.rglob("*") if path.suffix in (".pkl", ".pklz4")]


def test_a_dataset_of_another_revision_is_fetched_again(hub, home, monkeypatch):
    counts = Counts(5, 2, 6, 6)
    list(jqara.define("test", counts).docs_iter())
    newer = "f" * 40
    for path, content in miniatures.jqara().items():
        hub.add("hotchpotch/JQaRA", path, content, newer)
    monkeypatch.setattr(jqara, "_REVISION", newer)
    assert len(list(jqara.define("test", counts).docs_iter())) == 5
    assert json.loads((home / "jqara" / "test" / "source.json").read_text())["revision"] == newer


def test_files_of_the_user_are_never_replaced(hub, home):
    foreign = home / "jqara" / "test" / "notes.txt"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine")
    with pytest.raises(FileExistsError, match="notes.txt"):
        jqara.define("test", Counts(5, 2, 6, 6)).docs_iter()
    assert [path for path in home.rglob("*") if path.is_file()] == [foreign]


def test_a_licence_notice_is_shown_only_when_fetching(hub, capfd):
    list(jacwir.define("retrieval", Counts(4, 3, 3)).docs_iter())
    assert jacwir.NOTICE in capfd.readouterr().err
    data = jacwir.define("retrieval", Counts(4, 3, 3))
    list(data.docs_iter())
    assert jacwir.NOTICE not in capfd.readouterr().err
    assert data.documentation()["notice"] == jacwir.NOTICE
    assert data.documentation()["licence"]


def test_mmarco_s_terms_are_shown_until_it_is_downloaded(home, capfd):
    pt.get_dataset("jacolbert:mmarco/v2/ja/dev/small")
    assert _provider._MMARCO_NOTICE in capfd.readouterr().err
    (home / "mmarco").mkdir(parents=True)
    pt.get_dataset("jacolbert:mmarco/v2/ja/dev/small")
    assert capfd.readouterr().err == ""


def test_an_unpinned_revision_is_a_warning(hub):
    with pytest.warns(UserWarning, match="sbintuitions/JMTEB"):
        list(esci.define(Counts(3, 2, 4, 4)).docs_iter())


def one_sentence(error) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert error.value.__suppress_context__ or error.value.__cause__ is None
    return message


def no_files(home) -> bool:
    return not any(path.is_file() for path in home.rglob("*"))


def test_without_a_network_the_error_names_both_remedies(home):
    data = jqara.define("test", Counts(5, 2, 6, 6))
    with pytest.raises(FileNotFoundError) as error:
        data.docs_iter()
    message = one_sentence(error)
    assert "network" in message
    assert "JACOLBERT_DATA" in message
    assert "https://huggingface.co/datasets/hotchpotch/JQaRA" in message
    assert no_files(home)


def test_a_hub_without_the_revision_is_an_error(hub, home, monkeypatch):
    monkeypatch.setattr(jqara, "_REVISION", "e" * 40)
    hub.files = {key: content for key, content in hub.files.items() if key[0] != "hotchpotch/JQaRA"}
    with pytest.raises(FileNotFoundError) as error:
        jqara.define("test", Counts(5, 2, 6, 6)).docs_iter()
    assert "hotchpotch/JQaRA" in one_sentence(error)
    assert no_files(home)


def test_a_truncated_file_is_an_error_and_nothing_is_kept(home, tmp_path, monkeypatch):
    for repo, define, files in (
        ("hotchpotch/JQaRA", lambda: jqara.define("test", Counts(5, 2, 6, 6)), miniatures.jqara()),
        ("Shitao/MLDR", lambda: mldr.define("dev", Counts(2, 1, 1)), miniatures.mldr()),
    ):
        copy(tmp_path / "copies", repo, {path: content[: len(content) // 2] for path, content in files.items()})
        monkeypatch.setenv("JACOLBERT_DATA", str(tmp_path / "copies"))
        with pytest.raises(ValueError, match="test-00000-of-00001.parquet|jsonl.gz") as error:
            define().docs_iter()
        one_sentence(error)
        assert no_files(home)


def test_an_interrupted_download_is_resumed(hub, home, monkeypatch):
    # The library resumes at multiples of a chunk size, which is 10 MB by default: more than a miniature has.
    monkeypatch.setattr(hub_constants, "DOWNLOAD_CHUNK_SIZE", 100)
    path = next(iter(miniatures.jqara()))
    hub.cut[path] = 1
    assert len(list(jqara.define("test", Counts(5, 2, 6, 6)).docs_iter())) == 5
    assert hub.resumed == [path]


def test_a_failed_download_is_not_kept_and_can_be_repeated(hub, home):
    path = next(iter(miniatures.jqara()))
    hub.cut[path] = 1000
    data = jqara.define("test", Counts(5, 2, 6, 6))
    with pytest.raises(FileNotFoundError, match="JACOLBERT_DATA") as error:
        data.docs_iter()
    one_sentence(error)
    assert no_files(home)
    hub.cut.clear()
    assert len(list(data.docs_iter())) == 5


def test_a_missing_column_is_an_error_with_existing_columns(home, tmp_path, monkeypatch):
    import pyarrow as pa

    files = {"data/test-00000-of-00001.parquet": miniatures.parquet({"q_id": (pa.string(), ["QA-1"])})}
    copy(tmp_path / "copies", "hotchpotch/JQaRA", files)
    monkeypatch.setenv("JACOLBERT_DATA", str(tmp_path / "copies"))
    with pytest.raises(ValueError, match="'question'.*'q_id'") as error:
        jqara.define("test", Counts(5, 2, 6, 6)).docs_iter()
    one_sentence(error)
    copy(tmp_path / "copies", "Shitao/MLDR", {**miniatures.mldr(), "mldr-v1.0-ja/dev.jsonl.gz": b"{}\n"})
    with pytest.raises(ValueError, match="dev.jsonl.gz"):
        mldr.define("dev", Counts(2, 1, 1)).docs_iter()
    assert no_files(home)


def test_wrong_counts_are_an_error_and_nothing_is_kept(hub, home):
    data = jqara.define("test", Counts(docs=144372, queries=1667, qrels=166700))
    with pytest.raises(ValueError, match=r"jqara/test .*docs=144372.*docs=5") as error:
        data.docs_iter()
    one_sentence(error)
    assert no_files(home)
    assert [path.name for path in home.rglob("*test*")] == []


def test_a_copy_that_lacks_a_file_is_downloaded(hub, home, tmp_path, monkeypatch):
    files = miniatures.esci()
    copy(tmp_path / "copies", "sbintuitions/JMTEB", {path: files[path] for path in list(files)[:1]})
    monkeypatch.setenv("JACOLBERT_DATA", str(tmp_path / "copies"))
    assert len(list(esci.define(Counts(3, 2, 4, 4)).docs_iter())) == 3
    assert any("/resolve/" in path for path in hub.requests)
    del hub.files["hotchpotch/JaCWIR", "collection/collection-00000-of-00001.parquet"]
    with pytest.raises(FileNotFoundError, match=r"hotchpotch/JaCWIR .*collection/\*.parquet") as error:
        jacwir.define("test", Counts(3, 3, 9, 9)).docs_iter()
    one_sentence(error)


def test_squad_files_are_downloaded_and_checked(hub, home):
    content = miniatures.squad()
    hub.add("", "valid.json", content, "")
    source = Source("jsquad/mini.json", f"{hub.root}/valid.json", md5=hashlib.md5(content).hexdigest())
    data = jsquad.define("mini", source, Counts(2, 3, 3))
    assert list(data.docs_iter())[1] == TitledDoc("a1p1", "富士山", "静岡と山梨。")
    assert (home / "jsquad" / "mini.json").read_bytes() == content
    wrong = Source("jsquad/wrong.json", f"{hub.root}/valid.json", md5="0" * 32)
    with pytest.raises(ValueError, match=f"{hub.root}/valid.json") as error:
        jsquad.define("mini", wrong, Counts(2, 3, 3)).docs_iter()
    one_sentence(error)
    hub.cut["valid.json"] = 1
    cut = Source("jsquad/cut.json", f"{hub.root}/valid.json", md5=hashlib.md5(content).hexdigest())
    with pytest.raises(FileNotFoundError, match="JACOLBERT_DATA") as error:
        jsquad.define("mini", cut, Counts(2, 3, 3)).docs_iter()
    one_sentence(error)
    assert sorted(path.name for path in home.rglob("*") if path.is_file()) == ["mini.json"]


def test_jsts_finds_paraphrases_and_not_the_sentence_itself():
    pairs = [
        ("1", "犬が走る。", "犬が駆ける。", 4.2),
        ("2", "猫が眠る。", "犬が走る。", 1.0),
        ("3", "犬が駆ける。", "犬だ。", 5.0),
    ]
    names = ("sentence_pair_id", "sentence1", "sentence2", "label")
    collection = jglue.read_jsts(dict(zip(names, pair, strict=True)) for pair in pairs)
    assert [doc.text for doc in collection.docs] == ["犬が駆ける。", "犬が走る。", "犬だ。"]
    assert collection.queries == []  # both first sentences of paraphrases are documents, too
    pairs[0] = ("1", "犬が疾走する。", "犬が駆ける。", 4.2)
    collection = jglue.read_jsts(dict(zip(names, pair, strict=True)) for pair in pairs)
    assert [(query.query_id, query.text) for query in collection.queries] == [("1", "犬が疾走する。")]
    assert [tuple(qrel)[:3] for qrel in collection.qrels] == [("1", "d0", 1)]


def test_jcommonsenseqa_finds_the_right_answer_among_all():
    line = {"q_id": 7, "question": "夜に光るものは？", "label": 2, **{f"choice{i}": f"答{i % 4}" for i in range(5)}}
    collection = jglue.read_jcommonsenseqa([line])
    assert [doc.text for doc in collection.docs] == ["答0", "答1", "答2", "答3"]
    assert [tuple(qrel)[:3] for qrel in collection.qrels] == [("7", "d2", 1)]


def test_jaquad_has_thirty_training_and_four_dev_files():
    assert (len(jaquad.sources("train")), len(jaquad.sources("dev"))) == (30, 4)
    assert jaquad.sources("dev")[3].url.endswith("/data/dev/jaquad_dev_0003.json")


@pytest.fixture
def miracl(monkeypatch):
    """A tiny MIRACL in ir_datasets: six passages and two queries."""
    docs = [TitledDoc(f"{n}#0", f"題{n}", f"文{n}") for n in range(6)]
    queries = [GenericQuery("0", "何?"), GenericQuery("3", "誰?")]
    qrels = [GenericQrel("0", "0#0", 1), GenericQrel("0", "5#0", 0), GenericQrel("3", "4#0", 1)]
    counts = Counts(6, 2, 3)
    full = lazy_dataset(
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
def test_miracl_small_has_bm25_s_documents_and_the_relevant(form, hub, miracl, home):
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


def test_a_bad_miracl_list_without_checksum_warns_and_fails(hub, miracl):
    hub.add("", "bm25.json", b"<html>", "")
    source = Source("miracl-ja-small/bm25.json", f"{hub.root}/bm25.json")
    data = miracl_small.define(Counts(4, 2, 2), source=source, miracl="tiny/miracl", depth=2)
    with (
        pytest.warns(UserWarning, match=f"{hub.root}/bm25.json"),
        pytest.raises(ValueError, match="bm25.json") as error,
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
def test_ir_datasets_metadata_agree_with_the_published_files(name, counts, topics, qrels, shared):
    folder = shared / "data" / "miracl-mrtydi-ja"
    queries = pd.read_csv(folder / "topics" / topics, sep="\t", names=["qid", "query"], dtype=str, quoting=3)
    judgements = pd.read_csv(folder / "qrels" / qrels, sep=r"\s+", names=["qid", "q0", "docno", "label"], dtype=str)
    metadata = ir_datasets.load(name).metadata()
    assert (len(queries), len(judgements)) == counts
    assert (metadata["queries"]["count"], metadata["qrels"]["count"]) == counts
    labels = judgements["label"].value_counts().to_dict()
    assert metadata["qrels"]["fields"]["relevance"]["counts_by_value"] == labels
    assert set(judgements["qid"]) <= set(queries["qid"])

"""The datasets as PyTerrier and `ir_datasets` read them, from a local copy and without one."""

import gzip
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import ir_datasets
import pandas as pd
import pyterrier as pt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyterrier_jacolbert import datasets
from pyterrier_jacolbert.datasets import demo, jsquad
from pyterrier_jacolbert.datasets._catalog import DATASET_BY_IRDS_ID
from pyterrier_jacolbert.datasets._collection import Collection, Counts, TitledDoc
from pyterrier_jacolbert.datasets._irds import Documentation, lazy_dataset
from pyterrier_jacolbert.datasets._source import Source
from pyterrier_jacolbert.datasets._squad import squad_collection

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
JSQUAD = SHARED / "jsquad" / "valid-v1.3.json"
CONTENT = b'{"data": []}'
CONTENT_MD5 = hashlib.md5(CONTENT).hexdigest()

JAQUAD = SHARED / "jaquad" / "train"

needs_jaquad = pytest.mark.skipif(not JAQUAD.is_dir(), reason=f"JaQuAD's training files are not in {JAQUAD}")
JGLUE = SHARED / "jglue"
needs_jglue = pytest.mark.skipif(not JGLUE.is_dir(), reason=f"JSTS and JCommonsenseQA are not in {JGLUE}")
needs_jsquad = pytest.mark.skipif(not JSQUAD.is_file(), reason=f"JSQuAD's validation file is not at {JSQUAD}")


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """Keeps every test away from the network and from the user's folders."""

    def refuse(*args, **kwargs):
        raise OSError("a test tried to open a connection")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path / "ir_datasets"))
    monkeypatch.setenv("IR_DATASETS_TMP", str(tmp_path / "tmp"))
    monkeypatch.setenv("IR_DATASETS_DL_TRIES", "1")
    monkeypatch.delenv("JACOLBERT_DATA", raising=False)


@pytest.fixture
def shared(monkeypatch):
    monkeypatch.setenv("JACOLBERT_DATA", str(SHARED))


@pytest.fixture
def fresh_jsquad():
    """JSQuAD, not read yet."""
    return jsquad.define("validation", jsquad._VALIDATION, Counts(1145, 4442, 4442))


NAMES = [
    pytest.param("jacolbert:demo"),
    pytest.param("jacolbert:jsquad/validation", marks=needs_jsquad),
    pytest.param("jacolbert:jaquad/train", marks=needs_jaquad),
    pytest.param("jacolbert:jsts/train", marks=needs_jglue),
    pytest.param("jacolbert:jcommonsenseqa/train", marks=needs_jglue),
]
COUNTS = {
    "jacolbert:demo": (330, 114, 142),
    "jacolbert:jsquad/validation": (1145, 4442, 4442),
    "jacolbert:jaquad/train": (9713, 31748, 31748),
    "jacolbert:jsts/train": (11804, 1185, 1185),
    "jacolbert:jcommonsenseqa/train": (12802, 8939, 8939),
}


@pytest.mark.parametrize("name", NAMES)
def test_frames_have_pyterrier_s_columns_types_and_counts(name, shared, capsys):
    data = pt.get_dataset(name)
    n_docs, n_queries, n_qrels = COUNTS[name]
    topics, qrels, corpus = data.get_topics(), data.get_qrels(), list(data.get_corpus_iter(verbose=False))
    assert list(topics.columns) == ["qid", "query"]
    assert all(type(value) is str for column in topics for value in topics[column])
    assert list(qrels.columns) == ["qid", "docno", "label"]
    assert pd.api.types.is_integer_dtype(qrels["label"])
    assert {"docno", "title", "text"} == set(corpus[0])
    assert all(type(value) is str for doc in corpus for value in doc.values())
    assert all(doc["docno"] and doc["text"] for doc in corpus)
    assert len({bool(doc["title"]) for doc in corpus}) == 1  # all have a title, or none has
    assert (len(corpus), len(topics), len(qrels)) == (n_docs, n_queries, n_qrels)
    assert len({doc["docno"] for doc in corpus}) == n_docs
    assert topics["qid"].is_unique
    assert set(qrels["qid"]) == set(topics["qid"])
    assert set(qrels["docno"]) <= {doc["docno"] for doc in corpus}
    assert (data.get_corpus_lang(), data.get_topics_lang()) == ("ja", "ja")
    assert capsys.readouterr().out == ""  # PyTerrier prints a message if it cannot tell which field is the query


@pytest.mark.parametrize("name", NAMES)
def test_get_text_and_docstore_give_the_documents(name, shared):
    data = pt.get_dataset(name)
    corpus = {doc["docno"]: doc for doc in data.get_corpus_iter(verbose=False)}
    docnos = [*corpus][7:2:-2] + [*corpus][:1] * 2
    frame = pd.DataFrame({"qid": "1", "docno": docnos})
    with_text = pt.text.get_text(data, ["title", "text"])(frame)
    assert with_text["docno"].tolist() == docnos
    assert with_text["text"].tolist() == [corpus[docno]["text"] for docno in docnos]
    assert data.text_loader("text")(frame)["text"].tolist() == with_text["text"].tolist()
    store = data.irds_ref().docs_store()
    assert store.get(docnos[0]).title == corpus[docnos[0]]["title"]
    assert store.count() == len(list(store)) == len(corpus)
    with pytest.raises(KeyError):
        store.get("no such document")


@pytest.mark.parametrize("name", NAMES)
def test_document_iterators_can_be_sliced(name, shared):
    data = pt.get_dataset(name)
    every = list(data.irds_ref().docs_iter())
    assert list(data.irds_ref().docs_iter()[10:14]) == every[10:14]
    assert data.irds_ref().docs[-1] == every[-1]
    part = data.get_corpus_iter(verbose=False, start=3, count=2)
    assert [doc["docno"] for doc in part] == [doc.doc_id for doc in every[3:5]]


@needs_jsquad
def test_jsquad_splits_titles_and_takes_ids_from_question_ids(shared):
    data = ir_datasets.load("jsquad/validation")
    first = next(data.docs_iter())
    assert (first.doc_id, first.title) == ("a10336p0", "梅雨")
    assert first.text.startswith("梅雨（つゆ、ばいう）は、")
    assert not any("[SEP]" in doc.text for doc in data.docs_iter())
    assert next(data.queries_iter()) == ("a10336p0q0", "日本で梅雨がないのは北海道とどこか。")
    assert all(qrel.query_id.startswith(f"{qrel.doc_id}q") for qrel in data.qrels_iter())
    answers = {  # SQuAD's answers are in the paragraph that the qrels name
        question["id"]: question["answers"][0]["text"]
        for article in json.loads(JSQUAD.read_bytes())["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    }
    texts = {doc.doc_id: f"{doc.title} [SEP] {doc.text}" for doc in data.docs_iter()}
    assert all(answers[qrel.query_id] in texts[qrel.doc_id] for qrel in data.qrels_iter())


def test_documentation_and_counts_need_no_file():
    data = ir_datasets.load("jsquad/validation")
    documentation = data.documentation()
    assert documentation["licence"] == "CC BY-SA 4.0"
    assert "Kurihara" in documentation["bibtex"]
    assert (data.docs_count(), data.queries_count(), data.qrels_count()) == (1145, 4442, 4442)
    assert pt.get_dataset("jacolbert:jsquad/validation").info_url() == documentation["url"]
    assert pt.get_dataset("jacolbert:demo").info_url() is None


def test_irds_names_give_the_same_data_after_import():
    pd.testing.assert_frame_equal(
        pt.get_dataset("irds:jacolbert-demo").get_topics(), pt.get_dataset("jacolbert:demo").get_topics()
    )


def test_demo_texts_differ_and_hard_questions_share_no_word():
    content = json.loads(Path(demo.__file__).with_name("demo.json").read_text(encoding="utf-8"))
    docs = {doc["doc_id"]: doc for doc in content["docs"]}
    queries = {query["query_id"]: query["text"] for query in content["queries"]}
    assert len(docs) >= 300
    assert len(queries) >= 100
    sentences = [s for doc in docs.values() for s in re.split("(?<=。)", doc["text"]) if s.strip()]
    assert len(set(sentences)) == len(sentences)
    assert len({doc["text"][:8] for doc in docs.values()}) == len(docs)
    assert len(demo.no_shared_word()) >= 36
    for qrel in content["qrels"]:
        if qrel["query_id"] in demo.no_shared_word() and qrel["relevance"] == 2:
            doc = docs[qrel["doc_id"]]
            shared = content_words(queries[qrel["query_id"]]) & content_words(f"{doc['title']} {doc['text']}")
            assert not shared, (qrel, shared)


def content_words(text):
    """Returns surfaces and lemmas of nouns, verbs, adjectives and adverbs, without words that carry no subject."""
    import fugashi
    import unidic_lite

    tagger = fugashi.Tagger(f'-r "{unidic_lite.DICDIR}/mecabrc" -d "{unidic_lite.DICDIR}"')
    words = set()
    for word in tagger(text):
        if word.feature.pos1 in ("名詞", "動詞", "形容詞", "副詞", "形状詞"):
            words |= {word.surface, (word.feature.lemma or word.surface).partition("-")[0]}
    light = set("する 為る ある 有る いる 居る なる 成る こと 事 もの 物 何 どこ 何処 誰 いつ 何時 どう".split())
    return {word for word in words - light if not re.fullmatch("[ぁ-んァ-ン]", word)}


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("jsquad/test", "jsquad/train, jsquad/validation"),
        ("jqara", "jqara/dev, jqara/test, jqara/unused"),
        ("jacwri/test", "jacwir/test"),
        ("miracl/jp/dev", "miracl/ja, miracl/ja/dev"),
    ],
)
def test_an_unknown_name_is_a_key_error_with_similar_names(name, near):
    provider = datasets.JaColBERTDatasetProvider()
    with pytest.raises(KeyError, match=f"{name}.*{near}"):
        provider.get_dataset(name)
    with pytest.raises(KeyError):
        pt.get_dataset(f"jacolbert:{name}")


def test_every_benchmark_has_a_name_and_documentation():
    names = set(datasets.JaColBERTDatasetProvider().list_dataset_names())
    assert names >= {
        *("jsquad/train", "jsquad/validation", "jqara/dev", "jqara/test", "jqara/unused", "jacwir/test"),
        *("jacwir/retrieval", "esci-ja/test", "jagovfaqs-22k/test", "nlp-journal/title-abs", "nlp-journal/title-intro"),
        *("nlp-journal/abs-intro", "nlp-journal/abs-article", "jaqket/test", "mldr-ja/dev", "mldr-ja/test"),
        *("jaquad/train", "jaquad/dev", "miracl-ja-small/dev", "miracl/ja/dev", "mr-tydi/ja/test"),
        *("mmarco/v2/ja/dev/small", "jsts/train", "jcommonsenseqa/train"),
    }
    for name in names:
        data = pt.get_dataset(f"jacolbert:{name}")
        assert data.get_corpus_lang() == "ja"
        assert name.startswith(("miracl/", "mr-tydi/", "mmarco/")) or name == "demo" or data.info_url()
    for irds_id in set(names) & set(DATASET_BY_IRDS_ID):
        documentation = ir_datasets.load(irds_id).documentation()
        assert {"pretty_name", "desc", "url", "licence", "bibtex"} <= documentation.keys()
        assert documentation["bibtex"].startswith("@")


def test_registering_again_changes_nothing():
    before = {name: ir_datasets.registry[name] for name in ("jacolbert-demo", "jsquad/validation")}
    datasets.register()
    assert all(ir_datasets.registry[name] is dataset for name, dataset in before.items())


def test_a_wrong_file_is_an_error_with_both_checksums(tmp_path, fresh_jsquad):
    (tmp_path / "jsquad").mkdir()
    (tmp_path / "jsquad" / "valid-v1.3.json").write_bytes(CONTENT)
    datasets.use_local(tmp_path)
    with pytest.raises(ValueError, match=f"md5 {CONTENT_MD5}.* {jsquad._VALIDATION.md5}"):
        fresh_jsquad.docs_iter()


@needs_jsquad
def test_a_changed_copy_is_checked_again(tmp_path, monkeypatch):
    copy = tmp_path / "jsquad" / "valid-v1.3.json"
    copy.parent.mkdir()
    shutil.copyfile(JSQUAD, copy)
    monkeypatch.setenv("JACOLBERT_DATA", str(tmp_path))
    assert jsquad._VALIDATION.file() == copy
    copy.write_bytes(copy.read_bytes()[:-1])
    with pytest.raises(ValueError, match="md5 [0-9a-f]{32}"):
        jsquad._VALIDATION.file()


def test_without_copy_and_network_the_error_names_both_remedies(fresh_jsquad):
    with pytest.raises(FileNotFoundError) as caught:
        fresh_jsquad.queries_iter()
    message = str(caught.value)
    assert "network" in message
    assert "JACOLBERT_DATA" in message
    assert jsquad._VALIDATION.url in message
    assert "\n" not in message
    assert caught.value.__suppress_context__


def test_a_failed_read_is_not_cached(monkeypatch, fresh_jsquad):
    with pytest.raises(FileNotFoundError):
        fresh_jsquad.docs_iter()
    if JSQUAD.is_file():
        monkeypatch.setenv("JACOLBERT_DATA", str(SHARED))
        assert len(list(fresh_jsquad.docs_iter())) == 1145


def test_a_missing_local_folder_is_an_error(tmp_path, monkeypatch, fresh_jsquad):
    with pytest.raises(NotADirectoryError, match="nowhere"):
        datasets.use_local(tmp_path / "nowhere")
    monkeypatch.setenv("JACOLBERT_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(NotADirectoryError, match="JACOLBERT_DATA"):
        fresh_jsquad.docs_iter()


class Response:
    """The part of a `requests` response that `ir_datasets` uses."""

    status_code = 200

    def __init__(self, content):
        self._content = content
        self.headers = {"content-length": str(len(content))}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def iter_content(self, chunk_size):
        yield self._content


SOURCE = Source("set/file.json", "https://example.org/file.json", md5=CONTENT_MD5)


def test_a_download_is_kept_in_the_folder_of_ir_datasets(tmp_path, monkeypatch):
    requested = []
    monkeypatch.setattr("requests.get", lambda url, **options: requested.append(url) or Response(CONTENT))
    for _ in range(2):
        path = SOURCE.file()
        assert path == tmp_path / "ir_datasets" / "set" / "file.json"
        assert path.read_bytes() == CONTENT
    assert requested == [SOURCE.url]


def test_a_wrong_download_is_an_error_and_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("requests.get", lambda url, **options: Response(b"<html>"))
    with pytest.raises(ValueError, match=f"{SOURCE.md5} .*[0-9a-f]{{32}}"):
        SOURCE.file()
    assert not (tmp_path / "ir_datasets" / "set" / "file.json").exists()


def test_record_counts_are_checked_when_read():
    collection = Collection([TitledDoc("d", "t", "x")], [], [])
    data = lazy_dataset(
        "x", lambda: collection, counts=Counts(docs=2, queries=0, qrels=0), documentation=Documentation(), relevance={}
    )
    with pytest.raises(ValueError, match=r"x .*docs=2.*docs=1"):
        data.docs_iter()


text = st.text(max_size=12)
articles = st.lists(
    st.fixed_dictionaries(
        {
            "title": text,
            "paragraphs": st.lists(
                st.fixed_dictionaries(
                    {"context": text, "qas": st.lists(text.map(lambda t: {"question": t}), max_size=4)}
                ),
                max_size=4,
            ),
        }
    ),
    max_size=4,
)


@given(articles)
def test_the_judgement_of_a_question_names_its_own_paragraph(articles):
    questions = {}
    for article in articles:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                question["id"] = f"question {len(questions)}"
                questions[question["id"]] = (article["title"], paragraph["context"], question["question"])
    collection = squad_collection(articles)
    docs = {doc.doc_id: doc for doc in collection.docs}
    assert len(docs) == len(collection.docs) == sum(len(article["paragraphs"]) for article in articles)
    queries = dict(collection.queries)
    assert list(queries) == list(questions) == [qrel.query_id for qrel in collection.qrels]
    for qrel in collection.qrels:
        doc = docs[qrel.doc_id]
        assert (doc.title, doc.text, queries[qrel.query_id]) == questions[qrel.query_id]
        assert qrel.relevance == 1


def test_questions_of_a_paragraph_must_agree_on_its_id():
    qas = [{"id": "a0p0q0", "question": "x"}, {"id": "a0p1q0", "question": "y"}]
    with pytest.raises(ValueError, match="'a0p0', 'a0p1'"):
        squad_collection([{"title": "t", "paragraphs": [{"context": "c", "qas": qas}]}], doc_id=jsquad._paragraph_id)


def test_a_gzipped_copy_is_checked_by_its_content(tmp_path, monkeypatch):
    (tmp_path / "set").mkdir()
    copy = tmp_path / "set" / "file.json.gz"
    copy.write_bytes(gzip.compress(CONTENT))
    monkeypatch.setenv("JACOLBERT_DATA", str(tmp_path))
    assert SOURCE.read() == CONTENT
    copy.write_bytes(gzip.compress(CONTENT + b" "))
    with pytest.raises(ValueError, match="md5 [0-9a-f]{32}"):
        SOURCE.read()
    copy.write_bytes(gzip.compress(CONTENT)[:-9])
    with pytest.raises(ValueError, match="file.json.gz .*https://example.org/file.json"):
        SOURCE.read()


def test_a_git_blob_hash_is_checked_and_a_wrong_file_not_kept(monkeypatch):
    blob = hashlib.sha1(b"blob %d\0%b" % (len(CONTENT), CONTENT)).hexdigest()
    source = Source("set/blob.json", "https://example.org/blob.json", git_blob=blob)
    monkeypatch.setattr("requests.get", lambda url, **options: Response(b"<html>"))
    with pytest.raises(ValueError, match=f"git blob [0-9a-f]{{40}}.* {blob}"):
        source.read()
    assert not source.is_here()
    monkeypatch.setattr("requests.get", lambda url, **options: Response(CONTENT))
    assert source.read() == CONTENT
    assert source.is_here()


@needs_jsquad
def test_the_git_blob_hash_of_a_real_file_is_git_s():
    # PROVENANCE.md beside the file gives the blob of JGLUE's repository.
    blob = "bcde414e0b7131607bb1fa2c4542dd888f68771a"
    source = Source("valid-v1.3.json", "", git_blob=blob)
    assert source.verify(JSQUAD) == JSQUAD


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    ).stdout.strip()


@needs_jsquad
def test_the_entry_point_works_with_only_pyterrier_imported():
    code = (
        "import pyterrier as pt, sys; d = pt.get_dataset('jacolbert:jsquad/validation'); t = d.get_topics();"
        "print(type(d).__mro__[1].__name__, len(t), list(t.columns), 'torch' in sys.modules, 'numba' in sys.modules)"
    )
    expected = "IRDSDataset 4442 ['qid', 'query'] False False"
    assert run_python(code, JACOLBERT_DATA=str(SHARED)) == expected


def test_benchmarks_are_in_irds_after_the_package_s_import():
    code = (
        "import pyterrier as pt, sys; d = pt.get_dataset('jacolbert:jqara/test');"
        "print(d.irds_ref().docs_count(), d.irds_ref().has_scoreddocs(), 'torch' in sys.modules);"
        "import pyterrier_jacolbert; print(pt.get_dataset('irds:jqara/test').irds_ref().queries_count())"
    )
    assert run_python(code).split("\n") == ["144372 True False", "1667"]

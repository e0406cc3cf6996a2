"""Fine-tuning in one call, from pairs, triples, frames and data sets."""

import numpy as np
import pandas as pd
import pytest
from checkpoints import write_stanford_checkpoint

from pyterrier_jacolbert import JaColBERT, JaColBERTIndexer
from pyterrier_jacolbert.train import fine_tune, fine_tuning

THINGS = "富士山 東京 小説 料理 日本 都市 湖 川 国 町 首都 作家".split()
PAIRS = [(f"{thing}とは", f"{thing}である。") for thing in THINGS]
SETTINGS = {"steps": 2, "batch_size": 4, "learning_rate": 1e-3, "device": "cpu", "verbose": False}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return str(write_stanford_checkpoint(tmp_path_factory.mktemp("start") / "checkpoint", hidden=32, layers=1))


def test_pairs_become_a_checkpoint_that_searches(start, tmp_path):
    given = JaColBERT(start, device="cpu")
    before = given.fingerprint
    model = fine_tune(given, PAIRS, tmp_path / "run", **SETTINGS)
    assert given.fingerprint == before != model.fingerprint
    assert model.encoder.max_document_length == given.encoder.max_document_length
    lengths = [len(vectors) for vectors in model.encode_queries(["山", "山は高い"])]
    assert lengths == [len(vectors) for vectors in given.encode_queries(["山", "山は高い"])]
    docs = [{"docno": f"d{i}", "text": text} for i, (_, text) in enumerate(PAIRS)]
    index = JaColBERTIndexer(tmp_path / "index", model).index(docs)
    assert len(index.retriever().search("山とは")) == 12
    final = tmp_path / "run" / "final" / "model.safetensors"
    modified = final.stat().st_mtime_ns
    assert fine_tune(given, PAIRS, tmp_path / "run", **SETTINGS).fingerprint == model.fingerprint
    assert final.stat().st_mtime_ns == modified  # a finished run is returned


@pytest.mark.parametrize("kind", ["triples", "frame", "data set"])
def test_other_forms_train_alike(start, tmp_path, kind, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "pyterrier_jacolbert.train.distillation.distill", lambda *args, **settings: (seen.append(args), start)[1]
    )
    triples = [(*pair, "別の文である。") for pair in PAIRS]
    texts = {
        "triples": triples,
        "frame": pd.DataFrame(triples, columns=["query", "positive", "negative"], index=[7] * 12),
        "data set": "jacolbert:demo",
    }[kind]
    fine_tune(start, texts, tmp_path, n_ways=3, title_field="title" if kind == "data set" else None, device="cpu")
    examples, queries, documents, stage, _ = seen[0]
    example = examples[0]
    if kind == "data set":
        assert len(examples) > 50
        assert stage.n_ways == len(example.docnos) == 3
    else:
        assert stage.n_ways == 2
        read = [(queries[e.qid], *(documents[docno] for docno in e.docnos)) for e in examples]
        assert read == triples


def test_mined_negatives_are_other_documents(start):
    rows = [*PAIRS, ("富士山とは", "日本一高い山。")]
    collection = fine_tuning._Collection.of_rows(rows)
    examples = collection.mine(JaColBERT(start, device="cpu"), 3, False)
    relevant = {"富士山とは": {"富士山である。", "日本一高い山。"}}
    assert len(examples) >= 10
    for example in examples:
        query = collection.queries[example.qid]
        positive, *negatives = [collection.documents[docno] for docno in example.docnos]
        own = relevant.get(query, {f"{query.removesuffix('とは')}である。"})
        assert positive in own
        assert not own & set(negatives)
        assert len(set(negatives)) == 2


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "There are no pairs to train on"),
        ([("a", "b"), ("a",)], "Row 1 has 1 texts and the first has 2"),
        ([("a", "b"), ("a", None)], "text of row 1"),
        ([("a", "b"), ("c", "b")], "There is only one document"),
        (pd.DataFrame({"query": ["a"], "text": ["b"]}), "no column 'positive', only query, text"),
    ],
)
def test_bad_texts_are_explained(start, tmp_path, texts, message):
    with pytest.raises(ValueError, match=message):
        fine_tune(start, texts, tmp_path / "run", device="cpu", verbose=False)
    assert not (tmp_path / "run").exists()


def test_pairs_train_without_mining(start, tmp_path, monkeypatch):
    monkeypatch.setattr(fine_tuning, "mine", None)
    given = JaColBERT(start, device="cpu")
    model = fine_tune(given, PAIRS, tmp_path / "run", n_ways=1, loss="contrastive", **SETTINGS)
    assert model.fingerprint != given.fingerprint
    unjudged = fine_tuning._Collection(
        {"q": "山"}, {"d": "山"}, pd.DataFrame({"qid": ["p"], "docno": ["d"], "label": 1})
    )
    with pytest.raises(ValueError, match="No query has a relevant document"):
        unjudged.pairs()
    with pytest.raises(ValueError, match="n_ways of 'fine-tuned' must be 2 or more"):
        fine_tune(given, PAIRS, tmp_path / "other", n_ways=1, **SETTINGS)


def test_unknown_settings_are_an_error(start, tmp_path):
    with pytest.raises(TypeError, match="learning_rat"):
        fine_tune(start, PAIRS, tmp_path, learning_rat=1e-5, verbose=False, device="cpu")


def test_vectors_move_towards_the_pairs(start, tmp_path):
    """Training on pairs raises the similarity of each query to its own document over the others."""

    def margin(model):
        queries, documents = (
            model.encode_queries([q for q, _ in PAIRS]),
            model.encode_documents([d for _, d in PAIRS]),
        )
        scores = np.array([[(q @ d.T).max(axis=1).sum() for d in documents] for q in queries])
        return float((np.diag(scores) - (scores.sum(axis=1) - np.diag(scores)) / (len(PAIRS) - 1)).mean())

    model = fine_tune(
        start, PAIRS, tmp_path / "run", **{**SETTINGS, "steps": 60, "learning_rate": 5e-3, "warmup_steps": 0}
    )
    assert margin(model) > margin(JaColBERT(start, device="cpu")) + 0.05

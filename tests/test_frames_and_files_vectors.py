"""Vectors as people have them: of any type and any length, missing beside a text, or wrong."""

import itertools
import warnings

import conformance
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.building.executors import SerialExecutor
from pyterrier_jacolbert.columns import check_unit_vectors

DIM = 16
#: What stands for "no value" in the cells of frames and dicts.
MISSING = {"None": None, "NaN": float("nan"), "float32 NaN": np.float32("nan"), "NA": pd.NA, "NaT": pd.NaT}
missing_values = pytest.mark.parametrize("missing", MISSING.values(), ids=MISSING)
#: The same matrix in the types that people have it in.
TYPES = {
    "float32": lambda rows: rows,
    "float64": lambda rows: rows.astype(np.float64),
    "float16": lambda rows: rows.astype(np.float16),
    "lists": lambda rows: rows.tolist(),
    "tuples of lists": lambda rows: tuple(rows.tolist()),
    "list of rows": list,
    "rows as objects, from Parquet": lambda rows: pd.Series([*rows, None], dtype=object).to_numpy()[:-1],
    "a Series of rows": lambda rows: pd.Series(list(rows)),
    "columns first": np.asfortranarray,
    "read-only": lambda rows: np.frombuffer(rows.tobytes(), dtype=np.float32).reshape(rows.shape),
    "every second row": lambda rows: np.repeat(rows, 2, axis=0)[::2],
    "big-endian": lambda rows: rows.astype(">f4"),
    "a tensor": torch.tensor,
    "a half tensor": lambda rows: torch.tensor(rows).half(),
    "a bfloat16 tensor": lambda rows: torch.tensor(rows).bfloat16(),
    "a double tensor": lambda rows: torch.tensor(rows).double(),
    "a tensor with gradient": lambda rows: torch.tensor(rows, requires_grad=True),
    "a bfloat16 parameter": lambda rows: torch.nn.Parameter(torch.tensor(rows).bfloat16()),
    "a list of tensors with gradient": lambda rows: list(torch.tensor(rows, requires_grad=True)),
    "a sparse tensor": lambda rows: torch.tensor(rows).to_sparse(),
}
types = pytest.mark.parametrize("convert", TYPES.values(), ids=TYPES)
COMPRESSIONS = ("float16", "int8", "4bit", "2bit", "1bit")


def exact_rows(seed: int, n: int) -> np.ndarray:
    """Returns vectors that bfloat16 holds exactly: 4 of 16 dimensions are 0.5 or -0.5, so that their length is 1."""
    generator = np.random.default_rng(seed)
    rows = np.zeros((n, DIM), dtype=np.float32)
    for row in rows:
        row[generator.choice(DIM, 4, replace=False)] = generator.choice([-0.5, 0.5], 4)
    return rows


def unit_rows(seed: int, n: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def maxsim(query: np.ndarray, document: np.ndarray) -> float:
    """The definition, by brute force."""
    return float((query @ document.T).max(axis=1).sum())


def build(path, docs, compression="float16", **settings):
    return pj.JaColBERTIndexer(path, "somebody/unused", compression=compression, **settings).index(docs)


class TestVectorsOfDocuments:
    """``doc_embs=None`` beside a text means: encode the text. Vectors of any type and length follow one rule."""

    @missing_values
    def test_missing_vectors_beside_a_text_mean_encode_the_text(self, missing, model, docs, tmp_path):
        expected = pj.JaColBERTIndexer(tmp_path / "texts", model).index(docs)
        with_cells = [{**doc, "doc_embs": missing} for doc in docs]
        pj.JaColBERTIndexer(tmp_path / "dicts", model).index(with_cells)
        pj.JaColBERTIndexer(tmp_path / "frame", model).index(pd.DataFrame(with_cells))
        for name in ("dicts", "frame"):
            assert conformance.contents(tmp_path / name) == conformance.contents(expected.path)

    def test_every_way_into_an_index_encodes_a_text_without_vectors(self, model, docs, tmp_path):
        given = model.encode_documents([docs[0]["text"]])[0]
        mixed = [{**docs[0], "doc_embs": given}, *({**doc, "doc_embs": None} for doc in docs[1:])]
        settings = {"compression": "float16", "batch_documents": 2}
        ways = {}
        appended = pj.JaColBERTIndexer(tmp_path / "appended", model, **settings).index(mixed[:3])
        ways["append"] = appended.append(mixed[3:])
        shards = pj.JaColBERTIndexer(tmp_path / "shards", model, **settings)
        for number in (1, 2):
            shards.index_shard(mixed, number, 2)
        ways["index_shard"] = pj.ShardedIndex.join(tmp_path / "shards")
        executor = SerialExecutor(documents_per_shard=4)
        ways["executor"] = pj.JaColBERTIndexer(tmp_path / "many", model, executor=executor, **settings).index(mixed)
        with pytest.raises(RuntimeError):
            pj.JaColBERTIndexer(tmp_path / "resumed", model, **settings).index(
                itertools.chain(mixed[:5], (1 / 0 for _ in ()), _raising())
            )
        ways["resume"] = pj.JaColBERTIndexer(tmp_path / "resumed", model, mode="resume", **settings).index(mixed)
        for way, index in ways.items():
            reader = index.token_vectors()
            assert list(index.docnos()) == [doc["docno"] for doc in docs], way
            for docid, rows in enumerate(model.encode_documents([doc["text"] for doc in docs])):
                np.testing.assert_allclose(reader.rows(docid, docid + 1), rows, atol=5e-3, err_msg=way)

    def test_a_document_with_neither_vectors_nor_text_is_named(self, model, tmp_path):
        for document in ({"doc_embs": None}, {"doc_embs": float("nan"), "text": None}):
            with pytest.raises((KeyError, ValueError), match="d7.*text|text.*d7"):
                pj.JaColBERTIndexer(tmp_path / "index", model).index([{"docno": "d7", **document}])
        assert not list(tmp_path.iterdir())

    def test_vectors_do_not_lose_the_text_beside_them(self, tmp_path):
        docs = [
            {"docno": "a", "title": "富士山", "text": "高い", "doc_embs": unit_rows(0, 3)},
            {"docno": "b", "title": None, "text": "湖", "doc_embs": unit_rows(1, 3)},
            {"docno": "c", "doc_embs": unit_rows(2, 3)},
        ]
        index = build(tmp_path / "index", docs, title_field="title", store_text=True)
        loaded = index.text_loader()(pd.DataFrame({"docno": ["a", "b", "c"]}))
        assert loaded["text"].tolist() == ["富士山 高い", "湖", ""]

    def test_merging_keeps_texts_and_pools_once(self, model, docs, tmp_path):
        settings = {"compression": "4bit", "pool_factor": 2, "store_text": True}
        parts = [
            pj.JaColBERTIndexer(tmp_path / str(number), model, **settings).index(part)
            for number, part in enumerate((docs[:4], docs[4:]))
        ]
        merged = pj.JaColBERTIndex.merge([part.path for part in parts], tmp_path / "merged")
        assert merged.stats()["tokens"] == sum(part.stats()["tokens"] for part in parts)
        loaded = merged.text_loader()(pd.DataFrame({"docno": [doc["docno"] for doc in docs]}))
        assert loaded["text"].tolist() == [doc["text"] for doc in docs]

    @types
    def test_vectors_of_every_type_are_stored_alike(self, convert, tmp_path):
        docs = [{"docno": f"d{number}", "doc_embs": exact_rows(number, 3)} for number in range(4)]
        expected = conformance.contents(build(tmp_path / "expected", docs).path)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            converted = [{**doc, "doc_embs": convert(doc["doc_embs"])} for doc in docs]
            found = build(tmp_path / "found", converted)
        assert conformance.contents(found.path) == expected

    def test_a_buffer_that_the_generator_fills_again_is_copied(self, tmp_path):
        def documents():
            buffer = np.empty((3, DIM), dtype=np.float32)
            for number in range(4):
                buffer[:] = unit_rows(number, 3)
                yield {"docno": f"d{number}", "doc_embs": buffer}

        index = build(tmp_path / "index", documents())
        for number in range(4):
            np.testing.assert_allclose(index.token_vectors().rows(number, number + 1), unit_rows(number, 3), atol=1e-3)

    @pytest.mark.parametrize("compression", COMPRESSIONS)
    def test_length_of_vectors_does_not_change_a_ranking(self, compression, tmp_path):
        scales = 2.0 ** np.random.default_rng(0).integers(-8, 8, size=(60, 5, 1))
        units = [unit_rows(number, 5) for number in range(60)]
        docs = [{"docno": f"d{number:02}", "doc_embs": rows} for number, rows in enumerate(units)]
        scaled = [{**doc, "doc_embs": doc["doc_embs"] * scale} for doc, scale in zip(docs, scales, strict=True)]
        topics = pd.DataFrame({"qid": ["1", "2"], "query_embs": [unit_rows(100, 4), unit_rows(101, 6)]})
        rankings = [
            build(tmp_path / name, some, compression).exact_retriever(num_results=60)(topics)
            for name, some in (("units", docs), ("scaled", scaled))
        ]
        by_pair = [ranking.set_index(["qid", "docno"])["score"].sort_index() for ranking in rankings]
        np.testing.assert_allclose(*by_pair, atol=2e-3)
        expected = [maxsim(query, rows) for query in topics["query_embs"] for rows in units]
        tolerance = {"float16": 5e-3, "int8": 0.1, "4bit": 0.5, "2bit": 1.5, "1bit": 3}[compression]
        np.testing.assert_allclose(by_pair[1], expected, atol=tolerance)

    @given(
        arrays(
            np.float64,
            array_shapes(min_dims=2, max_dims=2, max_side=6),
            elements=st.floats(-1e300, 1e300).filter(lambda x: x == 0 or abs(x) > 1e-290),
        )
    )
    def test_rows_get_length_one_and_keep_their_direction(self, rows):
        if (rows == 0).all(axis=1).any():
            with pytest.raises(ValueError, match="all zeros"):
                check_unit_vectors(rows, "doc_embs of document 'd'")
            return
        found = check_unit_vectors(rows, "doc_embs of document 'd'")
        np.testing.assert_allclose(np.linalg.norm(found.astype(np.float64), axis=1), 1, atol=1e-5)
        scaled = rows / np.abs(rows).max(axis=1, keepdims=True)
        cosines = (found * scaled).sum(axis=1) / np.linalg.norm(scaled, axis=1)
        np.testing.assert_allclose(cosines, 1, atol=1e-5)
        np.testing.assert_array_equal(check_unit_vectors(found, "again"), found)  # bit by bit

    @pytest.mark.parametrize(
        "rows",
        [
            np.zeros((1, DIM)),
            np.concatenate([unit_rows(0, 2), np.zeros((1, DIM))]),
            np.full((2, DIM), np.inf),
            np.where(np.eye(3, DIM, dtype=bool), np.nan, 1.0),
            np.ones(DIM),
            np.ones((1, 2, DIM)),
            np.array(1.0),
            [],
            [[]],
            [[1.0, 2.0], [3.0]],
            [["a", "b"]],
            np.ones((2, DIM), dtype=bool),
            np.ones((2, DIM), dtype=complex),
            np.ma.masked_less(np.eye(2, DIM), 1),
            torch.ones(2, DIM, device="meta"),
            "text",
            {},
        ],
        ids=str,
    )
    def test_what_cannot_be_compared_is_refused_with_its_docno(self, rows, tmp_path):
        docs = [{"docno": "d0", "doc_embs": unit_rows(0, 2)}, {"docno": "d1", "doc_embs": rows}]
        with pytest.raises(ValueError, match="'d1'") as raised:
            build(tmp_path / "index", docs)
        assert "\n" not in str(raised.value)
        assert not list(tmp_path.iterdir())


def _raising():
    raise RuntimeError("the documents break off")
    yield


class TestVectorsOfQueries:
    """``query_embs`` are taken in the same types. They are not scaled: ColBERT-PRF weights its vectors."""

    @types
    def test_vectors_of_every_type_score_alike_in_every_transformer(self, convert, tmp_path):
        docs = [{"docno": f"d{number}", "doc_embs": exact_rows(number, 3)} for number in range(5)]
        index = build(tmp_path / "index", docs)
        query = 2 * exact_rows(9, 4)
        topics = pd.DataFrame({"qid": ["1"], "query_embs": pd.Series([convert(query)], dtype=object)})
        ranking = index.exact_retriever()(topics)
        expected = {doc["docno"]: maxsim(query, doc["doc_embs"]) for doc in docs}
        for found in (ranking, index.retriever()(topics), index.torch_retriever()(topics), index.scorer()(ranking)):
            scores = dict(zip(found["docno"], found["score"], strict=True))
            assert scores == pytest.approx(expected, abs=1e-3)
        contributions = index.explainer()(ranking)["contributions"]
        assert [part.sum() for part in contributions] == pytest.approx(ranking["score"].tolist(), abs=1e-3)
        assert len(index.prf(k=2)(ranking)) == 1

    @missing_values
    def test_missing_vectors_beside_a_query_mean_encode_it(self, missing, index, model, topics):
        encoded = model.query_encoder()(topics)
        cells = [encoded["query_embs"].iloc[0], missing, missing]
        mixed = topics.assign(query_embs=pd.Series(cells, dtype=object))
        conformance.assert_same_ranking(index.retriever()(mixed), index.retriever()(topics), "mixed")
        ranking = index.retriever()(mixed)
        conformance.assert_same_ranking(index.scorer()(ranking), ranking, "re-ranked")
        with pytest.raises(ValueError, match="'q1'"):
            index.retriever()(mixed.drop(columns="query"))

    @pytest.mark.parametrize(
        "rows", [np.ones(128), np.ones((0, 128)), np.full((2, 128), np.nan), np.full((1, 128), 1e300), [["a"]], "x"]
    )
    def test_what_is_no_finite_matrix_is_refused_with_its_qid(self, rows, index):
        topics = pd.DataFrame({"qid": ["1", "q9"], "query_embs": pd.Series([np.eye(2, 128), rows], dtype=object)})
        with pytest.raises(ValueError, match="'q9'"):
            index.retriever()(topics)

    def test_vectors_of_another_model_are_refused_by_a_text_scorer(self, model, index, docs, topics):
        ranking = index.retriever()(topics).merge(pd.DataFrame(docs), on="docno")
        ranking["query_embs"] = pd.Series([np.eye(3, 7)] * len(ranking), dtype=object)
        for transformer in (model.text_scorer(), model.explainer(), index.scorer(), index.explainer()):
            with pytest.raises(ValueError, match=r"7 dimensions.* 128"):
                transformer(ranking)

"""Miniatures of the benchmarks' sources, with the published file names, columns and types."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet

STRINGS = pa.list_(pa.string())


def parquet(columns: dict[str, tuple[pa.DataType, list[Any]]]) -> bytes:
    """Returns the bytes of a Parquet file."""
    table = pa.table({name: pa.array(values, type=kind) for name, (kind, values) in columns.items()})
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    return buffer.getvalue()


def json_lines(rows: list[dict[str, Any]]) -> bytes:
    """Returns the bytes of a gzipped file of JSON lines."""
    return gzip.compress("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def jqara() -> dict[str, bytes]:
    """Two questions with three passages each, one of them shared; only the relevant ones of the 16 columns."""
    return {
        "data/test-00000-of-00001.parquet": parquet(
            {
                "id": (pa.string(), ["QA-1_1", "QA-1_2", "QA-1_3", "QA-2_1", "QA-2_2", "QA-2_3"]),
                "title": (pa.string(), ["富士山", "琵琶湖", "東京", "東京", "味噌汁", "空"]),
                "text": (
                    pa.string(),
                    ["日本一高い山。", "日本一の湖。", "日本の首都。", "日本の首都。", "汁物。", "青い。"],
                ),
                "q_id": (pa.string(), ["QA-1"] * 3 + ["QA-2"] * 3),
                "question": (pa.string(), ["日本一高い山は何?"] * 3 + ["日本の首都はどこ?"] * 3),
                "answers": (STRINGS, [["富士山"]] * 3 + [["東京"]] * 3),
                "passage_row_id": (pa.int64(), [221102, 49534, 28979, 28979, 7, 8]),
                "label": (pa.int64(), [1, 0, 0, 1, 0, 0]),
            }
        )
    }


def jacwir() -> dict[str, bytes]:
    """Three questions, two of them about the same page; four pages, one of them without an abstract."""
    pages = ["doc_id#a1", "doc_id#b2", "doc_id#c3", "doc_id#d4"]
    return {
        "eval/eval-00000-of-00001.parquet": parquet(
            {
                "query": (pa.string(), ["猫の飼い方は?", "猫は何を食べる?", "旅の荷物は?"]),
                "positive": (pa.string(), [pages[0], pages[0], pages[2]]),
                "negatives": (STRINGS, [[pages[1], pages[2]], [pages[2], pages[1]], [pages[1], pages[0]]]),
            }
        ),
        "collection/collection-00000-of-00001.parquet": parquet(
            {
                "doc_id": (pa.string(), pages),
                "title": (pa.string(), ["猫", "犬", "旅", "山"]),
                "description": (pa.string(), ["猫の話。", "犬の話。", "旅の話。", None]),
                "link": (pa.string(), ["https://example.org/"] * 4),
                "date": (pa.string(), ["2024-03-01"] * 4),
            }
        ),
    }


def esci() -> dict[str, bytes]:
    """Two queries with judged products; three products."""
    return {
        "esci-query/test.parquet": parquet(
            {
                "query": (pa.string(), ["猫 おもちゃ", "水筒"]),
                "retrieved_docs": (STRINGS, [["B001", "B002"], ["B003", "B001"]]),
                "relevance_scores": (pa.list_(pa.int64()), [[3, 0], [2, 1]]),
            }
        ),
        "esci-corpus/corpus.parquet": parquet(
            {"docid": (pa.string(), ["B001", "B002", "B003"]), "text": (pa.string(), ["ねずみ", "首輪", "水筒 500ml"])}
        ),
    }


def mteb(older: bool = False, id_column: str = "id") -> dict[str, bytes]:
    """Three documents in two files; two judged queries and one without judgements."""
    judgements = "data" if older else "qrels"
    return {
        "corpus/test-00000-of-00002.parquet": parquet(
            {
                id_column: (pa.string(), ["0", "1"]),
                "text": (pa.string(), ["申請は窓口で。", "手数料は無料。"]),
                "title": (pa.string(), ["", ""]),
            }
        ),
        "corpus/test-00001-of-00002.parquet": parquet(
            {id_column: (pa.string(), ["2"]), "text": (pa.string(), ["期限は三月。"]), "title": (pa.string(), ["期限"])}
        ),
        "queries/test-00000-of-00001.parquet": parquet(
            {id_column: (pa.string(), ["a", "b", "c"]), "text": (pa.string(), ["どこで申請?", "いくら?", "なぜ?"])}
        ),
        f"{judgements}/test-00000-of-00001.parquet": parquet(
            {
                "query-id": (pa.string(), ["a", "b"]),
                "corpus-id": (pa.string(), ["0", "1"]),
                "score": (pa.float64() if older else pa.int64(), [1, 1]),
            }
        ),
    }


def mldr() -> dict[str, bytes]:
    """Two articles and one question for each split."""
    corpus = [{"docid": f"doc-ja-{n}", "text": text} for n, text in enumerate(["長い記事。" * 50, "別の記事。"])]
    files = {"mldr-v1.0-ja/corpus.jsonl.gz": json_lines(corpus)}
    for split in ("dev", "test"):
        question = {
            "query_id": f"q-ja-{split}",
            "query": "何の記事?",
            "positive_passages": corpus[:1],
            "negative_passages": corpus[1:],
        }
        files[f"mldr-v1.0-ja/{split}.jsonl.gz"] = json_lines([question])
    return files


def squad() -> bytes:
    """Two paragraphs of an article, in JGLUE's format."""
    questions = [{"id": f"a1p0q{n}", "question": q, "answers": []} for n, q in enumerate(["何の山?", "どこの山?"])]
    paragraphs = [
        {"context": "富士山 [SEP] 日本一高い山。", "qas": questions},
        {"context": "富士山 [SEP] 静岡と山梨。", "qas": [{"id": "a1p1q0", "question": "何県?", "answers": []}]},
    ]
    return json.dumps({"version": "1.1", "data": [{"title": "富士山", "paragraphs": paragraphs}]}).encode()

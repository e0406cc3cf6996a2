"""The command line: every command does what the Python API does, and reports errors in one line."""

import io
import json
import re
import subprocess
import sys

import pytest

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.cli import main


@pytest.fixture
def jsonl(tmp_path, docs):
    path = tmp_path / "docs.jsonl"
    path.write_text("\n".join(json.dumps(doc, ensure_ascii=False) for doc in docs), encoding="utf-8")
    return path


def test_index_and_search_match_the_api(jsonl, checkpoint, index, tmp_path, capsys):
    path = str(tmp_path / "index")
    assert main(["index", str(jsonl), path, "--model", str(checkpoint), "--dtype", "float32"]) == 0
    assert "8 documents" in capsys.readouterr().out
    assert main(["search", path, "日本で一番高い山", "味噌汁", "-k", "3", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = index.retriever(num_results=3).search("日本で一番高い山")["docno"].tolist()
    assert [row["docno"] for row in rows if row["qid"] == "1"] == expected
    assert len(rows) == 6
    assert main(["search", path, "味噌汁", "-k", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert main(["index", str(jsonl), path, "--model", str(checkpoint)]) == 1
    assert "mode='overwrite'" in capsys.readouterr().err
    titled = ["--mode", "overwrite", "--title-field", "title"]
    assert main(["index", str(jsonl), path, "--model", str(checkpoint), *titled]) == 0


def test_index_reads_tsv_and_standard_input(checkpoint, tmp_path, monkeypatch, capsys):
    (tmp_path / "docs.tsv").write_text("a\t富士山\nb\t東京\tと大阪\n", encoding="utf-8")
    assert main(["index", str(tmp_path / "docs.tsv"), str(tmp_path / "tsv"), "--model", str(checkpoint)]) == 0
    assert list(pj.JaColBERTIndex(tmp_path / "tsv").docnos()) == ["a", "b"]
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"docno": "x", "text": "山"}\n\n'))
    assert main(["index", "-", str(tmp_path / "stdin"), "--model", str(checkpoint)]) == 0
    assert list(pj.JaColBERTIndex(tmp_path / "stdin").docnos()) == ["x"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("docs.jsonl", '{"docno": "a", "text": "山"}\n{"docno"', "docs.jsonl, line 2"),
        ("docs.jsonl", "[1]", "docs.jsonl, line 1"),
        ("docs.jsonl", '{"docno": "a"}', "'text'"),
        ("docs.jsonl", "", "no documents"),
        ("docs.tsv", "a 山", "docs.tsv, line 1"),
    ],
)
def test_bad_file_is_reported_in_one_line_and_leaves_no_index(name, content, message, checkpoint, tmp_path, capsys):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert main(["index", str(tmp_path / name), str(tmp_path / "index"), "--model", str(checkpoint)]) == 1
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("pyterrier-jacolbert: ")]
    assert len(error) == 1
    assert message in error[0]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_index_is_maintained_from_the_shell(tmp_path, checkpoint, docs, capsys):
    jsonl, more, out = tmp_path / "docs.jsonl", tmp_path / "more.jsonl", tmp_path / "out"
    jsonl.write_text(f"{json.dumps(docs[0])}\n{json.dumps(docs[1])}\n", encoding="utf-8")
    more.write_text(json.dumps({"docno": "new", "text": "海の魚"}) + "\n", encoding="utf-8")
    index, model = str(tmp_path / "index"), ["--model", str(checkpoint)]
    assert main(["index", str(jsonl), index, *model, "--compression", "4bit", "--store-text"]) == 0
    assert main(["index", str(more), index, *model, "--mode", "append", "--store-text"]) == 0
    assert main(["delete", index, docs[0]["docno"]]) == 0
    assert "2 documents (and 1 deleted)" in capsys.readouterr().out
    assert main(["compact", index]) == 0
    assert main(["verify", index]) == 0
    assert "every file is as it was written" in capsys.readouterr().out
    assert main(["merge", str(out), index]) == 0
    capsys.readouterr()
    assert main(["stats", str(out)]) == 0
    stats = json.loads(capsys.readouterr().out)
    assert (stats["documents"], stats["deleted"], stats["compression"]) == (2, 0, "4bit")
    assert main(["delete", index, "nothing"]) == 1
    assert "'nothing'" in capsys.readouterr().err
    file = next((tmp_path / "out").glob("data-*/residuals.u1"))
    file.write_bytes(b"x" + file.read_bytes()[1:])
    assert main(["verify", str(out)]) == 1
    assert "residuals.u1" in capsys.readouterr().err


def test_shards_are_encoded_and_joined_from_the_shell(tmp_path, checkpoint, docs, capsys):
    jsonl = tmp_path / "docs.jsonl"
    jsonl.write_text("".join(f"{json.dumps(doc, ensure_ascii=False)}\n" for doc in docs), encoding="utf-8")
    model = ["--model", str(checkpoint), "--dtype", "float32", "--batch-documents", "2"]
    one, many, merged = (str(tmp_path / name) for name in ("one", "many", "merged"))
    assert main(["index", str(jsonl), one, *model]) == 0
    assert main(["index", str(jsonl), many, *model, "--shard", "2/2"]) == 0
    assert f"shard 2 of 2 is encoded; when all are, run: pyterrier-jacolbert merge {many}" in capsys.readouterr().out
    assert main(["merge", many]) == 1
    assert "shard 1 is missing" in capsys.readouterr().err
    assert main(["index", str(jsonl), many, *model, "--shard", "1/2"]) == 0
    assert main(["merge", many]) == 0
    assert main(["merge", merged, many]) == 0
    capsys.readouterr()
    found = []
    for index in (one, many, merged):
        assert main(["verify", index]) == 0
        capsys.readouterr()
        assert main(["search", index, "日本で一番高い山", "--json"]) == 0
        found.append(capsys.readouterr().out)
    assert found[0] == found[1] == found[2]
    assert main(["stats", many]) == 0
    assert json.loads(capsys.readouterr().out)["shards"] == 2
    assert main(["delete", many, docs[0]["docno"]]) == 0
    assert main(["compact", many]) == 0
    assert "7 documents, " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "shard", "message"),
    [
        ("docs.jsonl", "3/2", "shard 3 of 2"),
        ("docs.jsonl", "1", "--shard takes I/N"),
        ("docs.jsonl", "1/9", "4 shards, not 9"),
        ("-", "1/2", "stdin"),
    ],
)
def test_invalid_shards_are_refused(source, shard, message, jsonl, checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["index", source, "index", "--model", str(checkpoint), "--batch-documents", "2", "--shard", shard]
    assert main(command) == 1
    assert message in capsys.readouterr().err


def test_missing_index_file_or_checkpoint_is_named(tmp_path, capsys):
    for command, message in (
        (
            ["search", str(tmp_path / "none"), "山"],
            f"There is no index at {tmp_path / 'none'}",
        ),
        (["index", "none.jsonl", str(tmp_path / "i"), "--model", "mini"], "none.jsonl"),
        (["merge", str(tmp_path / "none")], str(tmp_path / "none")),
        (["index", str(tmp_path / "none.jsonl"), str(tmp_path / "i"), "--model", "./none"], "./none"),
        (["demo", "--model", "somebody/nothing"], "somebody/nothing"),
    ):
        assert main(command) == 1
        assert message in capsys.readouterr().err


def test_demo_finds_documents_that_share_no_word(capsys):
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    assert len(re.findall(r"^ +\d+\.\d{3}  [a-z]+-[a-z0-9-]+: .+。", out, re.MULTILINE)) == 3 * 2  # examples, top two
    assert "330 documents, all 114 questions" in out
    assert re.search(r"330 documents, the \d+ questions that share no word with their answer", out)
    rows = [re.fullmatch(r" *(.+?) +(\d\.\d{3}) +(\d\.\d{3}) +\d+\.\d{3}", line) for line in out.splitlines()]
    found = [(row[1], float(row[2])) for row in rows if row]
    assert [name for name, _ in found] == ["BM25", "JaColBERT", "BM25 % 100 >> JaColBERT"] * 2
    (_, bm25), (_, jacolbert), _, (_, hard_bm25), (_, hard_jacolbert), _ = found
    assert hard_bm25 < bm25 - 0.2  # BM25 cannot find documents that share no word with the question
    assert jacolbert > bm25
    assert hard_jacolbert > hard_bm25 + 0.1


def test_demo_takes_any_checkpoint(checkpoint, capsys):
    assert main(["demo", "--model", str(checkpoint)]) == 0
    out = capsys.readouterr().out
    names = [line.split()[0] for line in out.splitlines() if re.search(r"(\d\.\d{3} +){2}", line)]
    assert names == ["BM25", "JaColBERT", "BM25"] * 2


def test_module_prints_help():
    done = subprocess.run([sys.executable, "-m", "pyterrier_jacolbert.cli", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("index", "search", "demo"))

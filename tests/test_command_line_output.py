"""What the command line prints cannot address a terminal or forge a line, and its JSON stays JSON."""

import gzip
import json
import shutil
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.cli import main
from pyterrier_jacolbert.cli.output import escape, print_json

#: Docnos that would clear the screen, set the title, move up, reorder, hide, or begin a line, and how they are printed.
DOCNOS = {
    "\x1b[2J\x1b[1;1Hcleared": r"\x1b[2J\x1b[1;1Hcleared",
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "\x9b2Jc1": r"\x9b2Jc1",
    "d\n    1    9.9999  forged": r"d\n    1    9.9999  forged",
    "d\r    1    9.9999  forged": r"d\r    1    9.9999  forged",
    "d\x85next": r"d\x85next",
    "d\u2028line": r"d\u2028line",
    "d\u2029paragraph": r"d\u2029paragraph",
    "d\x0bv\x0cf\x1cs\x1ds\x1es": r"d\x0bv\x0cf\x1cs\x1ds\x1es",
    "back\x08\x08\x7f": r"back\x08\x08\x7f",
    "tab\tbed": r"tab\tbed",
    "\u202egnp.exe": r"\u202egnp.exe",
    "\u2066isolate\u2069\u200e\u200f\u061c": r"\u2066isolate\u2069\u200e\u200f\u061c",
    "in\u200bvisible\ufeff\xad\U000e0041": r"in\u200bvisible\ufeff\xad\U000e0041",
    "文書　１": "文書　１",
    "👩\u200d🔬": "👩\u200d🔬",
    r"back\slash": r"back\slash",
}
#: General categories of Unicode that hold controls, formats, surrogates, and separators of lines and paragraphs.
UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def unsafe(text):
    return [letter for letter in text if unicodedata.category(letter) in UNSAFE and letter not in "\u200c\u200d"]


@pytest.fixture(scope="module")
def path(tmp_path_factory, checkpoint):
    """An index whose docnos, texts and checkpoint come from a stranger."""
    path = tmp_path_factory.mktemp("index") / "i"
    docs = [{"docno": docno, "text": "日本で一番高い山"} for docno in DOCNOS]
    model = pj.JaColBERT(str(checkpoint), dtype="float32")
    pj.JaColBERTIndexer(path, model, compression="float16", store_text=True).index(docs)
    return path


@pytest.fixture
def search(path, checkpoint, capsys):
    def search(*arguments):
        assert main(["search", str(path), *arguments, "--model", str(checkpoint), "-k", "99"]) == 0
        return capsys.readouterr().out

    return search


class TestSearch:
    def test_each_result_is_one_line_without_control_characters(self, search):
        printed = search("高い山", "\x1b[31m赤")
        lines = printed.removesuffix("\n").split("\n")
        assert unsafe(printed.replace("\n", "")) == []
        assert len(lines) == len(printed.splitlines()) == 2 * (1 + len(DOCNOS))
        assert {line[17:] for line in lines[1 : len(DOCNOS) + 1]} == set(DOCNOS.values())
        assert lines[1 + len(DOCNOS)] == r"\x1b[31m赤"

    def test_json_has_the_docnos_as_they_are(self, search):
        printed = search("高い山", "--json")
        assert unsafe(printed.replace("\n", "")) == []
        assert {json.loads(line)["docno"] for line in printed.splitlines()} == set(DOCNOS)
        assert "文書　１" in printed


class TestMessages:
    def test_errors_are_one_line(self, path, capsys):
        missing = "no\x1b[2J\nsuch\u202e"
        assert main(["delete", str(path), missing]) == 1
        error = capsys.readouterr().err
        assert unsafe(error.removesuffix("\n")) == []
        assert r"no\x1b[2J\nsuch\u202e" in error
        assert main(["stats", str(path.parent / missing)]) == 1
        error = capsys.readouterr().err
        assert unsafe(error.removesuffix("\n")) == []
        assert r"no\x1b[2J\nsuch\u202e" in error

    def test_paths_and_names_are_escaped(self, tmp_path, capsys):
        path = tmp_path / "i\x1b[2J\nforged"
        vectors = np.eye(2, dtype=np.float32)
        pj.JaColBERTIndexer(path, "some/\x9b2J\u2028name").index([{"docno": "d", "doc_embs": vectors}])
        assert main(["verify", str(path)]) == 0
        assert main(["stats", str(path)]) == 0
        assert main(["compact", str(path)]) == 0
        printed = capsys.readouterr().out
        assert unsafe(printed.replace("\n", "")) == []
        assert r"i\x1b[2J\nforged: every file" in printed

    def test_arguments_that_are_options_by_accident_are_escaped(self, path, capsys):
        with pytest.raises(SystemExit):
            main(["delete", str(path), "d", "-\x1b[2J\nforged"])
        error = capsys.readouterr().err
        assert unsafe(error.replace("\n", "")) == []
        assert error.endswith("-\\x1b[2J\\nforged\n")

    def test_warnings_are_one_line(self, path, checkpoint, tmp_path, capsys):
        model = tmp_path / "other\x1b[2J\u202e"
        shutil.copytree(checkpoint, model)
        weights = load_file(model / "model.safetensors")
        save_file({name: values + 0.01 for name, values in weights.items()}, model / "model.safetensors")
        assert main(["search", str(path), "山", "--model", str(model)]) == 0
        error = capsys.readouterr().err
        assert "UserWarning: JaColBERTIndex(" in error
        assert "other weights" in error
        assert unsafe(error.replace("\n", "")) == []

    def test_errors_that_were_not_foreseen_are_escaped(self, path, capsys, monkeypatch):
        def fail(*_):
            raise RuntimeError("d\x1b[2J")

        monkeypatch.setattr(pj.JaColBERTIndex, "verify", fail)
        assert main(["verify", str(path)]) == 1
        error = capsys.readouterr().err
        assert "Traceback" in error
        assert r"RuntimeError: d\x1b[2J" in error
        assert unsafe(error.replace("\n", "")) == []

    def test_notes_say_how_to_resume(self, tmp_path, checkpoint, capsys):
        (tmp_path / "d.jsonl").write_text('{"docno": "a", "text": "山"}\n{"docno": "b", "text": 3}\n')
        arguments = ["--model", str(checkpoint), "--compression", "int8", "--batch-documents", "1"]
        assert main(["index", str(tmp_path / "d.jsonl"), str(tmp_path / "i"), *arguments]) == 1
        last = capsys.readouterr().err.splitlines()[-1]
        assert "'b'" in last
        assert "1 documents are encoded" in last
        assert "mode='resume'" in last

    @pytest.mark.parametrize("cut", ["short", "broken", "plain"])
    def test_compressed_documents_that_are_damaged_are_named(self, tmp_path, capsys, cut):
        whole = gzip.compress(b"".join(b'{"docno": "%d", "text": "b"}\n' % i for i in range(100)))
        broken = {"short": whole[:-9], "broken": whole[:20] + bytes(4) + whole[24:], "plain": b"{}"}[cut]
        (tmp_path / "d.jsonl.gz").write_bytes(broken)
        assert main(["index", str(tmp_path / "d.jsonl.gz"), str(tmp_path / "i"), "--model", "mini"]) == 1
        (line,) = capsys.readouterr().err.splitlines()[-1:]
        assert "d.jsonl.gz cannot be decompressed" in line

    @pytest.mark.skipif(sys.platform == "win32", reason="file names are bytes elsewhere")
    def test_a_path_that_is_not_utf8_can_be_printed(self, tmp_path, capsys):
        assert main(["stats", str(tmp_path / "\udcff")]) == 1
        assert r"\udcff" in capsys.readouterr().err


class TestEscape:
    @given(st.text())
    @example("".join(map(chr, range(sys.maxunicode + 1))))
    def test_only_unsafe_characters_are_escaped(self, text):
        escaped = escape(text)
        assert unsafe(escaped) == []
        expected = "".join(
            letter.encode("unicode_escape").decode() if letter in set(unsafe(letter)) else letter for letter in text
        )
        assert escaped == expected

    @given(st.recursive(st.text(), lambda values: st.lists(values) | st.dictionaries(st.text(), values), max_leaves=5))
    @pytest.mark.parametrize("indent", [None, 1])
    def test_json_stays_json(self, indent, value):
        import contextlib
        import io

        with contextlib.redirect_stdout(io.StringIO()) as out:
            print_json(value, indent)
        assert json.loads(out.getvalue()) == value
        assert unsafe(out.getvalue().replace("\n", "")) == []

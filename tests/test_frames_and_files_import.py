"""Files as people have them: byte order marks, other encodings, and an import that writes nothing."""

import json
import os
import subprocess
import sys

import pytest

import pyterrier_jacolbert as pj
from pyterrier_jacolbert import train
from pyterrier_jacolbert.cli import main
from pyterrier_jacolbert.evaluation.runs import read_qrels, read_run

JSONL = [{"docno": "文書1", "text": "富士山は高い"}, {"docno": "文書2", "text": "琵琶湖は大きい"}]
LINES = "".join(json.dumps(doc, ensure_ascii=False) + "\n" for doc in JSONL)
TSV = "".join(f"{doc['docno']}\t{doc['text']}\n" for doc in JSONL)
EXAMPLES = '{"qid": "問1", "docnos": ["文書1", "文書2"], "scores": [2.0, 1.0]}\n'
MARK = b"\xef\xbb\xbf"
OTHER_ENCODINGS = ("cp932", "euc_jp", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "iso2022_jp")


class TestEncodings:
    """A byte order mark is dropped; another encoding than UTF-8 is told with file and line."""

    @pytest.fixture
    def index_file(self, checkpoint, tmp_path):
        def docnos(name, content):
            (tmp_path / name).write_bytes(content)
            path = tmp_path / f"{name}.index"
            command = ["index", str(tmp_path / name), str(path), "--model", str(checkpoint), "--mode", "overwrite"]
            return list(pj.JaColBERTIndex(path).docnos()) if main(command) == 0 else None

        return docnos

    @pytest.mark.parametrize(("name", "text"), [("docs.jsonl", LINES), ("docs.tsv", TSV)])
    def test_mark_in_documents_is_dropped(self, name, text, index_file):
        for content in (MARK + text.encode(), MARK + text.replace("\n", "\r\n").encode(), text.rstrip().encode()):
            assert index_file(name, content) == ["文書1", "文書2"]
        first, second = text.encode().splitlines(keepends=True)
        assert index_file(name, MARK + first + MARK + second) == ["文書1", "文書2"]  # two files, joined

    @pytest.mark.parametrize("encoding", OTHER_ENCODINGS)
    @pytest.mark.parametrize(("name", "text"), [("docs.jsonl", LINES), ("docs.tsv", TSV)])
    def test_other_encodings_of_documents_are_told(self, encoding, name, text, index_file, tmp_path, capsys):
        assert index_file(name, text.encode(encoding)) is None
        message = capsys.readouterr().err.splitlines()[-1]
        assert f"{tmp_path / name}, line 1" in message
        assert "UTF-8" in message
        assert not (tmp_path / f"{name}.index").exists()

    def test_the_wrong_line_is_counted(self, index_file, tmp_path, capsys):
        lines = "".join(f'{{"docno": "d{number}", "text": "b"}}\n' for number in range(2000)) + LINES
        assert index_file("docs.jsonl", lines.encode("cp932")) is None
        assert f"{tmp_path / 'docs.jsonl'}, line 2001" in capsys.readouterr().err

    def test_standard_input_is_read_alike(self, checkpoint, tmp_path):
        command = [sys.executable, "-m", "pyterrier_jacolbert.cli", "index", "-"]
        options = ["--model", str(checkpoint)]
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}  # as under LANG=C
        settings = {"capture_output": True, "env": environment, "check": False}
        done = subprocess.run([*command, str(tmp_path / "i"), *options], input=MARK + LINES.encode(), **settings)
        assert done.returncode == 0, done.stderr
        assert list(pj.JaColBERTIndex(tmp_path / "i").docnos()) == ["文書1", "文書2"]
        done = subprocess.run([*command, str(tmp_path / "j"), *options], input=LINES.encode("cp932"), **settings)
        assert done.returncode == 1
        assert b"stdin, line 1" in done.stderr

    def test_examples_and_recipes_are_read_alike(self, tmp_path):
        path = tmp_path / "examples.jsonl"
        path.write_bytes(MARK + EXAMPLES.encode() * 2)
        assert [example.qid for example in train.read(path)] == ["問1", "問1"]
        path.write_bytes(MARK + '["問1", ["文書1", 2.0], ["文書2", 1.0]]'.encode())
        assert [example.docnos for example in train.read_colbert(path)] == [("文書1", "文書2")]
        recipe = tmp_path / "recipe.yaml"
        train.Recipe("日本語のレシピ", (train.Stage("main", "mined.jsonl", "mini"),)).write(recipe)
        expected, plain = train.Recipe.read(recipe), recipe.read_bytes()
        recipe.write_bytes(MARK + plain)
        assert train.Recipe.read(recipe) == expected
        for encoding in OTHER_ENCODINGS:
            path.write_bytes(EXAMPLES.encode(encoding))
            recipe.write_bytes(plain.decode().encode(encoding))
            for file, read in ((path, train.read), (path, train.read_colbert), (recipe, train.Recipe.read)):
                with pytest.raises(ValueError, match=rf"{file}, line 1.*UTF-8"):
                    tuple(read(file))

    def test_runs_and_qrels_are_read_alike(self, tmp_path):
        run, qrels = tmp_path / "run.trec", tmp_path / "qrels"
        run.write_bytes(MARK + '問1 Q0 NA 0 2.5 x\n問1 Q0 "文書 1 1.5 x\n'.encode())
        qrels.write_bytes(MARK + '問1 0 NA 1\n問1\t0\t"文書\t0\n'.encode())
        assert read_run(run)[["qid", "docno"]].values.tolist() == [["問1", "NA"], ["問1", '"文書']]
        assert read_qrels(qrels).values.tolist() == [["問1", "NA", 1], ["問1", '"文書', 0]]
        for encoding in OTHER_ENCODINGS:
            run.write_bytes("問1 Q0 文書 0 2.5 x\n".encode(encoding))
            qrels.write_bytes("問1 0 文書 1\n".encode(encoding))
            for file, read in ((run, read_run), (qrels, read_qrels)):
                with pytest.raises(ValueError, match=rf"{file}.*line 1.*UTF-8"):
                    read(file)


def run_python(code, **environment):
    """Runs code in a new process without a folder for ir_datasets; a variable that is None is unset."""
    variables = {**os.environ, "IR_DATASETS_HOME": None, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    variables = {name: value for name, value in variables.items() if value is not None}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class TestImport:
    """Importing the package writes nothing; the data sets are registered when they are asked for."""

    STAR = "from pyterrier_jacolbert import *; import sys; print('ir_datasets' in sys.modules)"

    def test_importing_writes_nothing(self, tmp_path):
        assert run_python(self.STAR, HOME=str(tmp_path)) == "False"
        assert list(tmp_path.rglob("*")) == []

    @pytest.mark.parametrize("home", [None, "/nonexistent/home", "/dev/null"])
    def test_importing_needs_no_home(self, home):
        assert run_python(self.STAR, HOME=home) == "False"

    def test_a_home_that_cannot_be_written_is_told_when_data_are_asked_for(self):
        code = (
            "import pyterrier_jacolbert as pj\n"
            "try: pj.datasets.use_local('/tmp')\n"
            "except OSError as error: print(error)"
        )
        assert "IR_DATASETS_HOME" in run_python(code, HOME="/dev/null")

    @pytest.mark.parametrize(
        "imports",
        [
            "import pyterrier_jacolbert; import ir_datasets; import pyterrier as pt",
            "import ir_datasets; import pyterrier_jacolbert; import pyterrier as pt",
            "import pyterrier as pt; import pyterrier_jacolbert; import ir_datasets",
            "import pyterrier_jacolbert.datasets.demo; import pyterrier as pt; import ir_datasets",
            "import importlib, pyterrier_jacolbert, ir_datasets, pyterrier as pt; importlib.reload(ir_datasets)",
        ],
    )
    def test_data_sets_are_known_in_every_order_of_imports(self, imports, tmp_path):
        code = (
            f"{imports}\n"
            "print(pt.get_dataset('irds:jsquad/validation'), ir_datasets.load('jqara/test').queries_count(),"
            "sum(name == 'jsquad/train' for name in ir_datasets.registry),"
            "len(pt.get_dataset('irds:jacolbert-demo').get_topics()))"
        )
        assert run_python(code, HOME=str(tmp_path)) == "IRDSDataset('jsquad/validation') 1667 1 114"

    def test_threads_that_ask_at_once_all_find_the_data_sets(self, tmp_path):
        code = (
            "import pyterrier_jacolbert\n"
            "from concurrent.futures import ThreadPoolExecutor\n"
            "def ask(number):\n"
            "    import ir_datasets\n"
            "    return ir_datasets.load('jsquad/validation').queries_count()\n"
            "print(set(ThreadPoolExecutor(8).map(ask, range(32))))"
        )
        assert run_python(code, HOME=str(tmp_path)) == "{4442}"

"""Every public name says what it takes, what it gives and what it raises, and the package is quiet.

Public is what ``pyterrier_jacolbert.__all__`` names, what the page of the API documents, and their public methods.
"""

import ast
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import pyterrier_jacolbert as pj

PACKAGE = Path(pj.__file__).parent
API = (PACKAGE / "pt_docs" / "api.rst").read_text(encoding="utf-8")
Function = ast.FunctionDef | ast.AsyncFunctionDef
#: What PyTerrier calls by itself, and documents.
HOOKS = {"compile", "fuse_rank_cutoff", "fuse_right", "index_inputs"}


@dataclass(frozen=True)
class Documented:
    """A public function, method or class, and the function whose arguments it documents."""

    name: str
    text: str
    function: Function | None
    returns: bool


def definitions():
    """The classes and functions of the package by ``module.name``, and by their name alone."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = [PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts]
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.ClassDef, Function)):
                found[f"{module}.{node.name}"] = node
                found.setdefault(node.name, node)  # for names that another module gives on
    return found


DEFINITIONS = definitions()


def public_names():
    in_pages = re.findall(r"^\.\. auto(?:class|function):: (\S+)$", API, re.MULTILINE)
    names = [name if "." in name else f"{PACKAGE.name}.{name}" for name in in_pages]
    return sorted({*names, *(f"{PACKAGE.name}.{name}" for name in pj.__all__ if name != "datasets")})


def is_property(function):
    names = {ast.unparse(decorator).rpartition(".")[2] for decorator in function.decorator_list}
    return bool(names & {"property", "cached_property"})


def methods(node):
    """The methods of a class and of the classes of the package that it comes from, nearest first."""
    found = {}
    for base in [node, *(DEFINITIONS[name] for name in map(ast.unparse, node.bases) if name in DEFINITIONS)]:
        own = {part.name: part for part in base.body if isinstance(part, Function)} if base is node else methods(base)
        found = {**own, **found}
    return found


def documented():
    found = []
    for name in public_names():
        short = name.rpartition(".")[2]
        node = DEFINITIONS.get(name) or DEFINITIONS[short]
        if isinstance(node, Function):
            found.append(Documented(name, ast.get_docstring(node) or "", node, gives(node)))
            continue
        own = methods(node)
        found.append(Documented(name, ast.get_docstring(node) or "", own.get("__init__"), False))
        for method, function in own.items():
            if not method.startswith("_") and method not in HOOKS:
                returns = gives(function) and not is_property(function)
                text = ast.get_docstring(function) or ""
                found.append(Documented(f"{name}.{method}", text, function, returns))
    return found


def gives(function):
    return function.returns is not None and ast.unparse(function.returns) not in ("None", "NoReturn")


def parameters(function):
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
    return [one.arg for one in every if one is not None and one.arg not in ("self", "cls")]


def section(text, title):
    """The lines of a section of a Google docstring, "" where it has none."""
    match = re.search(rf"^{title}:\n((?:(?:    .*)?(?:\n|\Z))+)", text, re.MULTILINE)
    return match[1] if match else ""


DOCUMENTED = documented()
EVERY = pytest.mark.parametrize("one", [pytest.param(one, id=one.name) for one in DOCUMENTED])


def test_there_is_a_public_interface():
    assert len(DOCUMENTED) >= 100
    assert {f"{PACKAGE.name}.{name}" for name in pj.__all__ if name != "datasets"} <= {one.name for one in DOCUMENTED}


@EVERY
def test_it_says_what_it_is(one):
    first = one.text.split("\n\n")[0]
    assert len(first.split()) >= 3, f"{one.name} has no docstring"
    assert first.endswith((".", ":")), one.name


@EVERY
def test_it_says_what_it_takes(one):
    if one.function is None:
        return
    described = re.findall(r"^    \*{0,2}(\w+)(?:, \*{0,2}(\w+))*:", section(one.text, "Args"), re.MULTILINE)
    named = {name for names in described for name in names if name}
    assert sorted(set(parameters(one.function)) - named) == [], f"{one.name} has parameters without a word"
    assert sorted(named - set(parameters(one.function))) == [], f"{one.name} describes what it does not take"


@EVERY
def test_it_says_what_it_gives(one):
    if one.returns:
        assert section(one.text, "Returns") or section(one.text, "Yields"), f"{one.name} has no Returns"


@EVERY
def test_it_says_what_it_raises(one):
    if one.function is None:
        return
    raised = [node for node in ast.walk(one.function) if isinstance(node, ast.Raise) and node.exc is not None]
    if [node for node in raised if ast.unparse(node.exc) != "NotImplementedError"]:
        assert section(one.text, "Raises"), f"{one.name} has no Raises"


def test_everything_that_all_names_is_on_the_page_of_the_interface():
    for name in set(pj.__all__) - {"datasets"}:
        assert re.search(rf"^\.\. autoclass:: {name}$", API, re.MULTILINE), name


def test_importing_raises_no_warning():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import pyterrier_jacolbert"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


WORK = """
import sys
import pandas as pd
import pyterrier as pt
import pyterrier_jacolbert as pj
verbose = sys.argv[1] == "verbose"
model = pj.JaColBERT("mini", verbose=verbose)
docs = list(pt.get_dataset("jacolbert:demo").get_corpus_iter(verbose=False))[:40]
bm25 = pj.JapaneseBM25("bm25", title_field="title", verbose=verbose).index(docs).retriever()
indexer = pj.JaColBERTIndexer("index", model, title_field="title", store_text=True, verbose=verbose)
index = indexer.index(docs[:30])
index = index.append(docs[30:], verbose=verbose)
topics = pd.DataFrame({"qid": ["1", "2"], "query": ["日本で一番高い山は？", "カルデラ"]})
text = pt.text.get_text(index, "text", verbose=False)
for pipeline in [
    index.retriever(),
    index.exact_retriever() >> index.prf() >> index.retriever(),
    bm25 % 10 >> index.scorer(),
    bm25 % 10 >> text >> model.text_scorer(),
    index.retriever() % 2 >> index.explainer(),
]:
    assert len(pipeline(topics))
index.delete([docs[0]["docno"]]).compact().verify()
"""


def what_is_written(tmp_path, how):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", WORK, how]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_without_verbose_nothing_is_written_and_nothing_warned_of(tmp_path):
    assert what_is_written(tmp_path, "silent") == ""


def test_with_verbose_there_is_something_to_see(tmp_path):
    assert "document" in what_is_written(tmp_path, "verbose").lower()

"""Every public name documents its parameters, results and errors, checks its settings, and prints nothing unasked.

Public names are those of the API page, all of which the package or a public subpackage exports.
"""

import ast
import dataclasses
import importlib
import inspect
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import pyterrier_jacolbert as pj

PACKAGE = pj.__name__
FOLDER = Path(pj.__file__).parent
SUBPACKAGES = ("datasets", "distributed", "evaluation", "explain", "japanese", "pipeline", "plots", "train")
MODULES = {PACKAGE: pj, **{f"{PACKAGE}.{name}": importlib.import_module(f"{PACKAGE}.{name}") for name in SUBPACKAGES}}
#: What the package and its public subpackages export, by qualified name.
EXPORTED = {f"{path}.{name}": getattr(module, name) for path, module in MODULES.items() for name in module.__all__}
#: Methods that PyTerrier documents and calls.
HOOKS = {"compile", "fuse_rank_cutoff", "fuse_right", "index_inputs"}


@dataclass(frozen=True)
class Documented:
    """A public class, function, method or property.

    Attributes:
        name: qualified name.
        text: docstring.
        function: what has the described parameters: a function, or a dataclass; None for properties.
        returns: whether it returns a result.
    """

    name: str
    text: str
    function: Callable | None
    returns: bool


def api_page() -> list[str]:
    """Returns the qualified names of the classes and functions of the API page."""
    page = (FOLDER / "pt_docs" / "api.rst").read_text(encoding="utf-8")
    listed = re.findall(r"^\.\. auto(?:class|function):: (\S+)$", page, re.MULTILINE)
    return [name if "." in name else f"{PACKAGE}.{name}" for name in listed]


def documented() -> Iterator[Documented]:
    """Yields everything that needs a docstring."""
    for name in api_page():
        value = EXPORTED[name]
        if not inspect.isclass(value):
            yield Documented(name, docstring(value), value, has_result(value))
            continue
        takes_settings = dataclasses.is_dataclass(value) or is_ours(value.__init__)
        yield Documented(name, docstring(value), value if takes_settings else None, False)
        for member, attribute in inspect.getmembers_static(value):
            function = getattr(attribute, "__func__", attribute)  # of a class method
            if member.startswith("_") or member in HOOKS:
                continue
            if isinstance(attribute, property) and is_ours(attribute.fget):
                yield Documented(f"{name}.{member}", docstring(attribute), None, False)
            elif inspect.isfunction(function) and is_ours(function):
                yield Documented(f"{name}.{member}", docstring(function), function, has_result(function))


def is_ours(function: Callable) -> bool:
    return getattr(function, "__module__", "").startswith(PACKAGE)


def docstring(value: object) -> str:
    return inspect.cleandoc(value.__doc__ or "")


def has_result(function: Callable) -> bool:
    return inspect.signature(function).return_annotation not in (None, "None", "NoReturn", inspect.Signature.empty)


def section(text: str, *titles: str) -> str:
    """Returns the lines of a section of a Google docstring, or "" without it."""
    match = re.search(rf"^(?:{'|'.join(titles)}):\n((?:(?:    .*)?(?:\n|\Z))+)", text, re.MULTILINE)
    return match[1] if match else ""


DOCUMENTED = list(documented())
EVERY = pytest.mark.parametrize("item", [pytest.param(item, id=item.name) for item in DOCUMENTED])


def test_api_page_has_every_name_of_the_package():
    assert len(DOCUMENTED) >= 100
    assert set(api_page()) <= set(EXPORTED)
    assert {f"{PACKAGE}.{name}" for name in pj.__all__ if name != "datasets"} <= set(api_page())


@EVERY
def test_docstring_begins_with_a_sentence(item):
    assert item.text.split("\n\n")[0].endswith((".", ":"))


@EVERY
def test_docstring_describes_the_parameters(item):
    if item.function is None:
        return
    lines = section(item.text, "Args", "Attributes")
    described = re.findall(r"^    \*{0,2}(\w+)(?:, \*{0,2}(\w+))*:", lines, re.MULTILINE)
    parameters = set(inspect.signature(item.function).parameters) - {"self", "cls"}
    assert {name for names in described for name in names if name} == parameters


@EVERY
def test_docstring_describes_the_result(item):
    if item.returns:
        assert section(item.text, "Returns", "Yields")


@EVERY
def test_docstring_describes_the_errors(item):
    function = item.function.__init__ if inspect.isclass(item.function) else item.function
    if function is None or dataclasses.is_dataclass(item.function):
        return
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    raised = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc is not None]
    if [error for error in raised if ast.unparse(error) != "NotImplementedError"]:
        assert section(item.text, "Raises")


def test_docstrings_begin_with_what_the_code_does():
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in FOLDER.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, kinds)]
    first_lines = [docstring.splitlines()[0] for node in nodes if (docstring := ast.get_docstring(node))]
    assert len(first_lines) >= 800
    assert [line for line in first_lines if re.match(r"(?:What|Where|As)\b", line)] == []


@pytest.mark.parametrize("item", [item for item in DOCUMENTED if PACKAGE in item.text], ids=lambda item: item.name)
def test_public_docstrings_name_no_deep_path(item):
    assert deep_paths(item.text) == []


def test_readme_names_no_deep_path():
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert PACKAGE in readme
    assert deep_paths(readme) == []


def deep_paths(text: str) -> list[str]:
    """Returns the dotted names in a text that are not importable from the package or a public subpackage."""
    names = set(re.findall(rf"\b{PACKAGE}(?:\.[A-Za-z]\w*)+", text))
    imports = re.findall(rf"from ({PACKAGE}[\w.]*) import ([\w, ]+)", text)
    names |= {f"{module}.{name.strip()}" for module, members in imports for name in members.split(",")}
    return sorted(name for name in names if not is_public(name))


def is_public(name: str) -> bool:
    """Returns whether a dotted name is a public module, or a name in ``__all__`` of one, or an attribute of that."""
    if name in MODULES or name == f"{PACKAGE}.cli":
        return True
    for module, content in MODULES.items():
        member, *attributes = name.removeprefix(f"{module}.").split(".")
        if name.startswith(f"{module}.") and member in content.__all__:
            return not attributes or hasattr(getattr(content, member), attributes[0])
    return False


INDEX = pj.ShardedIndex("nowhere", "somebody/unused")
STAGE = {"name": "main", "start": "mini", "examples": "examples.jsonl"}
#: Public classes that check their integer settings, with the arguments that they need.
CHECKED = {
    "JaColBERT": {},
    "JaColBERTIndexer": {},
    "pipeline.Retriever": {"index": INDEX},
    "pipeline.TorchRetriever": {"index": INDEX},
    "pipeline.ColBERTPRF": {"index": INDEX},
    "pipeline.JapaneseBM25Retriever": {"index": pj.JapaneseBM25("nowhere")},
    "pipeline.JapanesePassages": {"model": pj.JaColBERT("mini")},
    "distributed.RayRetriever": {"index": INDEX},
    "distributed.RayExecutor": {},
    "train.Stage": STAGE,
    "train.Mining": {"name": "examples.jsonl", "teachers": ("bm25",)},
}

#: Integer settings that are compared with ``batch_documents``, and therefore checked when a build begins.
CHECKED_LATER = {"documents_per_shard"}


def integer_settings() -> Iterator[tuple[str, str]]:
    """Yields each integer setting of these classes with the class."""
    for name in CHECKED:
        for parameter in inspect.signature(EXPORTED[f"{PACKAGE}.{name}"]).parameters.values():
            if parameter.annotation in ("int", "int | None") and parameter.name not in CHECKED_LATER:
                yield name, parameter.name


@pytest.mark.parametrize("value", [True, 2.0])
@pytest.mark.parametrize(("name", "setting"), list(integer_settings()))
def test_integer_settings_take_only_integers(name, setting, value):
    create = EXPORTED[f"{PACKAGE}.{name}"]
    with pytest.raises(ValueError, match=rf"{setting}\b.* must be .*not {value!r}"):
        create(**CHECKED[name], **{setting: value})


def test_importing_warns_of_nothing():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import pyterrier_jacolbert"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


PIPELINES = """
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


def output(tmp_path, how):
    """Runs the pipelines in a fresh process, "silent" or "verbose", and returns what they print."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", PIPELINES, how]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_pipelines_print_nothing_without_verbose(tmp_path):
    assert output(tmp_path, "silent") == ""


def test_pipelines_show_progress_with_verbose(tmp_path):
    assert "document" in output(tmp_path, "verbose").lower()

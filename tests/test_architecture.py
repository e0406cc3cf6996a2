"""The architecture: imports go down the layers without circles, and files, functions and signatures stay small.

What importing the package loads is tested in ``test_import.py``.
"""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyterrier_jacolbert as pj

FOLDER = Path(pj.__file__).parent
FILES = sorted(FOLDER.rglob("*.py"))
KERNELS = FOLDER / "index" / "kernels"
MAX_TOP_LEVEL_MODULES = 8
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60
MAX_KERNEL_PARAMETERS = 7

IMPORT_INDEX = """
import importlib, pkgutil, sys, types
package = types.ModuleType("pyterrier_jacolbert")  # without running the package's __init__.py
package.__path__ = [sys.argv[1]]
sys.modules["pyterrier_jacolbert"] = package
index = importlib.import_module("pyterrier_jacolbert.index")
names = [module.name for module in pkgutil.walk_packages(index.__path__, "pyterrier_jacolbert.index.")]
for name in names:
    importlib.import_module(name)
print(len(names), *[name for name in ("pandas", "pyterrier") if name in sys.modules])
"""


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    """Yields the functions and methods of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def decorators(function: ast.FunctionDef) -> list[str]:
    """Returns the names of the decorators of a function, without their arguments."""
    calls = [decorator.func if isinstance(decorator, ast.Call) else decorator for decorator in function.decorator_list]
    return [ast.unparse(call) for call in calls]


def generates_llvm(function: ast.FunctionDef) -> bool:
    """Returns whether a function generates LLVM code: an intrinsic, or a part of one."""
    annotations = [ast.unparse(argument.annotation) for argument in function.args.args if argument.annotation]
    return "llvm.intrinsic" in decorators(function) or "llvm.Code" in annotations


def code_lines(function: ast.FunctionDef) -> int:
    """Returns the number of lines of a function without its docstring."""
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    return lines - (first.end_lineno - first.lineno + 1) if ast.get_docstring(function) else lines


def test_imports_go_down_the_layers():
    pytest.importorskip("importlinter", reason="import-linter is in the dev extra")
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", code, "--config", "pyproject.toml", "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=FOLDER.parent)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_files_import_each_other_in_a_circle():
    grimp = pytest.importorskip("grimp", reason="grimp is in the dev extra")
    graph = grimp.build_graph("pyterrier_jacolbert", include_external_packages=False, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert sum(map(len, imports.values())) >= 200
    graphlib.TopologicalSorter(imports).prepare()  # raises a CycleError that names the files


def test_few_modules_are_at_the_top_level():
    names = [path.name for path in FOLDER.glob("*.py")]
    assert len(names) <= MAX_TOP_LEVEL_MODULES, names


def test_files_are_short():
    lengths = {str(path.relative_to(FOLDER)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > MAX_FILE_LINES} == {}


def test_functions_are_short_unless_they_generate_llvm():
    lengths = {
        f"{path.relative_to(FOLDER)}:{function.name}": code_lines(function)
        for path in FILES
        for function in functions(path)
        if not (path.parent == KERNELS and generates_llvm(function))
    }
    assert len(lengths) >= 800
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}


def test_kernels_and_their_references_take_few_parameters():
    counts = {}
    for path in (FOLDER / "index").rglob("*.py"):
        by_name = {function.name: function for function in functions(path)}
        for kernel in [function for function in by_name.values() if "kernel" in decorators(function)]:
            references = [
                argument.id
                for decorator in kernel.decorator_list
                if isinstance(decorator, ast.Call)
                for argument in decorator.args
                if isinstance(argument, ast.Name)
            ]
            for name in [kernel.name, *references]:
                if name in by_name:
                    counts[f"{path.relative_to(FOLDER)}:{name}"] = len(by_name[name].args.args)
    assert len(counts) >= 10
    assert {name: count for name, count in counts.items() if count > MAX_KERNEL_PARAMETERS} == {}


def test_index_imports_neither_pandas_nor_pyterrier():
    command = [sys.executable, "-c", IMPORT_INDEX, str(FOLDER)]
    count, *imported = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(count) >= 30
    assert imported == []

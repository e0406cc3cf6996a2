"""Checks that the remedies which a message proposes exist: parameters, options, commands, methods and packages."""

import argparse
import builtins
import inspect
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyterrier as pt

import pyterrier_jacolbert as pj
from pyterrier_jacolbert import datasets, evaluation, japanese, pipeline, plots, train
from pyterrier_jacolbert.cli.parser import build_parser

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PUBLIC_MODULES = [pj, pipeline, japanese, plots, train, evaluation, datasets]
PUBLIC = {name: getattr(module, name) for module in PUBLIC_MODULES for name in module.__all__}
#: Objects that messages call by these names.
ROOTS = {
    "pt": pt,
    "DataFrame": pd.DataFrame,
    "pyterrier_jacolbert": pj,
    "model": pj.JaColBERT,
    "index": pj.JaColBERTIndex,
    "text": str,
    **PUBLIC,
}


def remedies_that_do_not_exist(message: str, subjects: tuple[Callable, ...]) -> list[str]:
    """Returns the remedies in a message that a user cannot follow.

    Args:
        message: text of an error.
        subjects: classes and functions whose parameters the message may propose as ``name=value``.
    """
    commands, options = command_line()
    packages = {re.split(r"[\[<>=]", requirement)[0] for group in requirements().values() for requirement in group}
    missing = []
    while match := re.search(rf"\b({'|'.join(ROOTS)})\(([^()]*)\)", message):  # a call, or the repr of an object
        missing += undeclared_parameters(match[2], (ROOTS[match[1]],))
        message = message[: match.start()] + message[match.end() :]
    missing += undeclared_parameters(message, subjects)
    missing += [option for option in re.findall(r"(?<!\S)--[a-z-]+", message) if option not in options]
    missing += [name for name in re.findall(r"pyterrier-jacolbert (?!\d)(\w+)", message) if name not in commands]
    missing += [name for name in re.findall(r"pyterrier-jacolbert\[(\w+)\]", message) if name not in requirements()]
    for installed in re.findall(r"pip install ([\w -]+\w)$", message):
        missing += [package for package in installed.split() if package not in packages]
    missing += [call for call in re.findall(r"([\w.]*)\(", message) if call and not is_callable(call)]
    dotted = re.findall(rf"(?<![\w./'])((?:{'|'.join(ROOTS)})\.[a-zA-Z_.]*\w)(?![\w(/])", message)
    return missing + [name for name in dotted if not is_callable(name)]


def undeclared_parameters(text: str, subjects: tuple[Callable, ...]) -> list[str]:
    """Returns the names of ``name=value`` in a text that are no parameters of the given classes and functions."""
    parameters = {name for subject in subjects for name in inspect.signature(subject).parameters}
    return [f"{name}=" for name in re.findall(r"(?<![\w'\"])([a-z]\w*)=(?=\S)", text) if name not in parameters]


def is_callable(name: str) -> bool:
    """Returns whether a name, such as ``model.query_encoder``, ``.index`` or ``str``, can be called by a user."""
    root, *path = name.split(".")
    if root in ROOTS and path:
        found = ROOTS[root]
        for part in path:
            found = getattr(found, part, None)
        return callable(found)
    last = name.rpartition(".")[2]
    owners = [builtins, str, bytes, pd.Series, *PUBLIC.values()]
    return last in PUBLIC or any(callable(getattr(owner, last, None)) for owner in owners)


def command_line() -> tuple[set[str], set[str]]:
    """Returns the commands and the options of the command line."""
    (subparsers,) = (action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    options = {option for parser in subparsers.choices.values() for option in parser._option_string_actions}
    return set(subparsers.choices), options


def requirements() -> dict[str, list[str]]:
    """Returns the declared requirements by extra; "" is those of the package."""
    return {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}

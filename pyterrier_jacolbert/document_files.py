"""Reads documents from JSONL and TSV files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pyterrier_jacolbert.text_files import read_lines


class DocumentFile:
    """The documents of a JSONL or TSV file, read anew on every iteration.

    Args:
        source: path of the file: JSONL, or TSV of docno and text if it ends in ``.tsv``; ``-`` reads JSONL from stdin.
            The encoding is UTF-8; a byte order mark is dropped.
    """

    def __init__(self, source: str) -> None:
        self.source = source

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return _read(self.source)


def _read(source: str) -> Iterator[dict[str, Any]]:
    for number, line in read_lines(source):
        where = f"{source}, line {number}"
        if source.removesuffix(".gz").endswith(".tsv"):
            yield _parse_tsv(line, where)
        elif line.strip():
            yield _parse_json(line, where)


def _parse_tsv(line: str, where: str) -> dict[str, Any]:
    docno, tab, text = line.partition("\t")
    if not tab:
        raise ValueError(f"{where}: there is no tab; put one between docno and text.")
    return {"docno": docno, "text": text}


def _parse_json(line: str, where: str) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: this is not JSON ({error.msg}); repair it, or give a .tsv file.") from None
    if not isinstance(document, dict):
        raise ValueError(f"{where}: this is not a JSON object; put docno and text into one.")
    return document

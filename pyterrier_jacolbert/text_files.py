"""Reads the text files of users: UTF-8, with or without a byte order mark; anything else is told with file and line."""

from __future__ import annotations

import gzip
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

#: Name of standard input as a file.
STDIN = "-"
#: Bytes of the longest line: the longest text of an index in JSON, twice over. A small compressed file can hold a line
#: that does not fit into memory.
LONGEST_LINE = 2**28
_BYTE_ORDER_MARK = "\ufeff"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_UTF32_MARK = b"\xff\xfe\x00\x00"
_GZIP_MAGIC = b"\x1f\x8b"
#: Start of the escape sequences of ISO-2022-JP, whose bytes are all ASCII.
_JIS_ESCAPES = re.compile(rb"\x1b\$[@B]|\x1b\([JI]")


def read_lines(source: str | Path) -> Iterator[tuple[int, str]]:
    """Reads a text file line by line.

    A byte order mark at the start of a line is dropped: joined files have them anywhere.

    Args:
        source: path of the file; "-" reads standard input. A name that ends in ``.gz`` is decompressed.

    Yields:
        The number of each line, from 1, and the line without its end.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not UTF-8, or a line has more than :data:`LONGEST_LINE` bytes; the message names the
            file and the line.
    """
    if source == STDIN:
        # What replaces standard input, in a notebook for example, may have text and no bytes.
        binary = getattr(sys.stdin, "buffer", None)
        lines = (line.encode("utf-8", "surrogatepass") for line in sys.stdin) if binary is None else binary
        yield from _decode(lines, "stdin")
    else:
        with _open(Path(source)) as file:
            yield from _decode(_decompressed(file, str(source)), str(source))


def read_text(path: str | Path) -> str:
    """Reads a whole text file, with line feeds as line ends.

    Raises:
        FileNotFoundError, ValueError: see :func:`read_lines`.
    """
    return "".join(f"{line}\n" for _, line in read_lines(Path(path)))


def _open(path: Path) -> BinaryIO:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _decompressed(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Yields the lines of a file that may be compressed, and names a file that is cut short, damaged or endless."""
    try:
        for number, line in enumerate(iter(partial(file.readline, LONGEST_LINE + 1), b""), 1):
            if len(line) > LONGEST_LINE:
                raise ValueError(
                    f"{name}, line {number}: the line has more than {LONGEST_LINE >> 20} MiB; split it, or check that "
                    "the file holds text."
                )
            yield line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{name} cannot be decompressed ({error}); get the file again.") from None


def _decode(lines: Iterable[bytes], name: str) -> Iterator[tuple[int, str]]:
    number = 0
    for content in lines:
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            problem = f"the byte {content[error.start]:#04x} at position {error.start} of the line is not UTF-8"
            raise ValueError(f"{name}, line {number + 1}: {problem}; {_remedy(content)}.") from None
        if _is_utf16(content) or _JIS_ESCAPES.search(content):
            raise ValueError(f"{name}, line {number + 1}: the line is not UTF-8; {_remedy(content)}.")
        # A carriage return alone ends a line, too, as when a file is opened as text.
        for line in re.split(r"\r(?!\n)", text.removesuffix("\n").removesuffix("\r")):
            number += 1
            yield number, line.lstrip(_BYTE_ORDER_MARK)


def _is_utf16(content: bytes) -> bool:
    """Returns whether a line looks like UTF-16 of ASCII letters, every other byte of which is 0."""
    return content.count(0) * 3 > len(content)


def _remedy(content: bytes) -> str:
    if content.startswith(_GZIP_MAGIC):
        return "the file is compressed, so unpack it with gunzip, or let its name end in .gz"
    if content.startswith(_UTF32_MARK):
        encoding = "UTF-32"
    elif content.startswith(_UTF16_MARKS) or _is_utf16(content):
        encoding = "UTF-16"
    elif _JIS_ESCAPES.search(content):
        encoding = "ISO-2022-JP"
    else:
        encoding = _guess(content)
    return f"convert the file, for example with iconv -f {encoding} -t UTF-8"


def _guess(content: bytes) -> str:
    """Returns the Japanese encoding that decodes a line to more kana and kanji, CP932 or EUC-JP."""
    letters = {
        encoding: len(re.findall("[\u3040-\u30ff\u4e00-\u9fff]", content.decode(encoding, "ignore")))
        for encoding in ("cp932", "euc_jp")
    }
    return "EUC-JP" if letters["euc_jp"] > letters["cp932"] else "CP932"

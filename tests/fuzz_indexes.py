"""A fuzzer of indexes: random changes of manifests and files, with right checksums, and every operation on the result.

Each change is made to a copy of a sound index, on which a forked child of this process then tries every operation. A
crash, a file that changes outside of the copy, and an error that is not one of this package's own sentences are
failures. Results that differ from those of the sound index are counted: checksums cannot tell them from the truth.

    python tests/fuzz_indexes.py --count 3000 --processes 2
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import json
import linecache
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import hostile
import numpy as np
import pandas as pd
from checkpoints import write_stanford_checkpoint
from conformance import contents

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.artifacts.open import open_index
from pyterrier_jacolbert.index import builder
from pyterrier_jacolbert.index.codecs import training
from pyterrier_jacolbert.index.storage.atomic import META_FILE

KINDS = ("int8", "4bit", "float16", "deleted", "text", "shards", "bm25")
#: An interrupted build, which is fuzzed on its own: it has a journal in place of a manifest.
BUILD = "build"
_JOURNAL = Path("data-1", "journal.json")
DIM = 16
#: Seconds after which a child is stopped: it hangs.
_PATIENCE = 120
_PACKAGE = str(Path(pj.__file__).parent)
_WORDS = ("富士山は高い", "琵琶湖は大きい", "東京は首都", "味噌汁に豆腐")


def documents(numbers, text=False):
    for number in numbers:
        words = f"{_WORDS[number % len(_WORDS)]}、{number}番"
        rows = np.random.default_rng(number).standard_normal((1 + number % 4, DIM)).astype(np.float32)
        yield {"docno": f"文書{number}", **({"text": words} if text else {"doc_embs": rows})}


def queries() -> pd.DataFrame:
    rows = [np.random.default_rng(100 + number).standard_normal((4, DIM)).astype(np.float32) for number in range(2)]
    unit = [row / np.linalg.norm(row, axis=1, keepdims=True) for row in rows]
    return pd.DataFrame({"qid": ["1", "2"], "query": ["高い山", "豆腐"], "query_embs": unit})


class Fuzzer:
    """Sound indexes of every kind, and what every operation gives on them.

    Args:
        folder: an empty one.
        kinds: of the indexes.
    """

    def __init__(self, folder: Path, kinds: tuple[str, ...] = KINDS) -> None:
        self.folder, self.kinds = folder, kinds
        self.sound, self.work, self.outside = folder / "sound", folder / "work", folder / "outside"
        self.work.mkdir()
        (self.outside / "0001").mkdir(parents=True)
        for name in ("starts.i8", "diary.txt", "0001/letter.txt", "journal.json.new", "pt_meta.json"):
            (self.outside / name).write_bytes(b"precious" * 40)
        self.model = pj.JaColBERT(str(write_stanford_checkpoint(folder / "model", dim=DIM)), dtype="float32")
        before = training.INT8_CENTROIDS_TOKENS
        training.INT8_CENTROIDS_TOKENS = 1  # so that a small int8 index has centroids
        try:
            for kind in kinds:
                self._build(kind)
        finally:
            training.INT8_CENTROIDS_TOKENS = before
        self.guarded = contents(self.outside) | contents(self.sound)
        # Compiles kernels and loads modules before the first fork.
        self.expected = {kind: self._outcomes(kind, self._copy(kind, f"warm-{kind}"), f"warm-{kind}") for kind in kinds}
        for kind, outcomes in self.expected.items():
            assert all(found.startswith("ok") for found in outcomes.values()), (kind, outcomes)
        shutil.rmtree(self.work)
        self.work.mkdir()

    def _build(self, kind: str) -> None:
        path = self.sound / kind
        if kind == "bm25":
            pj.JapaneseBM25(path).index(list(documents(range(16), text=True)))
            return
        if kind == BUILD:
            with mock.patch.object(builder, "encode_in_threads", side_effect=KeyboardInterrupt):
                with contextlib.suppress(KeyboardInterrupt):
                    _resume(path)
            return
        compression = {"4bit": "4bit", "text": "4bit", "float16": "float16"}.get(kind, "int8")
        settings: dict[str, Any] = {"compression": compression, "n_centroids": 4, "batch_documents": 8}
        if kind == "shards":
            pj.ShardedIndex(path, self.model).index(documents(range(16)), documents_per_shard=8, **settings)
        else:
            settings["store_text"] = kind == "text"
            pj.JaColBERTIndexer(path, self.model, **settings).index(list(documents(range(16), text=kind == "text")))
        if kind in ("deleted", "shards"):
            open_index(path, self.model).delete(["文書3", "文書11"])

    def run(self, seed: int) -> dict[str, Any]:
        """Changes an index and tries every operation on it in a child.

        Returns:
            ``kind``, ``change``, ``crash`` (a message, or None), ``outside`` (changed files), ``unclear`` (errors by
            operation), ``silent`` (operations with other results) and ``refused`` (whether any was an error).
        """
        rng = np.random.default_rng(seed)
        kind = self.kinds[seed % len(self.kinds)]
        name = f"case-{seed}"
        path = self._copy(kind, name)
        change = _change(rng, path, self.outside)
        report, status = self._in_child(functools.partial(self._outcomes, kind, path, name))
        crash = None if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0 else f"status {status}"
        for copy in self.work.glob(f"{name}*"):
            shutil.rmtree(copy, ignore_errors=True)
        after = contents(self.outside) | contents(self.sound)
        outside = [
            str(file) for file in after.keys() | self.guarded.keys() if after.get(file) != self.guarded.get(file)
        ]
        expected = self.expected[kind]
        return {
            "seed": seed,
            "kind": kind,
            "change": change,
            "crash": crash,
            "outside": outside,
            "unclear": {name: found for name, found in report.items() if found.startswith("unclear")},
            "silent": [name for name, found in report.items() if found.startswith("ok") and found != expected[name]],
            "refused": any(not found.startswith("ok") for found in report.values()),
        }

    def _copy(self, kind: str, name: str) -> Path:
        path = self.work / name
        shutil.copytree(self.sound / kind, path, symlinks=True)
        return path

    def _in_child(self, function: Callable[[], dict[str, str]]) -> tuple[dict[str, str], int]:
        """Runs a function in a forked child; returns what it returned, {} if it did not, and the status of the end."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                signal.alarm(_PATIENCE)
                os.close(reading)
                with os.fdopen(writing, "w") as pipe:
                    json.dump(function(), pipe)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            text = pipe.read()
        _, status = os.waitpid(child, 0)
        return json.loads(text) if text.endswith("}") else {}, status

    def _outcomes(self, kind: str, path: Path, name: str) -> dict[str, str]:
        """Returns the outcome of every operation on an index by name: ``ok: ...``, ``refused`` or ``unclear: ...``."""
        found = {}
        operations = {"bm25": _bm25_operations, BUILD: _build_operations}.get(kind, lambda: self._operations(kind))()
        for number, (operation, (function, writes)) in enumerate(operations.items()):
            own = path
            if writes:
                own = path.with_name(f"{name}-{number}")
                shutil.copytree(path, own, symlinks=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found[operation] = _outcome(function, own)
            if writes:
                shutil.rmtree(own, ignore_errors=True)
        return found

    def _operations(self, kind: str) -> dict[str, tuple[Callable[[Path], Any], bool]]:
        frame = queries()
        topics = frame.drop(columns="query")
        candidates = topics.merge(pd.DataFrame({"docno": ["文書1", "文書7"]}), how="cross").assign(score=0.0, rank=0)

        def opened(path):
            return open_index(path, self.model)

        def append(path):
            return opened(path).append(documents([90, 91], text=kind == "text")).retriever()(topics)

        def merge(path):
            merged = pj.JaColBERTIndex.merge([path], path.with_name(f"{path.name}-merged"))
            return pj.JaColBERTIndex(merged.path, self.model).retriever()(topics)

        reads = {
            "open": lambda index: len(index.token_vectors()),
            "stats": lambda index: index.stats()["tokens"],
            "verify": lambda index: index.verify(),
            "docnos": lambda index: list(index.docnos()),
            "retriever": lambda index: index.retriever()(topics),
            "two stages": lambda index: index.retriever(num_results=3, n_candidates=5)(topics),
            "probed": lambda index: index.retriever(num_results=3, n_candidates=5, n_probe=2)(topics),
            "exact": lambda index: index.exact_retriever()(topics),
            "torch": lambda index: index.torch_retriever(device="cpu", dtype="float32")(topics),
            "torch int8": lambda index: index.torch_retriever(device="cpu", dtype="int8")(topics),
            "filter": lambda index: index.retriever().filter(["文書1", "文書5"])(topics),
            "scorer": lambda index: index.scorer()(candidates),
            "explainer": lambda index: index.explainer()(candidates),
            "prf": lambda index: index.prf(k=2, fb_docs=1, fb_embs=2)(index.retriever()(topics)),
            "embs_loader": lambda index: index.embs_loader()(pd.DataFrame({"docno": ["文書1", "文書5"]})),
            "package": lambda index: sorted(name for name, _ in index._package_files()),
        }
        if kind == "text":
            reads["text_loader"] = lambda index: index.text_loader()(pd.DataFrame({"docno": ["文書1", "文書5"]}))
            reads["explain"] = lambda index: index.explain("高い山", "文書1").to_frame()
        found = {name: (functools.partial(_read, opened, read), False) for name, read in reads.items()}
        found |= {
            "append": (append, True),
            "delete": (lambda path: opened(path).delete(["文書1"]).retriever()(topics), True),
            "compact": (lambda path: opened(path).compact().retriever()(topics), True),
            "merge": (merge, True),
        }
        return found


def _bm25_operations() -> dict[str, tuple[Callable[[Path], Any], bool]]:
    frame = queries()[["qid", "query"]]
    candidates = frame.merge(pd.DataFrame({"docno": ["文書1", "文書7"]}), how="cross")
    reads: dict[str, Callable[[Any], Any]] = {
        "open": lambda index: len(index.docnos()),
        "length": lambda index: len(index),
        "verify": lambda index: index.verify(),
        "docnos": lambda index: list(index.docnos()),
        "retriever": lambda index: index.retriever()(frame),
        "scorer": lambda index: index.scorer()(candidates),
        "package": lambda index: sorted(name for name, _ in index._package_files()),
    }
    found = {name: (functools.partial(_read, pj.JapaneseBM25, read), False) for name, read in reads.items()}
    new = list(documents([1, 2], text=True))
    overwritten = lambda path: pj.JapaneseBM25(path).index(new, mode="overwrite").retriever()(frame)  # noqa: E731
    return {**found, "overwrite": (overwritten, True)}


def _resume(path: Path, mode: str = "resume") -> pj.JaColBERTIndex:
    settings: dict[str, Any] = {"compression": "4bit", "n_centroids": 4, "batch_documents": 8, "store_text": True}
    given = [{**document, "text": _WORDS[0]} for document in documents(range(16))]
    return pj.JaColBERTIndexer(path, "somebody/unused", mode=mode, **settings).index(given)


def _build_operations() -> dict[str, tuple[Callable[[Path], Any], bool]]:
    topics = queries().drop(columns="query")
    return {
        mode: (lambda path, mode=mode: _resume(path, mode).retriever()(topics), True)
        for mode in ("resume", "overwrite")
    }


def _read(opened: Callable[[Path], Any], read: Callable[[Any], Any], path: Path) -> Any:
    return read(opened(path))


def _outcome(function: Callable[[Path], Any], path: Path) -> str:
    """Returns the outcome of an operation; an error is clear if this package raises it, in one line."""
    try:
        return f"ok: {_shown(function(path))}"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        line = linecache.getline(last.filename, last.lineno or 0).strip()
        own = last.filename.startswith(_PACKAGE) and line.startswith("raise")
        if own and isinstance(error, ValueError | OSError) and "\n" not in str(error):
            return "refused"
        return f"unclear: {type(error).__name__}: {str(error)[:200]} ({last.filename}:{last.lineno})"


def _shown(value: Any) -> str:
    """Returns a result as text, without rounding and without paths."""
    if isinstance(value, pd.DataFrame):
        return repr([[_shown(cell) for cell in row] for row in value.values.tolist()])
    if isinstance(value, np.ndarray):
        return repr(np.round(value, 4).tolist())
    return repr(round(value, 4) if isinstance(value, float) else value)


def _change(rng: np.random.Generator, path: Path, outside: Path) -> str:
    """Makes a random change to an index, with right checksums, and returns what it was."""
    if (path / _JOURNAL).is_file():
        builds = [_change_journal, _change_journal, _change_data, _change_files]
        return builds[rng.integers(len(builds))](rng, path, outside)
    parts = [path, *sorted(folder.parent for folder in path.glob("shards-*/*/pt_meta.json"))]
    part = parts[rng.integers(len(parts))]
    kinds = [_change_manifest, _change_values, _change_values, _change_shape, _change_bytes, _change_files]
    return kinds[rng.integers(len(kinds))](rng, part, outside)


def _hostile_value(rng: np.random.Generator, old: Any, outside: Path) -> Any:
    numbers = [0, -1, 1, 2, 2**16, 2**31, 2**32 - 1, 2**53, 2**63, 10**30, 0.5, -0.0, float("nan"), float("inf"), 1e308]
    texts = [
        "",
        "a",
        "/etc/passwd",
        "../outside/diary.txt",
        str(outside / "diary.txt"),
        "data-1/starts.i8",
        "é\n\x1b[2J",
    ]
    texts += [
        "|O",
        "<f8",
        "<i4",
        ">u2",
        "int8",
        "4bit",
        "2bit",
        "float16",
        "jacolbert",
        "jacolbert_shards",
        "x" * 10**5,
    ]
    others: list[Any] = [None, True, False, [], {}, [old], {"a": old}, "0" * 16]
    near = [old + 1, old - 1, old * 2, -old] if isinstance(old, int | float) and not isinstance(old, bool) else []
    pool = near * 3 or [*numbers, *texts, *others]
    if rng.random() < 0.5:
        pool = [*numbers, *texts, *others]
    return pool[rng.integers(len(pool))]


def _leaves(values: Any) -> Iterator[tuple[Any, Any]]:
    """Yields all places in JSON values: the container and the key."""
    for key in list(values) if isinstance(values, dict) else range(len(values)):
        yield values, key
        if isinstance(values[key], dict | list):
            yield from _leaves(values[key])


def _change_manifest(rng: np.random.Generator, part: Path, outside: Path) -> str:
    return _change_json(rng, part / META_FILE, outside)


def _change_journal(rng: np.random.Generator, part: Path, outside: Path) -> str:
    return _change_json(rng, part / _JOURNAL, outside)


def _change_data(rng: np.random.Generator, part: Path, outside: Path) -> str:
    """Changes bytes of a file of a build, whose checksums resuming does not compare."""
    files = [file for file in sorted((part / "data-1").iterdir()) if file.suffix not in (".sums", ".json")]
    files = [file for file in files if file.stat().st_size]
    file = files[rng.integers(len(files))]
    content = bytearray(file.read_bytes())
    for place in rng.integers(len(content), size=1 + rng.integers(4)):
        content[place] = rng.choice([0, 1, 127, 128, 255])
    file.write_bytes(content)
    return f"data: {file.name}"


def _change_json(rng: np.random.Generator, file: Path, outside: Path) -> str:
    with hostile.changed_json(file) as manifest:
        changes = []
        for _ in range(1 + rng.integers(2)):
            places = list(_leaves(manifest))
            container, key = places[rng.integers(len(places))]
            others = [place for place in places if place[0] is container]
            action = rng.integers(5)
            if action == 0 and len(container) > 1:
                del container[key]
            elif action == 1:
                _, other = others[rng.integers(len(others))]
                container[key], container[other] = container[other], container[key]
            else:
                container[key] = _hostile_value(rng, container[key], outside)
            changes.append(str(key))
    return f"{file.stem}: {', '.join(changes)}"


def _some_array(rng: np.random.Generator, part: Path) -> tuple[str, np.ndarray]:
    names = sorted(hostile.read_values(part / META_FILE)["files"])
    name = names[rng.integers(len(names))]
    return name, hostile.array_of(part, name)


def _extremes(dtype: np.dtype) -> list[Any]:
    if dtype.kind == "f":
        limits = np.finfo(dtype)
        return [np.nan, np.inf, -np.inf, limits.max, limits.min, limits.tiny, -0.0, 0, 1, -1]
    limits = np.iinfo(dtype)
    return [limits.max, limits.min, limits.max - 1, 0, 1, limits.max // 2]


def _change_values(rng: np.random.Generator, part: Path, outside: Path) -> str:
    name, values = _some_array(rng, part)
    flat, action = values.reshape(-1), rng.integers(6)
    if len(flat):
        places = rng.integers(len(flat), size=1 + rng.integers(3))
        extremes = _extremes(values.dtype)
        if action < 2:
            flat[places] = np.array(extremes, dtype=values.dtype)[rng.integers(len(extremes), size=len(places))]
        elif action == 2:
            flat[places] += np.array(1, dtype=values.dtype)
        elif action == 3:
            rng.shuffle(flat)
        elif action == 4:
            flat[:] = flat[::-1].copy()
        else:
            flat[:] = np.array(extremes, dtype=values.dtype)[rng.integers(len(extremes))]
    hostile.write_array_of(part, name, values)
    return f"values: {name}"


def _change_shape(rng: np.random.Generator, part: Path, outside: Path) -> str:
    name, values = _some_array(rng, part)
    action = rng.integers(6)
    if action == 0:
        values = values[: rng.integers(len(values) + 1)]
    elif action == 1:
        values = np.concatenate([values, values[: 1 + rng.integers(3)]])
    elif action == 2:
        values = values.reshape(-1)
    elif action == 3:
        values = values[..., None] if values.ndim == 1 else values[:, : max(1, values.shape[1] // 2)]
    elif action == 4:
        values = np.frombuffer(values.tobytes(), dtype=np.uint8)
    else:
        values = np.zeros((0, *values.shape[1:]), dtype=values.dtype)
    with np.errstate(all="ignore"):
        hostile.write_array_of(part, name, np.ascontiguousarray(values))
    return f"shape: {name}"


def _change_bytes(rng: np.random.Generator, part: Path, outside: Path) -> str:
    name, values = _some_array(rng, part)
    content = bytearray(values.tobytes())
    for place in rng.integers(max(1, len(content)), size=1 + rng.integers(4)) if content else ():
        content[place] ^= 1 << rng.integers(8)
    hostile.write_array_of(part, name, np.frombuffer(bytes(content), dtype=values.dtype).reshape(values.shape))
    return f"bits: {name}"


def _change_files(rng: np.random.Generator, part: Path, outside: Path) -> str:
    """Changes the folder behind the back of the manifest: lengths, kinds and links."""
    files = sorted(file for file in part.rglob("*") if not file.is_symlink())
    file = files[rng.integers(len(files))]
    action = rng.integers(6)
    if action == 0:
        hostile.replace_by_link(file, outside if file.is_dir() else outside / "diary.txt")
    elif action == 1:
        new = [".lock", ".owner", "pt_meta.json.new", "data-1/9.deleted.u4", "data-7", ".data-2.beginning", "shards-3"]
        place = part / new[rng.integers(len(new))]
        hostile.replace_by_link(
            place, outside if "." not in place.name.removeprefix(".data-2.") else outside / "diary.txt"
        )
    elif file.is_dir():
        shutil.rmtree(file)
    elif action == 2:
        file.unlink()
    elif action == 3:
        file.write_bytes(file.read_bytes()[:-1])
    elif action == 4:
        file.write_bytes(file.read_bytes() + b"\0")
    else:
        file.unlink()
        file.mkdir()
    return f"files: {file.name} {action}"


def fuzz(folder: Path, seeds: range, kinds: tuple[str, ...] = KINDS) -> list[dict[str, Any]]:
    """Runs the fuzzer with each of several seeds and returns the reports."""
    fuzzer = Fuzzer(folder, kinds)
    return [fuzzer.run(seed) for seed in seeds]


def summarize(reports: list[dict[str, Any]]) -> str:
    """Returns the numbers of all failures, and what changed results silently."""
    silent = collections.Counter(
        f"{report['kind']}, {report['change']}" for report in reports if report["silent"] and not report["refused"]
    )
    partly = sum(bool(report["silent"] and report["refused"]) for report in reports)
    lines = [
        f"{len(reports)} changes: {sum(report['crash'] is not None for report in reports)} crashes, "
        f"{sum(bool(report['outside']) for report in reports)} with files outside touched, "
        f"{sum(bool(report['unclear']) for report in reports)} with unclear errors; "
        f"{sum(report['refused'] for report in reports)} refused, {sum(silent.values())} changed results silently, "
        f"{partly} in part"
    ]
    lines += [f"  {count:4} {name}" for name, count in silent.most_common(60)]
    return "\n".join(lines)


def failures(reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the reports of crashes, of files outside that were touched, and of unclear errors."""
    return [report for report in reports if report["crash"] or report["outside"] or report["unclear"]]


def main() -> None:
    """Runs the fuzzer in several processes and prints a summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", choices=(*KINDS, BUILD), default=KINDS)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.processes > 1:
            size = -(-arguments.count // arguments.processes)
            outputs = [Path(folder) / f"{number}.json" for number in range(arguments.processes)]
            commands = [
                [sys.executable, __file__, "--first", str(arguments.first + number * size), "--processes", "1"]
                + ["--count", str(min(size, arguments.count - number * size)), "--output", str(output)]
                + ["--kinds", *arguments.kinds]
                for number, output in enumerate(outputs)
            ]
            running = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
            for process in running:
                process.wait()
            reports = [report for output in outputs for report in json.loads(output.read_text(encoding="utf-8"))]
        else:
            seeds = range(arguments.first, arguments.first + arguments.count)
            reports = fuzz(Path(folder), seeds, tuple(arguments.kinds))
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(reports), encoding="utf-8")
    print(summarize(reports))
    for report in failures(reports)[:40]:
        print(json.dumps(report, ensure_ascii=False))
    print(f"{time.monotonic() - started:.0f} s")
    sys.exit(bool(failures(reports)))


if __name__ == "__main__":
    main()

"""Mistakes of users: each raises the documented error, whose message names the problem and a remedy that exists.

A mistake changes nothing on disk: no index appears, and none changes.
"""

import contextlib
import io
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from remedies import remedies_that_do_not_exist

import pyterrier_jacolbert as pj
from pyterrier_jacolbert import datasets, evaluation, japanese, pipeline, plots, train
from pyterrier_jacolbert.cli import main
from pyterrier_jacolbert.distributed import RayExecutor
from pyterrier_jacolbert.index.storage.atomic import replace_json
from pyterrier_jacolbert.index.storage.directory import writing

InvalidInput = pt.validate.InputValidationError
RECIPE = """
name: recipe
stages:
- {name: first, start: mini, examples: examples.jsonl, lerning_rate: 0.1}
"""


class CommandError(Exception):
    """An error that the command line printed."""


@dataclass(frozen=True)
class Mistake:
    """A mistake, and what the error must tell about it.

    Attributes:
        description: description of the mistake, the id of its test.
        make: makes the mistake in a workspace.
        named: texts that the message must contain, separated by " ... ".
        error: documented type of the error.
        subjects: classes and functions whose parameters the message may propose as ``name=value``.
    """

    description: str
    make: Callable[["Workspace"], object]
    named: str
    error: type[Exception] = ValueError
    subjects: tuple[Callable, ...] = ()


class Workspace:
    """A folder with indexes and other files, some of them damaged, about which mistakes can be made."""

    def __init__(self, folder: Path, model: pj.JaColBERT, docs: list[dict[str, str]]) -> None:
        self.folder = folder
        self.model = model
        self.docs = docs
        self.topics = pd.DataFrame({"qid": ["1", "2"], "query": ["日本で一番高い山", "味噌汁の具"]})
        self.ranking = self.topics.merge(pd.DataFrame(docs), how="cross")
        self.index = pj.JaColBERTIndex(folder / "index", model).index(docs, compression="int8")
        self.float16 = pj.JaColBERTIndex(folder / "float16", model).index(docs, compression="float16")
        self.shards = pj.ShardedIndex(folder / "shards", model).index(docs, batch_documents=2, documents_per_shard=4)
        self.bm25 = pj.JapaneseBM25(folder / "bm25").index(docs)
        vectors = [{"docno": "d1", "doc_embs": np.eye(3, 8, dtype=np.float32)}]
        self.vectors = pj.JaColBERTIndexer(folder / "vectors", model).index(vectors)
        self._damage_copies()
        with contextlib.suppress(InterruptedError):
            pj.JaColBERTIndexer(folder / "interrupted", model, batch_documents=2).index(interrupted(docs))
        (folder / "photos").mkdir()
        (folder / "photos" / "cat.jpg").write_bytes(b"cat")
        (folder / "docs.jsonl").write_text('{"docno": "d1", "text": "山"}\n', encoding="utf-8")
        (folder / "bad.jsonl").write_text('{"docno": "d1", "text": "山"}\n{"docno"\n', encoding="utf-8")
        (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")

    def _damage_copies(self) -> None:
        """Copies the index three times, with a truncated manifest, a manifest of the future, and a flipped bit."""
        for name in ("truncated", "future", "flipped"):
            shutil.copytree(self.index.path, self.folder / name)
        manifest = (self.index.path / "pt_meta.json").read_text(encoding="utf-8")
        (self.folder / "truncated" / "pt_meta.json").write_text(manifest[:40], encoding="utf-8")
        replace_json(self.folder / "future" / "pt_meta.json", {**self.index.meta(), "format_version": 99})
        codes = next((self.folder / "flipped").rglob("codes.*"))
        content = bytearray(codes.read_bytes())
        content[-1] ^= 1
        codes.write_bytes(content)

    def indexer(self, name: str = "new", **settings: object) -> pj.JaColBERTIndexer:
        """Returns an indexer for a path in the folder."""
        return pj.JaColBERTIndexer(self.folder / name, self.model, **settings)

    def content(self) -> dict[str, bytes]:
        """Returns the content of the folder by relative path; locks do not count."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes() if path.is_file() else b""
            for path in self.folder.rglob("*")
            if path.name != ".lock"
        }


def interrupted(docs: list[dict[str, str]]) -> Iterator[dict[str, str]]:
    """Yields some documents and fails."""
    yield from docs[:5]
    raise InterruptedError


def command(line: str) -> Callable[[Workspace], None]:
    """Returns a function that runs a command and raises the error that the command prints."""

    def run(_: Workspace) -> None:
        stderr = io.StringIO()
        with contextlib.redirect_stderr(stderr):
            assert main(line.split()) == 1
        # Progress bars go to stderr, too.
        (message,) = re.findall(r"^pyterrier-jacolbert: (.*)$", stderr.getvalue(), re.MULTILINE)
        raise CommandError(message)

    return run


def without(package: str, function: Callable[[Workspace], object]) -> Callable[[Workspace], object]:
    """Returns a function that runs another as if a package were not installed."""

    def run(workspace: Workspace) -> object:
        # In a thread of its own, because analyzers that are loaded already are cached per thread.
        with mock.patch.dict("sys.modules", {package: None}), ThreadPoolExecutor(1) as pool:
            return pool.submit(function, workspace).result()

    return run


def delete_while_locked(workspace: Workspace) -> None:
    with writing(workspace.index.path):
        pj.JaColBERTIndex(workspace.index.path, workspace.model).delete(["d1"])


INDEXER = (pj.JaColBERTIndexer,)
SETTINGS = [
    Mistake("boolean n_candidates", lambda w: w.index.retriever(n_candidates=True), "n_candidates ... True"),
    Mistake("unknown quality", lambda w: w.index.retriever(quality="best"), "quality ... 'best' ... 'fast'"),
    Mistake("no results", lambda w: w.bm25.retriever(num_results=0), "num_results ... 0"),
    Mistake("negative beta", lambda w: w.index.prf(beta=-1), "beta ... -1"),
    Mistake("unknown dtype", lambda w: w.index.torch_retriever(dtype="int4"), "dtype ... 'int4' ... 'int8'"),
    Mistake("a string of docnos", lambda w: pipeline.Retriever(w.index, docnos="d1"), "docnos ... 'd1'"),
    Mistake("unknown precision", lambda w: pj.JaColBERT(dtype="float8"), "dtype ... 'float8' ... 'bfloat16'"),
    Mistake("short query_length", lambda w: pj.JaColBERT(query_length=2), "query_length ... 2"),
    Mistake("missing checkpoint", lambda w: pj.JaColBERT("./none"), "'./none'", FileNotFoundError),
    Mistake("number as checkpoint", lambda w: pj.JaColBERT(42), "model ... int"),
    Mistake("unknown mode", lambda w: w.indexer(mode="replace"), "mode ... 'replace' ... 'overwrite'"),
    Mistake("unknown compression", lambda w: w.indexer(compression="3bit"), "compression ... '3bit' ... '4bit'"),
    Mistake("pooling below 1", lambda w: w.indexer(pool_factor=0.5), "pool_factor ... 0.5"),
    Mistake("short passages", lambda w: w.model.passages(length=7), "length ... 7"),
    Mistake("negative k1", lambda w: pj.JapaneseBM25("bm25", k1=-1), "k1 ... -1"),
    Mistake("unknown analyzer", lambda w: japanese.tokenize("山", "juman"), "analyzer ... 'juman' ... 'mecab'"),
]
DOCUMENTS = [
    Mistake(
        "no text field",
        lambda w: w.indexer().index([{"docno": "d9", "body": "山"}]),
        "'text' ... 'd9' ... body",
        InvalidInput,
    ),
    Mistake("repeated docno", lambda w: w.indexer().index([*w.docs, w.docs[0]]), "'d1' ... positions 0 and 8"),
    Mistake("integer docno", lambda w: w.indexer().index([{"docno": 1, "text": "山"}]), "docno ... position 0 ... int"),
    Mistake("text of None", lambda w: w.indexer().index([{"docno": "d9", "text": None}]), "text ... 'd9'"),
    Mistake("lone surrogate", lambda w: w.indexer().index([{"docno": "d9", "text": "\ud800"}]), "'d9' ... U+D800"),
    Mistake("no documents", lambda w: w.indexer().index([]), "no documents"),
    Mistake("path as documents", lambda w: w.indexer().index("docs.jsonl"), "str"),
    Mistake("vectors of 1 dimension", lambda w: w.indexer().index([{"docno": "d9", "doc_embs": np.ones(8)}]), "'d9'"),
]
PATHS = [
    Mistake(
        "existing path", lambda w: w.indexer("index").index(w.docs), "{folder}/index", FileExistsError, subjects=INDEXER
    ),
    Mistake(
        "existing BM25 index",
        lambda w: w.bm25.index(w.docs),
        "{folder}/bm25",
        FileExistsError,
        subjects=(pj.JapaneseBM25.index,),
    ),
    Mistake(
        "overwriting a folder of photos",
        lambda w: w.indexer("photos", mode="overwrite").index(w.docs),
        "{folder}/photos",
        FileExistsError,
        subjects=INDEXER,
    ),
    Mistake(
        "appending to nothing",
        lambda w: w.indexer(mode="append").index(w.docs),
        "{folder}/new",
        FileNotFoundError,
        subjects=INDEXER,
    ),
    Mistake(
        "interrupted build",
        lambda w: w.indexer("interrupted").index(w.docs),
        "{folder}/interrupted",
        FileExistsError,
        subjects=INDEXER,
    ),
    Mistake(
        "other documents on resuming",
        lambda w: w.indexer("interrupted", mode="resume", batch_documents=2).index(w.docs[1:]),
        "position 0",
        subjects=INDEXER,
    ),
    Mistake(
        "missing index",
        lambda w: pj.JaColBERTIndex("none", w.model).retriever()(w.topics),
        "none",
        FileNotFoundError,
        subjects=INDEXER,
    ),
    Mistake("BM25 index as JaColBERTIndex", lambda w: len(pj.JaColBERTIndex("bm25")), "bm25 ... sparse_index.jabm25"),
    Mistake(
        "JaColBERTIndex as BM25 index",
        lambda w: pj.JapaneseBM25("index").retriever()(w.topics),
        "index ... multivec_index.jacolbert",
    ),
    Mistake("truncated manifest", lambda w: len(pj.JaColBERTIndex("truncated")), "truncated/pt_meta.json"),
    Mistake("later format version", lambda w: len(pj.JaColBERTIndex("future")), "future ... 99"),
    Mistake("flipped bit", lambda w: pj.JaColBERTIndex("flipped").verify(), "flipped ... codes."),
    Mistake("locked index", delete_while_locked, "{folder}/index ... process", BlockingIOError),
    Mistake(
        "local folder that is a file",
        lambda w: datasets.use_local(w.folder / "docs.jsonl"),
        "docs.jsonl",
        NotADirectoryError,
    ),
]
INDEXES = [
    Mistake("no stored text", lambda w: w.index.text_loader(), "{folder}/index", subjects=INDEXER),
    Mistake("appending a known docno", lambda w: w.index.append(w.docs[:1]), "'d1' ... {folder}/index"),
    Mistake("deleting an unknown docno", lambda w: w.index.delete(["d1", "nowhere"]), "'nowhere' ... {folder}/index"),
    Mistake(
        "merging different compressions",
        lambda w: pj.JaColBERTIndex.merge(["index", "float16"], "new"),
        "'int8' ... 'float16'",
        subjects=INDEXER,
    ),
    Mistake(
        "merging into an index",
        lambda w: pj.JaColBERTIndex.merge([w.index.path], "shards"),
        "shards",
        FileExistsError,
    ),
    Mistake(
        "replacing an unknown shard", lambda w: w.shards.replace_shard(9, w.docs), "{folder}/shards ... 9", IndexError
    ),
    Mistake("encoding shard 3 of 2", lambda w: w.indexer().index_shard(w.docs, 3, 2), "3 of 2"),
    Mistake(
        "too many shards", lambda w: w.indexer().index_shard(w.docs, 1, 2), "8 documents ... 2048", subjects=INDEXER
    ),
    Mistake(
        "no shards to join", lambda w: pj.ShardedIndex.join(w.folder / "photos"), "{folder}/photos", FileNotFoundError
    ),
    Mistake("explaining an unknown docno", lambda w: w.index.explain("山", "nowhere"), "'nowhere'"),
    Mistake(
        "explaining without text",
        lambda w: w.index.explain("山", "d1"),
        "{folder}/index",
        subjects=(pj.JaColBERTIndexer, pj.JaColBERTIndex.explain),
    ),
]
FRAMES = [
    Mistake("no query column", lambda w: w.bm25.retriever()(w.topics[["qid"]]), "query", InvalidInput),
    Mistake("integer qid", lambda w: w.index.retriever()(w.topics.assign(qid=1)), "'qid' ... integer"),
    Mistake("query of None", lambda w: w.index.retriever()(w.topics.assign(query=None)), "query ... '1'"),
    Mistake("two queries per qid", lambda w: w.index.retriever()(w.topics.assign(qid="1")), "'1'"),
    Mistake(
        "vectors of 8 dimensions",
        lambda w: w.index.retriever()(w.topics.assign(query_embs=[np.ones((2, 8))] * 2)),
        "8 ... 128 ... {folder}/index",
    ),
    Mistake(
        "flat query_embs",
        lambda w: w.index.retriever()(w.topics.assign(query_embs=[np.ones(128)] * 2)),
        "'1' ... (128,)",
    ),
    Mistake(
        "unknown docno", lambda w: w.index.scorer()(w.ranking.assign(docno="nowhere")), "'nowhere' ... {folder}/index"
    ),
    Mistake(
        "a string as allowed_docnos",
        lambda w: w.index.retriever()(w.topics.assign(allowed_docnos="d1")),
        "allowed_docnos ... 'd1'",
    ),
    Mistake(
        "checkpoint of other dimensions",
        lambda w: pj.JaColBERTIndex("vectors", w.model).retriever()(w.topics),
        "128 ... 8 ... vectors",
    ),
    Mistake(
        "no named checkpoint",
        lambda w: pj.JaColBERTIndex("vectors").retriever()(w.topics),
        "vectors",
        subjects=(pj.JaColBERTIndex,),
    ),
]
OTHERS = [
    Mistake(
        "unknown dataset",
        lambda w: datasets.JaColBERTDatasetProvider().get_dataset("jsqaud"),
        "'jsqaud' ... jsquad",
        KeyError,
    ),
    Mistake("unknown task", lambda w: evaluation.protocol_of("jsqaud"), "'jsqaud' ... jsquad"),
    Mistake(
        "unknown recipe setting",
        lambda w: train.Recipe.read("recipe.yaml"),
        "recipe.yaml ... 'lerning_rate' ... 'learning_rate'",
    ),
    Mistake("missing recipe", lambda w: train.Recipe.read("none.yaml"), "none.yaml", FileNotFoundError),
    Mistake("unknown stage", lambda w: train.Recipe.jacolbert_v2_5().stage("third"), "'third'", KeyError),
    Mistake(
        "examples of one document",
        lambda w: train.mine(w.bm25.retriever(), w.topics, w.ranking, n_ways=1),
        "n_ways ... 1",
    ),
    Mistake(
        "unknown normalisation",
        lambda w: train.ensemble(w.bm25.scorer(), normalize="max"),
        "normalize ... 'max' ... minmax",
    ),
    Mistake(
        "without Ray", without("ray", lambda w: w.indexer(executor=RayExecutor()).index(w.docs)), "Ray", ImportError
    ),
    Mistake(
        "without SudachiPy", without("sudachipy", lambda w: japanese.tokenize("山", "sudachi")), "sudachi", ImportError
    ),
    Mistake(
        "without matplotlib", without("matplotlib", lambda w: plots.plot_lengths(w.index)), "matplotlib", ImportError
    ),
]
COMMANDS = [
    Mistake(line, command(line), named, CommandError, INDEXER)
    for line, named in [
        ("search none 山", "none"),
        ("index none.jsonl new --model mini", "none.jsonl"),
        ("index bad.jsonl new --model mini", "bad.jsonl, line 2"),
        ("index docs.jsonl index --model mini", "index"),
        ("index docs.jsonl new --text-field body", "'body' ... 'd1'"),
        ("index docs.jsonl new --compression 3bit", "'3bit'"),
        ("index docs.jsonl new --shard one", "--shard ... 'one'"),
        ("delete index nowhere", "'nowhere'"),
        ("stats bm25", "bm25 ... sparse_index.jabm25"),
        ("verify flipped", "flipped ... codes."),
        ("merge photos", "photos"),
        ("evaluate mini --tasks jsqaud", "'jsqaud' ... jsquad"),
        ("evaluate mini --protocol new", "'new' ... corrected"),
        ("train recipe.yaml", "recipe.yaml ... 'lerning_rate'"),
        ("plan --documents 0 --mean-tokens 9", "--documents"),
    ]
]
MISTAKES = [*SETTINGS, *DOCUMENTS, *PATHS, *INDEXES, *FRAMES, *OTHERS, *COMMANDS]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, model, docs):
    return Workspace(tmp_path_factory.mktemp("workspace"), model, docs)


@pytest.mark.parametrize("mistake", [pytest.param(mistake, id=mistake.description) for mistake in MISTAKES])
def test_mistake_is_explained_and_changes_nothing(mistake, workspace, monkeypatch):
    monkeypatch.chdir(workspace.folder)
    before = workspace.content()
    with pytest.raises(mistake.error) as caught:
        mistake.make(workspace)
    message = str(caught.value)
    for text in mistake.named.split(" ... "):
        assert text.format(folder=workspace.folder) in message
    assert "\n" not in message
    # The text of a KeyError is quoted, and PyTerrier adds the missing columns to its own.
    text = str(caught.value.args[0]) if isinstance(caught.value, KeyError) else message
    assert remedies_that_do_not_exist(text, mistake.subjects) == []
    assert workspace.content() == before


@pytest.mark.parametrize(
    "message",
    [
        "Replace it with mode='overwrite'.",
        "Repeat it with --mood overwrite.",
        "Run pyterrier-jacolbert marge.",
        "Run pip install 'pyterrier-jacolbert[gpu]'.",
        "Sudachi is missing; pip install sudachypi",
        "Encode them with model.encode_everything().",
        "Encode them with JaColBERTIndexer.index_shards.",
    ],
)
def test_remedies_that_do_not_exist_are_detected(message):
    assert len(remedies_that_do_not_exist(message, (pj.JaColBERTIndex.explain,))) == 1

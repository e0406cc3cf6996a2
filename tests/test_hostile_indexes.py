"""An index of a stranger is damaged in one clear sentence: nothing of it is mapped, followed, run or believed."""

import io
import os
import shutil
import zlib

import hostile
import numpy as np
import pandas as pd
import pytest
from conformance import contents

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.artifacts.open import open_index
from pyterrier_jacolbert.index import builder
from pyterrier_jacolbert.index.checks import open_arrays
from pyterrier_jacolbert.index.storage.atomic import META_FILE
from pyterrier_jacolbert.index.storage.layout import column_layouts, parameter_layouts

DIM = 16
KINDS = ("int8", "4bit", "float16", "text", "shards")
DAMAGED = "damaged.*; build or fetch (it|the index) again"


def documents(numbers):
    def rows(number):
        found = np.random.default_rng(number).standard_normal((1 + number % 5, DIM))
        return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)

    return [{"docno": f"文書{i}", "doc_embs": rows(i), "text": f"{i}番目"} for i in numbers]


def queries():
    return pd.DataFrame({"qid": ["1", "2"], "query_embs": [documents([i])[0]["doc_embs"] for i in (3, 9)]})


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Folder with a sound index of each kind."""
    folder = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyterrier_jacolbert.index.codecs.training.INT8_CENTROIDS_TOKENS", 1)
        for kind in KINDS:
            settings = {"compression": kind if kind in ("4bit", "float16") else "int8", "n_centroids": 4}
            settings |= {"store_text": kind == "text", "batch_documents": 8}
            if kind == "shards":
                index = pj.ShardedIndex(folder / kind, "somebody/unused")
                index.index(documents(range(24)), documents_per_shard=8, **settings)
            else:
                index = pj.JaColBERTIndexer(folder / kind, "somebody/unused", **settings).index(documents(range(24)))
            index.delete(["文書3", "文書11"])
    return folder


@pytest.fixture
def copy_of(sound, tmp_path):
    """Returns the path of a copy of a sound index."""

    def copy(kind):
        shutil.copytree(sound / kind, tmp_path / kind)
        return tmp_path / kind

    return copy


def assert_damaged(path, match=DAMAGED):
    """Checks that every way to open an index says that it is damaged."""
    for use in (
        lambda index: index.token_vectors(),
        lambda index: index.verify(),
        lambda index: index.append(documents([90])),
        lambda index: index.delete(["文書1"]),
        lambda index: index.compact(),
        lambda index: pj.JaColBERTIndex.merge([index.path], index.path.with_name("merged")),
    ):
        index = (pj.ShardedIndex if "shards" in path.name else pj.JaColBERTIndex)(path, "somebody/unused")
        with pytest.raises(ValueError, match=match):
            use(index)


def set_in(values, place, value):
    *parents, last = place.split(".")
    for name in parents:
        values = values[int(name) if isinstance(values, list) else name]
    values[int(last) if isinstance(values, list) else last] = value


@pytest.mark.parametrize("kind", KINDS)
def test_sound_index_passes_every_check(copy_of, kind):
    index = open_index(copy_of(kind), "somebody/unused")
    index.verify()
    assert len(index.retriever()(queries())) == 44
    index.append(documents([90])).compact()
    index.verify()


FIELDS = {
    "model": [3, "name", {"model": 3}, {"model": "a", "command": "b"}, {"query_length": True}],
    "settings": [None, {}, [], {"text_field": "a"}],
    "settings.store_text": [1, "no", None],
    "settings.pool_factor": [float("nan"), 0, True, "2"],
    "settings.text_field": [None, 3],
    "compression": ["zip", None, 8, ["int8"]],
    "documents": [23.0, True, "24", -1, 2**40, None, 25],
    "tokens": [1.5, True, -1, 2**70, 71, None],
    "dim": [0, -16, 16.0, True, 2**31, None, 32],
    "parameters": [None, "centroids", [3], ["centroids", "centroids"], [], ["rotation"], {}],
    "generation": [0, -1, 1.5, True, "3", 2**63],
    "package_version": [None, 3],
    "files": [None, [], {}, "x"],
    "files.starts": [None, [], {}, {"file": "data-1/starts.i8"}],
    "files.starts.file": [None, 3, "", "starts.i8", "data-1/../x", "/etc/passwd", "data-1//x", "../x", "data-1/.x"],
    "files.starts.dtype": ["<i4", "O", "|O", "<f8", None, 3, "<i8,<i8", "|V8", ">i8"],
    "files.starts.shape": [None, 25, [], [26], [24], [25, 1], [25.0], [True], [-25], [2**62], [25, 1, 1], ["25"]],
    "files.starts.rest": [None, 3, "zz", "0" * 15, "é" * 16],
    "files.codes.shape": [[10, 16], [71, 8], [71]],
    "training": [3, [], {"tokens": 3}],
    "training.error": [float("nan"), float("inf"), -1, True, None],
    "training.tokens": [-1, True, 0.5, None],
    "training.seed": [-1, True, "0"],
    "training.n_centroids": [0, 2**17, True],
    "files.evil": [{"file": "data-1/evil", "dtype": "|u1", "shape": [0], "rest": ""}],
}


@pytest.mark.parametrize("place", FIELDS)
def test_field_of_another_type_or_value_is_damage(copy_of, place):
    path = copy_of("int8")
    before = contents(path)
    for value in FIELDS[place]:
        with hostile.changed_manifest(path) as manifest:
            set_in(manifest, place, value)
        with pytest.raises(ValueError, match=DAMAGED) as error:
            pj.JaColBERTIndex(path).token_vectors()
        assert META_FILE in str(error.value), value
        with pytest.raises(ValueError, match=DAMAGED):
            pj.JaColBERTIndex(path, "somebody/unused").append(documents([90]))
        (path / META_FILE).write_bytes(next(text for name, text in before.items() if name.name == META_FILE))
    assert contents(path) == before


@pytest.mark.parametrize("field", ["type", "format", "format_version", "documents", "files", "settings"])
def test_missing_field_is_one_sentence(copy_of, field):
    path = copy_of("int8")
    with hostile.changed_manifest(path) as manifest:
        del manifest[field]
    with pytest.raises(ValueError, match=r"damaged|not a multivec_index|format version") as error:
        pj.JaColBERTIndex(path).token_vectors()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": "\\ud800", "digest": ""}', "1" * 5000, '{"digest": NaN}', ""])
def test_manifest_that_json_cannot_hold_is_damage(copy_of, text):
    path = copy_of("int8")
    (path / META_FILE).write_text(text, encoding="utf-8")
    assert_damaged(path)


@pytest.mark.parametrize("kind", ["int8", "shards"])
def test_two_arrays_in_one_file_are_damage(copy_of, kind):
    path = copy_of(kind)
    with hostile.changed_manifest(path) as manifest:
        manifest["files"]["docno_ranks"]["file"] = manifest["files"]["docno_by_hash"]["file"]
    assert_damaged(path, "names 'data-1/docno_by_hash.u4' twice")


SHARD_FIELDS = {
    "shards": [[], None, {}, [3]],
    "shards.0.folder": ["../other", "shards-1/0002", "/tmp", "shards-1", "shards-1/../x", "shards-1/0001/", 3],
    "shards.0.documents": [7, True, -8, 2**40],
    "shards.0.tokens": [1, None],
    "shards.0.digest": ["", 3, "0123"],
    "documents": [23, 25],
    "tokens": [1],
    "compression": ["4bit"],
    "dim": [8],
    "parameters": [[]],
}


@pytest.mark.parametrize("place", SHARD_FIELDS)
def test_field_of_a_sharded_index_that_does_not_fit_is_damage(copy_of, place):
    path = copy_of("shards")
    sound = (path / META_FILE).read_bytes()
    for value in SHARD_FIELDS[place]:
        with hostile.changed_manifest(path) as manifest:
            set_in(manifest, place, value)
        with pytest.raises(ValueError, match=DAMAGED):
            pj.ShardedIndex(path).token_vectors()
        (path / META_FILE).write_bytes(sound)


def test_shards_of_different_codecs_are_damage(copy_of):
    path = copy_of("shards")
    shard = path / "shards-1" / "0002"
    centroids = hostile.array_of(shard, "centroids")
    hostile.write_array_of(shard, "centroids", np.concatenate([centroids, centroids]))
    assert_damaged(path, "other parameters of the codec")


@pytest.mark.parametrize("kind", KINDS)
def test_file_of_another_length_is_damage(copy_of, kind):
    path = copy_of(kind)
    for file in sorted(path.rglob("data-1/*")):
        if file.suffix == ".sums" or not file.stat().st_size:
            continue
        content = file.read_bytes()
        file.write_bytes(content[:-1])
        with pytest.raises(ValueError, match=DAMAGED):
            open_index(path).token_vectors()
        file.write_bytes(content + b"\0")
        grows = file.name.startswith(
            ("starts", "docno_bytes", "docno_starts", "text", "codes", "scales", "centroid_ids")
        )
        if grows or file.name.startswith(("vectors", "residuals", "gains", "raw", "digests")):
            open_index(path).token_vectors()  # as while a writer appends
        else:
            with pytest.raises(ValueError, match=DAMAGED):
                open_index(path).token_vectors()
        file.write_bytes(content)
    open_index(path).token_vectors()


def change(**changes):
    """Returns a function that changes single values of an array."""

    def changed(values):
        for place, value in changes.items():
            values[tuple(map(int, place[1:].split("_")))] = value
        return values

    return changed


CONTENTS = {
    "starts that descend": ("int8", "starts", change(_5=3)),
    "starts from 1": ("int8", "starts", change(_0=1)),
    "starts beyond the tokens": ("int8", "starts", change(_24=10**6)),
    "negative starts": ("int8", "starts", change(_1=-5)),
    "docno_starts that descend": ("int8", "docno_starts", change(_5=3)),
    "docno_starts within a character": ("int8", "docno_starts", lambda values: np.append(values[:1], values[1:] - 1)),
    "docnos that are not UTF-8": ("int8", "docno_bytes", change(_0=255)),
    "docnos that end within a character": ("int8", "docno_bytes", change(_167=0xE3)),
    "text_starts beyond the texts": ("text", "text_starts", change(_24=10**9)),
    "hashes that do not ascend": ("int8", "docno_hashes", lambda values: values[::-1]),
    "docids of hashes out of range": ("int8", "docno_by_hash", change(_3=24)),
    "docids of hashes twice": ("int8", "docno_by_hash", lambda values: np.zeros_like(values)),
    "ranks out of range": ("int8", "docno_ranks", change(_3=2**32 - 1)),
    "ranks twice": ("shards", "docno_ranks", lambda values: np.zeros_like(values)),
    "deleted out of range": ("int8", "deleted", change(_1=24)),
    "deleted twice": ("int8", "deleted", lambda values: values[[0, 0]]),
    "deleted of shards out of range": ("shards", "deleted", change(_1=2**32 - 1)),
    "centroids that are not finite": ("4bit", "centroids", change(_1_1=np.inf)),
    "no centroids": ("int8", "centroids", lambda values: values[:0]),
    "centroids of other dimensions": ("int8", "centroids", lambda values: values[:, :8]),
    "a rotation that is none": ("4bit", "rotation", change(_1_1=1e30)),
    "a rotation that is not finite": ("4bit", "rotation", change(_1_1=np.nan)),
    "negative deviations": ("4bit", "spreads", change(_1=-1)),
    "infinite deviations": ("4bit", "spreads", change(_1=np.inf)),
    "levels that descend": ("4bit", "levels", lambda values: values[::-1]),
    "levels of other bits": ("4bit", "levels", lambda values: values[:4]),
    "ranges of factors that overflow": ("4bit", "gain_range", change(_0_1=800)),
    "ranges of factors that are not finite": ("4bit", "gain_range", change(_1_0=np.nan)),
    "vectors of another type": ("float16", "vectors", lambda values: values.astype(np.float32)),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_array_that_kernels_cannot_trust_is_damage(copy_of, name):
    kind, array, changed = CONTENTS[name]
    path = copy_of(kind)
    hostile.write_array_of(path, array, np.ascontiguousarray(changed(hostile.array_of(path, array))))
    assert_damaged(path)


@pytest.mark.parametrize("kind", KINDS)
def test_table_of_arrays_is_what_the_codecs_write(sound, kind):
    reader = open_index(sound / kind).token_vectors()
    layouts = column_layouts(reader.codec.compression, with_centroids="centroids" in reader.parameters)
    assert {name: column.dtype for name, column in reader.codec.columns.items()} == {
        name: layout.dtype for name, layout in layouts.items()
    }
    parameters = parameter_layouts(reader.codec.compression, with_centroids="centroids" in reader.parameters)
    assert parameters.keys() == reader.parameters.keys()


@pytest.fixture(scope="module")
def sound_bm25(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "bm25"
    return pj.JapaneseBM25(path).index([{"docno": f"文書{i}", "text": f"山が{i}つ、川が{i % 3}本"} for i in range(12)])


@pytest.fixture
def bm25(sound_bm25, tmp_path):
    """Path of a copy of a BM25 index."""
    shutil.copytree(sound_bm25.path, tmp_path / "bm25")
    return tmp_path / "bm25"


def npy(values):
    """Returns the bytes of an array in numpy's format."""
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def stored(path, name):
    return np.load(io.BytesIO(hostile.array_of(path, name).tobytes()))


def set_bytes(path, name, content):
    hostile.write_array_of(path, name, np.frombuffer(content, dtype=np.uint8))


BM25_FILES = {
    "documents out of range": ("indices.csc.index.npy", lambda values: npy(np.full_like(values, 12))),
    "negative documents": ("indices.csc.index.npy", lambda values: npy(np.full_like(values, -1))),
    "documents of another type": ("indices.csc.index.npy", lambda values: npy(values.astype(np.float32))),
    "words that descend": ("indptr.csc.index.npy", lambda values: npy(values[::-1].copy())),
    "words beyond the scores": ("indptr.csc.index.npy", lambda values: npy(values + 5)),
    "no words": ("indptr.csc.index.npy", lambda values: npy(values[:0])),
    "scores that are not finite": ("data.csc.index.npy", lambda values: npy(values * np.nan)),
    "scores in a matrix": ("data.csc.index.npy", lambda values: npy(values[:, None])),
    "fewer scores": ("data.csc.index.npy", lambda values: npy(values[:-1])),
    "a header that is evaluated": ("data.csc.index.npy", lambda values: npy(values).replace(b"False", b"1or 0")),
    "a header that never ends": ("data.csc.index.npy", lambda values: b"\x93NUMPY\x01\x00\xff\xff" + b" " * 40),
    "an array that is cut": ("data.csc.index.npy", lambda values: npy(values)[:-1]),
    "nothing": ("data.csc.index.npy", lambda _: b""),
    "words without numbers": ("vocab.index.json", lambda _: b'{"a": "b"}'),
    "words out of range": ("vocab.index.json", lambda _: '{"山": 100000}'.encode()),
    "words with one number": ("vocab.index.json", lambda _: '{"山": 0, "川": 0}'.encode()),
    "words with true": ("vocab.index.json", lambda _: '{"山": true}'.encode()),
    "a list of words": ("vocab.index.json", lambda _: b"[]"),
    "words in other bytes": ("vocab.index.json", lambda _: b"\xff"),
    "words too deep": ("vocab.index.json", lambda _: b"[" * 100_000),
    "no parameters": ("params.index.json", lambda _: b"{}"),
    "another method": ("params.index.json", lambda _: b'{"method": "bm25+", "num_docs": 12, "k1": 1.2, "b": 0.75}'),
}


@pytest.mark.parametrize("name", BM25_FILES)
def test_file_of_bm25_that_cannot_be_trusted_is_damage(bm25, name):
    file, changed = BM25_FILES[name]
    set_bytes(bm25, file, changed(stored(bm25, file) if file.endswith(".npy") else None))
    for use in (lambda index: index.retriever().search("山"), lambda index: index.verify()):
        with pytest.raises(ValueError, match=DAMAGED):
            use(pj.JapaneseBM25(bm25))


BM25_FIELDS = {
    "documents": [11, 13, True, -1, "12", None],
    "k1": ["1", -1, float("inf"), None, 1.5],
    "b": [2, True],
    "analyzer": ["evil", 3, None],
    "normalize": ["kanji", ["evil"], [3]],
    "tokenizer": [None, {"a": 1}],
    "text_field": [None, 3],
    "generation": [0, True],
    "files": [{}, None],
    "files.docno_ranks.shape": [[11], [12, 1]],
    "files.docno_ranks.file": ["../x", "data-1/../x", "/etc/passwd", "pt_meta.json"],
    "files.corpus": [{"file": "data-1/corpus.jsonl", "dtype": "|u1", "shape": [0], "rest": ""}],
}


@pytest.mark.parametrize("place", BM25_FIELDS)
def test_field_of_bm25_of_another_type_or_value_is_damage(bm25, place):
    sound = (bm25 / META_FILE).read_bytes()
    for value in BM25_FIELDS[place]:
        with hostile.changed_manifest(bm25) as manifest:
            set_in(manifest, place, value)
        for use in (lambda index: index.retriever().search("山"), lambda index: index.verify()):
            with pytest.raises(ValueError, match=DAMAGED):
                use(pj.JapaneseBM25(bm25))
        (bm25 / META_FILE).write_bytes(sound)


@pytest.mark.parametrize("name", ["data.csc.index.npy", "docno_ranks", "params.index.json"])
def test_no_link_of_bm25_is_followed(bm25, tmp_path, name):
    outside, before = watched(tmp_path)
    file = bm25 / pj.JapaneseBM25(bm25).meta()["files"][name]["file"]
    shutil.copy(file, outside / "diary.txt")
    before = contents(outside)
    hostile.replace_by_link(file, outside / "diary.txt")
    for use in (
        lambda index: index.retriever().search("山"),
        lambda index: index.verify(),
        lambda index: index.build_package(str(tmp_path / "package.tar.lz4"), verbose=False),
    ):
        with pytest.raises(ValueError, match="symbolic link.*damaged"):
            use(pj.JapaneseBM25(bm25))
    pj.JapaneseBM25(bm25).index([{"docno": "d", "text": "山"}], mode="overwrite")
    assert contents(outside) == before


TEXTS = {
    "a bomb": zlib.compress(bytes(2**16 + 1)),
    "no stream": b"text",
    "half a stream": zlib.compress(b"text" * 100)[:-6],
    "two streams": zlib.compress(b"text") + zlib.compress(b"text"),
    "other bytes": zlib.compress(b"\xff"),
    "nothing": b"",
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_that_is_not_what_was_stored_is_damage(copy_of, name):
    path = copy_of("text")
    values, starts = hostile.array_of(path, "text_bytes"), hostile.array_of(path, "text_starts")
    content = TEXTS[name]
    changed = np.concatenate([np.frombuffer(content, dtype=np.uint8), values[starts[1] :]])
    hostile.write_array_of(path, "text_bytes", changed)
    hostile.write_array_of(path, "text_starts", np.append(0, starts[1:] - starts[1] + len(content)))
    with hostile.changed_manifest(path) as manifest:
        manifest["max_text_bytes"] = 2**16
    index = pj.JaColBERTIndex(path)
    with pytest.raises(ValueError, match="The text of document '文書0' is damaged"):
        index.text_loader()(pd.DataFrame({"docno": ["文書5", "文書0"]}))
    assert index.text_loader()(pd.DataFrame({"docno": ["文書5"]}))["text"].tolist() == ["5番目"]


def test_bound_of_texts_is_kept_in_the_index(copy_of, monkeypatch, tmp_path):
    path = copy_of("text")
    assert pj.JaColBERTIndex(path).meta()["max_text_bytes"] == 2**26
    for value in (0, True, 2**26 + 1, "1"):
        with hostile.changed_manifest(path) as manifest:
            manifest["max_text_bytes"] = value
        with pytest.raises(ValueError, match=DAMAGED):
            pj.JaColBERTIndex(path).token_vectors()
    monkeypatch.setattr("pyterrier_jacolbert.building.encoding.MAX_TEXT_BYTES", 10)
    with pytest.raises(ValueError, match="'文書0' has 15 bytes.*split it into passages"):
        pj.JaColBERTIndexer(tmp_path / "i", "somebody/unused", store_text=True).index(
            [{**documents([0])[0], "text": "富士山と川"}]
        )


def test_vectors_of_too_many_dimensions_are_refused(tmp_path):
    with pytest.raises(ValueError, match="have 8193 dimensions, and an index stores at most 8192"):
        pj.JaColBERTIndexer(tmp_path / "i", "somebody/unused").index(
            [{"docno": "d", "doc_embs": np.ones((1, 8193), dtype=np.float32)}]
        )


@pytest.mark.parametrize("kind", ["int8", "4bit", "shards"])
def test_centroid_that_does_not_exist_is_damage(copy_of, kind):
    path = copy_of(kind)
    part = path / "shards-1" / "0002" if kind == "shards" else path
    hostile.write_array_of(part, "centroid_ids", change(_7=60_000)(hostile.array_of(part, "centroid_ids")))
    for use in (
        lambda index: index.retriever()(queries()),
        lambda index: index.exact_retriever()(queries()),
        lambda index: index.verify(),
    ):
        with pytest.raises(ValueError, match="names centroid 60000 of 4, so the index is damaged"):
            use(open_index(path))


@pytest.mark.parametrize("value", [np.inf, np.nan, -1.0])
def test_scale_that_no_vector_has_is_damage(copy_of, value):
    path = copy_of("int8")
    hostile.write_array_of(path, "scales", change(_7=value)(hostile.array_of(path, "scales")))
    for use in (lambda index: index.retriever()(queries()), lambda index: index.verify()):
        with pytest.raises(ValueError, match="A scale is not .*damaged"):
            use(open_index(path))


def watched(tmp_path):
    """Returns a folder of a stranger's, which looks like data of an index, and its content."""
    folder = tmp_path / "outside"
    (folder / "0001").mkdir(parents=True)
    for name in ("starts.i8", "diary.txt", "0001/letter.txt", "journal.json.new", "2.deleted.u4"):
        (folder / name).write_bytes(b"precious" * 100)
    return folder, contents(folder)


LINKS = {
    "an array": "data-1/starts.i8",
    "checksums": "data-1/starts.i8.sums",
    "the folder of arrays": "data-1",
    "another folder": "data-7",
    "a folder that begins": ".data-3.beginning",
    "the manifest that is written": "pt_meta.json.new",
    "the lock": ".lock",
    "the owner": ".owner",
    "the next table": "data-1/3.deleted.u4",
    "the checksums of the next table": "data-1/3.docno_ranks.u4.sums",
}


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("operation", ["append", "delete", "compact", "overwrite", "package"])
def test_no_link_is_followed_out_of_an_index(copy_of, tmp_path, name, operation):
    path, place = copy_of("int8"), LINKS[name]
    outside, before = watched(tmp_path)
    is_folder = "." not in place.removeprefix(".data-3.")
    hostile.replace_by_link(path / place, outside if is_folder else outside / "diary.txt")
    index = pj.JaColBERTIndex(path, "somebody/unused")
    try:
        if operation == "package":
            index.build_package(str(tmp_path / "package.tar.lz4"), verbose=False)
        elif operation == "overwrite":
            index.index(documents([1]), mode="overwrite", compression="float16")
        else:
            getattr(index, operation)(*{"append": [documents([90])], "delete": [["文書1"]]}.get(operation, []))
    except (ValueError, OSError) as error:
        assert "\n" not in str(error)  # noqa: PT017
    assert contents(outside) == before


@pytest.mark.parametrize("place", ["shards-7", "shards-1/0009", "shards-1/0002", "shards-1", "data-1"])
@pytest.mark.parametrize("operation", ["append", "delete", "compact"])
def test_no_link_is_followed_out_of_a_sharded_index(copy_of, tmp_path, place, operation):
    path = copy_of("shards")
    outside, before = watched(tmp_path)
    hostile.replace_by_link(path / place, outside)
    index = pj.ShardedIndex(path, "somebody/unused")
    try:
        getattr(index, operation)(*{"append": [documents([90])], "delete": [["文書1"]]}.get(operation, []))
    except (ValueError, OSError) as error:
        assert "\n" not in str(error)  # noqa: PT017
    assert contents(outside) == before


def test_pipe_in_place_of_a_file_is_damage(copy_of):
    path = copy_of("int8")
    for name in ("data-1/scales.f2", META_FILE):
        (path / name).unlink()
        os.mkfifo(path / name)
        with pytest.raises(ValueError, match=DAMAGED):
            pj.JaColBERTIndex(path).token_vectors()


@pytest.fixture
def interrupted(tmp_path, monkeypatch):
    """Path of a build that was interrupted while it compressed."""
    path = tmp_path / "interrupted"

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(builder, "encode_in_threads", stop)
        with pytest.raises(KeyboardInterrupt):
            build(path, "create")
    return path


def build(path, mode):
    settings = {"compression": "4bit", "n_centroids": 4, "mode": mode}
    return pj.JaColBERTIndexer(path, "somebody/unused", **settings).index(documents(range(24)))


def test_interrupted_build_resumes(interrupted):
    build(interrupted, "resume").verify()


JOURNAL_FIELDS = {
    "documents": [25, 23, True, -1, None],
    "dim": [None, 8, 0, True],
    "encoded": [1, None],
    "compression": ["zip", "int8", 3],
    "model": [3, {"command": "x"}],
    "settings": [None, {}],
    "settings.seed": [1.5, True],
    "arrays": [None, [], {}],
    "arrays.raw.file": ["../outside/diary.txt", "data-2/raw.f2", "raw.f2", "/etc/passwd", "data-1/starts.i8"],
    "arrays.raw.shape": [[10, 16], [0, 16], [71, 8]],
    "arrays.starts.shape": [[10], [0]],
    "arrays.evil": [{"file": "data-1/evil", "dtype": "|u1", "shape": [0], "rest": ""}],
    "parameters.centroids.file": ["../outside/diary.txt", "data-1/raw.f2"],
    "parameters.levels.shape": [[4], [0]],
    "origin": [None, 3],
    "evil": [1],
}


@pytest.mark.parametrize("place", JOURNAL_FIELDS)
def test_hostile_journal_is_damage(interrupted, tmp_path, place):
    outside, before = watched(tmp_path)
    sound, files = (interrupted / "data-1" / "journal.json").read_bytes(), contents(interrupted)
    for value in JOURNAL_FIELDS[place]:
        with hostile.changed_json(interrupted / "data-1" / "journal.json") as journal:
            set_in(journal, place, value)
        with pytest.raises(ValueError, match=DAMAGED):
            build(interrupted, "resume")
        (interrupted / "data-1" / "journal.json").write_bytes(sound)
    assert contents(outside) == before
    assert contents(interrupted) == files


@pytest.mark.parametrize("place", ["data-1/raw.f2", "data-1/raw.f2.sums", "data-1/journal.json", "data-1/residuals.u1"])
def test_no_link_is_followed_out_of_a_build(interrupted, tmp_path, place):
    outside, before = watched(tmp_path)
    hostile.replace_by_link(interrupted / place, outside / "diary.txt")
    with pytest.raises(ValueError, match="damaged"):
        build(interrupted, "resume")
    assert contents(outside) == before


def test_arrays_are_checked_before_any_is_mapped(copy_of, monkeypatch):
    path = copy_of("int8")
    file = path / "data-1" / "scales.f2"
    file.write_bytes(file.read_bytes()[:-1])

    def fail(*_, **__):
        raise AssertionError("mapped")

    monkeypatch.setattr(np, "memmap", fail)
    with pytest.raises(ValueError, match=DAMAGED):
        open_arrays(path, pj.JaColBERTIndex(path).manifest())

"""Indexes as a stranger may write them: changed manifests, journals and files, with right checksums."""

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np

from pyterrier_jacolbert.index.storage.arrays import GrowingArray, map_array
from pyterrier_jacolbert.index.storage.atomic import META_FILE, json_digest, replace_json
from pyterrier_jacolbert.index.storage.blocks import sums_file
from pyterrier_jacolbert.index.storage.manifest import ArrayEntry


def read_values(file):
    """Returns the values of a JSON file of an index, without the checksum."""
    content = json.loads(file.read_text(encoding="utf-8"))
    content.pop("digest")
    return content


@contextlib.contextmanager
def changed_json(file):
    """Yields the values of a JSON file of an index, and writes what the block made of them with a right checksum."""
    content = read_values(file)
    yield content
    replace_json(file, content)
    if file.parent.parent.name.startswith("shards-") and file.name == META_FILE:
        with changed_json(file.parents[2] / META_FILE) as whole:
            for shard in whole["shards"]:
                if shard["folder"] == file.parent.relative_to(file.parents[2]).as_posix():
                    shard["digest"] = json_digest(content)


def changed_manifest(path):
    """Changes the manifest of an index; see :func:`changed_json`."""
    return changed_json(Path(path) / META_FILE)


def array_of(path, name):
    """Returns a copy of an array of an index."""
    entry = ArrayEntry.from_json(read_values(Path(path) / META_FILE)["files"][name])
    return np.array(map_array(Path(path), entry))


def write_array_of(path, name, values):
    """Replaces an array of an index by another, with its entry and checksums."""
    path = Path(path)
    file = read_values(path / META_FILE)["files"].get(name, {}).get("file", f"data-1/{name}")
    for old in (path / file, path / sums_file(file)):
        old.unlink(missing_ok=True)
    growing = GrowingArray(path, file, values.dtype.str, values.shape[1:])
    growing.append(values)
    entry = growing.flush()
    growing.close()
    with changed_manifest(path) as manifest:
        manifest["files"][name] = entry.to_json()


def replace_by_link(path, target):
    """Replaces a file or folder by a symbolic link."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(target)

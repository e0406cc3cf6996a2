"""Random changes of indexes, with right checksums: no crash, nothing touched outside, and only clear errors."""

import json
import os
import signal

import hostile
import numpy as np
import pytest
from fuzz_indexes import BUILD, KINDS, Fuzzer, failures, summarize

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory):
    return Fuzzer(tmp_path_factory.mktemp("fuzz"), (*KINDS, BUILD))


def assert_safe(reports):
    assert failures(reports) == [], json.dumps(failures(reports)[:5], ensure_ascii=False)


@pytest.mark.parametrize("kind", [*KINDS, BUILD])
def test_changed_index_is_refused_or_read(fuzzer, kind):
    first = fuzzer.kinds.index(kind)
    assert_safe([fuzzer.run(first + len(fuzzer.kinds) * number) for number in range(2)])


def test_fuzzer_sees_what_it_looks_for(fuzzer, monkeypatch):
    def crash(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    def raise_elsewhere(*_):
        return {}["missing"]

    def write_outside(path):
        (fuzzer.outside / "diary.txt").write_text("overwritten")

    for function, found in ((crash, "crash"), (raise_elsewhere, "unclear"), (write_outside, "outside")):
        monkeypatch.setattr(fuzzer, "_operations", lambda _, function=function: {"retriever": (function, False)})
        report = fuzzer.run(0)
        assert report[found], found
        assert failures([report]) == [report]
    (fuzzer.outside / "diary.txt").write_bytes(b"precious" * 40)


def test_other_results_are_counted_as_silent(fuzzer, monkeypatch):
    def reverse(rng, part, outside):
        hostile.write_array_of(part, "vectors", np.ascontiguousarray(hostile.array_of(part, "vectors")[::-1]))
        return "reversed"

    monkeypatch.setattr("fuzz_indexes._change", reverse)
    report = fuzzer.run(KINDS.index("float16"))
    assert "retriever" in report["silent"]
    assert "1 changed results silently" in summarize([report])


@pytest.mark.exhaustive
def test_3000_changed_indexes_are_refused_or_read(tmp_path_factory):
    fuzzer = Fuzzer(tmp_path_factory.mktemp("fuzz"))
    reports = [fuzzer.run(seed) for seed in range(3000)]
    print(summarize(reports))
    assert_safe(reports)


@pytest.mark.exhaustive
def test_500_changed_builds_are_refused_or_resumed(tmp_path):
    fuzzer = Fuzzer(tmp_path, (BUILD,))
    assert_safe([fuzzer.run(seed) for seed in range(500)])

"""The plan: bytes by the format, times by a model of few terms, whose error is that of predicting the unseen."""

import json

import numpy as np
import pytest

from pyterrier_jacolbert import sizing
from pyterrier_jacolbert.cli import main
from pyterrier_jacolbert.index.limits import COMPRESSIONS
from pyterrier_jacolbert.plan import plan
from pyterrier_jacolbert.sizing import Size


def measured(documents, value, measure="search_ms", **more):
    size = {"documents": documents, "tokens": 100 * documents, "dim": 128, "compression": "4bit", "threads": 2}
    return {"measure": measure, "value": value, "source": "a test", **size, **more}


def test_the_model_predicts_what_grows_as_it_says():
    def milliseconds(documents):
        tokens = 100 * documents
        centroids = 2 ** min(16, int(np.log2(16 * np.sqrt(tokens))))
        probed = 1 - (1 - 8 * 24 / centroids) ** 100 if tokens >= 5_000_000 else 1
        return 2e-5 * (1000 * 100 + 2 * centroids) + 1e-9 * probed * tokens * np.sqrt(centroids)

    entries = [measured(n, milliseconds(n)) for n in (10_000, 50_000, 200_000)]
    found = sizing.predict(entries, "search_ms", Size(1_000_000, 100_000_000), "4bit")
    assert found[2].value == pytest.approx(milliseconds(1_000_000), rel=1e-3)
    assert found[2].measured == 20_000_000
    assert found[2].error == pytest.approx(0, abs=1e-6)
    wide = sizing.predict(entries, "search_ms", Size(1_000_000, 100_000_000, 256), "4bit")
    assert found[2].value < wide[2].value < 2 * found[2].value
    assert sizing.predict(entries, "search_ms", Size(1, 1), "int8") == {}


def test_the_error_is_how_far_the_largest_is_missed():
    entries = [measured(n, 4.0, "build_bytes") for n in (1000, 2000, 4000)]
    assert sizing.predict(entries, "build_bytes", Size(8000, 8), "4bit")[2].error == pytest.approx(0, abs=1e-6)
    entries[-1]["value"] = 5.0
    found = sizing.predict(entries, "build_bytes", Size(8000, 8), "4bit")[2]
    assert found.error == pytest.approx(0.2)
    assert sizing.predict(entries[:2], "build_bytes", Size(8000, 8), "4bit")[2].error is None


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_bytes_are_those_of_an_index(compression, tmp_path):
    import pyterrier_jacolbert as pj

    rows = np.random.default_rng(0).standard_normal((400, 10, 64)).astype(np.float32)
    docs = [{"docno": f"document-{i:07}", "doc_embs": vectors} for i, vectors in enumerate(rows)]
    index = pj.JaColBERTIndexer(tmp_path / "i", "somebody/unused", compression=compression).index(docs)
    stored = sum(
        np.prod(entry["shape"]) * np.dtype(entry["dtype"]).itemsize
        for name, entry in index.meta()["files"].items()
        if name not in ("rotation", "spreads", "levels", "gain_range")
    )
    assert sizing.disk_bytes(Size(400, 4000, 64), compression) == pytest.approx(stored, rel=0.02)
    building = sizing.disk_bytes_building(Size(400, 4000, 64), compression)
    assert building - sizing.disk_bytes(Size(400, 4000, 64), compression) == 400 * 8 + (
        4000 * 128 if "bit" in compression else 0
    )


def test_every_measurement_has_its_source():
    entries = sizing.measurements()
    assert all(entry["source"] and entry["value"] > 0 for entry in entries)
    assert all(entry["measure"] in (*sizing.TERMS, "encode", "recall_100", "bytes_per_token") for entry in entries)


def test_a_measurement_without_a_field_is_named(tmp_path):
    entry = measured(1, 1.0)
    del entry["threads"]
    (tmp_path / "m.json").write_text(json.dumps([entry]))
    with pytest.raises(ValueError, match="has no 'threads'"):
        sizing.measurements(tmp_path / "m.json")


def test_the_plan_names_every_compression_and_device():
    entries = [*sizing.measurements(), *(measured(n, n / 100) for n in (100, 200, 400))]
    text = plan(Size(7_000_000, 840_000_000), entries, 25.0, "mini")
    assert "7,000,000 documents of 120 tokens" in text
    assert "77.8 hours  this machine, mini, as measured now: 25.0 documents a second" in text
    assert all(f"\n{compression} " in text for compression in COMPRESSIONS)
    assert "ms ± " in text
    assert "not measured" in text
    assert "(2 threads)" in text


def test_the_command_measures_this_machine(capsys, monkeypatch):
    original = sizing.probe
    monkeypatch.setattr(sizing, "probe", lambda model, tokens: original(model, tokens, seconds=0.1))
    assert main(["plan", "--documents", "1000", "--mean-tokens", "50", "--model", "mini"]) == 0
    assert "hours  this machine, mini" in capsys.readouterr().out
    assert main(["plan", "--documents", "0", "--mean-tokens", "50", "--no-probe"]) == 1
    assert "must be more than 0" in capsys.readouterr().err

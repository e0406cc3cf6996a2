"""Capacity: bytes follow from the format; times follow from a model of few terms, with the error of its predictions."""

import json

import numpy as np
import pytest

from pyterrier_jacolbert import JaColBERTIndexer
from pyterrier_jacolbert.capacity import model as capacity
from pyterrier_jacolbert.capacity.model import Size
from pyterrier_jacolbert.capacity.report import plan
from pyterrier_jacolbert.cli import main
from pyterrier_jacolbert.index.limits import COMPRESSIONS


def measurement(documents, value, measure="search_ms", **others):
    size = {"documents": documents, "tokens": 100 * documents, "dim": 128, "compression": "4bit", "threads": 2}
    return {"measure": measure, "value": value, "source": "a test", **size, **others}


def test_predictions_follow_the_growth_of_the_model():
    def milliseconds(documents):
        tokens = 100 * documents
        centroids = 2 ** min(16, int(np.log2(16 * np.sqrt(tokens))))
        probed = 1 - (1 - 8 * 24 / centroids) ** 100 if tokens >= 5_000_000 else 1
        return 2e-5 * (1000 * 100 + 2 * centroids) + 1e-9 * probed * tokens * np.sqrt(centroids)

    entries = [measurement(n, milliseconds(n)) for n in (10_000, 50_000, 200_000)]
    predicted = capacity.predict(entries, "search_ms", Size(1_000_000, 100_000_000), "4bit")
    assert predicted[2].value == pytest.approx(milliseconds(1_000_000), rel=1e-3)
    assert predicted[2].measured == 20_000_000
    assert predicted[2].error == pytest.approx(0, abs=1e-6)
    wide = capacity.predict(entries, "search_ms", Size(1_000_000, 100_000_000, 256), "4bit")
    assert predicted[2].value < wide[2].value < 2 * predicted[2].value
    assert capacity.predict(entries, "search_ms", Size(1, 1), "int8") == {}


def test_error_is_that_of_predicting_the_largest():
    entries = [measurement(n, 4.0, "build_bytes") for n in (1000, 2000, 4000)]
    assert capacity.predict(entries, "build_bytes", Size(8000, 8), "4bit")[2].error == pytest.approx(0, abs=1e-6)
    entries[-1]["value"] = 5.0
    assert capacity.predict(entries, "build_bytes", Size(8000, 8), "4bit")[2].error == pytest.approx(0.2)
    assert capacity.predict(entries[:2], "build_bytes", Size(8000, 8), "4bit")[2].error is None


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_disk_bytes_are_those_of_an_index(compression, tmp_path):
    rows = np.random.default_rng(0).standard_normal((400, 10, 64)).astype(np.float32)
    docs = [{"docno": f"document-{i:07}", "doc_embs": vectors} for i, vectors in enumerate(rows)]
    index = JaColBERTIndexer(tmp_path / "i", "somebody/unused", compression=compression).index(docs)
    stored = sum(
        np.prod(entry["shape"]) * np.dtype(entry["dtype"]).itemsize
        for name, entry in index.meta()["files"].items()
        if name not in ("rotation", "spreads", "levels", "gain_range")
    )
    size = Size(400, 4000, 64)
    assert capacity.disk_bytes(size, compression) == pytest.approx(stored, rel=0.02)
    assert capacity.disk_bytes_building(size, compression) == capacity.disk_bytes(
        size, compression
    )  # keeps its vectors
    large = Size(400_000, 4_000_000, 64)
    while_building = capacity.disk_bytes_building(large, compression) - capacity.disk_bytes(large, compression)
    assert while_building == (4_000_000 * 128 if "bit" in compression else 0)


def test_every_measurement_has_a_source():
    entries = capacity.measurements()
    assert all(entry["source"] and entry["value"] > 0 for entry in entries)
    assert all(entry["measure"] in (*capacity.TERMS, "encode", "recall_100", "bytes_per_token") for entry in entries)


def test_missing_field_of_a_measurement_is_named(tmp_path):
    entry = measurement(1, 1.0)
    del entry["threads"]
    (tmp_path / "m.json").write_text(json.dumps([entry]))
    with pytest.raises(ValueError, match="'threads'"):
        capacity.measurements(tmp_path / "m.json")


def test_plan_covers_every_compression():
    entries = [*capacity.measurements(), *(measurement(n, n / 100) for n in (100, 200, 400))]
    text = plan(Size(7_000_000, 840_000_000), entries, 25.0, "mini")
    assert "7,000,000 documents of 120 tokens" in text
    assert "77.8 hours  this machine, mini, measured now: 25.0 documents per second" in text
    assert all(f"\n{compression} " in text for compression in COMPRESSIONS)
    assert "ms ± " in text
    assert "not measured" in text
    assert "(2 threads)" in text


def test_plan_command_measures_this_machine(capsys, monkeypatch):
    probe = capacity.probe
    monkeypatch.setattr(capacity, "probe", lambda model, tokens: probe(model, tokens, seconds=0.1))
    assert main(["plan", "--documents", "1000", "--mean-tokens", "50", "--model", "mini"]) == 0
    assert "hours  this machine, mini" in capsys.readouterr().out


def test_plan_command_rejects_empty_collections(capsys):
    assert main(["plan", "--documents", "0", "--mean-tokens", "50", "--no-probe"]) == 1
    assert "--documents" in capsys.readouterr().err

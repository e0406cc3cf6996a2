"""Examples with ties, copies, and scores or texts that are none: named, counted, and left out if they do not teach."""

import dataclasses
import math

import numpy as np
import pyterrier as pt
import pytest
from checkpoints import write_stanford_checkpoint
from hypothesis import given
from hypothesis import strategies as st
from test_distill import DOCUMENTS, EXAMPLES, QUERIES, STAGE

from pyterrier_jacolbert.cli.parser import main
from pyterrier_jacolbert.train import (
    Example,
    Recipe,
    RecipeDataset,
    dataset,
    distill,
    read,
    read_colbert,
    save,
    validate,
)

TIED = Example("q1", ("d1", "d2", "d3"), (2.0, 2.0, 2.0))
KNOWN = {"n_ways": 3, "queries": QUERIES, "documents": DOCUMENTS}


@pytest.mark.parametrize(
    ("loss", "normalize_teacher", "teaches"),
    [
        ("kl", True, False),  # 0 / 0
        ("kl", False, True),  # a uniform distribution
        ("margin_mse", True, True),  # margins of 0
        ("margin_mse", False, True),
        ("hard_labels", True, True),  # ignores the teacher
        ("imitation", True, True),
    ],
)
def test_the_loss_decides_whether_ties_teach(tmp_path, loss, normalize_teacher, teaches):
    settings = {**KNOWN, "loss": loss, "normalize_teacher": normalize_teacher}
    examples = [EXAMPLES[0], TIED, EXAMPLES[1]]
    stage = dataclasses.replace(STAGE, loss=loss, normalize_teacher=normalize_teacher)
    if teaches:
        assert validate(examples, **settings) == 3
        assert dataset.write(examples, QUERIES, DOCUMENTS, stage, tmp_path, "error") == 3
        return
    with pytest.raises(ValueError, match="1 problem in 3 examples; .*degenerate='drop'.*line 2: .*'q1' are all equal"):
        validate(examples, **settings, out=tmp_path / "kept.jsonl")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="line 2"):
        dataset.write(examples, QUERIES, DOCUMENTS, stage, tmp_path, "error")
    with pytest.warns(UserWarning, match="1 of 3 examples teach nothing and are left out: line 2: .*'q1'"):
        assert validate(examples, **settings, degenerate="drop", out=tmp_path / "kept.jsonl") == 2
    assert list(read(tmp_path / "kept.jsonl")) == [EXAMPLES[0], EXAMPLES[1]]
    with pytest.warns(UserWarning, match="1 of 3 examples"):
        assert dataset.write(examples, QUERIES, DOCUMENTS, stage, tmp_path) == 2


def test_a_tied_line_does_not_stop_training(tmp_path):
    """The result is that of the file without this line."""
    start = write_stanford_checkpoint(tmp_path / "start", hidden=32, layers=1)
    stage = dataclasses.replace(STAGE, steps=2, save_every=2)
    settings = {"model": start, "device": "cpu", "verbose": False}
    with pytest.warns(UserWarning, match="1 of 17 examples"):
        one = distill([*EXAMPLES[:5], TIED, *EXAMPLES[5:]], QUERIES, DOCUMENTS, stage, tmp_path / "one", **settings)
    other = distill(EXAMPLES, QUERIES, DOCUMENTS, stage, tmp_path / "other", **settings)
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="line 1: .*'q1'"):
        distill([TIED, *EXAMPLES], QUERIES, DOCUMENTS, stage, tmp_path / "two", degenerate="error", **settings)


def test_lines_keep_their_numbers_when_others_are_left_out(tmp_path):
    stage = dataclasses.replace(STAGE, every=2)
    with pytest.warns(UserWarning, match="line 3"):
        dataset.write([EXAMPLES[0], EXAMPLES[1], TIED, EXAMPLES[2], EXAMPLES[3]], QUERIES, DOCUMENTS, stage, tmp_path)
    labels = [row["label"] for row in dataset.read(tmp_path)]
    assert labels == [list(EXAMPLES[0].scores), list(EXAMPLES[3].scores)]
    with pytest.raises(ValueError, match="lower its 'every' of 2"), pytest.warns(UserWarning, match="line 1"):
        dataset.write([TIED, EXAMPLES[1]], QUERIES, DOCUMENTS, stage, tmp_path)


def test_a_file_of_ties_only_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="None of the 2 examples teaches anything.*line 1: .*'q1'"):
        dataset.write([TIED, TIED], QUERIES, DOCUMENTS, STAGE, tmp_path)


def test_the_command_line_drops_or_rejects_ties(tmp_path, capsys):
    start = write_stanford_checkpoint(tmp_path / "start", hidden=32, layers=1)
    stage = dataclasses.replace(STAGE, name="s", start=str(start), examples="e.jsonl", n_ways=3, steps=1)
    Recipe("r", (stage,), datasets=(RecipeDataset("demo", "jacolbert:demo"),)).write(tmp_path / "r.yaml")
    demo = pt.get_dataset("jacolbert:demo")
    docnos = [document["docno"] for document in demo.get_corpus_iter(verbose=False)]
    qid = demo.get_topics()["qid"][0]
    scores = [(3.0, 2.0, 1.0), (3.0, 0.0, 1.0), (1.0, 1.0, 1.0), (4.0, 2.0, 1.0), (0.0, 2.0, 1.0)]
    examples = [Example(qid, tuple(docnos[i : i + 3]), scores[i]) for i in range(5)]
    save(examples, tmp_path / "r" / "e.jsonl")
    assert main(["train", str(tmp_path / "r.yaml"), "--device", "cpu", "--degenerate", "error"]) == 1
    assert "line 3: " in capsys.readouterr().err
    assert main(["train", str(tmp_path / "r.yaml"), "--device", "cpu"]) == 0
    assert "1 of 5 examples" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("scores", "settings", "message"),
    [
        ((1e39, 1.0, 0.0), {}, "score 1e\\+39, which is beyond float32"),
        ((1.0, -1e39, 0.0), {"loss": "margin_mse"}, "score -1e\\+39, which is beyond float32"),
        ((3e38, 0.0, -3e38), {}, "difference is beyond float32"),
        ((1e20, 0.0, 0.0), {"loss": "margin_mse", "normalize_teacher": False}, "squared difference is beyond float32"),
        ((10**400, 0.0, 1.0), {}, "not a number of float32"),
        ((None, 0.0, 1.0), {}, "not a number of float32"),
        ((math.nan, 0.0, 1.0), {}, "NaN or infinite"),
        ((1.0, 1.0 + 1e-9, 1.0 - 1e-9), {}, "all equal in float32"),
        ((1e-50, 0.0, 2e-50), {}, "all equal in float32"),
        ((16777216.0, 16777217.0, 16777216.0), {}, "all equal in float32"),
    ],
)
def test_scores_beyond_float32_are_named(tmp_path, scores, settings, message):
    example = Example("q1", ("d1", "d2", "d3"), scores)
    with pytest.raises(ValueError, match=f"line 2: .*{message}"):
        validate([EXAMPLES[0], example], **KNOWN, **settings)
    assert validate([EXAMPLES[0], example], **KNOWN, loss="hard_labels") == 2
    if "equal" not in message:  # a fault, not only a line that teaches nothing
        with pytest.raises(ValueError, match="line 2"):
            validate([EXAMPLES[0], example], **KNOWN, **settings, degenerate="drop")


@pytest.mark.parametrize("scores", [(1e38, 0.0, -1e38), (1e-44, 0.0, 3e-45), (1e9, 1e9 + 64, 1e9)])
def test_scores_within_float32_pass(scores):
    assert validate([Example("q1", ("d1", "d2", "d3"), scores)], **KNOWN) == 1


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=5))
def test_exactly_what_float32_can_normalise_passes(scores):
    """Against numpy's float32."""
    with np.errstate(over="ignore"):
        single = np.array(scores).astype(np.float32)
        good = np.isfinite(single).all() and np.isfinite(single.max() - single.min()) and len(set(single.tolist())) > 1
    example = Example("q", tuple(map(str, range(len(scores)))), tuple(scores))
    if good:
        assert validate([example], n_ways=len(scores)) == 1
    else:
        with pytest.raises(ValueError, match="line 1: .*query 'q'"):
            validate([example], n_ways=len(scores))


COPIES = {
    **DOCUMENTS,
    "copy of d1": DOCUMENTS["d1"],
    "too": f"  {DOCUMENTS['d1']}\n",
    "e1": "",
    "e2": " ",
    "e3": "\u3000",
    "half": "ｶﾞﾗｽと水",
    "full": "ガラスと水",
}


@pytest.mark.parametrize("docnos", [("d1", "copy of d1", "too"), ("e1", "e2", "e3"), ("d2", "d1", "too")])
def test_examples_with_less_than_three_texts_are_dropped(tmp_path, docnos):
    """Min-max makes the scores of two texts 0 and 1, as in ``test_training_faults_losses.py``."""
    example = Example("q1", docnos, (3.0, 2.0, 1.0))
    known = {**KNOWN, "documents": COPIES}
    with pytest.raises(ValueError, match=f"line 2: .*'q1' have only . different text.*{docnos[2]}|{docnos[1]}"):
        validate([EXAMPLES[0], example], **known)
    with pytest.warns(UserWarning, match="1 of 2 examples teach nothing and are left out: line 2: "):
        assert dataset.write([EXAMPLES[0], example], QUERIES, COPIES, STAGE, tmp_path) == 1
    assert validate([example], **known, loss="imitation") == 1


@pytest.mark.parametrize(
    "docnos", [("d1", "too", "d2", "d3"), ("d2", "d1", "d3", "copy of d1"), ("full", "d2", "d1", "half")]
)
def test_copies_within_an_example_are_found(tmp_path, docnos):
    example = Example("q1", docnos, (4.0, 3.0, 2.0, 1.0))
    known = {**KNOWN, "n_ways": 4, "documents": COPIES}
    message = r"line 1: document '(too|copy of d1|half)' has the text of document '(d1|full)'"
    with pytest.raises(ValueError, match=message):
        validate([example], **known)
    with pytest.warns(UserWarning, match=f"1 of 1 examples have documents with the same text and are kept: {message}"):
        assert dataset.write([example], QUERIES, COPIES, dataclasses.replace(STAGE, n_ways=4), tmp_path) == 1
    with pytest.raises(ValueError, match="line 1: document 'd1' is repeated"):
        validate([Example("q1", ("d1", "d2", "d3", "d1"), example.scores)], **known, degenerate="drop")


@pytest.mark.parametrize("text", [None, math.nan, 3, "\ud800"])
def test_documents_and_queries_without_a_text_are_named(tmp_path, text):
    for kind, queries, documents in (("document 'd0'", QUERIES, {**DOCUMENTS, "d0": text}),
                                     ("query 'q0'", {**QUERIES, "q0": text}, DOCUMENTS)):  # fmt: skip
        with pytest.raises(ValueError, match=f"line 1: The text of {kind}"):
            dataset.write(EXAMPLES, queries, documents, STAGE, tmp_path)


def test_lines_that_are_no_numbers_or_lists_are_named(tmp_path):
    path = tmp_path / "e.jsonl"
    good = '{"qid": "q", "docnos": ["a", "b"], "scores": [1, 2]}\n'
    for bad in (
        '"docnos": ["a", "b"], "scores": [1, 1' + "0" * 400 + "]",
        '"docnos": "ab"',
        '"docnos": ["a"], "scores": "1"',
    ):
        path.write_text(good + '{"qid": "q", ' + bad + "}\n", encoding="utf-8")
        with pytest.raises(ValueError, match="line 2: expected"):
            list(read(path))
    path.write_text('["q", ["a", 1' + "0" * 400 + "]]\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 1: expected"):
        list(read_colbert(path))

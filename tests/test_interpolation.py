"""The line between two checkpoints: the chosen point, the barrier on it, and how far its ends disagree."""

import pandas as pd
import pytest
from checkpoints import write_stanford_checkpoint

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.train import HeldOut, HeldOutMeasure, Interpolation, RecipeDataset, interpolate
from pyterrier_jacolbert.train.recipe_collections import RecipeCollection


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ends")
    return tuple(
        write_stanford_checkpoint(folder / str(seed), hidden=32, layers=1, heads=2, seed=seed) for seed in (0, 1)
    )


@pytest.fixture(scope="module")
def collection():
    return RecipeCollection(RecipeDataset("demo", "jacolbert:demo"), None)


@pytest.fixture(scope="module")
def measure(collection):
    return HeldOutMeasure([HeldOut("demo", queries=30)], {"demo": collection})


def test_the_barrier_is_the_greatest_drop_below_the_straight_line(ends, tmp_path):
    measures = iter([0.5, 0.4, 0.3, 0.85, 0.9])
    line = interpolate(ends, lambda model: next(measures), points=5, out=tmp_path / "out")
    assert line.barrier == pytest.approx(0.5 + 0.5 * 0.4 - 0.3)
    assert (line.weight, line.disagreement) == (1.0, None)
    assert Interpolation.read(tmp_path / "out") == line


def test_a_line_without_a_drop_has_no_barrier(ends, tmp_path):
    measures = iter([0.5, 0.9, 0.7])
    line = interpolate(ends, lambda model: next(measures), points=3, out=tmp_path / "out")
    assert (line.weight, line.barrier) == (0.5, 0.0)


def test_disagreement_is_the_share_of_other_first_documents(ends, collection, measure, tmp_path):
    line = interpolate(ends, measure, points=2, out=tmp_path / "out")
    docs = [{"docno": docno, "text": collection.texts[docno]} for docno in collection.texts]
    topics = measure.parts[0].topics
    first = []
    for number, end in enumerate(ends):
        index = pj.JaColBERTIndexer(tmp_path / str(number), str(end), compression="float16").index(docs)
        run = pd.DataFrame(index.retriever(num_results=1, quality="exact")(topics))
        first.append(run.set_index("qid")["docno"])
    assert 0 < line.disagreement < 1
    assert line.disagreement == pytest.approx((first[0] != first[1].loc[first[0].index]).mean())
    assert (tmp_path / "out" / "points.png").read_bytes().startswith(b"\x89PNG")


def test_a_checkpoint_agrees_with_itself(ends, measure, tmp_path):
    line = interpolate((ends[0], ends[0]), measure, points=2, out=tmp_path / "out")
    assert (line.weight, line.barrier, line.disagreement) == (0.0, 0.0, 0.0)

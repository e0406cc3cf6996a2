"""Plots show the expected text in a font that has its glyphs, and the numbers behind them are right."""

import importlib.util
import json
import warnings

import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from ir_measures import RR, nDCG

import pyterrier_jacolbert as pj
from pyterrier_jacolbert import plots
from pyterrier_jacolbert.explain import plot_similarities
from pyterrier_jacolbert.explain.heatmap import select_columns
from pyterrier_jacolbert.plots import fonts


@pytest.fixture(autouse=True)
def no_missing_glyphs():
    """Turns matplotlib's warnings of missing glyphs into errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def draw(figure, tmp_path):
    figure.savefig(tmp_path / "figure.png")
    from matplotlib.image import imread

    return imread(tmp_path / "figure.png")


def texts_of(figure):
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_finding_the_font_changes_no_global_setting():
    import matplotlib

    before = dict(matplotlib.rcParams)
    assert fonts.japanese_fonts()[0] == "IPAexGothic"
    assert dict(matplotlib.rcParams) == before


def test_without_the_font_package_a_system_font_is_used(monkeypatch):
    from matplotlib import font_manager

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "fontja" in name else find(name))
    monkeypatch.setattr(font_manager, "get_font_names", lambda: ["DejaVu Sans", "Meiryo"])
    assert fonts.japanese_fonts.__wrapped__() == ["Meiryo", "DejaVu Sans"]
    monkeypatch.setattr(font_manager, "get_font_names", lambda: ["DejaVu Sans"])
    with pytest.raises(ImportError, match="font with Japanese characters.*pip install matplotlib-fontja"):
        fonts.japanese_fonts.__wrapped__()


def test_characters_that_no_font_draws_are_replaced():
    drawn = fonts.drawable()
    assert drawn("富士山ｶﾞ㌔Ａé😀") == "富士山ｶﾞ㌔Ａé😀"
    assert drawn("𠮷👨\u200d\u3000\n\x00") == "U+20BB7U+1F468U+200D␣␣U+0000"


def test_similarities_of_any_text_are_drawn(model, tmp_path):
    text = "富士山は$高い$㌔👨‍👩‍👧 𠮷 Shinkansen, since 1964! " * 3
    explanation = model.explain("日本で一番高い$山$の㌔は😀", text)
    for settings in ({"most": 200}, {"most": 200, "special": True}, {"most": 10}, {"most": 1}):
        figure = plot_similarities(explanation, **settings)
        shown = texts_of(figure)
        assert "高" in "".join(shown)
        assert ("[MASK]" in shown) == ("special" in settings)
        assert ("…" in shown) == (settings["most"] <= 10)
        assert draw(figure, tmp_path).shape[2] == 4


def test_a_notebook_shows_a_figure_once(model):
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    model.explain("山", "富士山").plot()
    assert pyplot.get_fignums() == before


def test_columns_contain_matches_and_their_neighbours():
    assert select_columns(np.array([3, 50]), 20, 60).tolist() == list(range(20))
    assert select_columns(np.array([3, 50]), 100, 6).tolist() == [2, 3, 4, -1, 49, 50, 51]
    assert select_columns(np.array([0, 3, 50]), 100, 2).tolist() == [0, -1, 3, -1, 50]


PERQUERY = pd.DataFrame(
    [
        (name, qid, measure, value)
        for measure, rows in (
            ("nDCG@10", {"a": [0.1, 0.5, 0.9, 0.3], "b": [0.6, 0.5, 0.1, 0.4]}),
            ("RR", {"a": [1, 1, 1, 1], "b": [1, 1, 1, 1]}),
        )
        for name, values in rows.items()
        for qid, value in zip(["q1", "q2", "q3", "q4"], values, strict=True)
    ],
    columns=["name", "qid", "measure", "value"],
)


def test_differences_are_the_second_system_minus_the_first():
    found = plots.query_differences(PERQUERY, "a", "b")
    assert found.round(6).to_dict() == {"q1": 0.5, "q4": 0.1, "q2": 0.0, "q3": -0.8}
    assert plots.query_differences(PERQUERY, "a", "b", measure="RR").abs().max() == 0
    for arguments, message in (
        (("a", "c"), r"no values of 'nDCG@10' for 'c'; it has \['a', 'b'\]"),
        (("a", "b", "AP"), "no values of 'AP'"),
    ):
        with pytest.raises(ValueError, match=message):
            plots.query_differences(PERQUERY, *arguments[:2], measure=arguments[2] if len(arguments) > 2 else None)
    with pytest.raises(ValueError, match=r"no column 'measure'.*perquery=True"):
        plots.query_differences(PERQUERY.drop(columns="measure"), "a", "b")
    other = PERQUERY.assign(qid=PERQUERY["name"] + PERQUERY["qid"])
    with pytest.raises(ValueError, match="share no query"):
        plots.query_differences(other, "a", "b")


def test_differences_are_drawn_with_the_queries(index, topics, tmp_path):
    qrels = pd.DataFrame({"qid": ["q2", "q1", "q3"], "docno": ["d1", "d4", "d7"], "label": 1})
    systems = {
        "reversed $x$": index.retriever() % 8 >> pt.apply.doc_score(lambda row: -row["score"]),
        "日本": index.retriever(),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = pt.Experiment(systems, topics[["qid", "query"]], qrels, [nDCG @ 10, RR], perquery=True)
    figure = plots.plot_differences(table, "reversed $x$", "日本", topics=topics)
    shown = "\n".join(texts_of(figure))
    assert "日本 − reversed $x$: mean" in shown
    assert "greatest gains" in shown
    assert draw(figure, tmp_path).shape[1] > 600


def test_lengths_exclude_deleted_documents(model, docs, tmp_path):
    index = pj.JaColBERTIndexer(tmp_path / "index", model).index(docs)
    lengths = [len(rows) for rows in model.encode_documents([doc["text"] for doc in docs])]
    statistics = plots.length_statistics(index)
    assert statistics["tokens"] == sum(lengths) == index.stats()["tokens"]
    assert statistics["documents"] == len(docs)
    assert statistics["without text"] == 1
    assert statistics["longest"] == max(lengths)
    assert statistics["median"] == np.median(lengths)
    figure = plots.plot_lengths(index)
    assert sum(patch.get_height() for patch in figure.axes[0].patches) == len(docs)
    assert f"{len(docs)} documents" in "\n".join(texts_of(figure))
    draw(figure, tmp_path)
    index.delete(["d1", "d6"])
    assert plots.length_statistics(index)["documents"] == len(docs) - 2
    assert plots.length_statistics(index)["without text"] == 0


def experiment():
    return pd.DataFrame(
        {
            "name": ["BM25", "遅いが良い", "slow and worse", "fast"],
            "nDCG@10": [0.5, 0.9, 0.6, 0.7],
            "nDCG@10 p-value": [float("nan"), 0.01, 0.2, 0.3],
            "mrt": [0.5, 40.0, 90.0, 2.0],
        }
    )


def test_latency_is_drawn_and_pareto_optimal_systems_joined(tmp_path):
    figure = plots.plot_latency(experiment())
    (axes,) = figure.axes
    assert axes.get_ylabel() == "nDCG@10"
    assert axes.get_xscale() == "log"
    (line,) = axes.get_lines()
    assert line.get_xydata().tolist() == [[0.5, 0.5], [2.0, 0.7], [40.0, 0.9]]
    assert sorted(axes.collections[0].get_offsets().tolist()) == [[0.5, 0.5], [2.0, 0.7], [40.0, 0.9], [90.0, 0.6]]
    shown = texts_of(figure)
    assert set(experiment()["name"]) <= set(shown)
    assert "10" in shown
    assert not any("$" in text for text in shown)
    assert draw(figure, tmp_path).shape[2] == 4


def test_names_of_the_latency_plot_do_not_overlap():
    figure = plots.plot_latency(experiment())
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 4
    assert not any(one.overlaps(other) for number, one in enumerate(boxes) for other in boxes[:number])
    assert all(figure.bbox.contains(*corner) for box in boxes for corner in box.corners())


@pytest.mark.parametrize("missing", ["mrt", "nDCG@10"])
def test_a_table_without_times_or_measures_names_the_remedy(missing):
    with pytest.raises(ValueError, match="pt.Experiment with the measures .nDCG"):
        plots.plot_latency(experiment().drop(columns=[missing, "nDCG@10 p-value"]))


def test_a_measure_missing_from_the_table_is_named():
    with pytest.raises(ValueError, match="no measure 'RR'; name one of nDCG@10"):
        plots.plot_latency(experiment(), measure="RR")


def write_log(folder, lines):
    folder.mkdir()
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


def test_training_curves_of_several_runs(tmp_path):
    plain = write_log(tmp_path / "plain", [{"step": 10, "loss": 2.0}, {"step": 20, "loss": 1.0}])
    held_out = write_log(tmp_path / "held out", [{"step": 10, "loss": 3.0}, {"step": 10, "held_out": 0.6}])
    (axes,) = plots.plot_training(plain).axes
    assert axes.get_lines()[0].get_xydata().tolist() == [[10, 2], [20, 1]]
    figure = plots.plot_training(plain, held_out)
    losses, measures = figure.axes
    assert [line.get_label() for line in losses.get_lines()] == ["plain", "held out"]
    assert measures.get_lines()[1].get_xydata().tolist() == [[10, 0.6]]
    assert draw(figure, tmp_path).shape[2] == 4


def test_a_line_cut_short_by_a_full_disk_is_left_out(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo\n17\n{"step": 3, "loss": 0.25}\n')
    (line,) = plots.plot_training(tmp_path).axes[0].lines
    assert line.get_xydata().tolist() == [[1, 0.5], [3, 0.25]]


def test_a_run_without_a_log_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no log .*log.jsonl; give the folder of a training run"):
        plots.plot_training(tmp_path)
    with pytest.raises(ValueError, match="give the folder of a training run"):
        plots.plot_training()


def write_points(folder, by_dataset, weight):
    """Writes the measured line of an average, with equal weights of the data sets."""
    rows = [dict(zip(by_dataset, values, strict=True)) for values in zip(*by_dataset.values(), strict=True)]
    points = [
        {"weight": number / (len(rows) - 1), "measure": sum(row.values()) / len(row), "by_dataset": row}
        for number, row in enumerate(rows)
    ]
    content = {"points": points, "weight": weight, "barrier": 0.0, "disagreement": 0.1}
    (folder / "points.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_measures_between_checkpoints_are_drawn_by_data_set(tmp_path):
    share = np.linspace(0, 1, 6)
    measures = {"日常の質問": (0.74 - 0.1 * share**2).tolist(), "jaquad": (0.93 + 0.05 * np.sqrt(share)).tolist()}
    figure = plots.plot_interpolation(write_points(tmp_path, measures, 0.4))
    (axes,) = figure.axes
    lines = {line.get_label().split(":")[0]: line for line in axes.get_lines()}
    assert list(lines)[:3] == ["日常の質問", "jaquad", "mean"]
    for name, values in measures.items():
        np.testing.assert_allclose(lines[name].get_xdata(), share)
        np.testing.assert_allclose(lines[name].get_ydata(), np.subtract(values, values[0]))
        assert f"{values[0]:.3f}" in lines[name].get_label()
        assert f"{values[2]:.3f}" in lines[name].get_label()
    assert set(lines["chosen weight"].get_xdata()) == {0.4}
    assert "日常の質問" in " ".join(texts_of(figure))
    assert draw(figure, tmp_path).shape[2] == 4


def test_a_folder_without_measured_points_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no .*points.json; give the folder of an average"):
        plots.plot_interpolation(tmp_path)

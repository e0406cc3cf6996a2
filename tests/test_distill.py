"""Losses, checkpoints, resumption and failures of the trainer."""

import copy
import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import write_stanford_checkpoint
from safetensors.torch import load_file
from sentence_transformers import MultiVectorEncoder
from transformers.models.bert.modeling_bert import BertIntermediate

from pyterrier_jacolbert.train import Example, Stage, distill, training_arguments
from pyterrier_jacolbert.train.contrastive import in_batch_loss
from pyterrier_jacolbert.train.losses import DistillationLoss, ImitationLoss, minmax_rows
from pyterrier_jacolbert.train.progress import LOG_FILE
from pyterrier_jacolbert.train.recipe_files import read_settings

QUERIES = {
    f"q{i}": f"{word}は何ですか。"
    for i, word in enumerate(["富士山", "東京", "小説", "料理", "日本", "都市", "湖", "川"])
}
DOCUMENTS = {
    f"d{i}": f"{text}{i}について書いた文である。"
    for i, text in enumerate(["山", "首都", "作家", "カレー", "国", "町"] * 2)
}
EXAMPLES = [
    Example(f"q{i % 8}", (f"d{i % 12}", f"d{(i + 5) % 12}", f"d{(i + 7) % 12}"), (3.0 + i, 1.5 - i, 0.5))
    for i in range(16)
]
STAGE = Stage(
    name="tiny", start="unused", examples="unused", n_ways=3, batch_size=4, steps=6, learning_rate=1e-3, warmup_steps=0,
    query_length=12, document_length=24, precision="float32", save_every=2, seed=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return write_stanford_checkpoint(tmp_path_factory.mktemp("start") / "checkpoint", hidden=32, layers=1, heads=2)


def run(start, output, stage=STAGE, **settings):
    settings = {"verbose": False, "device": "cpu", **settings}
    return distill(EXAMPLES, QUERIES, DOCUMENTS, stage, output, model=start, **settings)


def weights(folder):
    files = sorted(file.relative_to(folder) for file in Path(folder).rglob("*.safetensors"))
    return {f"{file}:{name}": value for file in files for name, value in load_file(folder / file).items()}


def assert_same_weights(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def log(output):
    return [json.loads(line) for line in (output / LOG_FILE).read_text(encoding="utf-8").splitlines()]


# --------------------------------------------------------------------------------------------------------- the losses


#: A column of queries and three columns of documents.
COLUMNS = [
    ["富士山は何ですか。", "小説とは"],
    ["日本の山", "作家の本"],
    ["東京は首都", "カレー"],
    ["川と湖", "都市の名"],
]


@pytest.fixture(scope="module")
def batch(start):
    model = MultiVectorEncoder(str(start), device="cpu").eval()
    features = []
    for number, texts in enumerate(COLUMNS):
        task = "query" if number == 0 else "document"
        features.append({**model.preprocess(texts, prompt=model.prompts[task], task=task), "task": task})
    labels = torch.tensor([[3.0, 1.0, 0.0], [5.0, 6.0, -2.0]])
    scores = torch.tensor(
        [[float(model.similarity(model.encode_query(q), model.encode_document(d))) for d in documents]
         for q, *documents in zip(*COLUMNS, strict=True)]
    )  # fmt: skip
    return model, features, labels, scores


def minmax(x):
    return (x - x.min(1, keepdims=True)) / (x.max(1, keepdims=True) - x.min(1, keepdims=True))


def log_softmax(x):
    return x - np.log(np.exp(x).sum(1, keepdims=True))


@pytest.mark.parametrize("normalize_student", [True, False])
@pytest.mark.parametrize("normalize_teacher", [True, False])
@pytest.mark.parametrize("loss", ["kl", "margin_mse", "hard_labels"])
def test_losses_equal_their_definitions(batch, loss, normalize_student, normalize_teacher):
    model, features, labels, scores = batch
    stage = dataclasses.replace(
        STAGE, loss=loss, normalize_student=normalize_student, normalize_teacher=normalize_teacher,
        student_temperature=0.5, teacher_temperature=0.25,
    )  # fmt: skip
    student, teacher = scores.numpy().astype(np.float64), labels.numpy().astype(np.float64)
    student = minmax(student) if normalize_student else student
    teacher = minmax(teacher) if normalize_teacher else teacher
    if loss == "kl":
        p, q = log_softmax(teacher / 0.25), log_softmax(student / 0.5)
        # Sentence Transformers multiplies by the student's temperature squared (Hinton et al. 2015).
        expected = (np.exp(p) * (p - q)).sum(1).mean() * 0.25
    elif loss == "margin_mse":
        expected = np.mean(((student[:, :1] - student[:, 1:]) - (teacher[:, :1] - teacher[:, 1:])) ** 2)
    else:
        expected = -log_softmax(student / 0.5)[:, 0].mean()
    with torch.no_grad():
        assert float(DistillationLoss(model, stage)(features, labels)) == pytest.approx(expected, rel=1e-4)


def test_gradients_flow_through_minimum_and_maximum():
    scores = torch.tensor([[1.0, 4.0, 2.0], [0.5, -1.0, 3.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(minmax_rows, scores)
    minmax_rows(scores)[0, 2].backward()
    assert (scores.grad[0] != 0).all()  # the middle score depends on minimum and maximum
    assert torch.isfinite(minmax_rows(torch.ones(2, 3))).all()


def test_the_in_batch_term_is_a_cross_entropy():
    torch.manual_seed(0)
    queries, documents = torch.randn(3, 4, 8), torch.randn(3, 2, 5, 8)
    queries_mask, documents_mask = torch.ones(3, 4, dtype=torch.bool), torch.ones(3, 2, 5, dtype=torch.bool)
    documents_mask[1, 0, 3:] = False
    scores = np.empty((3, 6))
    for i, query in enumerate(queries):
        for j, (document, mask) in enumerate(zip(documents.flatten(0, 1), documents_mask.flatten(0, 1), strict=True)):
            scores[i, j] = (query @ document[mask].T).max(1).values.sum()
    expected = -log_softmax(scores)[[0, 1, 2], [0, 2, 4]].mean()
    assert float(in_batch_loss(queries, documents, queries_mask, documents_mask)) == pytest.approx(expected, rel=1e-5)
    cooled = -log_softmax(scores / 0.1)[[0, 1, 2], [0, 2, 4]].mean()
    assert float(in_batch_loss(queries, documents, queries_mask, documents_mask, 0.1)) == pytest.approx(
        cooled, rel=1e-5
    )


@pytest.mark.parametrize("stage", [STAGE, dataclasses.replace(STAGE, in_batch_negatives=True)])
@pytest.mark.parametrize("mini_batch_size", [1, 4, 5])
def test_mini_batches_group_documents_by_length(batch, stage, mini_batch_size, monkeypatch):
    model, features, labels, _ = batch
    with torch.no_grad():
        whole = float(DistillationLoss(model, stage)(features, labels))
        widths = []
        forward = MultiVectorEncoder.forward

        def widening(self, inputs, *arguments, **named):
            widths.append(inputs["attention_mask"].shape[1])
            return forward(self, inputs, *arguments, **named)

        monkeypatch.setattr(MultiVectorEncoder, "forward", widening)
        loss = DistillationLoss(model, stage, mini_batch_size)
        assert float(loss(features, labels)) == pytest.approx(whole, rel=1e-5)
    assert widths[1:] == sorted(widths[1:])
    assert len(widths) == 1 + -(-labels.numel() // mini_batch_size)


def test_a_stage_sets_the_dropout(start, tmp_path):
    seen = []

    def rates(model):
        seen.append({module.p for module in model.model.modules() if isinstance(module, torch.nn.Dropout)})
        return 0.5

    run(start, tmp_path / "own", dataclasses.replace(STAGE, steps=1, save_every=1), evaluate=rates)
    run(start, tmp_path / "none", dataclasses.replace(STAGE, steps=1, save_every=1, dropout=0.0), evaluate=rates)
    assert seen[-1] == {0.0}
    assert seen[0] == {0.1}


def test_in_batch_negatives_add_to_the_loss(batch):
    model, features, labels, _ = batch
    with torch.no_grad():
        plain = float(DistillationLoss(model, STAGE)(features, labels))
        both = float(DistillationLoss(model, dataclasses.replace(STAGE, in_batch_negatives=True))(features, labels))
        stage = dataclasses.replace(STAGE, in_batch_negatives=True, in_batch_temperature=0.1)
        cooled = float(DistillationLoss(model, stage)(features, labels))
    assert both > plain + 0.01
    assert abs(cooled - both) > 0.01


def perturbed(model):
    """Returns a copy of a model with another projection."""
    torch.manual_seed(0)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[1].linear.weight += 0.02 * torch.randn_like(other[1].linear.weight)
    return other


@pytest.mark.parametrize("mini_batch_size", [None, 4])
def test_imitation_is_the_mean_cosine_distance(batch, mini_batch_size):
    model, features, labels, _ = batch
    teacher = perturbed(model)
    with torch.no_grad():
        distances = {"query": [], "document": []}
        for column, texts in zip(features, COLUMNS, strict=True):
            for text in texts:
                one, other = (np.asarray(getattr(m, f"encode_{column['task']}")(text)) for m in (model, teacher))
                distances[column["task"]].extend(1 - (one * other).sum(1))
        loss = ImitationLoss(model, teacher, mini_batch_size)
        distances_twice = [float(loss(features, labels)) for _ in range(2)]  # the features must not change
    expected = np.mean(distances["query"]) + np.mean(distances["document"])
    assert expected > 0.01
    assert distances_twice == pytest.approx([expected] * 2, rel=1e-3)
    assert {id(p) for p in loss.parameters()} == {id(p) for p in model.parameters()}


@pytest.mark.parametrize("mini_batch_size", [None, 4])
def test_imitation_is_added_to_the_ranking_loss(batch, mini_batch_size):
    model, features, labels, _ = batch
    teacher = perturbed(model)
    stage = dataclasses.replace(STAGE, imitation_weight=3.0, in_batch_negatives=True)
    imitation = ImitationLoss(model, teacher, mini_batch_size)
    both = DistillationLoss(model, stage, mini_batch_size, imitation)
    ranking = DistillationLoss(model, stage, mini_batch_size)

    def gradients(loss):
        model.zero_grad()
        value = loss(features, labels)
        value.backward()
        return float(value), model[1].linear.weight.grad.clone()

    (total, gradient), (rank, of_ranking), (distance, of_distance) = map(gradients, (both, ranking, imitation))
    assert distance > 0.01
    assert total == pytest.approx(rank + 3 * distance, rel=1e-5)
    torch.testing.assert_close(gradient, of_ranking + 3 * of_distance, rtol=1e-3, atol=1e-6)
    assert {id(p) for p in both.parameters()} == {id(p) for p in model.parameters()}
    model.zero_grad()


# ------------------------------------------------------------------------------------------------------------- the run


@pytest.fixture(scope="module")
def finished(start, tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    run(start, output)
    return output


def test_a_run_leaves_ordinary_checkpoints(start, finished):
    names = sorted(file.name for file in finished.iterdir() if file.is_dir())
    assert names == ["checkpoint-2", "checkpoint-4", "checkpoint-6", "final"]
    model = MultiVectorEncoder(str(finished / "final"), device="cpu")
    assert model[0].document_length == 24
    assert model[0].query_expansion["length"] == 12
    assert model.encode_query("富士山は何ですか。").shape[0] == 12
    assert_same_weights(finished / "checkpoint-6", finished / "final")
    assert read_settings(Stage, finished / "final" / "stage.yaml") == STAGE
    card = (finished / "final" / "README.md").read_text(encoding="utf-8")
    assert not any(text in card for text in (*QUERIES.values(), *DOCUMENTS.values()))
    assert any(not torch.equal(a, b) for a, b in zip(
        weights(finished / "checkpoint-2").values(), weights(finished / "final").values(), strict=True))  # fmt: skip
    assert not list(finished.glob("checkpoint-[24]/optimizer.pt"))
    assert (finished / "checkpoint-6" / "optimizer.pt").is_file()


def test_texts_have_the_prompts_with_which_they_are_searched(start, tmp_path, monkeypatch):
    seen = []
    original = DistillationLoss.forward

    def forward(self, features, labels):
        seen.append([column["input_ids"].clone() for column in features])
        return original(self, features, labels)

    monkeypatch.setattr(DistillationLoss, "forward", forward)
    run(start, tmp_path, dataclasses.replace(STAGE, steps=1, save_every=1))
    (columns,) = seen
    model = MultiVectorEncoder(str(tmp_path / "final"), device="cpu")
    for column, texts in zip(columns, (QUERIES, *[DOCUMENTS] * 3), strict=True):
        task = "query" if texts is QUERIES else "document"
        known = model.preprocess(list(texts.values()), prompt=model.prompts[task], task=task)["input_ids"].tolist()
        assert all(row in [ids[: len(row)] for ids in known] for row in column.tolist())


def test_a_finished_run_is_returned_unchanged(start, finished):
    before = (finished / "final" / "modules.json").stat().st_mtime_ns
    assert run(start, finished) == finished / "final"
    assert (finished / "final" / "modules.json").stat().st_mtime_ns == before


def test_every_checkpoint_holds_the_average_of_the_iterates(start, tmp_path):
    """At a constant learning rate, schedule-free's x is the mean of the z of all steps (Defazio et al. 2024)."""
    iterates = []

    def keep(model):
        state = torch.load(
            max(tmp_path.glob("checkpoint-*"), key=lambda f: int(f.name[11:])) / "optimizer.pt", weights_only=True
        )
        assert state["param_groups"][0]["train_mode"] is False
        iterates.append({number: one["z"] for number, one in state["state"].items() if "z" in one})
        return 0.0

    run(start, tmp_path, dataclasses.replace(STAGE, save_every=1, steps=4), evaluate=keep)
    for step in range(1, 5):
        folder = tmp_path / f"checkpoint-{step}"
        saved = {name: value for name, value in MultiVectorEncoder(str(folder), device="cpu").named_parameters()}
        means = [sum(one[number] for one in iterates[:step]) / step for number in iterates[0]]
        close = 0
        for value in saved.values():
            close += any(m.shape == value.shape and torch.allclose(m, value, atol=1e-6) for m in means)
        assert close == len(means), step


def test_a_killed_run_ends_with_the_same_weights_and_losses(start, tmp_path):
    def die(model):
        raise RuntimeError("power cut")

    stage = dataclasses.replace(STAGE, precision="bfloat16", in_batch_negatives=True)
    run(start, tmp_path / "whole", stage, evaluate=lambda model: 0.5, deterministic=True)
    with pytest.raises(RuntimeError, match="power cut"):
        run(start, tmp_path / "killed", stage, evaluate=die, deterministic=True)
    shutil.copytree(tmp_path / "killed" / "checkpoint-2", tmp_path / "killed" / "checkpoint-4")
    (tmp_path / "killed" / "checkpoint-4" / "trainer_state.json").write_text('{"best')  # the process died meanwhile
    run(start, tmp_path / "killed", stage, evaluate=lambda model: 0.5, deterministic=True)
    assert_same_weights(tmp_path / "whole" / "final", tmp_path / "killed" / "final")


@pytest.mark.parametrize("changes", [{}, {"loss": "contrastive", "mini_batch_size": 2}])
def test_gradient_checkpointing_changes_no_weight(start, tmp_path, changes, monkeypatch):
    """Also with dropout, whose masks are drawn again, and if the run is interrupted."""
    calls = []
    forward = BertIntermediate.forward
    monkeypatch.setattr(BertIntermediate, "forward", lambda self, x: calls.append(self.training) or forward(self, x))

    def die(model):
        raise RuntimeError("power cut")

    stage = dataclasses.replace(STAGE, steps=4, **changes)
    run(start, tmp_path / "kept", stage, deterministic=True)
    n_kept = sum(calls)
    calls.clear()
    stage = dataclasses.replace(stage, gradient_checkpointing=True)
    with pytest.raises(RuntimeError, match="power cut"):
        run(start, tmp_path / "computed", stage, evaluate=die, deterministic=True)
    run(start, tmp_path / "computed", stage, deterministic=True)
    assert sum(calls) > n_kept
    expected = weights(tmp_path / "kept" / "final")
    for name, value in weights(tmp_path / "computed" / "final").items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-5)


def test_a_run_killed_after_its_last_step_takes_no_further_one(start, finished, tmp_path):
    measures = iter([0.5, 0.5])
    with pytest.raises(StopIteration):
        run(start, tmp_path, evaluate=lambda model: next(measures))
    assert (tmp_path / "checkpoint-6").is_dir()
    assert not (tmp_path / "final").exists()
    run(start, tmp_path)
    assert_same_weights(tmp_path / "final", finished / "final")
    assert not (tmp_path / "checkpoint-7").exists()


def test_a_student_without_a_pooler_resumes_without_one(start, tmp_path):
    student = MultiVectorEncoder(str(start), device="cpu")
    student[0].model.pooler = None
    student.save_pretrained(str(tmp_path / "student"))
    measures = iter([0.5])
    with pytest.raises(StopIteration):
        run(tmp_path / "student", tmp_path / "run", evaluate=lambda model: next(measures))
    run(tmp_path / "student", tmp_path / "run")
    assert weights(tmp_path / "run" / "final").keys() == weights(tmp_path / "student").keys()


def test_a_resumed_run_has_the_log_of_an_uninterrupted_one(start, tmp_path, monkeypatch):
    monkeypatch.setattr(training_arguments, "LOGGING_STEPS", 1)
    calls = []

    def die_at_second(model):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("power cut")
        return 0.5

    run(start, tmp_path / "whole", evaluate=lambda model: 0.5)
    with pytest.raises(RuntimeError):
        run(start, tmp_path / "killed", evaluate=die_at_second)
    run(start, tmp_path / "killed", evaluate=lambda model: 0.5)
    whole, killed = [
        {line["step"]: line["loss"] for line in log(tmp_path / name) if "loss" in line} for name in ("whole", "killed")
    ]
    assert whole.keys() == killed.keys() == {1, 2, 3, 4, 5, 6}
    assert killed == pytest.approx(whole, abs=1e-5)
    lines = log(tmp_path / "killed")
    assert all(line["examples_per_second"] > 0 and line["learning_rate"] > 0 for line in lines if "loss" in line)


def test_an_interrupt_saves_a_checkpoint_to_resume_from(start, finished, tmp_path, capsys, monkeypatch):
    seen, before = [], signal.getsignal(signal.SIGINT)
    original = DistillationLoss.forward

    def forward(self, *arguments, **named):
        seen.append(1)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *arguments, **named)

    monkeypatch.setattr(DistillationLoss, "forward", forward)
    with pytest.raises(KeyboardInterrupt, match="Stopped after saving step 3; run it again to resume"):
        run(start, tmp_path)
    assert (tmp_path / "checkpoint-3" / "trainer_state.json").is_file()
    assert "saving a checkpoint after this step" in capsys.readouterr().out
    monkeypatch.setattr(DistillationLoss, "forward", original)
    run(start, tmp_path)
    assert signal.getsignal(signal.SIGINT) is before
    for name, value in weights(tmp_path / "final").items():
        # The averaged weights were rounded once more than in the uninterrupted run. A key's bias cancels out in the
        # softmax, so its gradient is only rounding error, which Adam scales up to full steps.
        if not name.endswith("key.bias"):
            torch.testing.assert_close(value, weights(finished / "final")[name], atol=2e-5, rtol=1e-3)


def test_a_full_disk_leaves_the_last_good_checkpoint(start, finished, tmp_path, monkeypatch):
    original = MultiVectorEncoder.save_pretrained

    def full(self, path, *arguments, **named):
        if "checkpoint-4" in str(path):
            Path(path).mkdir(parents=True, exist_ok=True)
            (Path(path) / "model.safetensors").write_bytes(b"half")
            raise OSError(28, "No space left on device")
        return original(self, path, *arguments, **named)

    monkeypatch.setattr(MultiVectorEncoder, "save_pretrained", full)
    with pytest.raises(OSError, match=r"checkpoint of step 4 could not be saved .*No space left.*free some space"):
        run(start, tmp_path)
    assert [file.name for file in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]
    monkeypatch.setattr(MultiVectorEncoder, "save_pretrained", original)
    run(start, tmp_path)
    assert_same_weights(tmp_path / "final", finished / "final")


def test_falling_measures_warn_and_nan_losses_stop(start, tmp_path, monkeypatch):
    measures = iter([0.8, 0.7, 0.69])
    with pytest.warns(UserWarning, match=r"fell from 0.8000 to 0.7000 at step 4: the run may be diverging"):
        run(start, tmp_path / "falling", evaluate=lambda model: next(measures))
    assert [line["held_out"] for line in log(tmp_path / "falling") if "held_out" in line] == [0.8, 0.7, 0.69]
    monkeypatch.setattr(training_arguments, "LOGGING_STEPS", 1)
    monkeypatch.setattr(DistillationLoss, "forward", lambda self, f, labels: self.model[0].model.embeddings
                        .word_embeddings.weight.sum() * float("nan"))  # fmt: skip
    with pytest.raises(FloatingPointError, match=r"The loss is nan at step 1; lower learning_rate"):
        run(start, tmp_path / "nan")


def test_evaluation_uses_averaged_weights_and_changes_nothing(start, finished, tmp_path):
    seen = []

    def measure(model):
        torch.rand(3)
        seen.append(model.encode_queries(["富士山は何ですか。"])[0])
        return 0.0

    run(start, tmp_path, evaluate=measure)
    assert_same_weights(tmp_path / "final", finished / "final")
    final = MultiVectorEncoder(str(tmp_path / "final"), device="cpu")
    final[0].query_expansion = {**final[0].query_expansion, "length": len(seen[-1])}
    np.testing.assert_allclose(seen[-1], final.encode_query("富士山は何ですか。"), atol=1e-5)


def test_gradient_accumulation_takes_the_same_steps(start, finished, tmp_path):
    stage = dataclasses.replace(STAGE, steps=2)
    run(start, tmp_path / "one", stage)
    run(start, tmp_path / "two", stage, accumulate=2)
    ours, expected = weights(tmp_path / "two" / "final"), weights(tmp_path / "one" / "final")
    changed = [name for name in expected if expected[name].is_floating_point()]
    # Dropout masks differ, so the results differ by about as much as one step changes the weights.
    assert max(float((ours[name] - expected[name]).abs().max()) for name in changed) < 5e-3


def test_without_verbose_nothing_is_printed(start, tmp_path, capfd):
    run(start, tmp_path / "silent", dataclasses.replace(STAGE, steps=2, save_every=1))
    assert capfd.readouterr() == ("", "")
    run(start, tmp_path / "loud", dataclasses.replace(STAGE, steps=10, save_every=10), verbose=True)
    assert "loss" in capfd.readouterr().out


def test_imitation_approaches_an_unchanged_teacher(start, tmp_path):
    teacher = MultiVectorEncoder(str(start), device="cpu")
    student = copy.deepcopy(teacher)
    torch.manual_seed(0)
    with torch.no_grad():
        student[1].linear.weight += 0.1 * torch.randn_like(student[1].linear.weight)
    before = [parameter.clone() for parameter in teacher.parameters()]
    stage = dataclasses.replace(STAGE, loss="imitation", steps=30, save_every=30, dropout=0.0)
    unscored = [Example(example.qid, example.docnos) for example in EXAMPLES]
    settings = {"model": student, "device": "cpu", "verbose": False}
    final = distill(unscored, QUERIES, DOCUMENTS, stage, tmp_path / "run", teacher=teacher, **settings)
    losses = [line["loss"] for line in log(tmp_path / "run")]
    assert losses[-1] < losses[0] / 2
    assert all(torch.equal(*pair) for pair in zip(teacher.parameters(), before, strict=True))
    same = dataclasses.replace(stage, teacher=str(start))
    with torch.no_grad():
        student.load_state_dict(MultiVectorEncoder(str(final), device="cpu").state_dict())
    assert run(start, tmp_path / "named", dataclasses.replace(same, steps=1), evaluate=lambda model: 0.5).is_dir()


def test_imitation_needs_a_teacher_with_the_same_tokens(start, tmp_path):
    stage = dataclasses.replace(STAGE, loss="imitation")
    with pytest.raises(ValueError, match="stage 'tiny' imitates an encoder that it does not name; set its 'teacher'"):
        run(start, tmp_path / "none", stage)
    teacher = MultiVectorEncoder(str(start), device="cpu")
    smaller = torch.nn.Linear(32, 8, bias=False)
    teacher[1].linear, teacher[1].out_features = smaller, 8
    with pytest.raises(ValueError, match="the teacher must have the student's vocabulary and its .* dimensions"):
        run(start, tmp_path / "other", stage, teacher=teacher)


def test_invalid_settings_are_rejected_or_replaced(start, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="batch of 4 queries cannot be divided among processes=1 with accumulate=3"):
        run(start, tmp_path, accumulate=3)
    with pytest.raises(ValueError, match="line 1: document 'd0' is not in the collection"):
        distill(EXAMPLES, QUERIES, {}, STAGE, tmp_path, model=start, device="cpu")
    with pytest.raises(ValueError, match=r"has 3 documents, not 4"):
        run(start, tmp_path, dataclasses.replace(STAGE, n_ways=4))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.warns(UserWarning, match="There is no GPU for device='cuda'; the run continues on the CPU"):
        assert training_arguments.available_device("cuda") == "cpu"
    stage = dataclasses.replace(STAGE, precision="float16")
    with pytest.warns(UserWarning, match="precision='float16' needs a GPU; training on the CPU uses bfloat16"):
        arguments = training_arguments.trainer_arguments(stage, tmp_path, "cpu", 1)
    assert arguments.bf16
    assert not arguments.fp16


@pytest.mark.parametrize(
    ("nodes", "changes"),
    [
        (1, {}),
        (1, {"loss": "contrastive", "mini_batch_size": 1, "gradient_checkpointing": True}),
        pytest.param(2, {}, marks=pytest.mark.slow),
    ],
)
def test_two_processes_see_each_line_once(start, tmp_path, nodes, changes):
    """Runs on one node, and on two nodes with one process each, which connect as two machines do."""
    script = Path(__file__).with_name("train_in_two_processes.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = ["--nnodes", str(nodes), "--nproc-per-node", str(2 // nodes), "--master-addr", "127.0.0.1"]
    command = [sys.executable, "-m", "torch.distributed.run", *meeting, "--master-port", str(port)]
    launched = [
        subprocess.Popen(
            [*command, "--node-rank", str(node), str(script), str(start), str(tmp_path), json.dumps(changes)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment,
        )
        for node in range(nodes)
    ]  # fmt: skip
    for process in launched:
        errors = process.communicate()[1]
        assert process.returncode == 0, errors[-3000:]
    seen = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert all(seen)
    assert not set(seen[0]) & set(seen[1])
    assert sorted(seen[0] + seen[1]) == sorted(QUERIES)
    assert (tmp_path / "run" / "final" / "modules.json").is_file()


def test_the_plot_is_a_png(finished):
    pytest.importorskip("matplotlib")
    assert (finished / "training.png").read_bytes().startswith(b"\x89PNG")


def test_tensorboard_has_loss_and_held_out_measure(start, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setattr(training_arguments, "LOGGING_STEPS", 1)
    run(start, tmp_path, dataclasses.replace(STAGE, steps=2), tensorboard=True, evaluate=lambda model: 0.25)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    losses = [line["loss"] for line in log(tmp_path) if "loss" in line]
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(losses)
    assert [(event.step, event.value) for event in events.Scalars("train/held_out")] == [(2, 0.25)]


def test_missing_tensorboard_names_the_install_command(start, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        run(start, tmp_path, tensorboard=True)

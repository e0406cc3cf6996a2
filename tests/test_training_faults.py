"""Values that are not finite are never applied, saved, resumed from or returned: losses, gradients, weights, measures.

The first of four files on training with input that nobody chose: ``test_training_faults_losses.py`` has min-max, ties
and in-batch negatives, ``test_training_faults_files.py`` examples, and ``test_training_faults_averages.py`` averages.
"""

import copy
import dataclasses
import json
import math
import shutil

import pytest
import torch
from checkpoints import write_stanford_checkpoint
from safetensors.torch import load_file, save_file
from sentence_transformers import MultiVectorEncoder
from test_distill import STAGE, assert_same_weights, run, weights

from pyterrier_jacolbert.cli.parser import main
from pyterrier_jacolbert.train import Mining, Recipe, RecipeDataset, mine_recipe, select, soup, trainer
from pyterrier_jacolbert.train.losses import DistillationLoss


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return write_stanford_checkpoint(tmp_path_factory.mktemp("start") / "checkpoint", hidden=32, layers=1, heads=2)


def checkpoints(output):
    return sorted(folder.name for folder in output.glob("checkpoint-*"))


def spoil(folder, name="model.safetensors", value=math.nan):
    """Overwrites one value of a checkpoint's last tensor, and returns the name of the tensor."""
    tensors = load_file(folder / name)
    key = sorted(tensors)[-1]
    tensors[key].view(-1)[-1] = value
    save_file(tensors, folder / name, metadata={"format": "pt"})
    return key


@pytest.fixture
def fault(monkeypatch):
    """Returns a function that changes the loss of one forward pass, counted from 1."""
    original = DistillationLoss.forward

    def inject(number, change):
        calls = []

        def forward(self, features, labels):
            calls.append(1)
            loss = original(self, features, labels)
            return change(loss, self.model[1].linear.weight) if len(calls) == number else loss

        monkeypatch.setattr(DistillationLoss, "forward", forward)
        return lambda: monkeypatch.setattr(DistillationLoss, "forward", original)

    return inject


def nan_gradient(loss, weight):
    """Leaves the loss as it is; the derivative of the square root at 0 is infinite, and 0 times infinity is NaN."""
    return loss + (weight * 0.0).sqrt().sum()


def huge_gradient(loss, weight):
    """Gives finite gradients of 1e25, whose squares, which Adam averages, are infinite in float32."""
    return loss + ((weight - weight.detach()) * 1e25).sum()


CHANGES = {
    "nan": lambda loss, weight: loss * math.nan,
    "inf": lambda loss, weight: loss * math.inf,
    "nan gradient": nan_gradient,
    "huge gradient": huge_gradient,
}


@pytest.mark.parametrize("changes", [{}, {"schedule": "linear", "max_gradient_norm": 1.0, "precision": "bfloat16"}])
@pytest.mark.parametrize("change", CHANGES)
def test_a_faulty_step_is_named_and_never_applied(start, tmp_path, fault, change, changes):
    stage = dataclasses.replace(STAGE, steps=4, **changes)
    mend = fault(3, CHANGES[change])
    with pytest.raises(FloatingPointError, match=r"(loss|gradients) is (nan|inf) at step 3;.*checkpoint-2"):
        run(start, tmp_path / "run", stage)
    assert checkpoints(tmp_path / "run") == ["checkpoint-2"]
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "run" / "checkpoint-2").values())
    assert not (tmp_path / "run" / "final").exists()
    mend()
    run(start, tmp_path / "run", stage)
    run(start, tmp_path / "whole", stage)
    assert_same_weights(tmp_path / "run" / "final", tmp_path / "whole" / "final")


@pytest.mark.parametrize("number", [3, 4])
def test_each_accumulated_pass_is_looked_at(start, tmp_path, fault, number):
    fault(number, CHANGES["nan"])
    with pytest.raises(FloatingPointError, match="at step 2; lower learning_rate, or train in float32"):
        run(start, tmp_path, accumulate=2)
    assert checkpoints(tmp_path) == []


def test_weights_that_overflow_are_not_saved(start, tmp_path):
    stage = dataclasses.replace(STAGE, steps=1, learning_rate=1e25, weight_decay=1e20)
    with pytest.raises(
        FloatingPointError, match=r"student of step 1 has NaN or infinite (weights|optimizer state) in "
    ):
        run(start, tmp_path, stage)
    assert checkpoints(tmp_path) == []
    assert not (tmp_path / "final").exists()


class CPUScaler:
    """Gives trainers the gradient scaler that float16 has on a GPU."""

    def __init__(self, monkeypatch, limit=30):
        original = trainer.Trainer.create_accelerator_and_postprocess
        scalers = self.scalers = []

        def create(trainer):
            original(trainer)
            trainer.accelerator.scaler = torch.amp.GradScaler("cpu")
            scalers.append(trainer.accelerator.scaler)

        monkeypatch.setattr(trainer.Trainer, "create_accelerator_and_postprocess", create)
        monkeypatch.setattr(trainer, "_MAX_SKIPPED_STEPS", limit)


def test_a_gradient_scaler_may_skip_steps(start, tmp_path, fault, monkeypatch):
    scaler = CPUScaler(monkeypatch)
    fault(3, nan_gradient)
    final = run(start, tmp_path / "skips")
    assert scaler.scalers[0].get_scale() == 2**15  # halved once
    assert all(torch.isfinite(value).all() for value in weights(final).values())
    fault(3, CHANGES["nan"])  # a loss is not scaled, so the scaler cannot mend it
    with pytest.raises(FloatingPointError, match="The loss is nan at step 3"):
        run(start, tmp_path / "nan")


def test_a_gradient_scaler_may_not_skip_for_ever(start, tmp_path, monkeypatch):
    CPUScaler(monkeypatch, limit=3)
    original = DistillationLoss.forward
    monkeypatch.setattr(
        DistillationLoss, "forward",
        lambda self, features, labels: nan_gradient(original(self, features, labels), self.model[1].linear.weight),
    )  # fmt: skip
    with pytest.raises(FloatingPointError, match="gradients of the 3 steps before step 4 "):
        run(start, tmp_path)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_student_that_starts_non_finite_is_refused(start, tmp_path, value):
    student = MultiVectorEncoder(str(start), device="cpu")
    with torch.no_grad():
        student[1].linear.weight[3, 5] = value
    with pytest.raises(FloatingPointError, match=r"stage 'tiny' starts from .*linear\.weight"):
        run(student, tmp_path)
    imitation = dataclasses.replace(STAGE, loss="imitation")
    with pytest.raises(FloatingPointError, match=r"teacher of stage 'tiny' .*linear\.weight"):
        run(start, tmp_path, imitation, teacher=student)


@pytest.fixture(scope="module")
def halfway(start, tmp_path_factory):
    """A run that was stopped after step 4 of 6, and the same run without a stop."""
    folder = tmp_path_factory.mktemp("halfway")
    measures = iter([0.5])
    with pytest.raises(StopIteration):
        run(start, folder / "stopped", evaluate=lambda model: next(measures))
    run(start, folder / "whole")
    return folder


def _spoil_second_weights(folder):
    state = torch.load(folder / "optimizer.pt", weights_only=True)
    state["state"][0]["z"].view(-1)[0] = math.nan
    torch.save(state, folder / "optimizer.pt")


@pytest.mark.parametrize(
    "change", [spoil, _spoil_second_weights, lambda folder: spoil(folder, "1_Dense/model.safetensors")]
)
def test_a_run_resumes_from_the_last_finite_checkpoint(start, halfway, tmp_path, change):
    output = shutil.copytree(halfway / "stopped", tmp_path / "run")
    change(output / "checkpoint-4")
    with pytest.warns(UserWarning, match=r"resumes from .*checkpoint-2.* because of checkpoint-4: NaN or infinite"):
        final = run(start, output)
    assert all(torch.isfinite(value).all() for value in weights(final).values())
    assert json.loads((output / "checkpoint-6" / "trainer_state.json").read_text())["global_step"] == 6


def test_a_run_without_a_finite_checkpoint_stops(start, halfway, tmp_path):
    output = shutil.copytree(halfway / "stopped", tmp_path / "run")
    names = [spoil(folder) for folder in output.glob("checkpoint-*")]
    with pytest.raises(FloatingPointError, match=f"checkpoint-4: .*{names[0]}.*checkpoint-2: .*{names[0]}"):
        run(start, output)
    assert checkpoints(output) == ["checkpoint-2", "checkpoint-4"]


def test_a_non_finite_result_is_not_returned(start, halfway, tmp_path):
    output = shutil.copytree(halfway / "whole", tmp_path / "run")
    name = spoil(output / "final")
    with pytest.raises(FloatingPointError, match=f"final .*{name}"):
        run(start, output)


def test_a_student_in_half_precision_is_trained_in_float32(start, halfway, tmp_path):
    """Its weights are float32 throughout, as the documentation says: the same as of a student widened beforehand."""
    half = MultiVectorEncoder(str(start), device="cpu").to(torch.bfloat16)
    run(copy.deepcopy(half).float(), tmp_path / "widened")
    assert_same_weights(run(half, tmp_path / "half"), tmp_path / "widened" / "final")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_held_out_measure_that_is_nan_stops_the_run(start, halfway, tmp_path, value):
    with pytest.raises(FloatingPointError, match=f"held-out measure is {value} at step 2"):
        run(start, tmp_path, evaluate=lambda model: value)
    assert_same_weights(run(start, tmp_path, evaluate=lambda model: 0.5), halfway / "whole" / "final")
    for rank in (lambda measure: select([start], measure), lambda measure: soup([start], measure, out=tmp_path / "s")):
        with pytest.raises(ValueError, match=f"{start.name}.* {value}"):
            rank(lambda model: value)


def test_the_command_line_reports_a_faulty_step_in_one_line(start, tmp_path, fault, capsys):
    stage = dataclasses.replace(STAGE, start=str(start), examples="mined.jsonl", n_ways=4)
    recipe = Recipe(
        "r",
        (stage,),
        datasets=(RecipeDataset("demo", "jacolbert:demo"),),
        mining=(Mining("mined.jsonl", ("bm25",), n_ways=4, queries=9),),
    )
    recipe.write(tmp_path / "r.yaml")
    mine_recipe(recipe, tmp_path / "r", verbose=False)
    fault(2, CHANGES["nan"])
    assert main(["train", str(tmp_path / "r.yaml"), "--device", "cpu"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert "The loss is nan at step 2" in errors[-1]

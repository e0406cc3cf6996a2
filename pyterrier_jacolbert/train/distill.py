"""The trainer: n-way distillation on Sentence Transformers' MultiVectorEncoderTrainer.

What it adds: the recipe's losses, schedule-free optimisation whose every checkpoint holds the averaged weights,
examples by id joined with their texts, a check on held-out data with early notice of divergence, and a log and a plot.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers import (
    MultiVectorEncoder,
    MultiVectorEncoderTrainer,
    MultiVectorEncoderTrainingArguments,
)
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState
from transformers.integrations import TensorBoardCallback

from pyterrier_jacolbert.checkpoint import load_checkpoint
from pyterrier_jacolbert.train import joined
from pyterrier_jacolbert.train.examples import Example
from pyterrier_jacolbert.train.losses import DistillationLoss, ImitationLoss
from pyterrier_jacolbert.train.recipe import Recipe, Stage

if TYPE_CHECKING:
    from pyterrier_jacolbert.model import JaColBERT

#: A held-out measure that falls by this much below its best brings a warning.
_DIVERGENCE = 0.05
LOG_FILE = "log.jsonl"
#: Steps between the lines of the log.
LOGGING_STEPS = 10


def distill(
    examples: Iterable[Example],
    queries: Mapping[str, str],
    documents: Mapping[str, str],
    stage: Stage,
    output: str | Path,
    *,
    model: str | Path | MultiVectorEncoder | None = None,
    teacher: str | Path | MultiVectorEncoder | None = None,
    device: str | None = None,
    accumulate: int = 1,
    mini_batch_size: int | None = None,
    evaluate: Callable[[JaColBERT], float] | None = None,
    deterministic: bool = False,
    tensorboard: bool = False,
    verbose: bool = True,
) -> Path:
    """Runs a stage, or takes it up where it was interrupted.

    The folder holds ``checkpoint-N`` every ``stage.save_every`` steps, each an ordinary checkpoint of the averaged
    weights with what a resumed run needs beside it; ``log.jsonl``; ``training.png`` where matplotlib is installed; and
    in the end ``final``, with the stage in ``recipe.yaml``. A run that finds checkpoints there goes on from the last
    one, and gives the weights that it would have given without the interruption. A run that finds ``final`` returns it.

    While it runs, ``texts`` holds the examples joined with their texts, which are mapped from there: memory holds the
    ids of the documents, once each, whatever the number of examples.

    With several processes (``torchrun --nproc-per-node 4 ...``) each sees its own share of the examples.

    Args:
        examples: n-way and scored, the positive first.
        queries: the text of a qid.
        documents: the text of a docno.
        stage: the settings.
        output: the folder of the run.
        model: the checkpoint to start from; None takes ``stage.start``.
        teacher: the encoder that a stage of imitation imitates; None takes ``stage.teacher``.
        device: ``"cpu"``, ``"cuda"``, ...; None takes a GPU if there is one. A GPU that is asked for and missing is
            replaced by the CPU, with a warning.
        accumulate: forward and backward passes a step; divides the memory that a batch takes.
        mini_batch_size: documents a forward pass; None takes all at once.
        evaluate: measures a checkpoint on held-out data, more is better; called at each save.
        deterministic: whether to forbid torch's nondeterministic algorithms.
        tensorboard: whether to write TensorBoard's files too, into ``tensorboard`` (extra ``plot``).
        verbose: whether to print progress: loss, learning rate, examples per second and time left.

    Returns:
        The folder of the final checkpoint.

    Raises:
        ValueError: examples that :func:`~pyterrier_jacolbert.train.examples.validate` refuses; a batch size that the
            processes and passes do not divide; an imitation without a teacher, or with one of other tokens or
            dimensions.
        FloatingPointError: the loss became NaN or infinite; the last checkpoint before it stays.
        KeyboardInterrupt: after a checkpoint was saved; the message says how to go on.
    """
    output = Path(output)
    final = output / "final"
    if (final / "modules.json").is_file():
        return final
    device = _available(device)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if stage.batch_size % (processes * accumulate):
        raise ValueError(
            f"The batch of {stage.batch_size} queries is not divided by {processes} processes with {accumulate} passes "
            "each; change one of them."
        )
    arguments = _arguments(stage, output, device, stage.batch_size // (processes * accumulate), accumulate)
    arguments.full_determinism = deterministic
    texts = output / "texts"
    progress = _Progress(output, stage, evaluate, verbose)
    checkpoints = _checkpoints(output)
    # The trainer would take one more step after the last.
    complete = bool(checkpoints) and _is_last(checkpoints[-1], stage)

    def finish(model: MultiVectorEncoder) -> None:
        _save_whole(model, stage, final)
        _remove(texts)
        progress.plot()

    with arguments.main_process_first(local=False):
        if arguments.process_index == 0:
            if complete:
                finish(load_checkpoint(str(checkpoints[-1]), None, device))
            else:
                joined.write(examples, queries, documents, stage, texts)
    if complete:
        return final
    student = _student(model if model is not None else stage.start, stage, device)
    loss = _loss(student, stage, teacher, mini_batch_size, device)
    trainer = _Trainer(
        model=student,
        args=arguments,
        train_dataset=joined.read(texts),
        loss=loss,
        callbacks=[progress, *([_tensorboard(output)] if tensorboard else [])],
    )
    trainer.remove_callback(PrinterCallback)
    progress.trainer = trainer
    progress.start(resumed=bool(checkpoints))
    with _saves_on_interrupt(progress):
        trainer.train(resume_from_checkpoint=str(checkpoints[-1]) if checkpoints else None)
    if progress.interrupted:
        raise KeyboardInterrupt(f"Stopped at step {trainer.state.global_step}, which is saved; run it again to go on.")
    if trainer.is_world_process_zero():
        with trainer.averaged_weights():
            finish(student)
    trainer.accelerator.wait_for_everyone()
    return final


class _Trainer(MultiVectorEncoderTrainer):
    """The trainer whose checkpoints hold the averaged weights of a schedule-free optimiser.

    The fork's intermediate checkpoints held the weights at which gradients are taken instead.
    """

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Within the block the model holds the averaged weights; the next training step moves them back."""
        if self.optimizer is not None and hasattr(self.optimizer, "eval"):
            self.optimizer.eval()
        self.model.eval()
        yield

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Adds none: it would quote training texts in the card. ``recipe.yaml`` says what was done."""

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:  # noqa: ANN401
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        try:
            with self.averaged_weights():
                super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            _remove(folder)
            raise OSError(
                f"The checkpoint of step {self.state.global_step} could not be saved ({error}), and earlier ones are "
                "whole: make room and run it again to go on from the last."
            ) from error
        if self.is_world_process_zero():
            # Only the last checkpoint is ever resumed, and the optimizer's state is twice the weights.
            for older in _checkpoints(Path(str(self.args.output_dir)))[:-1]:
                (older / "optimizer.pt").unlink(missing_ok=True)


class _Progress(TrainerCallback):
    """Log, progress line, held-out measure, early notice of divergence, plot."""

    def __init__(
        self, output: Path, stage: Stage, evaluate: Callable[[JaColBERT], float] | None, verbose: bool
    ) -> None:
        self.trainer: _Trainer | None = None
        self.interrupted = False
        self._output = output
        self._stage = stage
        self._evaluate = evaluate
        self._verbose = verbose
        self._begun = (0.0, 0)
        self._best = -math.inf

    def start(self, *, resumed: bool) -> None:
        """Keeps the log of a run that goes on, and begins one otherwise."""
        self._output.mkdir(parents=True, exist_ok=True)
        if not resumed:
            (self._output / LOG_FILE).unlink(missing_ok=True)

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:  # noqa: ANN401
        """Drops what the log holds beyond the step that is resumed."""
        self._begun = (time.monotonic(), state.global_step)
        if state.is_world_process_zero:
            kept = [line for line in self._lines() if line["step"] <= state.global_step]
            self._best = max([line["held_out"] for line in kept if "held_out" in line], default=-math.inf)
            text = "".join(json.dumps(line) + "\n" for line in kept)
            (self._output / LOG_FILE).write_text(text, encoding="utf-8")

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:  # noqa: ANN401
        """Stops with a checkpoint after an interrupt."""
        if self.interrupted:
            control.should_save = control.should_training_stop = True

    def on_log(
        self,
        args: Any,  # noqa: ANN401
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Writes a line of the log, and stops at a loss that is no number."""
        if logs is None or "loss" not in logs:
            return
        if not math.isfinite(float(logs["loss"])):
            raise FloatingPointError(
                f"The loss is {logs['loss']} at step {state.global_step}; lower learning_rate, or train in float32."
            )
        if not state.is_world_process_zero:
            return
        began, first = self._begun
        rate = (state.global_step - first) / max(time.monotonic() - began, 1e-9)
        line = {
            "step": state.global_step,
            "loss": float(logs["loss"]),
            "learning_rate": self._learning_rate(),
            "examples_per_second": rate * self._stage.batch_size,
        }
        self._append(line)
        if self._verbose:
            left = (state.max_steps - state.global_step) / max(rate, 1e-9)
            print(
                f"{self._stage.name} {state.global_step}/{state.max_steps}  loss {line['loss']:.5f}  "
                f"lr {line['learning_rate']:.2e}  {line['examples_per_second']:.1f} examples/s  {_clock(left)} left",
                flush=True,
            )

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:  # noqa: ANN401
        """Measures the checkpoint that was just saved, on held-out data."""
        if self._evaluate is None or not state.is_world_process_zero or self.trainer is None:
            return
        from pyterrier_jacolbert.model import JaColBERT

        student = self.trainer.model
        with torch.random.fork_rng(), self.trainer.averaged_weights():
            found = float(self._evaluate(JaColBERT(student)))
        self._append({"step": state.global_step, "held_out": found})
        self.trainer.log({"held_out": found})
        if self._verbose:
            print(f"{self._stage.name} {state.global_step}  held-out measure {found:.4f}", flush=True)
        if found < self._best - _DIVERGENCE:
            warnings.warn(
                f"The held-out measure fell from {self._best:.4f} to {found:.4f} at step {state.global_step}: the run "
                "may be diverging; lower learning_rate.",
                stacklevel=2,
            )
        self._best = max(self._best, found)

    def plot(self) -> None:
        """Draws loss and held-out measure over the steps, where matplotlib is installed."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            return
        lines = self._lines()
        losses = [(line["step"], line["loss"]) for line in lines if "loss" in line]
        measures = [(line["step"], line["held_out"]) for line in lines if "held_out" in line]
        figure = Figure(figsize=(7, 4), layout="constrained")
        axis = figure.add_subplot(
            xlabel="step", ylabel="training loss", title=f"{self._stage.name} ({self._stage.loss})"
        )
        axis.plot(*zip(*losses, strict=True), color="tab:blue", label="training loss")
        if measures:
            other = axis.twinx()
            other.set_ylabel("held-out measure")
            other.plot(*zip(*measures, strict=True), color="tab:orange", marker="o", label="held-out measure")
        if losses or measures:
            figure.legend(loc="outside lower center", ncols=2)
        figure.savefig(self._output / "training.png", dpi=150)

    def _learning_rate(self) -> float:
        optimizer = self.trainer.optimizer if self.trainer is not None else None
        group = optimizer.param_groups[0] if optimizer is not None else {}
        return float(group.get("scheduled_lr", group.get("lr", 0.0)))

    def _append(self, line: dict[str, float]) -> None:
        with (self._output / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _lines(self) -> list[dict[str, float]]:
        path = self._output / LOG_FILE
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def _tensorboard(output: Path) -> TrainerCallback:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ImportError("tensorboard=True needs TensorBoard: pip install tensorboard") from None
    return TensorBoardCallback(SummaryWriter(str(output / "tensorboard")))


def _available(device: str | None) -> str:
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        warnings.warn(f"There is no GPU for device={device!r}; training goes on on the CPU.", stacklevel=3)
        return "cpu"
    return device


def _student(model: str | Path | MultiVectorEncoder, stage: Stage, device: str) -> MultiVectorEncoder:
    student = model if isinstance(model, MultiVectorEncoder) else load_checkpoint(str(model), None, device)
    _plain_attention(student, device)
    backbone: Any = student[0]
    if stage.dropout is not None:
        for module in student.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = stage.dropout
    backbone.document_length = stage.document_length
    if backbone.query_expansion is not None:
        backbone.query_expansion = {**backbone.query_expansion, "length": stage.query_length}
    else:
        backbone.query_length = stage.query_length
    return student


def _loss(
    student: MultiVectorEncoder,
    stage: Stage,
    teacher: str | Path | MultiVectorEncoder | None,
    mini_batch_size: int | None,
    device: str,
) -> torch.nn.Module:
    if stage.loss != "imitation":
        return DistillationLoss(student, stage, mini_batch_size)
    teacher = teacher if teacher is not None else stage.teacher
    if teacher is None:
        raise ValueError(f"The stage {stage.name!r} imitates an encoder, and names none; give it 'teacher'.")
    if not isinstance(teacher, MultiVectorEncoder):
        teacher = load_checkpoint(str(teacher), None, device)
    _plain_attention(teacher, device)
    return ImitationLoss(student, teacher.to(device), mini_batch_size)


def _plain_attention(model: MultiVectorEncoder, device: str) -> None:
    if device == "cpu":
        # torch's fused attention is 5 to 10 % slower than plain products here (forward and backward, 64 x 128 tokens).
        backbone: Any = model[0]
        backbone.model.set_attn_implementation("eager")


def _arguments(
    stage: Stage, output: Path, device: str, batch: int, accumulate: int
) -> MultiVectorEncoderTrainingArguments:
    precision = stage.precision
    if precision == "float16" and device == "cpu":
        warnings.warn("A CPU does not train in float16; the products are done in bfloat16.", stacklevel=3)
        precision = "bfloat16"
    schedule_free = stage.schedule == "schedule_free"
    return MultiVectorEncoderTrainingArguments(
        output_dir=str(output),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulate,
        num_train_epochs=1,
        max_steps=stage.steps or -1,
        optim="schedule_free_adamw" if schedule_free else "adamw_torch",
        # schedulefree warms up by itself.
        lr_scheduler_type="constant" if schedule_free else _SCHEDULES[stage.schedule],
        learning_rate=stage.learning_rate,
        warmup_steps=stage.warmup_steps,
        weight_decay=stage.weight_decay,
        max_grad_norm=stage.max_gradient_norm,
        bf16=precision == "bfloat16",
        fp16=precision == "float16",
        use_cpu=device == "cpu",
        seed=stage.seed,
        data_seed=stage.seed,
        # A last batch that not every process has would leave the others waiting.
        dataloader_drop_last=int(os.environ.get("WORLD_SIZE", "1")) > 1,
        save_strategy="steps",
        save_steps=stage.save_every,
        logging_steps=LOGGING_STEPS,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",
    )


_SCHEDULES = {"linear": "linear", "constant": "constant_with_warmup"}


@contextmanager
def _saves_on_interrupt(progress: _Progress) -> Iterator[None]:
    """Ctrl-C asks for a checkpoint after the current step; a second one stops at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: object) -> None:
        if progress.interrupted:
            raise KeyboardInterrupt
        progress.interrupted = True
        print("Interrupted: saving a checkpoint after this step (Ctrl-C again stops at once).", flush=True)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _checkpoints(output: Path) -> list[Path]:
    """The whole checkpoints of a run, earliest first: trainer_state.json is the last file of one."""
    found = [folder for folder in output.glob("checkpoint-*") if (folder / "trainer_state.json").is_file()]
    return sorted(found, key=lambda folder: int(folder.name.rpartition("-")[2]))


def _is_last(checkpoint: Path, stage: Stage) -> bool:
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return state["global_step"] >= (stage.steps or state["max_steps"])


def _save_whole(model: MultiVectorEncoder, stage: Stage, folder: Path) -> None:
    side = folder.with_name(f".{folder.name}.saving")
    _remove(side)
    model.save_pretrained(str(side))
    Recipe(stage.name, (stage,)).write(side / "recipe.yaml")
    _remove(folder)
    side.rename(folder)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _clock(seconds: float) -> str:
    minutes = int(seconds // 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {int(seconds % 60):02d} s"

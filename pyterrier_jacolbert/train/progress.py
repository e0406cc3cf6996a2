"""Monitoring of a training run: log, progress line, held-out measure, divergence warnings, and a plot."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.integrations.integration_utils import TensorBoardCallback

from pyterrier_jacolbert.index.storage.atomic import replacing
from pyterrier_jacolbert.plots.training import read_log
from pyterrier_jacolbert.train.stages import Stage
from pyterrier_jacolbert.train.trainer import Trainer

if TYPE_CHECKING:
    from pyterrier_jacolbert.model import JaColBERT

#: Drop of the held-out measure below its best that triggers a warning.
_DIVERGENCE = 0.05
LOG_FILE = "log.jsonl"


class Progress(TrainerCallback):
    """A callback that writes the log and the progress line, evaluates checkpoints, warns of divergence, and plots.

    Args:
        output: folder of the run.
        stage: settings of the stage.
        evaluate: measure of a checkpoint on held-out data, where more is better; None skips the evaluation.
        verbose: whether to print progress.
    """

    def __init__(
        self, output: Path, stage: Stage, evaluate: Callable[[JaColBERT], float] | None, verbose: bool
    ) -> None:
        self.trainer: Trainer | None = None
        self.interrupted = False
        self._output = output
        self._stage = stage
        self._evaluate = evaluate
        self._verbose = verbose
        self._start_time_and_step = (0.0, 0)
        self._best = -math.inf

    def start(self, *, resumed: bool) -> None:
        """Creates the output folder, and removes an old log unless the run is resumed."""
        self._output.mkdir(parents=True, exist_ok=True)
        if not resumed:
            (self._output / LOG_FILE).unlink(missing_ok=True)

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Removes the log lines of steps after the one from which the run resumes."""
        self._start_time_and_step = (time.monotonic(), state.global_step)
        if state.is_world_process_zero:
            kept = [line for line in self._read_log() if line["step"] <= state.global_step]
            self._best = max([line["held_out"] for line in kept if "held_out" in line], default=-math.inf)
            with replacing(self._output / LOG_FILE) as file:
                file.writelines(json.dumps(line) + "\n" for line in kept)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Saves a checkpoint and stops after an interrupt."""
        if self.interrupted:
            control.should_save = control.should_training_stop = True

    def on_log(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Writes a line of the log."""
        if logs is None or "loss" not in logs:
            return
        if not state.is_world_process_zero:
            return
        start_time, start_step = self._start_time_and_step
        steps_per_second = (state.global_step - start_step) / max(time.monotonic() - start_time, 1e-9)
        line = {
            "step": state.global_step,
            "loss": float(logs["loss"]),
            "learning_rate": self._learning_rate(),
            "examples_per_second": steps_per_second * self._stage.batch_size,
        }
        self._append(line)
        if self._verbose:
            seconds_left = (state.max_steps - state.global_step) / max(steps_per_second, 1e-9)
            print(
                f"{self._stage.name} {state.global_step}/{state.max_steps}  loss {line['loss']:.5f}  "
                f"lr {line['learning_rate']:.2e}  {line['examples_per_second']:.1f} examples/s  "
                f"{_format_duration(seconds_left)} left",
                flush=True,
            )

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Evaluates the saved checkpoint on held-out data, and warns if the measure fell.

        Raises:
            FloatingPointError: the measure is NaN or infinite, so checkpoints cannot be compared.
        """
        if self._evaluate is None or not state.is_world_process_zero or self.trainer is None:
            return
        from pyterrier_jacolbert.model import JaColBERT

        student = self.trainer.model
        with torch.random.fork_rng(), self.trainer.averaged_weights():
            measure = float(self._evaluate(JaColBERT(student)))
        if not math.isfinite(measure):
            raise FloatingPointError(
                f"The held-out measure is {measure} at step {state.global_step}, whose checkpoint is complete; repair "
                "'evaluate', and run it again to resume from there."
            )
        self._append({"step": state.global_step, "held_out": measure})
        self.trainer.log({"held_out": measure})
        if self._verbose:
            print(f"{self._stage.name} {state.global_step}  held-out measure {measure:.4f}", flush=True)
        if measure < self._best - _DIVERGENCE:
            warnings.warn(
                f"The held-out measure fell from {self._best:.4f} to {measure:.4f} at step {state.global_step}: the "
                "run may be diverging; lower learning_rate.",
                stacklevel=2,
            )
        self._best = max(self._best, measure)

    def plot(self) -> None:
        """Saves a plot of the loss and the held-out measure over the steps, if matplotlib is installed."""
        from pyterrier_jacolbert.plots.training import plot_training

        try:
            figure = plot_training(self._output)
        except ImportError:
            return
        figure.axes[0].set_title(f"{self._stage.name} ({self._stage.loss})", loc="left", fontsize=11)
        figure.savefig(self._output / "training.png", dpi=150)

    def _learning_rate(self) -> float:
        optimizer = self.trainer.optimizer if self.trainer is not None else None
        group = optimizer.param_groups[0] if optimizer is not None else {}
        return float(group.get("scheduled_lr", group.get("lr", 0.0)))

    def _append(self, line: dict[str, float]) -> None:
        with (self._output / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _read_log(self) -> list[dict[str, float]]:
        path = self._output / LOG_FILE
        return read_log(path) if path.is_file() else []


@contextmanager
def checkpoint_on_interrupt(progress: Progress) -> Iterator[None]:
    """Makes Ctrl-C request a checkpoint after the current step; a second Ctrl-C stops at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def request_checkpoint(number: int, frame: object) -> None:
        if progress.interrupted:
            raise KeyboardInterrupt
        progress.interrupted = True
        print("Interrupted: saving a checkpoint after this step (press Ctrl-C again to stop at once).", flush=True)

    previous = signal.signal(signal.SIGINT, request_checkpoint)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def tensorboard_callback(output: Path) -> TrainerCallback:
    """Returns a callback that also writes the log as TensorBoard files, to the folder ``tensorboard``.

    Args:
        output: folder of the run.

    Raises:
        ImportError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ImportError("tensorboard=True needs TensorBoard: pip install tensorboard") from None
    return TensorBoardCallback(  # type: ignore[no-untyped-call] # transformers does not annotate it
        SummaryWriter(str(output / "tensorboard"))
    )


def _format_duration(seconds: float) -> str:
    minutes = int(seconds // 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {int(seconds % 60):02d} s"

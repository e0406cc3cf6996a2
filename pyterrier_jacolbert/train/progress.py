"""What a training run says of itself: log, progress, held-out measure, early notice of divergence, and a plot."""

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

from pyterrier_jacolbert.train.recipe import Stage
from pyterrier_jacolbert.train.trainer import Trainer

if TYPE_CHECKING:
    from pyterrier_jacolbert.model import JaColBERT

#: A held-out measure that falls by this much below its best brings a warning.
_DIVERGENCE = 0.05
LOG_FILE = "log.jsonl"


class Progress(TrainerCallback):
    """Log, progress line, held-out measure, early notice of divergence, plot."""

    def __init__(
        self, output: Path, stage: Stage, evaluate: Callable[[JaColBERT], float] | None, verbose: bool
    ) -> None:
        self.trainer: Trainer | None = None
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
        from pyterrier_jacolbert.plots import plot_training

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

    def _lines(self) -> list[dict[str, float]]:
        path = self._output / LOG_FILE
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


@contextmanager
def saves_on_interrupt(progress: Progress) -> Iterator[None]:
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


def tensorboard_files(output: Path) -> TrainerCallback:
    """Writes the log as TensorBoard files too, into ``tensorboard``.

    Raises:
        ImportError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ImportError("tensorboard=True needs TensorBoard: pip install tensorboard") from None
    return TensorBoardCallback(  # type: ignore[no-untyped-call] # transformers' has no types
        SummaryWriter(str(output / "tensorboard"))
    )


def _clock(seconds: float) -> str:
    minutes = int(seconds // 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {int(seconds % 60):02d} s"

"""Sentence Transformers' trainer with checkpoints of averaged weights, and a look at every step for NaN."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import MultiVectorEncoderTrainer

from pyterrier_jacolbert.encoding.checkpoint import load_checkpoint, without_progress_bars
from pyterrier_jacolbert.train.finite import check_weights, checkpoint_fault, nonfinite_name, optimizer_tensors

#: Steps in a row that the gradient scaler of float16 may skip. It halves its scale at each of them, from 65,536, so by
#: then gradients are infinite or NaN whatever the scale.
_MAX_SKIPPED_STEPS = 30


class Trainer(MultiVectorEncoderTrainer):
    """A trainer whose checkpoints hold the averaged weights of a schedule-free optimizer, and are finite.

    The intermediate checkpoints of the author's fork held the weights at which gradients are taken instead.

    Each step looks at its loss and at the norm of its gradients before the optimizer applies them, which costs one
    synchronisation with the device per step.
    """

    _loss_of_step: torch.Tensor | None = None
    _skipped_steps = 0

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Runs a forward and a backward pass.

        Args:
            model: student, perhaps wrapped for several processes.
            inputs: features of the batch.
            num_items_in_batch: passed on.

        Returns:
            The loss of the pass, a scalar.

        Raises:
            FloatingPointError: at the last pass of a step, if the loss or a gradient is NaN or infinite. The optimizer
                has not applied the gradients yet.
        """
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._loss_of_step = loss if self._loss_of_step is None else self._loss_of_step + loss
        if self.accelerator.sync_gradients:
            self._check_step(self._loss_of_step)
            self._loss_of_step = None
        return loss

    def _check_step(self, loss: torch.Tensor) -> None:
        step = self.state.global_step + 1
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        if self.accelerator.scaler is not None:
            # Gradients are scaled here, and the scaler skips steps in which they overflow; a few are normal.
            self._skipped_steps = self._skipped_steps + 1 if self.accelerator.optimizer_step_was_skipped else 0
            if self._skipped_steps >= _MAX_SKIPPED_STEPS:
                raise FloatingPointError(
                    f"The gradients of the {self._skipped_steps} steps before step {step} were NaN or infinite in "
                    f"float16; {self._remedy()}."
                )
            gradients = []
        norm = torch.nn.utils.get_total_norm(gradients).to(loss.device)
        loss_value, norm_value = torch.stack([loss.float(), norm.float()]).tolist()
        for name, value in (("loss", loss_value), ("norm of the gradients", norm_value)):
            if not math.isfinite(value):
                raise FloatingPointError(f"The {name} is {value} at step {step}; {self._remedy()}.")

    def _remedy(self) -> str:
        earlier = complete_checkpoints(Path(str(self.args.output_dir)))
        if not earlier:
            return "lower learning_rate, or train in float32"
        # A resumed optimizer keeps its own learning rate.
        return (
            f"lower learning_rate and start another run from {earlier[-1]}, the last good checkpoint, or train in "
            "float32 and run it again to resume from there"
        )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        # Sentence Transformers would add a random pooler to a student that has none, and then refuse it.
        loaded = load_checkpoint(resume_from_checkpoint, None, "cpu")
        (self.model if model is None else model).load_state_dict(loaded.state_dict())

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Puts the averaged weights into the model; the next training step restores the others."""
        if self.optimizer is not None and hasattr(self.optimizer, "eval"):
            self.optimizer.eval()
        self.model.eval()
        yield

    def check_weights(self) -> None:
        """Checks that the weights in the model and the state of the optimizer are finite.

        Raises:
            FloatingPointError: a tensor has a NaN or infinite value; the message names it and the step.
        """
        owner = f"The student of step {self.state.global_step}"
        check_weights(self.model, owner, self._remedy())
        if self.optimizer is not None:
            name = nonfinite_name(optimizer_tensors(self.model, self.optimizer))
            if name is not None:
                raise FloatingPointError(f"{owner} has NaN or infinite optimizer state in {name!r}; {self._remedy()}.")

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Does nothing, because the callback would quote training texts in the card; ``stage.yaml`` has the settings.

        Args:
            default_args_dict: ignored.
        """

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        try:
            with self.averaged_weights(), without_progress_bars():
                self.check_weights()
                super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            shutil.rmtree(folder, ignore_errors=True)
            raise OSError(
                f"The checkpoint of step {self.state.global_step} could not be saved ({error}). Earlier ones are "
                "complete: free some space, and run it again to resume from the last one."
            ) from error
        if self.is_world_process_zero():
            # A run resumes only from the last checkpoint, and the optimizer state is twice as large as the weights.
            for older in complete_checkpoints(Path(str(self.args.output_dir)))[:-1]:
                (older / "optimizer.pt").unlink(missing_ok=True)


def complete_checkpoints(output: Path) -> list[Path]:
    """Returns the complete checkpoints of a run in order of steps.

    A checkpoint is complete if it has a whole trainer_state.json, which is written last.
    """
    complete = [folder for folder in output.glob("checkpoint-*") if _has_state(folder)]
    return sorted(complete, key=lambda folder: int(folder.name.rpartition("-")[2]))


def _has_state(folder: Path) -> bool:
    try:
        json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    return True


def last_good_checkpoint(output: Path) -> Path | None:
    """Returns the last complete checkpoint whose weights and optimizer state are finite; None without checkpoints.

    Args:
        output: folder of the run.

    Raises:
        FloatingPointError: no complete checkpoint is good.

    Warns:
        UserWarning: a later checkpoint is left out; the message names it and its fault.
    """
    faults: list[str] = []
    for folder in reversed(complete_checkpoints(output)):
        fault = checkpoint_fault(folder)
        if fault is None:
            if faults:
                lost = "" if (folder / "optimizer.pt").is_file() else ", whose optimizer starts afresh"
                warnings.warn(f"The run resumes from {folder}{lost}, because of {'; '.join(faults)}.", stacklevel=3)
            return folder
        faults.append(f"{folder.name}: {fault}")
    if faults:
        raise FloatingPointError(
            f"The run in {output} cannot resume, because of {'; '.join(faults)}; remove these folders to start again."
        )
    return None

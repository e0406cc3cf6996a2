"""Sentence Transformers' trainer with checkpoints of averaged weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import MultiVectorEncoderTrainer

from pyterrier_jacolbert.encoding.checkpoint import without_progress_bars


class Trainer(MultiVectorEncoderTrainer):
    """A trainer whose checkpoints hold the averaged weights of a schedule-free optimizer.

    The intermediate checkpoints of the author's fork held the weights at which gradients are taken instead.
    """

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Puts the averaged weights into the model; the next training step restores the others."""
        if self.optimizer is not None and hasattr(self.optimizer, "eval"):
            self.optimizer.eval()
        self.model.eval()
        yield

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Does nothing, because the callback would quote training texts in the card; ``recipe.yaml`` has the settings.

        Args:
            default_args_dict: ignored.
        """

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        try:
            with self.averaged_weights(), without_progress_bars():
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

    A checkpoint is complete if it has trainer_state.json, which is written last.
    """
    complete = [folder for folder in output.glob("checkpoint-*") if (folder / "trainer_state.json").is_file()]
    return sorted(complete, key=lambda folder: int(folder.name.rpartition("-")[2]))

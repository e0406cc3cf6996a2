"""Sentence Transformers' trainer, whose checkpoints hold the averaged weights of a schedule-free optimiser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import MultiVectorEncoderTrainer

from pyterrier_jacolbert.checkpoint import without_bars


class Trainer(MultiVectorEncoderTrainer):
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
            with self.averaged_weights(), without_bars():
                super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            shutil.rmtree(folder, ignore_errors=True)
            raise OSError(
                f"The checkpoint of step {self.state.global_step} could not be saved ({error}), and earlier ones are "
                "whole: make room and run it again to go on from the last."
            ) from error
        if self.is_world_process_zero():
            # Only the last checkpoint is ever resumed, and the optimizer's state is twice the weights.
            for older in whole_checkpoints(Path(str(self.args.output_dir)))[:-1]:
                (older / "optimizer.pt").unlink(missing_ok=True)


def whole_checkpoints(output: Path) -> list[Path]:
    """The whole checkpoints of a run, earliest first: trainer_state.json is the last file of one."""
    found = [folder for folder in output.glob("checkpoint-*") if (folder / "trainer_state.json").is_file()]
    return sorted(found, key=lambda folder: int(folder.name.rpartition("-")[2]))

"""Arguments of Sentence Transformers' trainer for a stage."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch
from sentence_transformers import MultiVectorEncoderTrainingArguments

from pyterrier_jacolbert.train.stages import Stage

#: Steps between lines of the log.
LOGGING_STEPS = 10

_TRANSFORMERS_SCHEDULES = {"linear": "linear", "constant": "constant_with_warmup"}


def available_device(device: str | None) -> str:
    """Returns the device to mine or train on, and warns if a requested GPU is missing.

    Args:
        device: requested device; None selects a GPU if there is one.
    """
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        warnings.warn(f"There is no GPU for device={device!r}; the run continues on the CPU.", stacklevel=3)
        return "cpu"
    return device


def n_processes() -> int:
    """Returns the number of processes that torchrun started; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def queries_per_pass(stage: Stage, accumulate: int) -> int:
    """Returns the number of queries per process and forward pass.

    Raises:
        ValueError: the batch size is not divisible by the number of processes times passes, or a contrastive pass has
            no negatives.
    """
    processes = n_processes()
    if stage.batch_size % (processes * accumulate):
        raise ValueError(
            f"The batch of {stage.batch_size} queries cannot be divided among processes={processes} with "
            f"accumulate={accumulate} passes each; change one of the three."
        )
    queries = stage.batch_size // (processes * accumulate)
    if stage.loss == "contrastive" and queries * stage.n_ways == 1:
        raise ValueError(
            f"The contrastive loss of stage {stage.name!r} has no negatives, because a pass has one query with its "
            f"positive alone: batch_size={stage.batch_size}, processes={processes}, accumulate={accumulate}; change "
            "one of the three."
        )
    return queries


def trainer_arguments(
    stage: Stage, output: Path, device: str, accumulate: int, *, deterministic: bool = False
) -> MultiVectorEncoderTrainingArguments:
    """Returns the trainer's arguments for a stage.

    Args:
        stage: settings of the stage.
        output: folder of the run.
        device: device to train on.
        accumulate: forward and backward passes per step.
        deterministic: whether to forbid nondeterministic algorithms of torch.

    Raises:
        ValueError: the batch size is not divisible by the number of processes times passes, or a contrastive pass has
            no negatives.
    """
    batch = queries_per_pass(stage, accumulate)
    precision = stage.precision
    if precision == "float16" and device == "cpu":
        warnings.warn("precision='float16' needs a GPU; training on the CPU uses bfloat16 instead.", stacklevel=3)
        precision = "bfloat16"
    schedule_free = stage.schedule == "schedule_free"
    return MultiVectorEncoderTrainingArguments(
        output_dir=str(output),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulate,
        num_train_epochs=1,
        max_steps=stage.steps or -1,
        optim="schedule_free_adamw" if schedule_free else "adamw_torch",
        # schedulefree does its own warm-up.
        lr_scheduler_type="constant" if schedule_free else _TRANSFORMERS_SCHEDULES[stage.schedule],
        learning_rate=stage.learning_rate,
        warmup_steps=stage.warmup_steps,
        weight_decay=stage.weight_decay,
        max_grad_norm=stage.max_gradient_norm,
        bf16=precision == "bfloat16",
        fp16=precision == "float16",
        use_cpu=device == "cpu",
        seed=stage.seed,
        data_seed=stage.seed,
        full_determinism=deterministic,
        # If some processes had no share of the last batch, the others would wait for them forever.
        dataloader_drop_last=n_processes() > 1,
        save_strategy="steps",
        save_steps=stage.save_every,
        logging_steps=LOGGING_STEPS,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",
    )

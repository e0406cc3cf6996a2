"""The trainer: n-way distillation on Sentence Transformers' MultiVectorEncoderTrainer.

What it adds: the recipe's losses, schedule-free optimisation whose every checkpoint holds the averaged weights,
examples by id joined with their texts, a check on held-out data with early notice of divergence, and a log and a plot.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers import MultiVectorEncoder, MultiVectorEncoderTrainingArguments
from transformers import PrinterCallback

from pyterrier_jacolbert.checkpoint import load_checkpoint, without_bars
from pyterrier_jacolbert.train import joined
from pyterrier_jacolbert.train.example_files import Example
from pyterrier_jacolbert.train.losses import DistillationLoss, ImitationLoss
from pyterrier_jacolbert.train.progress import Progress, saves_on_interrupt, tensorboard_files
from pyterrier_jacolbert.train.recipe import Recipe, Stage
from pyterrier_jacolbert.train.trainer import Trainer, whole_checkpoints

if TYPE_CHECKING:
    from pyterrier_jacolbert.model import JaColBERT

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
        ValueError: examples that :func:`~pyterrier_jacolbert.train.example_files.validate` refuses; a batch size that
            the processes and passes do not divide; an imitation without a teacher, or with one of other tokens or
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
    progress = Progress(output, stage, evaluate, verbose)
    saved = whole_checkpoints(output)
    # The trainer would take one more step after the last.
    complete = bool(saved) and _is_last(saved[-1], stage)

    def finish(model: MultiVectorEncoder) -> None:
        _save_whole(model, stage, final)
        _remove(texts)
        progress.plot()

    with arguments.main_process_first(local=False):
        if arguments.process_index == 0:
            if complete:
                finish(load_checkpoint(str(saved[-1]), None, device))
            else:
                joined.write(examples, queries, documents, stage, texts)
    if complete:
        return final
    student = _student(model if model is not None else stage.start, stage, device)
    loss = _loss(student, stage, teacher, mini_batch_size, device)
    trainer = Trainer(
        model=student,
        args=arguments,
        train_dataset=joined.read(texts),
        loss=loss,
        callbacks=[progress, *([tensorboard_files(output)] if tensorboard else [])],
    )
    trainer.remove_callback(PrinterCallback)
    progress.trainer = trainer
    progress.start(resumed=bool(saved))
    with saves_on_interrupt(progress):
        trainer.train(resume_from_checkpoint=str(saved[-1]) if saved else None)
    if progress.interrupted:
        raise KeyboardInterrupt(f"Stopped at step {trainer.state.global_step}, which is saved; run it again to go on.")
    if trainer.is_world_process_zero():
        with trainer.averaged_weights():
            finish(student)
    trainer.accelerator.wait_for_everyone()
    return final


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
        warnings.warn("A CPU does not train with precision='float16'; the products are done in bfloat16.", stacklevel=3)
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


def _is_last(checkpoint: Path, stage: Stage) -> bool:
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return bool(state["global_step"] >= (stage.steps or state["max_steps"]))


def _save_whole(model: MultiVectorEncoder, stage: Stage, folder: Path) -> None:
    side = folder.with_name(f".{folder.name}.saving")
    _remove(side)
    with without_bars():
        model.save_pretrained(str(side))
    Recipe(stage.name, (stage,)).write(side / "recipe.yaml")
    _remove(folder)
    side.rename(folder)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)

"""N-way distillation with Sentence Transformers' MultiVectorEncoderTrainer.

Adds to that trainer: the losses of the recipe, schedule-free optimisation whose checkpoints hold the averaged weights,
examples stored as ids with texts looked up on access, evaluation on held-out data with warnings of divergence, a log
and a plot.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers import MultiVectorEncoder
from transformers import PrinterCallback

from pyterrier_jacolbert.encoding.checkpoint import load_checkpoint, without_progress_bars
from pyterrier_jacolbert.encoding.preparation import TextPreparation
from pyterrier_jacolbert.index.storage.atomic import replacing_directory
from pyterrier_jacolbert.train import dataset
from pyterrier_jacolbert.train.contrastive import ContrastiveLoss
from pyterrier_jacolbert.train.example_files import Example
from pyterrier_jacolbert.train.finite import check_weights, checkpoint_fault
from pyterrier_jacolbert.train.losses import DistillationLoss, ImitationLoss
from pyterrier_jacolbert.train.progress import Progress, checkpoint_on_interrupt, tensorboard_callback
from pyterrier_jacolbert.train.recipe_files import write_settings
from pyterrier_jacolbert.train.stages import Stage
from pyterrier_jacolbert.train.trainer import Trainer, last_good_checkpoint
from pyterrier_jacolbert.train.training_arguments import available_device, trainer_arguments
from pyterrier_jacolbert.train.validation import Degenerate

if TYPE_CHECKING:
    from pyterrier_jacolbert.model import JaColBERT


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
    degenerate: Degenerate = "drop",
    deterministic: bool = False,
    tensorboard: bool = False,
    verbose: bool = True,
) -> Path:
    """Runs a stage, or resumes it after an interruption.

    The output folder holds ``checkpoint-N`` every ``stage.save_every`` steps, which is an ordinary checkpoint of the
    averaged weights with the state that a resumed run needs; ``log.jsonl``; ``training.png`` if matplotlib is
    installed; and finally ``final``, with the stage in ``stage.yaml``. A run that finds checkpoints resumes from the
    last one and ends with the same weights as an uninterrupted run. A run that finds ``final`` returns it.

    Loss and gradients are looked at in every step, and weights at every save, so no checkpoint has NaN or infinite
    weights, and a failed run resumes from its last one. With float16 on a GPU, steps whose scaled gradients overflow
    are skipped, as the gradient scaler does.

    During the run, ``texts`` holds the examples and their texts, which are memory-mapped: memory holds only the ids of
    the documents, once each, with a hash of their texts, regardless of the number of examples.

    With several processes (``torchrun --nproc-per-node 4 ...``) each process sees its own share of the examples.

    Args:
        examples: scored n-way examples, the positive first.
        queries: text by qid.
        documents: text by docno.
        stage: settings of the stage.
        output: folder of the run.
        model: checkpoint to start from; None uses ``stage.start``.
        teacher: encoder to imitate, with the loss ``"imitation"`` or an ``imitation_weight``; None uses
            ``stage.teacher``.
        device: ``"cpu"``, ``"cuda"``, ...; None uses a GPU if there is one. If a requested GPU is missing, training
            falls back to the CPU with a warning.
        accumulate: forward and backward passes per step; the memory per batch is divided by this number.
        mini_batch_size: documents per forward pass; None takes the stage's.
        evaluate: measure of a checkpoint on held-out data, where more is better; called at each save.
        degenerate: ``"drop"`` leaves out examples that teach nothing, with a warning that counts them, and warns of
            documents with the same text; ``"error"`` rejects them, see :func:`~pyterrier_jacolbert.train.validate`.
        deterministic: whether to forbid nondeterministic algorithms of torch.
        tensorboard: whether to write TensorBoard files to ``tensorboard`` (extra ``plot``).
        verbose: whether to print progress: loss, learning rate, examples per second and time left.

    Returns:
        The folder of the final checkpoint.

    Raises:
        ValueError: :func:`~pyterrier_jacolbert.train.validate` rejects the examples; the batch size is not divisible by
            the number of processes times passes, or leaves a contrastive pass without negatives; or an imitation lacks
            a teacher, or has one with another vocabulary or other dimensions.
        FloatingPointError: the loss, a gradient, a weight or the held-out measure is NaN or infinite, in the student
            that the run starts from or at a step, which the message names. The checkpoints before that step are kept.
        KeyboardInterrupt: the run was interrupted. A checkpoint was saved, and the message says how to resume.
    """
    output = Path(output)
    final = output / "final"
    if _is_finished(final):
        return final
    device = available_device(device)
    arguments = trainer_arguments(stage, output, device, accumulate, deterministic=deterministic)
    texts = output / "texts"
    progress = Progress(output, stage, evaluate, verbose)
    checkpoint = last_good_checkpoint(output)
    # The trainer would run one more step if it resumed from the last one.
    all_steps_done = checkpoint is not None and _is_last(checkpoint, stage)

    def finish(model: MultiVectorEncoder) -> None:
        _save_final(model, stage, final)
        shutil.rmtree(texts, ignore_errors=True)
        progress.plot()

    with arguments.main_process_first(local=False):
        if arguments.process_index == 0:
            if all_steps_done:
                finish(load_checkpoint(str(checkpoint), None, device))
            else:
                dataset.write(examples, queries, documents, stage, texts, degenerate)
    if all_steps_done:
        return final
    student = _load_student(model if model is not None else stage.start, stage, device)
    arguments.prompts = _column_prompts(student, stage)
    loss = _stage_loss(student, stage, teacher, mini_batch_size or stage.mini_batch_size, device)
    trainer = Trainer(
        model=student,
        args=arguments,
        train_dataset=dataset.read(texts, TextPreparation(student.tokenizer).prepare),
        loss=loss,
        callbacks=[progress, *([tensorboard_callback(output)] if tensorboard else [])],
    )
    _train(trainer, progress, checkpoint)
    if trainer.is_world_process_zero():
        with trainer.averaged_weights():
            trainer.check_weights()
            finish(student)
    trainer.accelerator.wait_for_everyone()
    return final


def _is_finished(final: Path) -> bool:
    """Returns whether a run left its final checkpoint.

    Raises:
        FloatingPointError: the final checkpoint has NaN or infinite weights.
    """
    if not (final / "modules.json").is_file():
        return False
    if (fault := checkpoint_fault(final)) is not None:
        raise FloatingPointError(f"{final} is not usable, because of {fault}; remove the folder to train again.")
    return True


def _train(trainer: Trainer, progress: Progress, checkpoint: Path | None) -> None:
    """Trains to the end of the stage, from a checkpoint if one is given.

    Raises:
        KeyboardInterrupt: the run was interrupted, after a checkpoint was saved.
    """
    trainer.remove_callback(PrinterCallback)
    progress.trainer = trainer
    progress.start(resumed=checkpoint is not None)
    with checkpoint_on_interrupt(progress):
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if progress.interrupted:
        raise KeyboardInterrupt(f"Stopped after saving step {trainer.state.global_step}; run it again to resume.")


def _load_student(model: str | Path | MultiVectorEncoder, stage: Stage, device: str) -> MultiVectorEncoder:
    student = model if isinstance(model, MultiVectorEncoder) else load_checkpoint(str(model), None, device)
    check_weights(student, f"The student that stage {stage.name!r} starts from", "start from another checkpoint")
    student.float()  # the small steps of an optimizer are lost in half precision
    _use_eager_attention(student, device)
    backbone: Any = student[0]
    if stage.dropout is not None:
        for module in student.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = stage.dropout
    if stage.gradient_checkpointing:
        _checkpoint_activations(backbone.model)
    backbone.document_length = stage.document_length
    if backbone.query_expansion is not None:
        backbone.query_expansion = {**backbone.query_expansion, "length": stage.query_length}
    else:
        backbone.query_length = stage.query_length
    return student


def _stage_loss(
    student: MultiVectorEncoder,
    stage: Stage,
    teacher: str | Path | MultiVectorEncoder | None,
    mini_batch_size: int | None,
    device: str,
) -> torch.nn.Module:
    if stage.loss == "contrastive":
        return ContrastiveLoss(student, stage, mini_batch_size)
    if stage.loss != "imitation" and not stage.imitation_weight:
        return DistillationLoss(student, stage, mini_batch_size)
    teacher = teacher if teacher is not None else stage.teacher
    if teacher is None:
        raise ValueError(f"The stage {stage.name!r} imitates an encoder that it does not name; set its 'teacher'.")
    if not isinstance(teacher, MultiVectorEncoder):
        teacher = load_checkpoint(str(teacher), None, device)
    check_weights(teacher, f"The teacher of stage {stage.name!r}", "imitate another encoder")
    _use_eager_attention(teacher, device)
    imitation = ImitationLoss(student, teacher.to(device), mini_batch_size)
    return imitation if stage.loss == "imitation" else DistillationLoss(student, stage, mini_batch_size, imitation)


def _use_eager_attention(model: MultiVectorEncoder, device: str) -> None:
    if device == "cpu":
        # On a CPU, torch's fused attention is 5 to 10 % slower (forward and backward, 64 x 128 tokens).
        backbone: Any = model[0]
        backbone.model.set_attn_implementation("eager")


def _column_prompts(student: MultiVectorEncoder, stage: Stage) -> dict[str, str]:
    """Returns the student's prompt for each column of the dataset; the trainer by itself would add none."""
    documents = {f"document_{number}": student.prompts.get("document") or "" for number in range(1, stage.n_ways + 1)}
    return {"query": student.prompts.get("query") or "", **documents}


def _checkpoint_activations(backbone: Any) -> None:
    """Makes a backbone compute its activations again in the backward pass.

    The trainer's own argument calls deprecated names, and warns of them.
    """
    enable = getattr(backbone, "activation_checkpointing_enable", None) or backbone.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _is_last(checkpoint: Path, stage: Stage) -> bool:
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return bool(state["global_step"] >= (stage.steps or state["max_steps"]))


def _save_final(model: MultiVectorEncoder, stage: Stage, folder: Path) -> None:
    with replacing_directory(folder) as temporary:
        with without_progress_bars():
            model.save_pretrained(str(temporary))
        write_settings(stage, temporary / "stage.yaml")

"""Stages, averages and sources of the recipe of JaColBERTv2.5, in the paper and in the released code.

Tags of the sources: P is the paper (Clavié, arXiv 2407.20750v1), A the published ``artifact.metadata`` of
JaColBERTv2.4, C the author's fork of ColBERT. "Assumed" marks values that no source states.
"""

from __future__ import annotations

import dataclasses

from pyterrier_jacolbert.train.recipe_data import ExampleFile, HeldOut, Mining, RecipeDataset
from pyterrier_jacolbert.train.stages import Average, Stage

_RELEASED = "answerdotai/MMARCO-japanese-32-scored-triplets"
_TEACHER = "cross-encoder:BAAI/bge-reranker-v2-m3"

DATASETS = (
    RecipeDataset("mmarco", "irds:mmarco/v2/ja/train"),
    RecipeDataset("miracl", "irds:miracl/ja/train", title_field="title"),
    RecipeDataset("jqara-dev", "jacolbert:jqara/dev", title_field="title"),
    RecipeDataset("jqara-unused", "jacolbert:jqara/unused", title_field="title"),
    RecipeDataset(
        "jagovfaqs",
        documents="jagovfaqs/documents.jsonl",
        queries="jagovfaqs/queries.tsv",
        qrels="jagovfaqs/qrels.tsv",
    ),
    RecipeDataset("miracl-small", "jacolbert:miracl-ja-small/dev", title_field="title"),
)
MINING = tuple(
    Mining(f"{dataset}.jsonl", (_TEACHER,), dataset=dataset, examples_per_positive=16)
    for dataset in ("miracl", "jqara-dev", "jqara-unused", "jagovfaqs")
)
HELD_OUT = (HeldOut("miracl-small", queries=None),)

#: The post-training data of table 6. JQaRA's are divided by the numbers of questions of its two splits.
_POST_TRAINING = (
    ExampleFile("miracl.jsonl", dataset="miracl", count=115_365),
    ExampleFile("jqara-dev.jsonl", dataset="jqara-dev", count=27_771),
    ExampleFile("jqara-unused.jsonl", dataset="jqara-unused", count=7_962),
    ExampleFile("jagovfaqs.jsonl", dataset="jagovfaqs", count=28_902),
)
_MMARCO = ExampleFile(released=_RELEASED, dataset="mmarco")

_MAIN = Stage("main", "bclavie/JaColBERT", (_MMARCO,))
_POST = Stage(
    "post",
    "main",
    (*_POST_TRAINING, dataclasses.replace(_MMARCO, count=18_000)),
    warmup_steps=140,
    save_every=1000,
)
_POST_WITHOUT_MMARCO = dataclasses.replace(_POST, name="post-without-mmarco", examples=_POST_TRAINING)

PAPER_STAGES = (_MAIN, _POST, _POST_WITHOUT_MMARCO)
RELEASED_CODE_STAGES = (dataclasses.replace(_MAIN, every=4, batch_size=16), _POST, _POST_WITHOUT_MMARCO)

AVERAGES = (
    Average("v2.4", ("main@best", "main@second", "main")),
    Average("v2.5", ("post", "post-without-mmarco", "main@best", "main@second", "main")),
)

#: The source of each setting of the paper's recipe.
PAPER_SOURCES = {
    "start": "A (checkpoint), P section 3: JaColBERTv1; P 3.9: post-training starts from the end of the main stage",
    "examples": (
        "P 3.2: 3.2M lines of ColBERTv2's 64-way MS MARCO set in Japanese, as the author released them; P 3.8 and "
        "table 6 for post-training, whose examples were not released, so that they are mined here"
    ),
    "examples.file": "not released for post-training: mined here from the data sets that P 3.8 names",
    "examples.released": "P 3.2: the author's release",
    "examples.split": "P 3.3: the 32-way lines with normalised scores of the teacher of the final run",
    "examples.dataset": "P 3.2, P 3.8: the data sets whose ids the examples have",
    "examples.weight": "P: one pass",
    "examples.count": "P table 6; JQaRA's 35,733 are divided in proportion to the questions of its two splits",
    "n_ways": "A (nway), P 3.2: the positive and 31 of 63 negatives",
    "every": "P: every line once",
    "batch_size": "A: 16 per process on four GPUs",
    "steps": "A, P: one pass, 50,000 steps",
    "schedule": "A (schedule_free), P 3.6",
    "learning_rate": "A, P table 3",
    "warmup_steps": "A, P: 2,500, 5 % of the steps; for post-training assumed, also 5 %",
    "weight_decay": "A (schedule_free_wd)",
    "max_gradient_norm": "C: gradients are not clipped with schedule-free",
    "loss": "A (kldiv_loss), P table 4",
    "teacher": "not used: the paper does not use imitation",
    "imitation_weight": "not used: the paper does not use imitation",
    "normalize_student": (
        "A (normalise_training_scores, minmax), P table 4; unlike C, ranges below 1/8 are divided by 1/8, because the "
        "gradients of almost equal scores would explode"
    ),
    "normalize_teacher": "P 3.3: normalised per query, offline",
    "student_temperature": "C: none",
    "teacher_temperature": "C: none",
    "in_batch_negatives": "A (use_ib_negatives), P table 2",
    "in_batch_temperature": "not used: no in-batch negatives",
    "query_length": "A (query_maxlen)",
    "document_length": "A (doc_maxlen), P note 14",
    "mini_batch_size": "not used: whole batches fit the GPU",
    "gradient_checkpointing": "not used: it does not change the gradients",
    "precision": "A (amp), C: float16 with a gradient scaler",
    "dropout": "0.1 in the starting checkpoint's config, which no source changes",
    "save_every": "P: every 2,000 steps; for post-training assumed",
    "seed": "C: 12345 on every process",
    "datasets.mmarco": "P 3.2: mMARCO v2 in Japanese",
    "datasets.miracl": "P 3.8: MIRACL; assumed: its training part",
    "datasets.jqara-dev": "P 3.8: JQaRA; assumed: the two splits that its author reserves for training",
    "datasets.jqara-unused": "P 3.8: JQaRA; assumed: the two splits that its author reserves for training",
    "datasets.jagovfaqs": (
        "P 3.8: JaGovFaqs; no source says which of its pairs, and no data set of this package has a training part, so "
        "the files are the user's"
    ),
    "datasets.miracl-small": "P tables 2 to 5: one of the two development sets; the other, JQaRA, is a benchmark",
    "mining.teachers": "P: BGE-M3-reranker; for post-training assumed",
    "mining.dataset": "P 3.8",
    "mining.retrievers": "assumed: no source says how negatives were found",
    "mining.depth": "not used: one retriever",
    "mining.normalize": "not used: one teacher",
    "mining.candidates": "assumed",
    "mining.n_ways": "as in the main stage; for post-training assumed",
    "mining.examples_per_positive": "assumed: P table 6 has 16 examples for each of JQaRA's 2,235 questions",
    "mining.false_negative_margin": "assumed, as in NV-Retriever (arXiv 2407.15831)",
    "mining.queries": "assumed: all",
    "mining.seed": "assumed",
    "held_out.dataset": "P tables 2 to 5: one of the two development sets",
    "held_out.measure": "P tables 2 to 5",
    "held_out.share": "not used: the whole data set is held out",
    "held_out.by": "not used: the whole data set is held out",
    "held_out.queries": "P tables 2 to 5: all",
    "held_out.documents": "P tables 2 to 5: all",
    "held_out.document_length": "not used: that of the stage",
    "held_out.weight": "not used: one part",
    "held_out.seed": "not used: nothing is drawn",
    "averages.v2.4": "P 3.9: the two best checkpoints of the main stage and its last; assumed: equal weights",
    "averages.v2.5": "P 3.9: those three and the two post-trained ones; assumed: equal weights",
}

#: The source of each setting of the released code's recipe.
RELEASED_CODE_SOURCES = {
    **PAPER_SOURCES,
    "every": "C, Examples.tolist: every process takes lines 0, 4, 8, ... regardless of its rank",
    "batch_size": "A: 16 per process; four processes with the same lines amount to one batch of 16",
}

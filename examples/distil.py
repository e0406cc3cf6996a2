# %% [markdown]
# # A small model from a pipeline
#
# Anything that scores documents can teach. Here a pipeline, BM25 and the checkpoint `mini` added up, teaches a student
# with one of `mini`'s nine layers, in a minute or two on two cores. The collection is the demo's, so the figures show
# that the machinery works and not how good a model can get: `examples/train_mini.py` is the same at full size.
#
# Needs the extra `train`: `pip install "pyterrier-jacolbert[train]"`.

# %%
import tempfile
import warnings
from pathlib import Path

import pandas as pd
import pyterrier as pt
from IPython.display import display
from ir_measures import RR, nDCG

from pyterrier_jacolbert import JaColBERT, JaColBERTIndexer, JapaneseBM25, plots
from pyterrier_jacolbert.train.distill import distill
from pyterrier_jacolbert.train.examples import ensemble, mine, read, save, score
from pyterrier_jacolbert.train.recipe import Stage
from pyterrier_jacolbert.train.student import keep_layers

warnings.filterwarnings("ignore", message="The index is in a temporary directory")
folder = tempfile.TemporaryDirectory()
runs = Path(folder.name)

demo = pt.get_dataset("jacolbert:demo")
docs = list(demo.get_corpus_iter(verbose=False))
texts = {doc["docno"]: f"{doc['title']} {doc['text']}" for doc in docs}
topics, qrels = demo.get_topics(), demo.get_qrels()

# %% [markdown]
# Every third question is held out: no example is made of it.

# %%
held_out, training = topics.iloc[::3], topics.drop(topics.index[::3])
print(f"{len(training)} questions to learn from, {len(held_out)} held out")

# %% [markdown]
# ## The teacher is a pipeline
#
# `ensemble` adds up the normalised scores of re-rankers.

# %%
mini = JaColBERT("mini", dtype="float32")
index = JaColBERTIndexer(None, mini, title_field="title").index(docs)
lexical = JapaneseBM25(runs / "demo.bm25", title_field="title").index(docs)
teacher = ensemble(lexical.scorer(), index.scorer())

# %% [markdown]
# `mine` makes an example of each question and each of its answers, with other documents that a pipeline finds for it;
# `score` has the teacher score them; `save` writes them as they come, and goes on where an interrupted one stopped.

# %%
candidates = (lexical.retriever() % 20 | index.retriever() % 20) >> teacher
mined = mine(candidates, training, qrels, n_ways=4, false_negative_margin=None)
examples = list(read(save(score(mined, teacher, training), runs / "examples.jsonl")))
print(f"{len(examples)} examples")
first = examples[0]
print(topics.set_index("qid")["query"][first.qid])
pd.DataFrame({"docno": first.docnos, "teacher": first.scores}).round(3)

# %% [markdown]
# ## The student
#
# One of the nine layers of `mini`. As it is, it has lost much of what `mini` knew.

# %%
student = keep_layers(mini.encoder.model, 1)
print(f"{len(mini.encoder.model[0].model.encoder.layer)} layers become {len(student[0].model.encoder.layer)}")


def searcher(checkpoint: object) -> pt.Transformer:
    """Retrieval over the demo's documents with a checkpoint."""
    return JaColBERTIndexer(None, JaColBERT(checkpoint, dtype="float32"), title_field="title").index(docs).retriever()


untrained = searcher(keep_layers(mini.encoder.model, 1))

# %% [markdown]
# ## Two stages
#
# First the student learns to make the token vectors of `mini` itself (a loss that looks at no scores), then to order
# documents as the teacher does. A stage is a dataclass whose every setting can be written to YAML.

# %%
common = {
    "examples": "examples.jsonl",
    "n_ways": 4,
    "batch_size": 8,
    "query_length": 48,
    "document_length": 96,
    "precision": "float32",
    "dropout": 0.0,
    "save_every": 1000,
}
imitate = Stage(
    "imitate", "student", loss="imitation", steps=30, schedule="linear", learning_rate=5e-4, warmup_steps=3, **common
)
rank = Stage("rank", "imitate", loss="kl", steps=12, learning_rate=3e-5, warmup_steps=2, **common)

queries = dict(zip(topics["qid"], topics["query"], strict=True))
teaching = {"device": "cpu", "mini_batch_size": 16, "deterministic": True, "verbose": False}
imitated = distill(
    examples * 3, queries, texts, imitate, runs / "imitate", model=student, teacher=mini.encoder.model, **teaching
)
ranked = distill(examples, queries, texts, rank, runs / "rank", model=imitated, **teaching)

# %% [markdown]
# The folder of a run holds its log, and the training curve as a picture (`training.png`).

# %%
display(plots.plot_training(runs / "imitate"))

# %% [markdown]
# ## What it learned
#
# On the questions that were held out, and over the same documents. The loss fell to a quarter; in the ranking thirty
# steps on a hundred examples give back a part of what was lost, which on 38 questions may be chance.

# %%
systems = {
    "one layer, untrained": untrained,
    "after imitation": searcher(imitated),
    "after ranking": searcher(ranked),
    "mini": index.retriever(),
}
pt.Experiment(systems, held_out, qrels, [nDCG @ 10, RR @ 10], baseline=0, round=3)

# %% [markdown]
# A checkpoint is a folder that Sentence Transformers' `MultiVectorEncoder` reads too. Its `recipe.yaml` says how it
# came about.

# %%
sorted(path.name for path in ranked.iterdir())

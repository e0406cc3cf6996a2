# %% [markdown]
# # Distil a small model from a pipeline
#
# Any pipeline that scores documents can be a teacher. Here the sum of BM25 and the checkpoint `mini` teaches a student
# that has one of the nine layers of `mini`, in a minute or two on two cores. The demo collection is tiny, so the
# figures show that the machinery works, not how good a model can get: `examples/train_mini.py` does the same at full
# size.
#
# This notebook needs the extra `train`: `pip install "pyterrier-jacolbert[train]"`.

# %%
import tempfile
import warnings
from pathlib import Path

import pandas as pd
import pyterrier as pt
from IPython.display import display
from ir_measures import RR, nDCG

from pyterrier_jacolbert import JaColBERT, JaColBERTIndexer, JapaneseBM25, plots
from pyterrier_jacolbert.train import Stage, distill, ensemble, keep_layers, mine, read, save, score

warnings.filterwarnings("ignore", message="The index is in a temporary directory")
folder = tempfile.TemporaryDirectory()
runs = Path(folder.name)

demo = pt.get_dataset("jacolbert:demo")
docs = list(demo.get_corpus_iter(verbose=False))
texts = {doc["docno"]: f"{doc['title']} {doc['text']}" for doc in docs}
topics, qrels = demo.get_topics(), demo.get_qrels()

# %% [markdown]
# Every third question is held out: no example is mined from it.

# %%
held_out, training = topics.iloc[::3], topics.drop(topics.index[::3])
print(f"{len(training)} training questions, {len(held_out)} held out")

# %% [markdown]
# ## The teacher is a pipeline
#
# `ensemble` sums the normalised scores of several re-rankers.

# %%
mini = JaColBERT("mini", dtype="float32")
index = JaColBERTIndexer(None, mini, title_field="title").index(docs)
lexical = JapaneseBM25(runs / "demo.bm25", title_field="title").index(docs)
teacher = ensemble(lexical.scorer(), index.scorer())

# %% [markdown]
# `mine` builds an example from each question and each of its answers, and adds other documents that a pipeline
# retrieves. `score` scores the documents with the teacher. `save` writes the examples as they arrive, and resumes an
# interrupted write.

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
# The student has one of the nine layers of `mini`. Before training it has lost much of what `mini` knows.

# %%
student = keep_layers(mini.encoder.model, 1)
print(f"{len(mini.encoder.model[0].model.encoder.layer)} layers become {len(student[0].model.encoder.layer)}")


def searcher(checkpoint: object) -> pt.Transformer:
    """Returns a retriever over the demo collection with a checkpoint."""
    return JaColBERTIndexer(None, JaColBERT(checkpoint, dtype="float32"), title_field="title").index(docs).retriever()


untrained = searcher(keep_layers(mini.encoder.model, 1))

# %% [markdown]
# ## Two stages
#
# First the student learns to imitate the token vectors of `mini` (this loss ignores the scores), then to rank documents
# as the teacher does. A stage is a dataclass, and a recipe of stages can be written to YAML.

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
options = {"device": "cpu", "mini_batch_size": 16, "deterministic": True, "verbose": False}
imitated = distill(
    examples * 3, queries, texts, imitate, runs / "imitate", model=student, teacher=mini.encoder.model, **options
)
ranked = distill(examples, queries, texts, rank, runs / "rank", model=imitated, **options)

# %% [markdown]
# The folder of a run holds its log and a plot of the training curve (`training.png`).

# %%
display(plots.plot_training(runs / "imitate"))

# %% [markdown]
# ## Results
#
# The held-out questions show what the student learned, on the same documents. The loss fell to a quarter. Thirty steps
# on a hundred examples recover part of the lost ranking quality; with 38 questions, the difference may be chance.

# %%
systems = {
    "one layer, untrained": untrained,
    "after imitation": searcher(imitated),
    "after ranking": searcher(ranked),
    "mini": index.retriever(),
}
pt.Experiment(systems, held_out, qrels, [nDCG @ 10, RR @ 10], baseline=0, round=3)

# %% [markdown]
# A checkpoint is a folder that Sentence Transformers' `MultiVectorEncoder` can also load. Its `stage.yaml` records how
# it was trained.

# %%
sorted(path.name for path in ranked.iterdir())

# %% [markdown]
# # A declarative experiment
#
# Which is better: BM25, a ColBERT over the whole collection, or BM25 re-ranked by the ColBERT? By how much, and could
# the difference be chance? This notebook uses the demo collection and needs no network.

# %%
import tempfile
from pathlib import Path

import pyterrier as pt
from IPython.display import display
from ir_measures import R, nDCG

from pyterrier_jacolbert import JaColBERT, JaColBERTIndexer, JapaneseBM25, plots
from pyterrier_jacolbert.datasets import no_shared_word

demo = pt.get_dataset("jacolbert:demo")
docs = list(demo.get_corpus_iter(verbose=False))
topics, qrels = demo.get_topics(), demo.get_qrels()
print(f"{len(docs)} documents, {len(topics)} questions, {len(qrels)} judgements")
topics.head(3)

# %% [markdown]
# ## The systems
#
# `JaColBERTIndexer` and `JapaneseBM25` index the same documents, title first. float32 gives the same figures on every
# machine.

# %%
folder = tempfile.TemporaryDirectory()
model = JaColBERT("mini", dtype="float32")
index = JaColBERTIndexer(Path(folder.name) / "demo.jacolbert", model, title_field="title").index(docs)
bm25 = JapaneseBM25(Path(folder.name) / "demo.bm25", title_field="title").index(docs).retriever()
scorer = index.scorer()

systems = {
    "BM25": bm25,
    "mini": index.retriever(),
    "BM25 % 100 >> mini": bm25 % 100 >> scorer,
}

# %% [markdown]
# ## The experiment
#
# `baseline=0` compares every system with the first in a paired t-test over queries; `correction="holm"` corrects for
# multiple tests. The columns `+` and `-` count the queries that improve and degrade.

# %%
measures = [nDCG @ 10, R @ 10]
pt.Experiment(systems, topics, qrels, measures, baseline=0, correction="holm", round=4)

# %% [markdown]
# About half of these questions share no content word with their answer. They are hard for BM25, and for any re-ranker
# behind it, because a document that BM25 does not retrieve cannot be re-ranked. On the other questions the differences
# are small enough to be chance:

# %%
hard = topics["qid"].isin(no_shared_word())
print(f"{hard.sum()} questions share no content word with their answer, {(~hard).sum()} do")
display(pt.Experiment(systems, topics[~hard], qrels, measures, baseline=0, correction="holm", round=4))

# %% [markdown]
# ## Re-ranking depth
#
# A pipeline is an expression, so a dict of expressions compares several cut-offs. `plan="tree"` runs their common
# prefix, BM25, only once.

# %%
depths = {f"BM25 % {depth} >> mini": bm25 % depth >> scorer for depth in (5, 10, 20, 50, 100)}
pt.Experiment(depths, topics, qrels, measures, round=4, plan="tree", verbose=False)

# %% [markdown]
# The union of both candidate sets, scored by one re-ranker, includes what BM25 misses: it does as well as `mini` over
# the whole collection. The plain sum of the scores does worse, because their scales differ.

# %%
union = (bm25 % 50 | index.retriever() % 50) >> scorer
unions = {
    "mini": index.retriever(),
    "(BM25 | mini) >> mini": union,
    "BM25 + mini": bm25 % 100 + index.retriever() % 100,
}
pt.Experiment(unions, topics, qrels, measures, baseline=0, round=4, plan="tree", verbose=False)

# %% [markdown]
# ## Query by query
#
# A mean hides which questions improve and which degrade.

# %%
perquery = pt.Experiment(systems, topics, qrels, [nDCG @ 10], perquery=True)
display(plots.plot_differences(perquery, "BM25", "BM25 % 100 >> mini", topics=topics))

# %% [markdown]
# This is the question that degrades most, and the first result of each system. The notebook *Search and explain* shows
# how to find out why.

# %%
differences = plots.query_differences(perquery, "BM25", "BM25 % 100 >> mini")
worst = topics[topics["qid"] == differences.index[-1]]
print(worst["query"].iloc[0])
texts = {doc["docno"]: f"{doc['title']} {doc['text']}" for doc in docs}
for name, system in systems.items():
    best = (system % 1)(worst).iloc[0]
    print(f"{name}: {texts[best['docno']]}")

# %% [markdown]
# # A declarative experiment
#
# BM25, a ColBERT over the whole collection, and BM25 re-ranked by it: which is better, by how much, and is it chance?
# All on the demo collection, without a network.

# %%
import tempfile
from pathlib import Path

import pyterrier as pt
from IPython.display import display
from ir_measures import R, nDCG

from pyterrier_jacolbert import JaColBERT, JaColBERTIndexer, JapaneseBM25, plots
from pyterrier_jacolbert.datasets.demo import no_shared_word

demo = pt.get_dataset("jacolbert:demo")
docs = list(demo.get_corpus_iter(verbose=False))
topics, qrels = demo.get_topics(), demo.get_qrels()
print(f"{len(docs)} documents, {len(topics)} questions, {len(qrels)} judgements")
topics.head(3)

# %% [markdown]
# ## The systems
#
# `JaColBERTIndexer` and `JapaneseBM25` index the same documents, title first. float32 makes the figures the same on
# every machine.

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
# `baseline=0` tests every system against the first with a paired t-test, query by query; `correction="holm"` makes up
# for there being several tests. `+` and `-` count the queries that gain and lose.

# %%
measures = [nDCG @ 10, R @ 10]
pt.Experiment(systems, topics, qrels, measures, baseline=0, correction="holm", round=4)

# %% [markdown]
# About half of the questions here share no content word with their answer, which is hard on BM25, and on whatever
# re-ranks it: a document that BM25 does not find is not there to be re-ranked. On the others the differences are small
# enough to be chance:

# %%
hard = topics["qid"].isin(no_shared_word())
print(f"{hard.sum()} questions share no content word with their answer, {(~hard).sum()} do")
display(pt.Experiment(systems, topics[~hard], qrels, measures, baseline=0, correction="holm", round=4))

# %% [markdown]
# ## How deep to re-rank?
#
# A pipeline is an expression, so a comparison of cut-offs is a dict of expressions. `plan="tree"` runs what they share,
# BM25, once.

# %%
depths = {f"BM25 % {depth} >> mini": bm25 % depth >> scorer for depth in (5, 10, 20, 50, 100)}
pt.Experiment(depths, topics, qrels, measures, round=4, plan="tree", verbose=False)

# %% [markdown]
# The union of both, scored by one re-ranker, has again what BM25 misses: it does as well as `mini` over everything. The
# plain sum of the scores does worse, for their scales differ.

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
# A mean hides which questions were won and which were lost.

# %%
perquery = pt.Experiment(systems, topics, qrels, [nDCG @ 10], perquery=True)
display(plots.plot_differences(perquery, "BM25", "BM25 % 100 >> mini", topics=topics))

# %% [markdown]
# The question that lost most, and what each system put first. Why, the notebook *Search, and see why* would tell.

# %%
differences = plots.query_differences(perquery, "BM25", "BM25 % 100 >> mini")
worst = topics[topics["qid"] == differences.index[-1]]
print(worst["query"].iloc[0])
texts = {doc["docno"]: f"{doc['title']} {doc['text']}" for doc in docs}
for name, system in systems.items():
    best = (system % 1)(worst).iloc[0]
    print(f"{name}: {texts[best['docno']]}")

# %% [markdown]
# # Search and explain
#
# This notebook indexes the demo collection (330 short Japanese passages that come with the package), searches it, and
# explains the ranking. Nothing is downloaded: `mini` is a small checkpoint that also comes with the package. For real
# work, replace it with `answerdotai/JaColBERTv2.5`.

# %%
import tempfile
from pathlib import Path

import pandas as pd
import pyterrier as pt
from IPython.display import display

from pyterrier_jacolbert import JaColBERT, JaColBERTIndexer, JapaneseBM25, plots

demo = pt.get_dataset("jacolbert:demo")
docs = list(demo.get_corpus_iter(verbose=False))
pd.DataFrame(docs).head(3)

# %% [markdown]
# A document is a dict with `docno` and `text`; `title_field` names a field that is put before the text. With
# `store_text=True` the index also stores the text, which explanations can then show. `dtype="float32"` gives the same
# figures on every machine (the default uses bfloat16 on processors that support it), and `compression="float16"` stores
# the vectors without quantization (the default would use one byte per number).

# %%
folder = tempfile.TemporaryDirectory()
model = JaColBERT("mini", dtype="float32")
indexer = JaColBERTIndexer(
    Path(folder.name) / "demo.jacolbert", model, title_field="title", compression="float16", store_text=True
)
index = indexer.index(docs)
stats = index.stats()
{name: stats[name] for name in ("documents", "tokens", "dim", "compression")}

# %% [markdown]
# ## Search
#
# `index.retriever()` is a transformer, like every retriever in PyTerrier. The query asks how the start of the cherry
# blossom season is determined, in words that do not occur in the passage with the answer (`weather-sakura`). That
# passage is ranked second.

# %%
query = "お花見シーズンの幕開けを判定する基準"
jacolbert = index.retriever(num_results=100) >> pt.text.get_text(index, "text")
ranking = jacolbert.search(query).head(5)
ranking[["rank", "docno", "score", "text"]]

# %% [markdown]
# ## Why is another passage first?
#
# The first passage is about a trapdoor in a kabuki stage. MaxSim matches each query token with the most similar token
# of the document, and the score is the sum of these similarities. An explanation shows the matched tokens, and the text
# shaded by its contribution to the score.

# %%
explanation = index.explain(query, ranking["docno"].iloc[0])
display(explanation)

# %% [markdown]
# The table has the same content. The similarities sum to the score. (Markers are the tokens that the checkpoint puts
# around every query.)

# %%
table = explanation.to_frame()
print(f"{table['similarity'].sum():.4f} = {ranking['score'].iloc[0]:.4f}")
columns = ["query_token", "kind", "document_token", "similarity", "share"]
display(table[columns].round(3))

# %% [markdown]
# The heat map shows query tokens as rows and document tokens as columns. A frame marks the best match of each row.

# %%
display(explanation.plot(most=40))

# %% [markdown]
# ## Explanations in a ranking
#
# `index.explainer()` adds a column `contributions` to a ranking, with an array per row that has one number per query
# token. Here it shows why the first document scores higher than the second: 花 (blossom) matches 花道, the walkway of
# that stage, and 幕, which stands for the opening of the season in the query, is also a curtain.

# %%
explained = (jacolbert % 2 >> index.explainer()).search(query)
first, second = explained["contributions"]
comparison = pd.DataFrame(
    {
        "query_token": table["query_token"],
        explained["docno"].iloc[0]: first,
        explained["docno"].iloc[1]: second,
        "difference": first - second,
    }
)
display(comparison.sort_values("difference", ascending=False, kind="stable").head(5).round(3))

# %% [markdown]
# ## Comparison with BM25
#
# BM25 matches the words of the query, as MeCab segments them, and finds other passages.

# %%
bm25 = JapaneseBM25(Path(folder.name) / "demo.bm25", title_field="title").index(docs).retriever(num_results=100)
lexical = (bm25 % 5 >> pt.text.get_text(index, "text")).search(query)
lexical[["rank", "docno", "score", "text"]]

# %% [markdown]
# ## Explain your own text
#
# A checkpoint can explain any text without an index.

# %%
display(
    model.explain(
        "日本で一番高い山は？", "富士山（３７７６ｍ）は、静岡県と山梨県にまたがる活火山で、国内の最高峰である。"
    )
)

# %% [markdown]
# ## Document lengths
#
# A peak at the right end would mean that documents are truncated at the checkpoint's maximum length; here there is
# none.

# %%
display(plots.length_statistics(index).round(1).to_frame("token vectors"))
display(plots.plot_lengths(index))

# %% [markdown]
# # Search, and see why
#
# An index of the demo collection (330 short Japanese passages that come with the package), a search, and what the
# ranking rests on. Nothing is downloaded: `mini` is a small checkpoint within the package. For real work put
# `answerdotai/JaColBERTv2.5` in its place.

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
# `store_text=True` the index keeps the text, so that it can show it later. `dtype="float32"` makes the figures below
# the same on every machine (the default takes bfloat16 where the processor has it), and `compression="float16"` stores
# the vectors as they are (the default would take a byte a number).

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
# `index.retriever()` is a transformer, like every retriever of PyTerrier. The question is what decides that the season
# of cherry blossoms has begun, in words that the passage that answers it (`weather-sakura`) does not have. That passage
# comes second.

# %%
query = "お花見シーズンの幕開けを判定する基準"
jacolbert = index.retriever(num_results=100) >> pt.text.get_text(index, "text")
found = jacolbert.search(query).head(5)
found[["rank", "docno", "score", "text"]]

# %% [markdown]
# ## Why did another come first?
#
# The first passage is about a trapdoor of the kabuki stage. Each token of the query meets the token of the document
# that is most like it, and the score is the sum of these similarities (MaxSim). An explanation shows the text, shaded
# by what it gave to the score, and who met whom.

# %%
why = index.explain(query, found["docno"].iloc[0])
display(why)

# %% [markdown]
# The same as a table. The similarities are the contributions: they sum to the score. (The markers are the tokens that
# the checkpoint puts around every query.)

# %%
table = why.to_frame()
print(f"{table['similarity'].sum():.4f} = {found['score'].iloc[0]:.4f}")
columns = ["query_token", "kind", "document_token", "similarity", "share"]
display(table[columns].round(3))

# %% [markdown]
# And as a picture: the query's tokens down, the document's across, the best of each row framed.

# %%
display(why.plot(most=40))

# %% [markdown]
# ## In a ranking
#
# `index.explainer()` adds a column `contributions` to a ranking: an array for each row, a number for each query token.
# Here it tells what sets the first document apart from the second: 花, blossom, met 花道, the walkway of that stage,
# and 幕, which opens the season in the question, is a curtain.

# %%
explained = (jacolbert % 2 >> index.explainer()).search(query)
first, second = explained["contributions"]
ahead = pd.DataFrame(
    {
        "query_token": table["query_token"],
        explained["docno"].iloc[0]: first,
        explained["docno"].iloc[1]: second,
        "difference": first - second,
    }
)
display(ahead.sort_values("difference", ascending=False, kind="stable").head(5).round(3))

# %% [markdown]
# ## Beside BM25
#
# BM25 over MeCab's words looks for the query's own words, and finds other passages.

# %%
bm25 = JapaneseBM25(Path(folder.name) / "demo.bm25", title_field="title").index(docs).retriever(num_results=100)
beside = (bm25 % 5 >> pt.text.get_text(index, "text")).search(query)
beside[["rank", "docno", "score", "text"]]

# %% [markdown]
# ## A text of one's own
#
# A checkpoint explains any text, without an index.

# %%
display(
    model.explain(
        "日本で一番高い山は？", "富士山（３７７６ｍ）は、静岡県と山梨県にまたがる活火山で、国内の最高峰である。"
    )
)

# %% [markdown]
# ## How long are the documents?
#
# A peak at the right end would be documents that were cut at the checkpoint's length; there is none here.

# %%
display(plots.length_statistics(index).round(1).to_frame("token vectors"))
display(plots.plot_lengths(index))

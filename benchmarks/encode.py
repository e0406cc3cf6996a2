"""Documents per second, beside MultiVectorEncoder.encode_document at its defaults, alternating in one run.

    python -m benchmarks.encode [--shared ../shared] [--model me5|base] [--documents 256] [--repeats 3] [--quality]

The same documents (JSQuAD paragraphs, drawn with a fixed seed) and the same checkpoint: ``me5`` is the shared
me5-small-ja (12 layers of 384); ``base`` is a BERT-base-sized JaColBERT (12 layers of 768, projection to 128) with
random weights and, where it is there, the released vocabulary. The peer runs in float32, batches of 32: its defaults.
``--quality`` adds, for me5, nDCG@10 on all of JSQuAD and the drift of scores by the precision of documents.
Prints one JSON line.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pyterrier as pt
import torch
from ir_measures import nDCG

from benchmarks import arguments as common
from benchmarks.collections import jsquad_documents, me5, need, questions
from pyterrier_jacolbert import JaColBERT, JaColBERTIndexer

THREADS = 2


def base_model(shared: Path, folder: Path, batch_tokens: int | None) -> JaColBERT:
    """A BERT-base-sized checkpoint in Stanford ColBERT's layout, with random weights."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from checkpoints import write_stanford_checkpoint

    tokenizer = need(shared / "models" / "tohoku-bert-base-japanese-v3-tokenizer")
    checkpoint = write_stanford_checkpoint(folder, tokenizer, hidden=768, layers=12, heads=12, dim=128)
    return JaColBERT(str(checkpoint), batch_tokens=batch_tokens)


def rate(encode: Callable[[Sequence[str]], object], texts: Sequence[str]) -> float:
    """Documents per second of one call."""
    start = time.perf_counter()
    encode(texts)
    return len(texts) / (time.perf_counter() - start)


def quality(shared: Path) -> dict[str, float]:
    """nDCG@10 of exact retrieval on JSQuAD by the precision of documents, and how far scores drift from float32's.

    The drift is that of the scores of documents that both precisions have in a question's top ten. The last entry is
    between two bfloat16 encodings that differ in their batches alone.
    """
    docs, topics = list(jsquad_documents(shared)), questions(shared)
    qrels = topics[["qid", "relevant"]].rename(columns={"relevant": "docno"}).assign(label=1)
    settings = {"float32": {"dtype": "float32"}, "bfloat16": {"dtype": "bfloat16"}}
    settings["bfloat16, other batches"] = {"dtype": "bfloat16", "batch_tokens": 4096}
    found, rankings = {}, {}
    for name, setting in settings.items():
        retriever = (
            JaColBERTIndexer(None, me5(shared, **setting), compression="float16").index(docs).retriever(num_results=10)
        )
        rankings[name] = retriever(topics[["qid", "query"]])
        found[f"nDCG@10 {name}"] = float(pt.Evaluate(rankings[name], qrels, [nDCG @ 10])["nDCG@10"])
    for name, other in [("float32", "bfloat16"), ("bfloat16", "bfloat16, other batches")]:
        both = rankings[name].merge(rankings[other], on=["qid", "docno"])
        drift = (both["score_x"] - both["score_y"]).abs() / both["score_x"].abs()
        found |= {f"mean relative drift to {other}": drift.mean(), f"largest relative drift to {other}": drift.max()}
    return found


def main() -> None:
    parser = common.parser(__doc__, "shared")
    parser.add_argument("--model", choices=["me5", "base"], default="me5")
    parser.add_argument("--documents", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-tokens", type=int, help="padded tokens a batch (default: the encoder's own)")
    parser.add_argument("--quality", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    docs = pd.DataFrame(jsquad_documents(arguments.shared))["text"].tolist()
    docs = random.Random(0).sample(docs, arguments.documents)
    with tempfile.TemporaryDirectory() as folder:
        small = arguments.model == "me5"
        model = (
            me5(arguments.shared, batch_tokens=arguments.batch_tokens)
            if small
            else base_model(arguments.shared, Path(folder), arguments.batch_tokens)
        )
        peer = model.encoder.model
        ours, peers = [], []
        for encode in (model.encode_documents, peer.encode_document):
            encode(docs[:16])  # warms up
        for _ in range(arguments.repeats):
            ours.append(rate(model.encode_documents, docs))
            peers.append(rate(peer.encode_document, docs))
    figures = {
        "model": arguments.model,
        "documents": len(docs),
        "mean_tokens": statistics.mean(len(model.encoder.document_ids(text)) for text in docs),
        "threads": THREADS,
        "dtype": str(model.encoder.dtype),
        "batch_tokens": model.encoder.batch_tokens,
        "ours_docs_per_second": statistics.median(ours),
        "peer_docs_per_second": statistics.median(peers),
        "ratio": statistics.median([own / other for own, other in zip(ours, peers, strict=True)]),
        "ratios": [own / other for own, other in zip(ours, peers, strict=True)],
        "load_1min": os.getloadavg()[0],
        "cpu": torch.cpu.get_capabilities().get("cpu_name") if hasattr(torch.cpu, "get_capabilities") else None,
        "amx_bf16": bool(torch.cpu._is_amx_tile_supported()),
        **(quality(arguments.shared) if arguments.quality else {}),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

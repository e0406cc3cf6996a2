"""Documents per second, beside MultiVectorEncoder.encode_document at its defaults, alternating in one run.

    python -m benchmarks.encode [--shared ../shared] [--model me5|base] [--documents 256] [--repeats 3] [--quality]

The same documents (JSQuAD paragraphs, drawn with a fixed seed) and the same checkpoint: ``me5`` is the shared
me5-small-ja (12 layers of 384); ``base`` is a BERT-base-sized JaColBERT (12 layers of 768, projection to 128) with
random weights and, where it is there, the released vocabulary. The peer runs in float32, batches of 32: its defaults.
``--quality`` adds nDCG@10 on all of JSQuAD with documents encoded in float32 and in bfloat16 (me5 only).
Prints one JSON line.
"""

from __future__ import annotations

import argparse
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

from benchmarks.collections import jsquad_documents, me5, need, questions
from pyterrier_jacolbert import JaColBERT, JaColBERTIndexer

THREADS = 2


def base_model(shared: Path, folder: Path) -> JaColBERT:
    """A BERT-base-sized checkpoint in Stanford ColBERT's layout, with random weights."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from checkpoints import write_stanford_checkpoint

    tokenizer = need(shared / "models" / "tohoku-bert-base-japanese-v3-tokenizer")
    return JaColBERT(str(write_stanford_checkpoint(folder, tokenizer, hidden=768, layers=12, heads=12, dim=128)))


def rate(encode: Callable[[Sequence[str]], object], texts: Sequence[str]) -> float:
    """Documents per second of one call."""
    start = time.perf_counter()
    encode(texts)
    return len(texts) / (time.perf_counter() - start)


def quality(shared: Path) -> dict[str, float]:
    """nDCG@10 of exact retrieval on JSQuAD, by the precision in which documents are encoded."""
    docs, topics = list(jsquad_documents(shared)), questions(shared)
    qrels = topics[["qid", "relevant"]].rename(columns={"relevant": "docno"}).assign(label=1)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for dtype in ("float32", "bfloat16"):
            index = JaColBERTIndexer(Path(folder) / dtype, me5(shared, dtype=dtype)).index(docs)
            table = pt.Experiment([index.retriever(num_results=10)], topics[["qid", "query"]], qrels, [nDCG @ 10])
            found[f"nDCG@10 {dtype}"] = float(table["nDCG@10"].iloc[0])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared")
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
            else base_model(arguments.shared, Path(folder))
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

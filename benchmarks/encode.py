"""Measures documents encoded per second, alternating with Sentence Transformers in one run.

    python -m benchmarks.encode [--shared ../shared] [--model me5|base|mini] [--documents 256] [--repeats 3] [--quality]

Both encode the same documents (JSQuAD paragraphs, drawn with a fixed seed) with the same checkpoint: ``me5`` is
me5-small-ja (12 layers of 384 dimensions); ``base`` is a JaColBERT of the size of BERT-base (12 layers of 768
dimensions, projected to 128) with random weights and the released vocabulary; ``mini`` is the checkpoint that ships
with the package. The peer is
``MultiVectorEncoder.encode_document`` with its defaults: float32 and batches of 32 documents. ``--quality`` adds, for
me5, nDCG@10 on all of JSQuAD, and how far scores drift with the precision of documents. Prints one JSON line.
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

from benchmarks.arguments import benchmark_parser
from benchmarks.collections import jsquad_documents, me5, questions, require
from pyterrier_jacolbert import JaColBERT, JaColBERTIndexer

THREADS = 2


def main() -> None:
    parser = benchmark_parser(__doc__, "shared")
    parser.add_argument("--model", choices=["me5", "base", "mini"], default="me5", help="checkpoint (default: me5)")
    parser.add_argument("--documents", type=int, default=256, help="number of documents (default: 256)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each encoder (default: 3)")
    parser.add_argument(
        "--batch-tokens", type=int, help="padded tokens per batch (default: that of the package's encoder)"
    )
    parser.add_argument("--quality", action="store_true", help="also measure nDCG@10 and drift of scores, with me5")
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    docs = pd.DataFrame(jsquad_documents(args.shared))["text"].tolist()
    docs = random.Random(0).sample(docs, args.documents)
    with tempfile.TemporaryDirectory() as folder:
        figures = compare_encoders(load_model(args, Path(folder)), docs, args.repeats)
    figures = {
        "model": args.model,
        **figures,
        "load_1min": os.getloadavg()[0],
        "cpu": torch.cpu.get_capabilities().get("cpu_name") if hasattr(torch.cpu, "get_capabilities") else None,
        "amx_bf16": bool(torch.cpu._is_amx_tile_supported()),
        **(measure_quality(args.shared) if args.quality else {}),
    }
    print(json.dumps(figures))


def load_model(args: argparse.Namespace, folder: Path) -> JaColBERT:
    """Loads me5-small-ja or ``mini``, or writes the random checkpoint to a folder and loads it."""
    if args.model == "me5":
        return me5(args.shared, batch_tokens=args.batch_tokens)
    if args.model == "mini":
        return JaColBERT("mini", batch_tokens=args.batch_tokens)
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from checkpoints import write_stanford_checkpoint

    tokenizer = require(args.shared / "models" / "tohoku-bert-base-japanese-v3-tokenizer")
    checkpoint = write_stanford_checkpoint(folder, tokenizer, hidden=768, layers=12, heads=12, dim=128)
    return JaColBERT(str(checkpoint), batch_tokens=args.batch_tokens)


def compare_encoders(model: JaColBERT, docs: list[str], repeats: int) -> dict[str, object]:
    """Measures the documents per second of the package's encoder and of the peer, in turn."""
    peer = model.encoder.model
    for encode in (model.encode_documents, peer.encode_document):
        encode(docs[:16])  # warm-up
    rates, peer_rates = [], []
    for _ in range(repeats):
        rates.append(documents_per_second(model.encode_documents, docs))
        peer_rates.append(documents_per_second(peer.encode_document, docs))
    ratios = [rate / peer_rate for rate, peer_rate in zip(rates, peer_rates, strict=True)]
    return {
        "documents": len(docs),
        "mean_tokens": statistics.mean(len(model.encoder.document_ids(text)) for text in docs),
        "threads": THREADS,
        "dtype": str(model.encoder.dtype),
        "batch_tokens": model.encoder.batch_tokens,
        "documents_per_second": statistics.median(rates),
        "peer_documents_per_second": statistics.median(peer_rates),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }


def documents_per_second(encode: Callable[[Sequence[str]], object], texts: Sequence[str]) -> float:
    """Returns the rate of one call."""
    start = time.perf_counter()
    encode(texts)
    return len(texts) / (time.perf_counter() - start)


def measure_quality(shared: Path) -> dict[str, float]:
    """Measures nDCG@10 of exact retrieval on JSQuAD by precision of documents, and the drift of scores from float32.

    The drift is measured on documents that both precisions rank among a question's first ten. The last pair compares
    two bfloat16 encodings that differ only in their batches.
    """
    docs, topics = list(jsquad_documents(shared)), questions(shared)
    qrels = topics[["qid", "relevant"]].rename(columns={"relevant": "docno"}).assign(label=1)
    settings = {"float32": {"dtype": "float32"}, "bfloat16": {"dtype": "bfloat16"}}
    settings["bfloat16, other batches"] = {"dtype": "bfloat16", "batch_tokens": 4096}
    figures, rankings = {}, {}
    for name, options in settings.items():
        index = JaColBERTIndexer(None, me5(shared, **options), compression="float16").index(docs)
        rankings[name] = index.retriever(num_results=10)(topics[["qid", "query"]])
        figures[f"nDCG@10 {name}"] = float(pt.Evaluate(rankings[name], qrels, [nDCG @ 10])["nDCG@10"])
    for name, other in [("float32", "bfloat16"), ("bfloat16", "bfloat16, other batches")]:
        both = rankings[name].merge(rankings[other], on=["qid", "docno"])
        drift = (both["score_x"] - both["score_y"]).abs() / both["score_x"].abs()
        figures |= {f"mean relative drift to {other}": drift.mean(), f"largest relative drift to {other}": drift.max()}
    return figures


if __name__ == "__main__":
    main()

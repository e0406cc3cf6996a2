"""Records the examples that each of two training processes sees; test_distill.py runs it with torch.distributed.run."""

import dataclasses
import json
import os
import sys
from pathlib import Path

from sentence_transformers import MultiVectorEncoder
from test_distill import DOCUMENTS, QUERIES, STAGE

from pyterrier_jacolbert.train import Example, distill
from pyterrier_jacolbert.train.contrastive import ContrastiveLoss
from pyterrier_jacolbert.train.losses import DistillationLoss

start, folder, changes = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
stage = dataclasses.replace(STAGE, steps=None, **changes)
seen = []


tokenizer = MultiVectorEncoder(start, device="cpu").tokenizer
TOKENS = {qid: tokenizer(text, add_special_tokens=False)["input_ids"] for qid, text in QUERIES.items()}


def qids(features):
    """Yields the query of each row, recognised by its tokens before [SEP]."""
    for ids, mask in zip(features["input_ids"], features["attention_mask"], strict=True):
        row = ids[mask.bool()].tolist()[:-1]
        yield next(qid for qid, tokens in TOKENS.items() if row[-len(tokens) :] == tokens)


def recording(original):
    def forward(self, features, labels):
        seen.extend(qids(features[0]))
        return original(self, features, labels)

    return forward


for loss in (ContrastiveLoss, DistillationLoss):
    loss.forward = recording(loss.forward)
examples = [Example(f"q{i}", (f"d{i}", "d9", "d10"), (float(i), -1.0, -2.0)) for i in range(len(QUERIES))]
distill(examples, QUERIES, DOCUMENTS, stage, folder / "run", model=start, device="cpu", verbose=False)
(folder / f"rank{os.environ['RANK']}.json").write_text(json.dumps(seen))

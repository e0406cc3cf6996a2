"""Documents and queries that bring token vectors, scattered around a few directions."""

import numpy as np
import pandas as pd

DIM = 16
CENTRES = np.random.default_rng(7).standard_normal((20, DIM))


def unit_vectors(rng, n):
    """Draws vectors: float32 ``(n, DIM)``."""
    rows = CENTRES[rng.integers(20, size=n)] + 0.3 * rng.standard_normal((n, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def documents(numbers):
    """Returns documents; each depends only on its number, and every seventh has no vectors."""
    vectors = [unit_vectors(np.random.default_rng(i), 0 if i % 7 == 6 else 1 + i % 9) for i in numbers]
    return [{"docno": f"文書{i}", "doc_embs": rows} for i, rows in zip(numbers, vectors, strict=True)]


def queries():
    """Returns six queries."""
    vectors = [unit_vectors(np.random.default_rng(1000 + i), 4 + i) for i in range(6)]
    return pd.DataFrame({"qid": [str(i) for i in range(6)], "query_embs": vectors})

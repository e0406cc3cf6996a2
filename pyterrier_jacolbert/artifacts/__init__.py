"""Artifacts that users open: indexes of token vectors, single or sharded, and BM25 indexes."""

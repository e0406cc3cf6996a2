"""Compresses token vectors: float16, int8, and residuals of 4, 2 or 1 bits."""

"""Benchmarks of speed, memory and quality; those with a peer measure it in the same run."""

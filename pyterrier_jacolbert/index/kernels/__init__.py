"""Compiled kernels, each beside its numpy reference, and the SIMD intrinsics that they call."""

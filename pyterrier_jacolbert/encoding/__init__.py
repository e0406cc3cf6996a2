"""Encodes text as token vectors: checkpoints, query augmentation and the characters behind each token."""

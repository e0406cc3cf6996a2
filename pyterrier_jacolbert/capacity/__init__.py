"""Predicts the disk, memory and time that an index takes."""

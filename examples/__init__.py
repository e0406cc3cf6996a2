"""Example programs: search, experiments and training."""

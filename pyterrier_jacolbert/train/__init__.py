"""The recipe as software: examples from pipelines and teachers, distillation, and averages of checkpoints.

Needs the extra ``train``.
"""

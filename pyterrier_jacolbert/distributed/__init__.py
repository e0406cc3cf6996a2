"""Builds and searches sharded indexes on a Ray cluster (extra ``ray``)."""

from pyterrier_jacolbert.distributed.executor import RayExecutor
from pyterrier_jacolbert.distributed.retriever import RayRetriever

__all__ = ["RayExecutor", "RayRetriever"]

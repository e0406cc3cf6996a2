"""JaColBERT: a checkpoint and its settings, with factory methods for encoders, re-rankers and explainers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyterrier_jacolbert.encoding.query_length import QueryLength, check_query_length
from pyterrier_jacolbert.index.limits import check_choice, check_positive
from pyterrier_jacolbert.pipeline.base import describe, same_settings

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder

    from pyterrier_jacolbert.encoding.encoder import TokenEncoder
    from pyterrier_jacolbert.explain import Explanation
    from pyterrier_jacolbert.pipeline.encoders import DocEncoder, QueryEncoder
    from pyterrier_jacolbert.pipeline.explainers import TextExplainer
    from pyterrier_jacolbert.pipeline.passages import JapanesePassages
    from pyterrier_jacolbert.pipeline.rerankers import TextReranker

DEFAULT_CHECKPOINT = "answerdotai/JaColBERTv2.5"
#: Smallest limit on the tokens of a document or a batch: special tokens, a marker and one token of text.
_MIN_TOKENS = 4


class JaColBERT:
    """A ColBERT checkpoint and its settings. Construction is cheap: the weights load when a text is first encoded.

    Args:
        model: folder or hub name of a checkpoint (in the layout of Stanford ColBERT, PyLate or Sentence Transformers),
            a ``MultiVectorEncoder``, or ``"mini"``: a small Japanese checkpoint that ships with the package (a folder
            of that name is ``"./mini"``).
        revision: revision on the hub.
        device: ``"cpu"``, ``"cuda"``, ...; None takes a GPU if there is one.
        dtype: precision in which documents are encoded: ``"auto"`` is bfloat16 if the device multiplies it natively,
            and float32 otherwise; ``"float32"`` is for bit-exact work; ``"bfloat16"``. Queries are always encoded in
            float32.
        query_length: rule for [MASK] augmentation: ``"dynamic"`` (the paper's), ``"evaluator"`` (that of the author's
            evaluation code), a fixed number of positions, or None for no augmentation. ``"auto"`` is ``"dynamic"`` for
            a checkpoint that was trained with augmentation, and None for others.
        max_document_length: maximum number of tokens of a document, special tokens included; None takes the
            checkpoint's (300 for JaColBERTv2.5).
        truncate_dim: keeps this number of leading dimensions of each token vector (Matryoshka), for checkpoints that
            were trained for it.
        batch_tokens: maximum number of padded tokens in a batch; None depends on the device.
        verbose: whether to show progress bars.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: a setting is out of its range.

    Example:
        >>> model = JaColBERT()  # doctest: +SKIP
        >>> bm25 % 100 >> model.text_scorer()  # doctest: +SKIP

    Source: Clavié, "JaColBERTv2.5: Optimising Multi-Vector Retrievers to Create State-of-the-Art Japanese Retrievers
    with Constrained Resources", arXiv 2407.20750.
    """

    def __init__(
        self,
        model: str | MultiVectorEncoder = DEFAULT_CHECKPOINT,
        *,
        revision: str | None = None,
        device: str | None = None,
        dtype: str = "auto",
        query_length: QueryLength = "auto",
        max_document_length: int | None = None,
        truncate_dim: int | None = None,
        batch_tokens: int | None = None,
        verbose: bool = False,
    ) -> None:
        model = str(model) if hasattr(model, "__fspath__") else model
        check_query_length(query_length)
        check_choice("dtype", dtype, ("auto", "float32", "bfloat16"))
        check_positive(optional=True, truncate_dim=truncate_dim)
        for name, number in (("max_document_length", max_document_length), ("batch_tokens", batch_tokens)):
            if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < _MIN_TOKENS):
                raise ValueError(f"{name} must be a number of tokens ({_MIN_TOKENS} or more) or None, not {number!r}.")
        if isinstance(model, str):
            from pyterrier_jacolbert.encoding.checkpoint import check_folder

            check_folder(model)
        elif not hasattr(model, "encode_query"):
            raise ValueError(
                f"model must be a folder, a hub name or a MultiVectorEncoder, not of type {type(model).__name__}."
            )
        self.model = model
        self.revision = revision
        self.device = device
        self.dtype = dtype
        self.query_length = query_length
        self.max_document_length = max_document_length
        self.truncate_dim = truncate_dim
        self.batch_tokens = batch_tokens
        self.verbose = verbose
        self._encoder: TokenEncoder | None = None
        self._fingerprint: str | None = None

    @property
    def encoder(self) -> TokenEncoder:
        """The checkpoint, which is loaded on first access.

        Raises:
            FileNotFoundError: the checkpoint cannot be found.
            ValueError: it is not a ColBERT checkpoint.
            ImportError: its tokenizer needs a package that is not installed.
        """
        if self._encoder is None:
            from pyterrier_jacolbert.encoding.checkpoint import load_checkpoint
            from pyterrier_jacolbert.encoding.encoder import TokenEncoder

            if isinstance(self.model, str):
                loaded = load_checkpoint(self.model, self.revision, self.device)
            else:
                loaded = self.model if self.device is None else self.model.to(self.device)
            self._encoder = TokenEncoder(
                loaded,
                dtype=self.dtype,
                query_length=self.query_length,
                max_document_length=self.max_document_length,
                truncate_dim=self.truncate_dim,
                batch_tokens=self.batch_tokens,
            )
        return self._encoder

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._encoder is not None

    @property
    def fingerprint(self) -> str:
        """Digest of the weights, which are loaded for it."""
        if self._fingerprint is None:
            from pyterrier_jacolbert.encoding.checkpoint import fingerprint

            self._fingerprint = fingerprint(self.encoder.model)
        return self._fingerprint

    @property
    def dim(self) -> int:
        """Dimensions of a token vector, for which the checkpoint is loaded."""
        return self.encoder.dim

    def encode_queries(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Encodes queries as token vectors.

        Args:
            texts: queries; each distinct one is encoded once.

        Returns:
            float32 ``(n_positions, dim)`` for each query, unit rows, [MASK] positions included.
        """
        return self.encoder.encode_queries(texts)

    def encode_documents(
        self, texts: Sequence[str], progress: Callable[[int], object] | None = None
    ) -> list[np.ndarray]:
        """Encodes documents as token vectors.

        Args:
            texts: documents, title first if they have one.
            progress: called with numbers of texts as they are done.

        Returns:
            float32 ``(n_tokens, dim)`` for each document, unit rows; no rows for "".
        """
        return self.encoder.encode_documents(texts, progress)

    def query_encoder(self) -> QueryEncoder:
        """Creates a transformer that adds ``query_embs`` to frames with ``query``.

        Returns:
            The transformer.
        """
        from pyterrier_jacolbert.pipeline.encoders import QueryEncoder

        return QueryEncoder(self)

    def doc_encoder(self, *, text_field: str = "text", title_field: str | None = None) -> DocEncoder:
        """Creates a transformer that adds ``doc_embs`` to frames with documents.

        Args:
            text_field: column with the text.
            title_field: column put before the text, with a space between, unless it is missing or blank.

        Returns:
            The transformer.
        """
        from pyterrier_jacolbert.pipeline.encoders import DocEncoder

        return DocEncoder(self, text_field=text_field, title_field=title_field)

    def text_scorer(self, *, text_field: str = "text", title_field: str | None = None) -> TextReranker:
        """Creates a re-ranker that encodes the text of documents, each distinct text once.

        Args:
            text_field: column with the text.
            title_field: column put before the text, with a space between, unless it is missing or blank.

        Returns:
            The transformer.
        """
        from pyterrier_jacolbert.pipeline.rerankers import TextReranker

        return TextReranker(self, text_field=text_field, title_field=title_field)

    def passages(
        self,
        *,
        length: int | None = None,
        stride: int | None = None,
        prepend: str | None = "title",
        text_field: str = "text",
    ) -> JapanesePassages:
        """Creates a transformer that splits long documents into passages of whole sentences.

        Args:
            length: maximum number of tokens of a passage, without special tokens and what is prepended; None takes as
                many as the model leaves.
            stride: maximum number of tokens from the start of a passage to the start of the next; None takes
                ``length``.
            prepend: column put before each passage, with a space between; None prepends nothing.
            text_field: column with the text.

        Returns:
            The transformer; see :class:`~pyterrier_jacolbert.pipeline.JapanesePassages`.
        """
        from pyterrier_jacolbert.pipeline.passages import JapanesePassages

        return JapanesePassages(self, length=length, stride=stride, prepend=prepend, text_field=text_field)

    def explainer(self, *, text_field: str = "text", title_field: str | None = None) -> TextExplainer:
        """Creates a transformer that adds ``contributions``, the share of each query token in the score.

        Args:
            text_field: column with the text.
            title_field: column put before the text, with a space between, unless it is missing or blank.

        Returns:
            The transformer.
        """
        from pyterrier_jacolbert.pipeline.explainers import TextExplainer

        return TextExplainer(self, text_field=text_field, title_field=title_field)

    def explain(self, query: str, text: str) -> Explanation:
        """Explains the score of a text for a query: which of its tokens each query token matched.

        Args:
            query: a query.
            text: text of a document; put its title before it, with a space between, if the re-ranker did.

        Returns:
            An explanation, which a notebook shows as the text with matches shaded; it also has ``.to_frame()`` and
            ``.plot()``.

        Raises:
            ValueError: the query or text is not a string, or holds a lone surrogate.
        """
        from pyterrier_jacolbert.explain.build import explain_text

        return explain_text(self, query, text)

    def settings(self) -> dict[str, Any]:
        """Returns what an index records, so that queries are later encoded as its documents were.

        ``model`` is None for a ``MultiVectorEncoder``, which has no name; ``fingerprint`` identifies the weights.

        Returns:
            ``model``, ``revision``, ``query_length``, ``max_document_length``, ``truncate_dim`` and ``fingerprint``.
        """
        return {
            "model": self.model if isinstance(self.model, str) else None,
            "revision": self.revision,
            "query_length": self.query_length,
            "max_document_length": self.max_document_length,
            "truncate_dim": self.truncate_dim,
            "fingerprint": self.fingerprint,
        }

    def __eq__(self, other: object) -> bool:
        return same_settings(self, other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return describe(self)

    def __getstate__(self) -> dict[str, Any]:
        # Loaded weights are not pickled: a copy loads them again by name, or carries the encoder that it was given.
        return {**self.__dict__, "_encoder": None}


def as_model(model: JaColBERT | str | MultiVectorEncoder) -> JaColBERT:
    """Returns a :class:`JaColBERT`, constructed from a name or a ``MultiVectorEncoder`` if need be."""
    return model if isinstance(model, JaColBERT) else JaColBERT(model)

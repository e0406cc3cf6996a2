"""The door to a checkpoint: JaColBERT makes encoders and re-rankers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyterrier_jacolbert.query_length import QueryLength, check_query_length
from pyterrier_jacolbert.transformer import describe, same_settings

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder

    from pyterrier_jacolbert.encoder import TokenEncoder
    from pyterrier_jacolbert.explain import Explanation
    from pyterrier_jacolbert.pipeline.encoders import DocEncoder, QueryEncoder
    from pyterrier_jacolbert.pipeline.explainers import TextExplainer
    from pyterrier_jacolbert.pipeline.scorers import TextScorer

DEFAULT_CHECKPOINT = "answerdotai/JaColBERTv2.5"


class JaColBERT:
    """A ColBERT checkpoint and how it is used. Making one is cheap: the weights load when a text is first encoded.

    Args:
        model: a folder or hub name of a checkpoint (Stanford ColBERT's layout, PyLate's or Sentence Transformers'
            own), a ready ``MultiVectorEncoder``, or ``"mini"``: a small Japanese checkpoint that ships with the package
            (a folder of that name is ``"./mini"``).
        revision: the hub revision.
        device: ``"cpu"``, ``"cuda"``, ...; None takes a GPU if there is one.
        dtype: how documents are encoded: ``"auto"`` is bfloat16 where the device multiplies it natively and float32
            elsewhere; ``"float32"`` for bit-true work; ``"bfloat16"``. Queries are always encoded in float32.
        query_length: the rule for [MASK] augmentation: ``"dynamic"`` (the paper's), ``"evaluator"`` (the author's
            evaluation code), a fixed number of positions, or None for none; see
            :func:`pyterrier_jacolbert.query_length.target_length`. ``"auto"`` is ``"dynamic"`` for a checkpoint that
            was trained with augmentation, and None for another.
        max_document_length: the most tokens of a document, special tokens included; None takes the checkpoint's
            (300 for JaColBERTv2.5).
        truncate_dim: keeps so many leading numbers of each token vector (Matryoshka); for checkpoints that were trained
            for it.
        batch_tokens: the most padded tokens in a batch; None chooses by device.
        verbose: whether to show progress bars.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: a setting that is none of the above.

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
        if dtype not in ("auto", "float32", "bfloat16"):
            raise ValueError(f"dtype must be 'auto', 'float32' or 'bfloat16', not {dtype!r}.")
        for name, number in (("max_document_length", max_document_length), ("batch_tokens", batch_tokens)):
            if number is not None and (not isinstance(number, int) or number < 4):
                raise ValueError(f"{name} must be a number of tokens (4 or more) or None, not {number!r}.")
        if truncate_dim is not None and (not isinstance(truncate_dim, int) or truncate_dim < 1):
            raise ValueError(f"truncate_dim must be a number of dimensions (1 or more) or None, not {truncate_dim!r}.")
        if isinstance(model, str):
            from pyterrier_jacolbert.checkpoint import check_folder

            check_folder(model)
        elif not hasattr(model, "encode_query"):
            raise ValueError(
                f"model must be a folder, a hub name or a MultiVectorEncoder, not a {type(model).__name__}."
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
        """The loaded checkpoint; loads it the first time.

        Raises:
            FileNotFoundError, ValueError, ImportError: as :func:`pyterrier_jacolbert.checkpoint.load_checkpoint`.
        """
        if self._encoder is None:
            from pyterrier_jacolbert.checkpoint import load_checkpoint
            from pyterrier_jacolbert.encoder import TokenEncoder

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
        """A digest of the weights (loads the checkpoint); see :func:`pyterrier_jacolbert.checkpoint.fingerprint`."""
        if self._fingerprint is None:
            from pyterrier_jacolbert.checkpoint import fingerprint

            self._fingerprint = fingerprint(self.encoder.model)
        return self._fingerprint

    @property
    def dim(self) -> int:
        """The dimensions of a token vector (loads the checkpoint)."""
        return self.encoder.dim

    def encode_queries(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Encodes queries as token vectors.

        Args:
            texts: queries; each distinct one is encoded once.

        Returns:
            For each float32 ``(n_positions, dim)``, unit rows, [MASK] positions included.
        """
        return self.encoder.encode_queries(texts)

    def encode_documents(
        self, texts: Sequence[str], progress: Callable[[int], object] | None = None
    ) -> list[np.ndarray]:
        """Encodes documents as token vectors.

        Args:
            texts: documents, title first where they have one.
            progress: called with the number of texts done, as they are done.

        Returns:
            For each float32 ``(n_tokens, dim)``, unit rows; none for "".
        """
        return self.encoder.encode_documents(texts, progress)

    def query_encoder(self) -> QueryEncoder:
        """A transformer that adds ``query_embs`` to frames with ``query``.

        Returns:
            The transformer.
        """
        from pyterrier_jacolbert.pipeline.encoders import QueryEncoder

        return QueryEncoder(self)

    def doc_encoder(self, *, text_field: str = "text", title_field: str | None = None) -> DocEncoder:
        """A transformer that adds ``doc_embs`` to frames with documents.

        Args:
            text_field: the column with the text.
            title_field: a column put before the text, with a space between.

        Returns:
            The transformer.
        """
        from pyterrier_jacolbert.pipeline.encoders import DocEncoder

        return DocEncoder(self, text_field=text_field, title_field=title_field)

    def text_scorer(self, *, text_field: str = "text", title_field: str | None = None) -> TextScorer:
        """A re-ranker that encodes the documents' text, each distinct text once.

        Args:
            text_field: the column with the text.
            title_field: a column put before the text, with a space between.

        Returns:
            The transformer.
        """
        from pyterrier_jacolbert.pipeline.scorers import TextScorer

        return TextScorer(self, text_field=text_field, title_field=title_field)

    def explainer(self, *, text_field: str = "text", title_field: str | None = None) -> TextExplainer:
        """A transformer that adds ``contributions``, what each query token gave to the score of :meth:`text_scorer`.

        Args:
            text_field: the column with the text.
            title_field: a column put before the text, with a space between.

        Returns:
            The transformer.
        """
        from pyterrier_jacolbert.pipeline.explainers import TextExplainer

        return TextExplainer(self, text_field=text_field, title_field=title_field)

    def explain(self, query: str, text: str) -> Explanation:
        """Why a text scores as it does for a query: which of its tokens each query token met.

        Args:
            query: a query.
            text: a document's text; put its title before it, with a space between, if the scorer did.

        Returns:
            What a notebook shows as the text with what matched shaded; also ``.to_frame()`` and ``.plot()``.

        Raises:
            ValueError: the query or text is not a string, or holds a lone surrogate.
        """
        from pyterrier_jacolbert.explain import explain_text

        return explain_text(self, query, text)

    def settings(self) -> dict[str, Any]:
        """What an index records, so that queries are later encoded as its documents were.

        ``model`` is None for a ready MultiVectorEncoder, which no file names; ``fingerprint`` tells weights apart.

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
        # Loaded weights stay behind: a copy loads them again from the name, or carries the encoder it was given.
        return {**self.__dict__, "_encoder": None}


def as_model(model: JaColBERT | str | MultiVectorEncoder) -> JaColBERT:
    """A :class:`JaColBERT` of whatever names or is one."""
    return model if isinstance(model, JaColBERT) else JaColBERT(model)

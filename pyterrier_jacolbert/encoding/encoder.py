"""Encodes texts as token vectors: tokens, query augmentation, batches and precision around a MultiVectorEncoder."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pyterrier_jacolbert.encoding.batches import LENGTH_STEP, batches, pad, padded_length
from pyterrier_jacolbert.encoding.positions import max_positions
from pyterrier_jacolbert.encoding.precision import resolve_dtype, to_bfloat16, to_float32
from pyterrier_jacolbert.encoding.preparation import TextPreparation
from pyterrier_jacolbert.encoding.query_length import (
    QueryLength,
    max_query_tokens,
    resolve_query_length,
    target_length,
)
from pyterrier_jacolbert.index.threads import MapFn, cached_attribute, in_lone_threads, lock_of

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder

#: Padded tokens per batch, by kind of device. Small batches keep activations in a CPU's cache (benchmarks/encode.py).
BATCH_TOKENS = {"cpu": 1024, "other": 65_536}
#: Documents per tokenised group; the tokenizer works one group ahead of the model.
_GROUP_DOCUMENTS = 512
#: Characters of text kept per position before tokenisation: WordPiece accepts words of up to 100 characters, and MeCab
#: crashes the process on texts of hundreds of thousands of characters.
_CHARACTERS_PER_POSITION = 100


class TokenEncoder:
    """Encodes queries and documents with a checkpoint.

    The checkpoint's own modules do the work (markers, projection, skip list, normalisation), and its own settings apply
    unless an argument replaces them. Queries are encoded in float32, documents in ``dtype``.

    Texts are prepared for the tokenizer first (:class:`~pyterrier_jacolbert.encoding.preparation.TextPreparation`), so
    that ignorable characters, control characters and special tokens that a user types do not reach the model. All other
    texts get the vectors that Sentence Transformers gives them.

    Args:
        model: checkpoint.
        dtype: ``"auto"`` (bfloat16 if the device multiplies it natively, else float32), ``"float32"`` or
            ``"bfloat16"``.
        query_length: rule for [MASK] augmentation; see
            :func:`~pyterrier_jacolbert.encoding.query_length.target_length`. ``"auto"`` augments queries if the
            checkpoint was trained with augmentation.
        max_document_length: maximum number of tokens per document, special tokens included; None uses the checkpoint's.
        truncate_dim: number of leading dimensions to keep of each vector, which is then normalised to length 1; for
            checkpoints that were trained for truncation.
        batch_tokens: maximum number of padded tokens per batch; None chooses by device.

    Raises:
        ValueError: the rule needs a [MASK] token and the checkpoint has none, the dtype is unknown, or ``truncate_dim``
            exceeds the checkpoint's dimensions.
    """

    def __init__(
        self,
        model: MultiVectorEncoder,
        *,
        dtype: str = "auto",
        query_length: QueryLength = "auto",
        max_document_length: int | None = None,
        truncate_dim: int | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        self.model = to_float32(model).eval()
        self.device = torch.device(model.device)
        self.dtype = resolve_dtype(dtype, self.device)
        self.batch_tokens = batch_tokens or BATCH_TOKENS["cpu" if self.device.type == "cpu" else "other"]
        self.tokenizer = model.tokenizer
        self.preparation = TextPreparation(self.tokenizer)
        backbone = self.model[0]
        self._positions = max_positions(backbone, self.tokenizer)
        self.max_document_length = self.document_limit(max_document_length)
        expansion = getattr(backbone, "query_expansion", None) or {}
        self.query_length = query_length = resolve_query_length(query_length, bool(expansion))
        self._attend_to_masks = bool(expansion.get("attend", False))
        self.mask_id = self._expansion_id(expansion.get("token"))
        if query_length is not None and not expansion:
            warnings.warn(
                f"This checkpoint was not trained with query augmentation, which query_length={query_length!r} adds; "
                "pass query_length=None to turn it off.",
                stacklevel=4,
            )
        plain_length = getattr(backbone, "query_length", None) if query_length is None else None
        self._max_query_tokens = min(max_query_tokens(query_length, self._positions), plain_length or self._positions)
        self._float32_backbone = backbone
        self._bfloat16_backbone: torch.nn.Module | None = None
        if self.dtype == torch.bfloat16:
            self._bfloat16_backbone = to_bfloat16(backbone, self.device)
            if self._bfloat16_backbone is None:
                self.dtype = torch.float32
                if dtype == "bfloat16":
                    warnings.warn(
                        "The backbone of this checkpoint cannot compute in bfloat16, so documents are encoded in "
                        "float32; pass dtype='float32' to choose that.",
                        stacklevel=4,
                    )
        full_dim = int(model.get_embedding_dimension() or 0)
        self.dim = truncate_dim or full_dim
        if self.dim > full_dim:
            raise ValueError(
                f"truncate_dim={truncate_dim} exceeds the {full_dim} dimensions of the checkpoint; give a smaller one."
            )

    def document_limit(self, max_document_length: int | None) -> int:
        """Returns the maximum number of tokens per document that a setting stands for with this checkpoint."""
        limit = max_document_length or getattr(self.model[0], "document_length", None) or self._positions
        return min(int(limit), self._positions)

    def encode_queries(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Encodes queries, each distinct text once, in float32.

        Returns:
            The vectors of each text: float32 ``(n_positions, dim)``, unit rows, [MASK] positions included.
        """
        prepared = {text: self.preparation.prepare(text) for text in set(texts)}
        distinct = sorted(set(prepared.values()))
        ids = self._tokenize(distinct, "query", self._positions)
        ids = self._truncate_queries(distinct, ids)
        targets = [target_length(self.query_length, len(tokens)) for tokens in ids]
        order = sorted(range(len(distinct)), key=lambda i: (targets[i], len(ids[i]), distinct[i]))
        vectors: dict[str, np.ndarray] = {}
        # One target length per batch: no query is padded to the length of another.
        for batch in batches(order, targets, self.batch_tokens, same_length=True):
            features = self._query_features([ids[i] for i in batch], targets[batch[0]])
            for i, rows in zip(batch, self._forward(features, "query", self._float32_backbone), strict=True):
                vectors[distinct[i]] = rows
        return [vectors[prepared[text]] for text in texts]

    def encode_documents(
        self, texts: Sequence[str], progress: Callable[[int], object] | None = None
    ) -> list[np.ndarray]:
        """Encodes documents, each distinct text once, in an order that depends only on the texts.

        Args:
            texts: documents; one of white space and ignorable characters alone has no vectors.
            progress: callback that receives the number of texts just encoded; on a CPU, after every few hundred texts.

        Returns:
            The vectors of each text: float32 ``(n_tokens, dim)``, unit rows, skipped punctuation excluded.
        """
        prepared = {text: self.preparation.prepare(text) for text in set(texts)}
        copies = Counter(prepared[text] for text in texts)
        vectors = {"": np.empty((0, self.dim), dtype=np.float32)}
        if progress is not None and "" in copies:
            progress(copies[""])
        backbone = self._float32_backbone if self._bfloat16_backbone is None else self._bfloat16_backbone

        def forward(features: dict[str, Any]) -> list[np.ndarray]:
            return self._forward(features, "document", backbone)

        # On a CPU a single thread computes each batch, so the vectors do not depend on the number of threads.
        map_fn: MapFn = in_lone_threads if self.device.type == "cpu" else map
        # Longest first: memory use peaks at the start of a long run, not at its end.
        distinct = sorted(copies.keys() - {""}, key=lambda text: (-len(text), text))
        for group, ids in self._tokenized_groups(distinct):
            lengths = [len(tokens) for tokens in ids]
            if not self._mixes_padding:
                lengths = [padded_length(length, self.max_document_length) for length in lengths]
            order = sorted(range(len(group)), key=lambda i: (-len(ids[i]), group[i]))
            grouped = list(batches(order, lengths, self.batch_tokens, same_length=self._mixes_padding))
            padded = (self._document_features([ids[i] for i in batch], lengths[batch[0]]) for batch in grouped)
            for batch, batch_vectors in zip(grouped, map_fn(forward, padded), strict=True):
                vectors.update(zip((group[i] for i in batch), batch_vectors, strict=True))
                if progress is not None:
                    progress(sum(copies[group[i]] for i in batch))
        return [vectors[prepared[text]] for text in texts]

    def query_ids(self, text: str) -> list[int]:
        """Returns the token ids of a query as the model sees them: markers and [MASK] positions included."""
        prepared = self.preparation.prepare(text)
        ids = self._truncate_queries([prepared], self._tokenize([prepared], "query", self._positions))[0]
        return ids + [self.mask_id] * (target_length(self.query_length, len(ids)) - len(ids))

    def document_ids(self, text: str) -> list[int]:
        """Returns the token ids of a document as the model sees them, skipped punctuation included."""
        prepared = self.preparation.prepare(text)
        return self._tokenize([prepared], "document", self.max_document_length)[0]

    def _tokenize(self, texts: Sequence[str], task: str, max_length: int) -> list[list[int]]:
        if not texts:
            return []
        # A tokenizer keeps the maximum length of its last call, so threads must not use it at the same time.
        with lock_of(self.tokenizer):
            # task=None: this class chooses the length of the augmentation, not the checkpoint's fixed setting.
            features = self.model.preprocess(
                [text[: max_length * _CHARACTERS_PER_POSITION] for text in texts],
                prompt=self.model.prompts.get(task) or None,
                task=None,
                processing_kwargs={
                    "common": {"return_tensors": None},
                    "text": {"padding": False, "truncation": True, "max_length": max_length},
                },
            )
        return [list(tokens) for tokens in features["input_ids"]]

    def _tokenized_groups(self, texts: list[str]) -> Iterator[tuple[list[str], list[list[int]]]]:
        # MeCab's tokenizer is Python code: it works on the next group while the model encodes this one without the GIL.
        groups = [texts[start : start + _GROUP_DOCUMENTS] for start in range(0, len(texts), _GROUP_DOCUMENTS)]
        with ThreadPoolExecutor(max_workers=1) as pool:
            futures = [pool.submit(self._tokenize, group, "document", self.max_document_length) for group in groups[:1]]
            for number, group in enumerate(groups):
                if number + 1 < len(groups):
                    futures.append(
                        pool.submit(self._tokenize, groups[number + 1], "document", self.max_document_length)
                    )
                yield group, futures[number].result()

    def _truncate_queries(self, texts: list[str], ids: list[list[int]]) -> list[list[int]]:
        limit = self._max_query_tokens
        # The tokenizer has already cut any text that fills every position.
        long = [i for i, tokens in enumerate(ids) if len(tokens) > limit or len(tokens) == self._positions]
        if long:
            warnings.warn(
                f"{len(long)} of {len(texts)} queries are longer than the {limit} tokens that "
                f"query_length={self.query_length!r} allows and were truncated (first: {texts[long[0]][:40]!r}); "
                "make them shorter, or raise query_length.",
                stacklevel=3,
            )
            for i, tokens in zip(long, self._tokenize([texts[i] for i in long], "query", limit), strict=True):
                ids[i] = tokens
        return ids

    def _query_features(self, ids: list[list[int]], target: int) -> dict[str, Any]:
        features: dict[str, Any] = pad(ids, target, self.mask_id)
        expansion = features["attention_mask"] == 0
        if self._attend_to_masks:
            features["attention_mask"] = torch.ones_like(features["attention_mask"])
        if self.query_length is not None:
            features["query_expansion_positions"] = expansion
        return {name: values.to(self.device) for name, values in features.items()}

    def _document_features(self, ids: list[list[int]], length: int) -> dict[str, Any]:
        features = pad(ids, length, self.tokenizer.pad_token_id or 0)
        return {name: values.to(self.device) for name, values in features.items()}

    @cached_attribute
    def _mixes_padding(self) -> bool:
        """Whether padding changes the vectors of a text, as where convolutions or Fourier transforms mix neighbours.

        Such a backbone (ConvBERT, MobileBERT, FNet) encodes each text without padding.
        """
        ids = self._tokenize(["a b c"], "document", self._positions)
        longer = min(len(ids[0]) + LENGTH_STEP, self._positions)
        alone, padded = (
            self._forward(self._document_features(ids, length), "document", self._float32_backbone)[0]
            for length in (len(ids[0]), longer)
        )
        return not np.allclose(alone, padded, atol=1e-3)

    def _forward(self, features: dict[str, Any], task: str, backbone: torch.nn.Module) -> list[np.ndarray]:
        """Runs a batch through the modules and returns float32 ``(n_scored_tokens, dim)`` per text."""
        with torch.inference_mode():
            for number, module in enumerate(self.model):
                module = backbone if number == 0 else module
                kwargs = {"task": task} if "task" in getattr(module, "forward_kwargs", ()) else {}
                features = module(features, **kwargs)
                if number == 0:
                    # In float32, projection and normalisation are cheap and give unit vectors to within 1e-6.
                    features["token_embeddings"] = features["token_embeddings"].float()
            vectors = torch.nn.functional.normalize(features["token_embeddings"][..., : self.dim], dim=-1)
            masks = features["attention_mask"].bool()
            return [rows[mask].cpu().numpy() for rows, mask in zip(vectors, masks, strict=True)]

    def _expansion_id(self, token: str | None) -> int:
        mask_id = self.tokenizer.convert_tokens_to_ids(token) if token else self.tokenizer.mask_token_id
        if mask_id is None:
            if self.query_length is not None:
                raise ValueError(
                    f"The tokenizer lacks the [MASK] token that query_length={self.query_length!r} needs; "
                    "pass query_length=None."
                )
            return 0
        return int(mask_id)

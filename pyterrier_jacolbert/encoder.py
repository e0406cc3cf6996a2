"""Texts in, token vectors out: tokens, query augmentation, batches and precision around a MultiVectorEncoder."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sentence_transformers.base.modules import Transformer

from pyterrier_jacolbert.index.threads import Each, in_lone_threads
from pyterrier_jacolbert.packed_linear import pack_linears
from pyterrier_jacolbert.query_length import QueryLength, most_tokens, resolve_query_length, target_length

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder

#: Padded tokens a batch, by kind of device. Small batches keep the activations in a CPU's cache (benchmarks/encode.py).
BATCH_TOKENS = {"cpu": 1024, "other": 65_536}
#: Documents tokenised at a time, one such group ahead of the model.
_TOKENISE_AHEAD = 512
#: Texts are cut at so many characters a position before they are tokenised: WordPiece takes words of up to 100
#: characters, and MeCab crashes the process on texts of hundreds of thousands.
_CHARACTERS_A_TOKEN = 100


class TokenEncoder:
    """Encodes queries and documents with a checkpoint.

    The checkpoint's own modules do the work (markers, projection, skip list, normalisation), and its own settings hold
    unless an argument replaces them. Queries are encoded in float32; documents in ``dtype``.

    Args:
        model: the checkpoint.
        dtype: ``"auto"`` (bfloat16 where the device multiplies it natively, else float32), ``"float32"`` or
            ``"bfloat16"``.
        query_length: the rule for [MASK] augmentation; see :func:`~pyterrier_jacolbert.query_length.target_length`.
            ``"auto"`` augments where the checkpoint was trained so.
        max_document_length: the most tokens of a document, special tokens included; None takes the checkpoint's.
        truncate_dim: keeps so many leading numbers of each vector, brought back to length 1; for checkpoints that were
            trained for it.
        batch_tokens: the most padded tokens in a batch; None chooses by device.

    Raises:
        ValueError: the checkpoint has no [MASK] token, and the rule needs one; an unknown dtype; a
            ``truncate_dim`` beyond the checkpoint's dimensions.
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
        self.model = model.eval()
        self.device = torch.device(model.device)
        self.dtype = _resolve_dtype(dtype, self.device)
        self.batch_tokens = batch_tokens or BATCH_TOKENS["cpu" if self.device.type == "cpu" else "other"]
        self.tokenizer = model.tokenizer
        backbone = model[0]
        self._positions = _max_positions(backbone, self.tokenizer)
        document_length = max_document_length or getattr(backbone, "document_length", None) or self._positions
        self.max_document_length = min(document_length, self._positions)
        expansion = getattr(backbone, "query_expansion", None) or {}
        self.query_length = query_length = resolve_query_length(query_length, bool(expansion))
        self._attend = bool(expansion.get("attend", False))
        self.mask_id = self._expansion_id(expansion.get("token"))
        if query_length is not None and not expansion:
            warnings.warn(
                f"This checkpoint was not trained with query augmentation, and query_length={query_length!r} adds it; "
                "pass query_length=None to leave it out.",
                stacklevel=4,
            )
        plain_length = getattr(backbone, "query_length", None) if query_length is None else None
        self._max_query_tokens = min(most_tokens(query_length, self._positions), plain_length or self._positions)
        self._float32 = _in_float32(model)
        self._reduced = _in_bfloat16(self._float32, self.device) if self.dtype == torch.bfloat16 else None
        whole = int(model.get_embedding_dimension() or 0)
        self.dim = truncate_dim or whole
        if self.dim > whole:
            raise ValueError(
                f"truncate_dim={truncate_dim} is more than the {whole} dimensions of the checkpoint; take fewer."
            )

    def encode_queries(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Encodes queries, each distinct text once, in float32.

        Returns:
            For each text its vectors: float32 ``(n_positions, dim)``, unit rows, [MASK] positions included.
        """
        distinct = sorted(set(texts))
        ids = self._tokenise(distinct, "query", self._positions)
        ids = self._truncate_queries(distinct, ids)
        targets = [target_length(self.query_length, len(tokens)) for tokens in ids]
        order = sorted(range(len(distinct)), key=lambda i: (targets[i], len(ids[i]), distinct[i]))
        vectors: dict[str, np.ndarray] = {}
        # One target length a batch: no query is padded to a neighbour's length.
        for batch in _batches(order, targets, self.batch_tokens, same_length=True):
            features = self._query_features([ids[i] for i in batch], targets[batch[0]])
            for i, rows in zip(batch, self._forward(features, "query", self._float32), strict=True):
                vectors[distinct[i]] = rows
        return [vectors[text] for text in texts]

    def encode_documents(
        self, texts: Sequence[str], progress: Callable[[int], object] | None = None
    ) -> list[np.ndarray]:
        """Encodes documents, each distinct text once, in an order that depends on the texts alone.

        Args:
            texts: the documents; "" gives no vectors.
            progress: called with the number of texts done, as they are done; on a CPU, when some hundreds are.

        Returns:
            For each text its vectors: float32 ``(n_tokens, dim)``, unit rows, skipped punctuation left out.
        """
        copies: dict[str, int] = {}
        for text in texts:
            copies[text] = copies.get(text, 0) + 1
        vectors = {"": np.empty((0, self.dim), dtype=np.float32)}
        if progress is not None and "" in copies:
            progress(copies[""])
        backbone = self._float32 if self._reduced is None else self._reduced

        def forward(features: dict[str, Any]) -> list[np.ndarray]:
            return self._forward(features, "document", backbone)

        # On a CPU a batch is one thread's work: its vectors are the same whatever the number of threads.
        each: Each = in_lone_threads if self.device.type == "cpu" else map
        # Longest first: memory peaks at the start, not at the end of a long run.
        distinct = sorted(copies.keys() - {""}, key=lambda text: (-len(text), text))
        for group, ids in self._tokenised_groups(distinct):
            lengths = [len(tokens) for tokens in ids]
            order = sorted(range(len(group)), key=lambda i: (-lengths[i], group[i]))
            batches = list(_batches(order, lengths, self.batch_tokens))
            padded = (self._document_features([ids[i] for i in batch]) for batch in batches)
            for batch, found in zip(batches, each(forward, padded), strict=True):
                vectors.update(zip((group[i] for i in batch), found, strict=True))
                if progress is not None:
                    progress(sum(copies[group[i]] for i in batch))
        return [vectors[text] for text in texts]

    def query_ids(self, text: str) -> list[int]:
        """The token ids of a query as the model sees them: markers and [MASK] positions included."""
        ids = self._truncate_queries([text], self._tokenise([text], "query", self._positions))[0]
        return ids + [self.mask_id] * (target_length(self.query_length, len(ids)) - len(ids))

    def document_ids(self, text: str) -> list[int]:
        """The token ids of a document as the model sees them, skipped punctuation included."""
        return self._tokenise([text], "document", self.max_document_length)[0]

    def _tokenise(self, texts: Sequence[str], task: str, max_length: int) -> list[list[int]]:
        if not texts:
            return []
        # task=None: the length of the augmentation is decided here, not by the checkpoint's fixed one.
        features = self.model.preprocess(
            [text[: max_length * _CHARACTERS_A_TOKEN] for text in texts],
            prompt=self.model.prompts.get(task) or None,
            task=None,
            processing_kwargs={
                "common": {"return_tensors": None},
                "text": {"padding": False, "truncation": True, "max_length": max_length},
            },
        )
        return [list(tokens) for tokens in features["input_ids"]]

    def _tokenised_groups(self, texts: list[str]) -> Iterator[tuple[list[str], list[list[int]]]]:
        # MeCab's tokenizer is Python code: it works on the next group while the model, outside the GIL, on this one.
        groups = [texts[start : start + _TOKENISE_AHEAD] for start in range(0, len(texts), _TOKENISE_AHEAD)]
        with ThreadPoolExecutor(max_workers=1) as pool:
            futures = [pool.submit(self._tokenise, group, "document", self.max_document_length) for group in groups[:1]]
            for number, group in enumerate(groups):
                if number + 1 < len(groups):
                    futures.append(
                        pool.submit(self._tokenise, groups[number + 1], "document", self.max_document_length)
                    )
                yield group, futures[number].result()

    def _truncate_queries(self, texts: list[str], ids: list[list[int]]) -> list[list[int]]:
        limit = self._max_query_tokens
        # A text that fills every position was cut by the tokenizer already.
        long = [i for i, tokens in enumerate(ids) if len(tokens) > limit or len(tokens) == self._positions]
        if long:
            warnings.warn(
                f"{len(long)} of {len(texts)} queries are longer than the {limit} tokens that "
                f"query_length={self.query_length!r} leaves them and were cut (first: {texts[long[0]][:40]!r}); "
                "make them shorter, or raise query_length.",
                stacklevel=3,
            )
            for i, tokens in zip(long, self._tokenise([texts[i] for i in long], "query", limit), strict=True):
                ids[i] = tokens
        return ids

    def _query_features(self, ids: list[list[int]], target: int) -> dict[str, Any]:
        input_ids = np.full((len(ids), target), self.mask_id, dtype=np.int64)
        attention = np.zeros((len(ids), target), dtype=np.int64)
        for row, tokens in enumerate(ids):
            input_ids[row, : len(tokens)] = tokens
            attention[row, : len(tokens)] = 1
        expansion = attention == 0
        if self._attend:
            attention[:] = 1
        features = {"input_ids": input_ids, "attention_mask": attention, "query_expansion_positions": expansion}
        if self.query_length is None:
            del features["query_expansion_positions"]
        return {name: torch.from_numpy(values).to(self.device) for name, values in features.items()}

    def _document_features(self, ids: list[list[int]]) -> dict[str, Any]:
        padded = self.tokenizer.pad({"input_ids": ids}, return_tensors="pt")
        return {name: padded[name].to(self.device) for name in ("input_ids", "attention_mask")}

    def _forward(self, features: dict[str, Any], task: str, backbone: torch.nn.Module) -> list[np.ndarray]:
        """Runs a batch through the modules: float32 ``(n_scored_tokens, dim)`` for each of its texts."""
        with torch.inference_mode():
            for number, module in enumerate(self.model):
                module = backbone if number == 0 else module
                kwargs = {"task": task} if "task" in getattr(module, "forward_kwargs", ()) else {}
                features = module(features, **kwargs)
                if number == 0:
                    # The projection and the norm are cheap, and in float32 the vectors are unit to 1e-6.
                    features["token_embeddings"] = features["token_embeddings"].float()
            vectors = torch.nn.functional.normalize(features["token_embeddings"][..., : self.dim], dim=-1)
            masks = features["attention_mask"].bool()
            return [rows[mask].cpu().numpy() for rows, mask in zip(vectors, masks, strict=True)]

    def _expansion_id(self, token: str | None) -> int:
        mask_id = self.tokenizer.convert_tokens_to_ids(token) if token else self.tokenizer.mask_token_id
        if mask_id is None:
            if self.query_length is not None:
                raise ValueError(
                    f"The tokenizer has no [MASK] token, which query_length={self.query_length!r} needs; "
                    "pass query_length=None."
                )
            return 0
        return int(mask_id)


def native_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 matrices natively, so that they are faster than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    names = ("amx_bf16", "avx512_bf16", "bf16", "arm_bf16", "sve_bf16")
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    if capabilities:
        return any(capabilities.get(name, False) for name in names)
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())


def _resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    if dtype == "auto":
        return torch.bfloat16 if native_bfloat16(device) else torch.float32
    if dtype not in ("float32", "bfloat16"):
        raise ValueError(f"dtype must be 'auto', 'float32' or 'bfloat16', not {dtype!r}.")
    return torch.float32 if dtype == "float32" else torch.bfloat16


def _max_positions(backbone: torch.nn.Module, tokenizer: Any) -> int:  # noqa: ANN401
    limits = [getattr(getattr(backbone, "config", None), "max_position_embeddings", None), tokenizer.model_max_length]
    return int(min(limit for limit in limits if limit))


def _in_float32(model: MultiVectorEncoder) -> torch.nn.Module:
    backbone = model[0]
    if all(weight.dtype == torch.float32 for weight in backbone.parameters()):
        return backbone
    return copy.deepcopy(backbone).float()


def _in_bfloat16(backbone: torch.nn.Module, device: torch.device) -> torch.nn.Module | None:
    if not isinstance(backbone, Transformer):
        return None
    reduced: Any = copy.deepcopy(backbone).to(torch.bfloat16)
    if device.type == "cpu":
        # torch's fused attention is slower than plain products in bfloat16 on a CPU (benchmarks/encode.py).
        reduced.model.set_attn_implementation("eager")
        pack_linears(reduced)
    module: torch.nn.Module = reduced
    return module


def _batches(order: list[int], lengths: list[int], batch_tokens: int, same_length: bool = False) -> Iterator[list[int]]:
    """Cuts an order by length into batches of at most ``batch_tokens`` padded tokens (at least one text each)."""
    batch: list[int] = []
    longest = 0
    for i in order:
        longest = max(longest, lengths[i])
        full = (len(batch) + 1) * longest > batch_tokens
        if batch and (full or (same_length and lengths[i] != lengths[batch[0]])):
            yield batch
            batch, longest = [], lengths[i]
        batch.append(i)
    if batch:
        yield batch

"""PQCache: scores from product-quantized keys."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from hpc_bench.attention.base import BUDGET, AttentionInputs, Masker, check_size
from hpc_bench.options import doc

if TYPE_CHECKING:
    from torch import Tensor

    from hpc_bench.attention.model_shape import ModelShape

__all__ = ["PQCache", "learn_centroids"]

_ITERATIONS = 10
_CHUNK = 4096
"""Keys whose distances to all centroids are held at a time."""


@dataclass(frozen=True)
class _Codebook:
    centroids: Tensor
    """float32 [batch, kv_heads, parts, 2^bits or the number of keys, sub_dim]"""
    codes: Tensor
    """int16 [batch, kv_heads, keys, parts]: each part's nearest centroid"""
    passes: int
    """How many were read; the codebook is used from the second on."""


@dataclass(frozen=True)
class PQCache(Masker):
    """Keeps, per head and query, the `heavy` keys not kept yet that score highest as product-quantized keys.

    At the end of the prefill, the parts of `sub_dim` channels of each key head's keys are clustered by k-means; later
    keys take the nearest centroids. Until then everything is kept.
    """

    prepared_by_prefill: ClassVar[bool] = True
    source: ClassVar[str] = "PQCache, arXiv 2407.12820, section 3"

    heavy: int | float = field(metadata=doc(BUDGET))
    sub_dim: int = field(default=32, metadata=doc("Channels of a part; the head size must be a multiple of it."))
    bits: int = field(default=6, metadata=doc("2^bits centroids a part."))

    def __post_init__(self) -> None:
        check_size("heavy", self.heavy)
        if self.sub_dim < 1:
            raise ValueError("sub_dim must be at least 1 channel")
        if not 1 <= self.bits <= 12:
            raise ValueError("bits must be 1 to 12 (2 to 4096 centroids a part)")

    def check_model(self, shape: ModelShape) -> None:
        """Parts must fill the head."""
        if shape.head_dim % self.sub_dim:
            raise ValueError(f"sub_dim must divide the model's head size, {shape.head_dim}")

    def read(self, inputs: AttentionInputs) -> _Codebook:
        """Clusters the keys of the first pass, and codes those of later ones."""
        from hpc_bench.attention.key_notes import note_keys

        memo: _Codebook | None = inputs.memo
        centroids = memo.centroids if memo else learn_centroids(_parts(inputs.key, self.sub_dim), 2**self.bits)
        codes = note_keys(inputs, memo.codes if memo else None, partial(_nearest, centroids))
        return _Codebook(centroids, codes, memo.passes + 1 if memo else 1)

    def select(self, inputs: AttentionInputs, kept: Tensor) -> Tensor:
        """Ranks by the product of query and quantized key."""
        from hpc_bench.attention.scores import keep_best

        memo: _Codebook = inputs.memo
        if memo.passes == 1:
            return kept.masked_fill(inputs.visible, 1.0)
        return keep_best(inputs, kept, self._scores(inputs, memo), self.heavy)

    def _scores(self, inputs: AttentionInputs, memo: _Codebook) -> Tensor:
        """float32 [batch, heads, queries, keys]; a query meets each centroid once, so that equal keys score equally."""
        import torch

        from hpc_bench.attention.scores import grouped_product, per_query_head

        batch, heads, queries, _ = inputs.query.shape
        scores = torch.zeros(batch, heads, queries, memo.codes.shape[2], device=inputs.query.device)
        for part, query in enumerate(torch.split(inputs.query, self.sub_dim, -1)):
            products = grouped_product(query, memo.centroids[:, :, part])
            codes = per_query_head(memo.codes[..., part], heads)[:, :, None].long()
            scores += products.gather(-1, codes.expand_as(scores))
        return scores


def _parts(key: Tensor, sub_dim: int) -> Tensor:
    """[batch, kv_heads, keys, head_dim] as float32 [batch, kv_heads, parts, keys, sub_dim]."""
    return key.float().reshape(*key.shape[:-1], -1, sub_dim).transpose(2, 3)


def learn_centroids(parts: Tensor, most: int) -> Tensor:
    """k-means (Lloyd's, 10 rounds) from evenly spaced keys, so that it is the same at every run.

    parts: float32 [batch, kv_heads, parts, keys, sub_dim]; result: [batch, kv_heads, parts, min(most, keys), sub_dim].
    A centroid that no key is nearest to stays where it was.
    """
    import torch

    keys = parts.shape[3]
    count = min(most, keys)
    centroids = parts[..., torch.arange(count, device=parts.device) * keys // count, :].clone()
    for place in _places(parts):
        points, mine = parts[place], centroids[place]
        for _ in range(_ITERATIONS):
            nearest = torch.cat([torch.cdist(some, mine).argmin(-1) for some in torch.split(points, _CHUNK)])
            sums = torch.zeros_like(mine).index_add(0, nearest, points)
            sizes = torch.zeros_like(mine[:, :1]).index_add(0, nearest, torch.ones_like(points[:, :1]))
            mine = torch.where(sizes > 0, sums / sizes.clamp(min=1), mine)
        centroids[place] = mine
    return centroids


def _nearest(centroids: Tensor, key: Tensor) -> Tensor:
    """int16 [batch, kv_heads, keys, parts]; one head's part at a time, since distances outweigh keys many times."""
    import torch

    parts = _parts(key, centroids.shape[-1])
    codes = torch.empty(*parts.shape[:4], dtype=torch.int16, device=key.device)
    for place in _places(parts):
        for start in range(0, parts.shape[3], _CHUNK):
            some = slice(start, start + _CHUNK)
            codes[place][some] = torch.cdist(parts[place][some], centroids[place]).argmin(-1).short()
    return codes.transpose(2, 3)


def _places(parts: Tensor) -> list[tuple[int, ...]]:
    """(row, head, part)"""
    return list(itertools.product(*(range(size) for size in parts.shape[:3])))

"""PQCache: scores from product-quantized keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hpc_bench.attention.base import AttentionInputs, Masker, check_size

if TYPE_CHECKING:
    from torch import Tensor

    from hpc_bench.attention.model_shape import ModelShape

__all__ = ["PQCache", "learn_centroids"]

_ITERATIONS = 10


@dataclass(frozen=True)
class _Codebook:
    centroids: Tensor
    """float32 [batch, kv_heads, parts, 2^bits or the number of keys, sub_dim]"""
    keys: Tensor
    """float32 [batch, kv_heads, keys, head_dim]: each key as its nearest centroids"""
    learnt: int
    """How many passes had been read; the codebook is used from the second on."""


@dataclass(frozen=True)
class PQCache(Masker):
    """Keeps, per head and query, the `heavy` keys not kept yet that score highest as product-quantized keys.

    At the end of the prefill, the parts of `sub_dim` channels of each key head's keys are clustered by k-means; later
    keys take the nearest centroids. Until then everything is kept.
    """

    prepared_by_prefill: ClassVar[bool] = True
    source: ClassVar[str] = "PQCache, arXiv 2407.12820, section 3"

    heavy: int | float
    """int: tokens; float: share of the keys that a query sees. Comes on top of what earlier maskers kept."""
    sub_dim: int = 32
    """Channels of a part; the head size must be a multiple of it."""
    bits: int = 6
    """2^bits centroids a part."""

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
        import torch

        memo: _Codebook | None = inputs.memo
        if memo is None:
            parts = _parts(inputs.key, self.sub_dim)
            centroids = learn_centroids(parts, 2**self.bits)
            return _Codebook(centroids, _nearest(parts, centroids), 1)
        known = memo.keys.shape[2]
        if known < inputs.past:
            raise ValueError("keys were missed between two passes")
        fresh = _nearest(_parts(inputs.key[:, :, inputs.past :], self.sub_dim), memo.centroids)
        keys = torch.cat([memo.keys[:, :, known - inputs.past :], fresh], 2)
        return _Codebook(memo.centroids, keys, memo.learnt + 1)

    def select(self, inputs: AttentionInputs, kept: Tensor) -> Tensor:
        """Ranks by the product of query and quantized key."""
        from hpc_bench.attention.scores import grouped_product, keep_best

        memo: _Codebook = inputs.memo
        if memo.learnt == 1:
            return kept.masked_fill(inputs.visible, 1.0)
        return keep_best(inputs, kept, grouped_product(inputs.query, memo.keys), self.heavy)


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
    for place in torch.cartesian_prod(*(torch.arange(n) for n in parts.shape[:3])).tolist():
        points, mine = parts[tuple(place)], centroids[tuple(place)]
        for _ in range(_ITERATIONS):
            nearest = torch.cdist(points, mine).argmin(-1)
            sums = torch.zeros_like(mine).index_add(0, nearest, points)
            sizes = torch.zeros_like(mine[:, :1]).index_add(0, nearest, torch.ones_like(points[:, :1]))
            mine = torch.where(sizes > 0, sums / sizes.clamp(min=1), mine)
        centroids[tuple(place)] = mine
    return centroids


def _nearest(parts: Tensor, centroids: Tensor) -> Tensor:
    """[batch, kv_heads, keys, head_dim]: each part replaced by its nearest centroid."""
    import torch

    codes = torch.cdist(parts, centroids).argmin(-1, keepdim=True).expand(parts.shape)
    return centroids.gather(3, codes).transpose(2, 3).flatten(3)

"""MagicPIG: keys are sampled by locality-sensitive hashing, and weigh by the inverse of their collision probability."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hpc_bench.attention.base import AttentionInputs, Masker

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MagicPig"]


@dataclass(frozen=True)
class _Tables:
    planes: Tensor
    """float32 [head_dim, l * k]"""
    center: Tensor
    """float32 [batch, kv_heads, 1, head_dim]"""
    units: Tensor
    """float32 [batch, kv_heads, keys, head_dim]: centred keys of length 1"""
    codes: Tensor
    """int64 [batch, kv_heads, keys, l]"""
    passes: int


@dataclass(frozen=True)
class MagicPig(Masker):
    """Keeps each visible key, not kept yet, that falls into the query's bucket in at least two of `l` hash tables.

    A bucket is the signs of `k` random projections (SimHash). The probability of that, over the random projections, is
    1 - (1 - p)^l - l p (1 - p)^(l - 1) with p = (1 - angle / pi)^k, the angle being that between query and key.
    """

    samples: ClassVar[bool] = True
    prepared_by_prefill: ClassVar[bool] = True
    source: ClassVar[str] = "MagicPIG, arXiv 2410.16179, section 4"

    l: int  # noqa: E741 - the paper's name
    """Hash tables."""
    k: int
    """Random projections of a table."""
    center: bool = True
    """Subtract the mean of the context's keys from all keys before they are hashed, which softmax does not see."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.l < 2:
            raise ValueError("l must be at least 2 tables, since a key is kept where two agree")
        if not 1 <= self.k <= 62:
            raise ValueError("k must be 1 to 62 projections")

    def read(self, inputs: AttentionInputs) -> _Tables:
        """Hashes the new keys; the first pass's mean centres all."""
        import torch

        memo: _Tables | None = inputs.memo
        planes = memo.planes if memo else self._planes(inputs)
        center = memo.center if memo else self._center(inputs.key)
        fresh = inputs.key[:, :, inputs.past :] if memo else inputs.key
        units = torch.nn.functional.normalize(fresh.float() - center, dim=-1)
        codes = self._codes(units, planes)
        if memo:
            start = memo.codes.shape[2] - inputs.past
            units = torch.cat([memo.units[:, :, start:], units], 2)
            codes = torch.cat([memo.codes[:, :, start:], codes], 2)
        return _Tables(planes, center, units, codes, memo.passes + 1 if memo else 1)

    def _center(self, key: Tensor) -> Tensor:
        mean = key.float().mean(2, keepdim=True)
        return mean if self.center else mean * 0

    def _planes(self, inputs: AttentionInputs) -> Tensor:
        """The same on every device, one set a layer."""
        import torch

        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + inputs.layer)
        return torch.randn(inputs.key.shape[-1], self.l * self.k, generator=draw).to(inputs.key.device)

    def _codes(self, units: Tensor, planes: Tensor) -> Tensor:
        import torch

        signs = (units @ planes > 0).reshape(*units.shape[:-1], self.l, self.k).long()
        codes: Tensor = (signs << torch.arange(self.k, device=units.device)).sum(-1)
        return codes

    def select(self, inputs: AttentionInputs, kept: Tensor) -> Tensor:
        """Counts the tables in which query and key share a bucket; everything, until the prefill has ended."""
        import torch

        memo: _Tables = inputs.memo
        if memo.passes == 1:
            return kept.masked_fill(inputs.visible, 1.0)
        query = torch.nn.functional.normalize(inputs.query.float(), dim=-1)
        drawn = inputs.visible & (kept == 0) & (self._collisions(memo, query) >= 2)
        return self._probability(memo, query).where(drawn, kept)

    def _collisions(self, memo: _Tables, query: Tensor) -> Tensor:
        """[batch, heads, queries, keys]; table by table, to hold no [heads, queries, keys, l]."""
        import torch

        from hpc_bench.attention.scores import per_query_head

        codes = self._codes(query, memo.planes)
        keys = per_query_head(memo.codes, query.shape[1]) if query.shape[2] == 1 else None
        count = torch.zeros(*query.shape[:3], memo.codes.shape[2], dtype=torch.int32, device=query.device)
        group = query.shape[1] // memo.codes.shape[1]
        for table in range(self.l):
            mine = memo.codes[..., table]
            theirs = keys[..., table] if keys is not None else mine.repeat_interleave(group, 1)
            count += codes[..., table, None] == theirs[:, :, None]
        return count

    def _probability(self, memo: _Tables, query: Tensor) -> Tensor:
        """float32 [batch, heads, queries, keys]; float64 inside: small probabilities are differences of ones."""
        import torch

        from hpc_bench.attention.scores import grouped_product

        angle = grouped_product(query, memo.units).double().clamp(-1, 1).acos()
        p = (1 - angle / math.pi) ** self.k
        twice = 1 - (1 - p) ** self.l - self.l * p * (1 - p) ** (self.l - 1)
        return twice.float().clamp(min=torch.finfo(torch.float32).tiny, max=1)

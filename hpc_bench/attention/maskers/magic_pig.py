"""MagicPIG: keys are sampled by locality-sensitive hashing, and weigh by the inverse of their collision probability."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from hpc_bench.attention.base import AttentionInputs, Masker
from hpc_bench.options import doc

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MagicPig"]


@dataclass(frozen=True)
class _Tables:
    planes: Tensor
    """float32 [head_dim, l * k]"""
    center: Tensor
    """float32 [batch, kv_heads, 1, head_dim]"""
    lengths: Tensor
    """float32 [batch, kv_heads, keys]: of the centred keys"""
    codes: Tensor
    """int32 or int64 [batch, kv_heads, keys, l]"""
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

    l: int = field(metadata=doc("Hash tables."))  # noqa: E741 - the paper's name
    k: int = field(metadata=doc("Random projections of a table."))
    center: bool = field(
        default=True,
        metadata=doc(
            "Subtract the mean of the context's keys from all keys before they are hashed, which softmax does not see."
        ),
    )
    seed: int = 0

    def __post_init__(self) -> None:
        if self.l < 2:
            raise ValueError("l must be at least 2 tables, since a key is kept where two agree")
        if not 1 <= self.k <= 62:
            raise ValueError("k must be 1 to 62 projections")

    def read(self, inputs: AttentionInputs) -> _Tables:
        """Hashes the new keys; the first pass's mean centres all."""
        from hpc_bench.attention.key_notes import note_keys

        memo: _Tables | None = inputs.memo
        planes = memo.planes if memo else self._planes(inputs)
        center = memo.center if memo else self._center(inputs.key)
        make = lambda key: (key.float() - center).norm(dim=-1).clamp(min=1e-12)  # noqa: E731
        lengths = note_keys(inputs, memo.lengths if memo else None, make)
        codes = note_keys(inputs, memo.codes if memo else None, lambda key: self._codes(key.float() - center, planes))
        return _Tables(planes, center, lengths, codes, memo.passes + 1 if memo else 1)

    def _center(self, key: Tensor) -> Tensor:
        mean = key.float().mean(2, keepdim=True)
        return mean if self.center else mean * 0

    def _planes(self, inputs: AttentionInputs) -> Tensor:
        """The same on every device, one set a layer."""
        import torch

        draw = torch.Generator().manual_seed((self.seed * 1_000_003 + inputs.layer) % 2**63)
        return torch.randn(inputs.key.shape[-1], self.l * self.k, generator=draw).to(inputs.key.device)

    def _codes(self, vectors: Tensor, planes: Tensor) -> Tensor:
        """[..., l]: a table's bucket as a number."""
        import torch

        number = torch.int32 if self.k < 31 else torch.int64
        signs = (vectors @ planes > 0).reshape(*vectors.shape[:-1], self.l, self.k).to(number)
        bits = torch.arange(self.k, device=vectors.device, dtype=number)
        codes: Tensor = (signs << bits).sum(-1, dtype=number)
        return codes

    def select(self, inputs: AttentionInputs, kept: Tensor) -> Tensor:
        """Counts the tables in which query and key share a bucket; everything, until the prefill has ended."""
        import torch

        memo: _Tables = inputs.memo
        if memo.passes == 1:
            return kept.masked_fill(inputs.visible, 1.0)
        query = torch.nn.functional.normalize(inputs.query.float(), dim=-1)
        drawn = inputs.visible & (kept == 0) & (self._collisions(memo, query) >= 2)
        return self._probability(memo, query, inputs.key).where(drawn, kept)

    def _collisions(self, memo: _Tables, query: Tensor) -> Tensor:
        """[batch, heads, queries, keys]; table by table, to hold no [heads, queries, keys, l]."""
        import torch

        from hpc_bench.attention.scores import per_query_head

        mine = self._codes(query, memo.planes)
        theirs = memo.codes.movedim(-1, 0).contiguous()
        count = torch.zeros(*query.shape[:3], memo.codes.shape[2], dtype=torch.int16, device=query.device)
        for table in range(self.l):
            count += mine[..., table, None] == per_query_head(theirs[table], query.shape[1])[:, :, None]
        return count

    def _probability(self, memo: _Tables, query: Tensor, key: Tensor) -> Tensor:
        """float32 [batch, heads, queries, keys]; float64 inside: small probabilities are differences of ones.

        The angle to a centred key, from the key itself: q (k - c) / |k - c| for a query of length 1.
        """
        import torch

        from hpc_bench.attention.scores import grouped_product, per_query_head

        product = grouped_product(query, key) - grouped_product(query, memo.center)
        cosine = product / per_query_head(memo.lengths, query.shape[1])[:, :, None]
        p = (1 - cosine.double().clamp(-1, 1).acos() / math.pi) ** self.k
        twice = 1 - (1 - p) ** self.l - self.l * p * (1 - p) ** (self.l - 1)
        return twice.float().clamp(min=torch.finfo(torch.float32).tiny, max=1)

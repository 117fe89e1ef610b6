"""H2O: the keys that drew most attention so far, and the recent ones; what was dropped never comes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from hpc_bench.attention.base import BUDGET, SIZE, AttentionInputs, Masker, check_size, keys_of_size
from hpc_bench.options import doc

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["H2O"]


@dataclass(frozen=True)
class _History:
    drawn: Tensor
    """float32 [batch, kv_heads, keys]: the attention that each key drew in earlier passes, summed over queries and the
    heads of its group"""
    alive: Tensor
    """bool [batch, kv_heads, keys]: what the chain kept in the last pass; all new keys"""
    now: Tensor
    """The same, being gathered in this pass: what `alive` becomes."""
    now_drawn: Tensor


@dataclass(frozen=True)
class H2O(Masker):
    """Keeps, of the keys from before a pass, the last `recent` and the `heavy` others, not kept yet, that drew most
    attention; and the pass's own.

    A key that the chain drops is gone for the rest of the answer, as if it had left the cache. Query heads that share
    a key head share its history. The context's prefill is dense and counts.
    """

    prepared_by_prefill: ClassVar[bool] = True
    source: ClassVar[str] = "H2O, arXiv 2306.14048, algorithm 1"

    heavy: int | float = field(metadata=doc(BUDGET))
    recent: int | float = field(metadata=doc(SIZE))

    def __post_init__(self) -> None:
        check_size("heavy", self.heavy)
        check_size("recent", self.recent)

    def read(self, inputs: AttentionInputs) -> _History:
        """The last pass's history becomes what this pass selects by."""
        import torch

        memo: _History | None = inputs.memo
        batch, kv_heads, keys = inputs.key.shape[:3]
        drawn = torch.zeros(batch, kv_heads, keys, device=inputs.key.device)
        alive = torch.ones_like(drawn, dtype=torch.bool)
        if memo and inputs.past:
            drawn[..., : inputs.past] = memo.now_drawn[..., -inputs.past :]
            alive[..., : inputs.past] = memo.now[..., -inputs.past :]
        return _History(drawn, alive, torch.zeros_like(alive), drawn)

    def select(self, inputs: AttentionInputs, kept: Tensor) -> Tensor:
        """The heaviest living keys among those older than `recent`."""
        import torch

        from hpc_bench.attention.scores import keep_best, per_query_head

        memo: _History = inputs.memo
        heads, keys = inputs.query.shape[1], inputs.key.shape[2]
        index = torch.arange(keys, device=inputs.key.device)
        seen = inputs.visible.sum(-1, keepdim=True)
        recent = inputs.visible & (index >= inputs.past - keys_of_size(self.recent, seen))
        alive = per_query_head(memo.alive, heads)[:, :, None]
        kept = kept.expand(*inputs.query.shape[:3], keys).masked_fill(recent & alive, 1.0)
        drawn = per_query_head(memo.drawn, heads)[:, :, None].expand(kept.shape)
        chosen = keep_best(inputs, kept, drawn.masked_fill(~alive, -torch.inf), self.heavy)
        return torch.where(alive, chosen, kept)

    def observe(self, inputs: AttentionInputs, kept: Tensor) -> _History:
        """Adds the attention of this block's queries, and notes what was kept."""
        from hpc_bench.attention.scores import attention_weights, by_key_head

        memo: _History = inputs.memo
        kv_heads = inputs.key.shape[1]
        weights = by_key_head(attention_weights(inputs, kept), kv_heads).sum((2, 3))
        held = by_key_head((kept > 0).expand(*inputs.query.shape[:3], -1), kv_heads).any(2).any(2)
        return _History(memo.drawn, memo.alive, memo.now | held, memo.now_drawn + weights)

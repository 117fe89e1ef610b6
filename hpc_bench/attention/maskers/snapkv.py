"""SnapKV: the keys of the context that its last tokens attend to, chosen once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from hpc_bench.attention.base import AttentionInputs, Masker, check_size
from hpc_bench.options import doc

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SnapKV"]


@dataclass(frozen=True)
class _Snapshot:
    votes: Tensor | None
    """float32 [batch, kv_heads, keys]: the attention of the last `window` queries, while the prefill is read"""
    chosen: Tensor | None
    """bool [batch, kv_heads, keys], once it has ended"""


@dataclass(frozen=True)
class SnapKV(Masker):
    """Keeps `keep` keys of the context for all that follows: its last `window`, and those that these attend to most.

    The votes of the window's queries (and of the heads that share a key head) are summed, and averaged over `kernel`
    neighbouring keys. Chosen at the end of the context's prefill, whatever the question; all later keys are kept.
    """

    prepared_by_prefill: ClassVar[bool] = True
    source: ClassVar[str] = "SnapKV, arXiv 2404.14469, section 4 (github.com/FasterDecoding/SnapKV, snapkv_utils.py)"

    keep: int | float = field(metadata=doc("int: tokens, the window included; float: share of the context."))
    window: int = field(default=32, metadata=doc("Tokens."))
    kernel: int = field(default=5, metadata=doc("Width of the average, an odd number of keys."))

    def __post_init__(self) -> None:
        check_size("keep", self.keep)
        if self.window < 1:
            raise ValueError("window must be at least 1 token")
        if isinstance(self.keep, int) and self.keep <= self.window:
            raise ValueError(f"keep must be more than window ({self.window}), which is part of it")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError("kernel must be an odd number of keys (1, 3, 5, ...)")

    def read(self, inputs: AttentionInputs) -> _Snapshot:
        """Starts the votes in the prefill; chooses in the pass behind it; then keeps all new keys."""
        import torch

        memo: _Snapshot | None = inputs.memo
        batch, kv_heads, keys = inputs.key.shape[:3]
        if memo is None:
            return _Snapshot(torch.zeros(batch, kv_heads, keys, device=inputs.key.device), None)
        chosen = self._choose(memo.votes) if memo.votes is not None else memo.chosen
        everything = torch.ones(batch, kv_heads, keys, dtype=torch.bool, device=inputs.key.device)
        if chosen is not None and inputs.past:
            everything[..., : inputs.past] = chosen[..., -inputs.past :]
        return _Snapshot(None, everything)

    def _choose(self, votes: Tensor) -> Tensor:
        """bool [batch, kv_heads, keys]."""
        import torch

        keys = votes.shape[-1]
        keep = self.keep if isinstance(self.keep, int) else int(keys * self.keep + 0.5)
        older = max(0, keys - self.window)
        pooled = (
            torch.nn.functional.avg_pool1d(votes[..., :older], self.kernel, 1, self.kernel // 2) if older else votes
        )
        best = pooled.sort(dim=-1, descending=True, stable=True).indices[..., : min(older, max(0, keep - self.window))]
        chosen = torch.zeros_like(votes, dtype=torch.bool).scatter(-1, best, True)
        chosen[..., older:] = True
        return chosen

    def select(self, inputs: AttentionInputs, kept: Tensor) -> Tensor:
        """What was chosen; everything, until the prefill has ended."""
        from hpc_bench.attention.scores import per_query_head

        memo: _Snapshot = inputs.memo
        if memo.chosen is None:
            return kept.masked_fill(inputs.visible, 1.0)
        chosen = per_query_head(memo.chosen, inputs.query.shape[1])[:, :, None] & inputs.visible
        return kept.expand(chosen.shape).masked_fill(chosen, 1.0)

    def observe(self, inputs: AttentionInputs, kept: Tensor) -> _Snapshot:
        """The votes of those of the block's queries that are among the prefill's last `window`."""
        import dataclasses

        from hpc_bench.attention.scores import attention_weights, by_key_head

        memo: _Snapshot = inputs.memo
        start = max(0, inputs.key.shape[2] - self.window - inputs.first)
        if memo.votes is None or start >= inputs.query.shape[2]:
            return memo
        late = dataclasses.replace(inputs, query=inputs.query[:, :, start:], visible=inputs.visible[:, :, start:])
        weights = attention_weights(late, kept[:, :, start:])
        votes = by_key_head(weights, inputs.key.shape[1]).sum((2, 3))
        return _Snapshot(memo.votes + votes, None)

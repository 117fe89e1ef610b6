"""Oracle top-k: every query keeps the keys with the highest exact scores, the bound for all top-k approximations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpc_bench.attention.base import AttentionInputs, Masker, check_size, keys_of_size

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["OracleTopK"]


@dataclass(frozen=True)
class OracleTopK(Masker):
    """Keeps, per head and query, the `heavy` highest-scoring visible keys that are not kept yet."""

    heavy: int | float
    """int: tokens; float: share of the keys that a query sees. Comes on top of what earlier maskers kept."""

    def __post_init__(self) -> None:
        check_size("heavy", self.heavy)

    def select(self, inputs: AttentionInputs, kept: Tensor) -> Tensor:
        """Ranks by exact scores; of equal scores, only as many are kept as fit."""
        import torch

        free = inputs.visible & (kept == 0)
        scores = _exact_scores(inputs).masked_fill(~free, -torch.inf)
        count = keys_of_size(self.heavy, inputs.visible.sum(-1, keepdim=True))
        best, index = scores.topk(self._most(scores.shape[-1]), dim=-1)
        rank = torch.arange(best.shape[-1], device=best.device)
        fits = (rank < count) & (best > -torch.inf)
        chosen = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, index, fits)
        return torch.where(chosen, 1.0, kept)

    def _most(self, keys: int) -> int:
        """The largest count of any query; from shapes alone, so that the device is not waited for."""
        import torch

        return min(keys, int(keys_of_size(self.heavy, torch.tensor(keys))))


def _exact_scores(inputs: AttentionInputs) -> Tensor:
    """Scaled float32 scores, [batch, heads, queries, keys]; query heads that share a key head are one longer matrix."""
    batch, heads, queries, head_dim = inputs.query.shape
    kv_heads, keys = inputs.key.shape[1:3]
    grouped = inputs.query.float().reshape(batch, kv_heads, heads // kv_heads * queries, head_dim)
    scores = grouped @ inputs.key.float().transpose(-1, -2) * inputs.scaling
    return scores.reshape(batch, heads, queries, keys)

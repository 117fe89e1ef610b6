"""Turns a chain of maskers into the additive bias of one attention call, and measures its density."""

from __future__ import annotations

import torch
from torch import Tensor

from hpc_bench.attention.base import AttentionInputs, Chain

__all__ = ["chain_bias"]


def chain_bias(chain: Chain, inputs: AttentionInputs) -> tuple[Tensor, Tensor]:
    """The bias [batch or 1, heads or 1, queries, keys] in the query's dtype, and the density, a scalar tensor.

    The bias is -log p for a key kept with probability p and -inf for a dropped one: softmax over scores plus bias is
    self-normalised importance weighting. A query that sees nothing (padding) gets zeros, since a softmax over -inf
    alone is NaN. The density is the mean, over all queries that see anything, of the share of visible keys with p > 0.
    """
    kept = torch.zeros_like(inputs.visible, dtype=torch.float32)
    for masker in chain:
        kept = masker.select(inputs, kept)
    kept = torch.where(inputs.visible, kept, 0.0)
    attended = kept > 0
    blind = ~inputs.visible.any(-1, keepdim=True)
    bias = torch.where(attended, -kept.log(), -torch.inf).masked_fill(blind, 0.0)
    return bias.to(inputs.query.dtype), _density(attended, inputs.visible)


def _density(attended: Tensor, visible: Tensor) -> Tensor:
    seen = visible.sum(-1)
    share = attended.sum(-1) / seen.clamp(min=1)
    rows = (seen > 0).expand_as(share)
    # A batch of padding alone has no rows: its density is 0, not NaN.
    return share.sum() / rows.sum().clamp(min=1)

"""Turns a chain of maskers into the additive bias of one attention call, and measures its density."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hpc_bench.attention.base import AttentionInputs, Chain

__all__ = ["bias_of", "density_of", "select_keys"]


def select_keys(chain: Chain, inputs: AttentionInputs, memos: Sequence[Any]) -> Tensor:
    """The probabilities with which the chain keeps each key, [batch or 1, heads or 1, queries, keys] (float32);
    `memos`: one a masker.
    """
    kept = torch.zeros_like(inputs.visible, dtype=torch.float32)
    for masker, memo in zip(chain, memos, strict=True):
        kept = masker.select(dataclasses.replace(inputs, memo=memo), kept)
    return kept * inputs.visible


def bias_of(kept: Tensor, visible: Tensor, *, sampled: bool, dtype: torch.dtype) -> Tensor:
    """The bias in the shape of `kept`: -log p for a key kept with probability p and -inf for a dropped one.

    Softmax over scores plus bias is self-normalised importance weighting. A query that sees nothing (padding) gets
    zeros, since a softmax over -inf alone is NaN. `sampled`: whether probabilities below 1 occur.
    """
    # 1 - 1/1 is 0 and 1 - 1/0 is -inf; on CPUs this is several times faster than a mask.
    bias = (-kept.log()).masked_fill(kept == 0, -torch.inf) if sampled else kept.reciprocal().neg_().add_(1)
    if visible.shape[-2] > 1:
        bias = bias.masked_fill(~visible.any(-1, keepdim=True), 0.0)
    return bias.to(dtype)


def density_of(kept: Tensor, visible: Tensor) -> Tensor:
    """A scalar: the mean, over all heads and queries that see anything, of the share of visible keys with p > 0."""
    seen = visible.sum(-1)
    share = kept.ceil().sum(-1) / seen.clamp(min=1)  # any probability above 0 counts as 1
    rows = (seen > 0).expand_as(share)
    # A batch of padding alone has no rows: its density is 0, not NaN.
    return share.sum() / rows.sum().clamp(min=1)

"""Turns a chain of maskers into the additive bias of one attention call, and measures its density."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hpc_bench.attention.base import AttentionInputs, Chain, Masker
from hpc_bench.attention.scores import is_true_on_cpu

__all__ = ["bias_of", "density_of", "select_keys"]


def select_keys(chain: Chain, inputs: AttentionInputs, memos: Sequence[Any], *, check: bool) -> Tensor:
    """The probabilities with which the chain keeps each key, [batch or 1, heads or 1, queries, keys] (float32);
    `memos`: one a masker. A query for which nothing is kept, as sampling may leave it, keeps its own key.

    `check`: look at what each masker returns, which has a GPU wait; ValueError if it breaks the contract.
    """
    kept = torch.zeros_like(inputs.visible, dtype=torch.float32)
    for masker, memo in zip(chain, memos, strict=True):
        before, kept = kept, masker.select(dataclasses.replace(inputs, memo=memo), kept)
        _check_shape(masker, kept, inputs)
        if check:
            _check_values(masker, before, kept)
    if not is_true_on_cpu(inputs.visible):
        kept = kept * inputs.visible
    return _with_own_key(kept, inputs)


def _check_shape(masker: Masker, kept: Tensor, inputs: AttentionInputs) -> None:
    batch, heads, queries, _ = inputs.query.shape
    rows = (queries, inputs.key.shape[2])
    fits = kept.dim() == 4 and kept.shape[0] in (1, batch) and kept.shape[1] in (1, heads) and kept.shape[2:] == rows
    if not fits or kept.dtype != torch.float32:
        raise ValueError(
            f"masker {type(masker).__name__} returned {kept.dtype} {list(kept.shape)} where float32 "
            f"[1 or {batch}, 1 or {heads}, {', '.join(map(str, rows))}] is expected"
        )


def _check_values(masker: Masker, before: Tensor, after: Tensor) -> None:
    if not bool(((after >= before) & (after <= 1)).all()):
        raise ValueError(
            f"masker {type(masker).__name__} returned probabilities above 1, or below what earlier maskers kept"
        )


def _with_own_key(kept: Tensor, inputs: AttentionInputs) -> Tensor:
    """A softmax over nothing would be NaN, or whatever the kernel makes of it."""
    lost = kept.amax(-1, keepdim=True) == 0
    if is_true_on_cpu(~lost):
        return kept
    own = torch.arange(inputs.first, inputs.first + inputs.query.shape[2], device=kept.device)[:, None]
    mine = torch.arange(kept.shape[-1], device=kept.device) == own
    return torch.where(lost & inputs.visible & mine, 1.0, kept)


def bias_of(kept: Tensor, visible: Tensor, *, sampled: bool, dtype: torch.dtype) -> Tensor:
    """The bias in the shape of `kept`: -log p for a key kept with probability p and -inf for a dropped one.

    Softmax over scores plus bias is self-normalised importance weighting. A query that sees nothing (padding) gets
    zeros, since a softmax over -inf alone is NaN. `sampled`: whether probabilities below 1 occur. In bfloat16, which
    the fused kernels ask for where queries have it, -log p is rounded by up to 0.4 %.
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

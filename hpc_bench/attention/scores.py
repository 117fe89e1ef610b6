"""Scores and the choice of the best ones, with key heads that are never repeated."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hpc_bench.attention.base import AttentionInputs, keys_of_size

__all__ = [
    "attention_weights",
    "by_key_head",
    "exact_scores",
    "grouped_product",
    "is_true_on_cpu",
    "keep_best",
    "per_query_head",
]

_LONG_VECTOR = 32


def grouped_product(query: Tensor, key: Tensor) -> Tensor:
    """query [batch, heads, queries, d] times key [batch, kv_heads, keys, d]: float32 [batch, heads, queries, keys].

    Query heads that share a key head are one longer matrix.
    """
    batch, heads, queries, size = query.shape
    kv_heads, keys = key.shape[1:3]
    packed = query.float().reshape(batch, kv_heads, heads // kv_heads * queries, size)
    if queries == 1 and size >= _LONG_VECTOR:  # for so few rows, key times query is nearly twice as fast on CPUs
        product = (key.float() @ packed.transpose(-1, -2)).transpose(-1, -2)
    else:
        product = packed @ key.float().transpose(-1, -2)
    return product.reshape(batch, heads, queries, keys)


def exact_scores(inputs: AttentionInputs) -> Tensor:
    """Scaled (and capped) float32 scores, [batch, heads, queries, keys]."""
    scores = grouped_product(inputs.query.float() * inputs.scaling, inputs.key)
    return scores if inputs.softcap is None else inputs.softcap * (scores / inputs.softcap).tanh()


def attention_weights(inputs: AttentionInputs, kept: Tensor) -> Tensor:
    """The float32 softmax over the kept keys, each weighed by the inverse of its probability; 0 where none is kept."""
    scores = (exact_scores(inputs) - kept.log()).masked_fill(kept == 0, -torch.inf)
    return scores.softmax(-1).nan_to_num(0.0)


def per_query_head(per_key_head: Tensor, heads: int) -> Tensor:
    """[batch, kv_heads, ...] as [batch, heads, ...]; for small tensors, since it repeats."""
    return per_key_head.repeat_interleave(heads // per_key_head.shape[1], 1)


def by_key_head(per_query_head: Tensor, kv_heads: int) -> Tensor:
    """[batch, heads, ...] as [batch, kv_heads, group, ...]."""
    batch, heads, *rest = per_query_head.shape
    return per_query_head.reshape(batch, kv_heads, heads // kv_heads, *rest)


def keep_best(inputs: AttentionInputs, kept: Tensor, scores: Tensor, heavy: int | float) -> Tensor:
    """`kept` with, per head and query, the `heavy` highest-scoring visible keys that are not kept yet.

    scores: float32 [batch, heads, queries, keys]. Of equal scores the earlier keys are kept, so that the choice is the
    same on every device.
    """
    free = inputs.visible & (kept == 0)
    if not is_true_on_cpu(free):
        scores = scores + (1 - free.float().reciprocal())  # -inf where not free; arithmetic is faster than masking
    count = keys_of_size(heavy, inputs.visible.sum(-1, keepdim=True)).clamp(max=scores.shape[-1])
    limit = _kth_largest(scores, count)
    chosen = scores.clone().ge_(limit).mul_(free)  # comparing in place gives floats, which is faster than bools
    # Ties are rare; but to look for them would have a GPU wait.
    if scores.device.type != "cpu" or bool((chosen.sum(-1, keepdim=True) > count).any()):
        better = scores > limit
        tied = (scores == limit) & free
        chosen = (better | (tied & (tied.cumsum(-1) <= count - better.sum(-1, keepdim=True)))).float()
    return torch.maximum(kept, chosen)


def is_true_on_cpu(condition: Tensor) -> bool:
    """Whether all of it is true, where that can be told at once: a GPU would have to be waited for, and says no."""
    return condition.device.type == "cpu" and bool(condition.all())


def _kth_largest(scores: Tensor, count: Tensor) -> Tensor:
    """[..., 1]: the count-th largest score of each row; count [batch or 1, 1, queries, 1]."""
    keys = scores.shape[-1]
    if scores.device.type == "cpu":
        asked = set(count.flatten().tolist())
        if len(asked) == 1:  # numpy's selection is several times faster than torch's topk
            place = keys - asked.pop()
            return torch.from_numpy(np.partition(scores.numpy(), place, axis=-1)[..., place, None])
    ordered = scores.sort(-1, descending=True).values
    return ordered.gather(-1, (count - 1).expand(*scores.shape[:-1], 1))

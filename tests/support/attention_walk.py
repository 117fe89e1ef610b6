"""The maskers of the catalog on one small attention layer, and textbook attention to compare them with."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hpc_bench import catalog
from hpc_bench.attention.base import AttentionInputs, Masker
from hpc_bench.attention.model_shape import ModelShape
from hpc_bench.plugin_checks.layer_walk import TOKENS, Tensors, random_tensors, visible_mask
from tests.support.maskers import Files, masker_files, options_for

HEADS, HEAD_DIM = 4, 16
SCALE = HEAD_DIM**-0.5


@cache
def files_for(kv_heads: int) -> Files:
    """The files of one layer."""
    return masker_files(Path(tempfile.mkdtemp()), shape(kv_heads))


def options(name: str, budget: str, kv_heads: int = 2) -> dict[str, Any]:
    """Parameters under which a masker of the catalog keeps as much as a budget says."""
    return options_for(name, budget, files_for(kv_heads))


def masker(name: str, budget: str, kv_heads: int = 2) -> Masker:
    """A masker of the catalog with such parameters."""
    built: Masker = catalog.build("masker", name, options(name, budget, kv_heads))
    return built


def shape(kv_heads: int) -> ModelShape:
    """A small layer's."""
    return ModelShape(1, HEADS, kv_heads, HEAD_DIM)


def tensors(batch: int = 1, kv_heads: int = 2, tokens: int = TOKENS, seed: int = 0) -> Tensors:
    """Random ones of a small layer."""
    return random_tensors(shape(kv_heads), batch, tokens, seed)


def float64_scores(query: Tensor, key: Tensor) -> Tensor:
    """Scaled scores, key heads repeated, [batch, heads, queries, keys]."""
    group = query.shape[1] // key.shape[1]
    return query.double() @ key.double().repeat_interleave(group, 1).transpose(-1, -2) * SCALE


def float64_attention(query: Tensor, key: Tensor, value: Tensor, probability: Tensor) -> Tensor:
    """Importance-weighted attention by its definition, [batch, queries, heads, head_dim]; 0 where nothing is kept."""
    kept = probability.double()
    scores = float64_scores(query, key)
    weights = torch.where(kept > 0, (scores - scores.amax(-1, keepdim=True)).exp() / kept.clamp(min=1e-30), 0.0)
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-300)
    group = query.shape[1] // key.shape[1]
    return (weights @ value.double().repeat_interleave(group, 1)).transpose(1, 2)


def block_inputs(what: Tensors, past: int, memo: Any = None, layer: int = 0) -> AttentionInputs:
    """The inputs of a pass over all keys behind `past`, in one block."""
    keys = what.key.shape[2]
    query = what.query[:, :, past:keys]
    return AttentionInputs(query, what.key, visible_mask(past, keys), SCALE, layer, past=past, first=past, memo=memo)

"""The maskers of the catalog on one small attention layer, and textbook attention to compare them with."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from hpc_bench import catalog
from hpc_bench.attention.base import AttentionInputs, Masker
from hpc_bench.attention.maskers.hash_attention import hash_shapes
from hpc_bench.attention.model_shape import ModelShape
from hpc_bench.plugin_checks.layer_walk import TOKENS, Tensors, random_tensors, visible_mask

HEADS, HEAD_DIM = 4, 16
SCALE = HEAD_DIM**-0.5


@cache
def file_for(kind: str, kv_heads: int) -> str:
    """A random file of the masker's kind for one layer."""
    folder = Path(tempfile.mkdtemp())
    draw = torch.Generator().manual_seed(kv_heads)
    if kind == "channels":
        orders = [torch.randperm(HEAD_DIM, generator=draw) for _ in range(kv_heads)]
        save_file({"layers.0.channels": torch.stack(orders)}, folder / "channels.safetensors")
    else:
        shapes = hash_shapes(shape(kv_heads), 32, 2, 24)
        weights = {f"layers.0.{name}": torch.randn(size, generator=draw) for name, size in shapes.items()}
        save_file(weights, folder / "weights.safetensors")
    return str(next(folder.iterdir()))


def options_for(name: str, budget: str, kv_heads: int = 2) -> dict[str, Any]:
    """Parameters under which a masker of the catalog keeps little ("small", "share") or everything ("all", "share all",
    "beyond").
    """
    size: Any = {"small": 3, "share": 0.2, "all": 10**9, "share all": 1.0, "beyond": 33}[budget]
    full, rate = size not in (3, 0.2), 1.0 if size not in (3, 0.2) else 0.25
    table: Mapping[str, dict[str, Any]] = {
        "streaming": {"sink": size, "local": size},
        "oracle_top_p": {"p": 1.0 if full else 0.4},
        "hash_attention": {"heavy": size, "weights": file_for("weights", kv_heads), "mlp_layers": 2, "mlp_hidden": 24},
        "double_sparsity": {"heavy": size, "channels": file_for("channels", kv_heads), "group_factor": 4},
        "quest": {"heavy": size, "page_size": 4},
        "pq_cache": {"heavy": size, "sub_dim": 4, "bits": 2},
        "random_sampling": {"rate": rate},
        "adaptive_sampling": {"base_rate": size, "epsilon": 0.9, "delta": 0.9, "init": 2, "local": 2},
        "magic_pig": {"l": 300, "k": 1} if full else {"l": 8, "k": 3},
        "h2o": {"heavy": size, "recent": size},
        "snapkv": {"keep": 6 if size == 3 else size, "window": 2, "kernel": 3},
    }
    if name in table:
        return table[name]
    first = dataclasses.fields(catalog.resolve("masker", name))[0].name
    return {first: size}


def masker(name: str, budget: str, kv_heads: int = 2) -> Masker:
    """A masker of the catalog with such parameters."""
    built: Masker = catalog.build("masker", name, options_for(name, budget, kv_heads))
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

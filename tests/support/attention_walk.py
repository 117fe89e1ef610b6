"""Walks a chain of maskers through prefill, question and answer of one attention layer, and tells what it kept."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hpc_bench import catalog
from hpc_bench.adapters.sparse.attention_interface import attend
from hpc_bench.adapters.sparse.state import SparseState
from hpc_bench.attention.base import AttentionInputs, Chain, Masker
from hpc_bench.attention.model_shape import ModelShape
from tests.support.maskers import Files, masker_files, options_for

HEADS, HEAD_DIM = 4, 16
SCALE = HEAD_DIM**-0.5
PASSES = (24, 6, 1, 1)
"""Tokens of the context, of the question, and of an answer one by one."""


@cache
def files_for(kv_heads: int) -> Files:
    """The files of one layer."""
    return masker_files(Path(tempfile.mkdtemp()), ModelShape(1, HEADS, kv_heads, HEAD_DIM))


def options(name: str, budget: str, kv_heads: int = 2) -> dict[str, Any]:
    """Parameters under which a masker of the catalog keeps as much as a budget says."""
    return options_for(name, budget, files_for(kv_heads))


def masker(name: str, budget: str, kv_heads: int = 2) -> Masker:
    """A masker of the catalog with such parameters."""
    built: Masker = catalog.build("masker", name, options(name, budget, kv_heads))
    return built


@dataclass(frozen=True)
class Tensors:
    """What one layer sees in all passes together."""

    query: Tensor
    key: Tensor
    value: Tensor

    def rows(self, rows: slice) -> Tensors:
        """A part of the batch."""
        return Tensors(self.query[rows], self.key[rows], self.value[rows])

    def to(self, dtype: torch.dtype) -> Tensors:
        """In another dtype."""
        return Tensors(self.query.to(dtype), self.key.to(dtype), self.value.to(dtype))


def tensors(batch: int = 1, kv_heads: int = 2, tokens: int = sum(PASSES), seed: int = 0) -> Tensors:
    """Random ones, with scores of useful size."""
    draw = torch.Generator().manual_seed(seed)
    query = 2 * torch.randn(batch, HEADS, tokens, HEAD_DIM, generator=draw)
    key, value = (torch.randn(batch, kv_heads, tokens, HEAD_DIM, generator=draw) for _ in range(2))
    return Tensors(query, key, value)


@dataclass
class Walk:
    """What came out, pass by pass, the prefill left out."""

    kept: list[Tensor] = field(default_factory=list)
    """Each [batch, heads, queries, keys]"""
    outputs: list[Tensor] = field(default_factory=list)
    """Each [batch, queries, heads, head_dim]"""
    state: SparseState | None = None


def visible_mask(start: int, end: int, padding: Sequence[int] = (0,), window: int | None = None) -> Tensor:
    """bool [batch, 1, end - start, end]: causal, less each row's left padding, inside the window."""
    key, query = torch.arange(end), torch.arange(start, end)[:, None]
    seen = (key <= query) & (key > query - (window or end))
    return torch.stack([seen & (key >= pad) for pad in padding])[:, None]


def walk(
    chain: Chain,
    what: Tensors,
    passes: Sequence[int] = PASSES,
    padding: Sequence[int] = (0,),
    window: int | None = None,
    layer: int = 0,
    memos: Any = None,
    measure_error: float = 0.0,
) -> Walk:
    """Feeds the tensors pass by pass: the first densely, as the shared prefill does, the others under the chain; a
    sliding window's cache forgets as transformers' does.
    """
    module = torch.nn.Module()
    module.layer_idx = layer  # type: ignore[assignment]
    module.num_key_value_groups = HEADS // what.key.shape[1]  # type: ignore[assignment]
    made, selections = Walk(), []
    prefill = SparseState(chain, is_dense=True)
    state, start = prefill, 0
    for number, length in enumerate(passes):
        end = start + length
        first = 0 if window is None else max(0, start - window + 1)
        mask = visible_mask(start, end, padding, window)[..., first:]
        state.begin_pass(length)
        selections.clear()
        output, _ = attend(
            module,
            what.query[:, :, start:end],
            what.key[:, :, first:end],
            what.value[:, :, first:end],
            None if len(padding) == 1 and window is None else mask,
            SCALE,
            sparse_state=state if chain else None,
        )
        if number:
            made.outputs.append(output)
            made.kept.append(_whole(selections, mask, what.query[:, :, start:end]))
        else:
            state = SparseState(
                chain,
                memos=prefill.memos,
                position=end,
                measure_error=measure_error,
                recorder=lambda inputs, kept: selections.append(kept.expand(*inputs.query.shape[:3], -1)),
            )
        start = end
    made.state = state
    return made


def _whole(selections: Sequence[Tensor], mask: Tensor, query: Tensor) -> Tensor:
    """Selections of the rows of a batch, or of blocks of queries, with what was left out as padding put back as 0."""
    if not selections:
        return mask.float().expand(*query.shape[:3], -1)
    parts = [torch.nn.functional.pad(kept, (mask.shape[-1] - kept.shape[-1], 0)) for kept in selections]
    return torch.cat(parts, 0 if mask.shape[0] > 1 else 2)


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

"""Walks a chain of maskers through prefill, question and answer of one attention layer, and records what they keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hpc_bench.adapters.sparse.attention_interface import attend
from hpc_bench.adapters.sparse.state import LARGEST_BLOCK, SparseState
from hpc_bench.attention.base import Chain
from hpc_bench.attention.model_shape import ModelShape

__all__ = [
    "PASSES",
    "PLAIN",
    "TOKENS",
    "Course",
    "Tensors",
    "Walk",
    "layer_of",
    "random_tensors",
    "visible_mask",
    "walk",
]

PASSES = (24, 6, 1, 1)
"""Tokens of the context, of the question, and of an answer one by one."""
TOKENS = sum(PASSES)


@dataclass(frozen=True)
class Tensors:
    """What one layer sees in all passes together."""

    query: Tensor
    """[batch, heads, tokens, head_dim]"""
    key: Tensor
    """[batch, kv_heads, tokens, head_dim]"""
    value: Tensor
    """[batch, kv_heads, tokens, head_dim]"""

    def to(self, dtype: torch.dtype) -> Tensors:
        """In another dtype."""
        return Tensors(self.query.to(dtype), self.key.to(dtype), self.value.to(dtype))

    @property
    def scale(self) -> float:
        """The factor of the scores."""
        return float(self.query.shape[-1] ** -0.5)


def random_tensors(shape: ModelShape, batch: int = 1, tokens: int = TOKENS, seed: int = 0) -> Tensors:
    """Random tensors, with scores that differ enough for a selection."""
    draw = torch.Generator().manual_seed(seed)
    query = 2 * torch.randn(batch, shape.heads, tokens, shape.head_dim, generator=draw)
    key, value = (torch.randn(batch, shape.kv_heads, tokens, shape.head_dim, generator=draw) for _ in range(2))
    return Tensors(query, key, value)


@dataclass(frozen=True)
class Course:
    """The conditions of a walk."""

    passes: Sequence[int] = PASSES
    padding: Sequence[int] = (0,)
    """Leading keys of each row of the batch that are hidden from all queries."""
    window: int | None = None
    """Keys that a query sees, its own included; a sliding window's cache forgets the others, as transformers' does."""
    layer: int = 0
    measure_error: float = 0.0
    largest_block: int = LARGEST_BLOCK


PLAIN = Course()
"""One row without padding or window."""


@dataclass
class Walk:
    """The results of each pass after the prefill."""

    state: SparseState
    kept: list[Tensor] = field(default_factory=list)
    """Each [batch, heads, queries, keys]"""
    outputs: list[Tensor] = field(default_factory=list)
    """Each [batch, queries, heads, head_dim]"""


def walk(chain: Chain, what: Tensors, course: Course = PLAIN) -> Walk:
    """Feeds the tensors pass by pass: the first densely, as the shared prefill does, the others under the chain."""
    layer = layer_of(what, course.layer)
    prefill = SparseState(chain, is_dense=True)
    prefill.largest_block = course.largest_block
    end = course.passes[0]
    _feed(layer, what, (0, end), prefill, course)
    selections: list[Tensor] = []
    state = SparseState(
        chain,
        memos=prefill.memos,
        position=end,
        measure_error=course.measure_error,
        recorder=lambda inputs, kept: selections.append(kept.expand(*inputs.query.shape[:3], -1)),
    )
    state.largest_block = course.largest_block
    made = Walk(state)
    for length in course.passes[1:]:
        start, end = end, end + length
        selections.clear()
        made.outputs.append(_feed(layer, what, (start, end), state, course))
        made.kept.append(_whole(selections, _visible(start, end, course), what.query[:, :, start:end]))
    return made


def layer_of(what: Tensors, layer: int = 0) -> torch.nn.Module:
    """An attention layer with the attributes that the attention function reads."""
    module = torch.nn.Module()
    module.layer_idx = layer  # type: ignore[assignment]
    module.num_key_value_groups = what.query.shape[1] // what.key.shape[1]  # type: ignore[assignment]
    return module


def _feed(layer: torch.nn.Module, what: Tensors, tokens: tuple[int, int], state: SparseState, course: Course) -> Tensor:
    """The output of one pass."""
    start, end = tokens
    mask = _visible(start, end, course)
    keys = slice(end - mask.shape[-1], end)
    state.begin_pass(end - start)
    is_plain = len(course.padding) == 1 and course.window is None
    output, _ = attend(
        layer,
        what.query[:, :, start:end],
        what.key[:, :, keys],
        what.value[:, :, keys],
        None if is_plain else mask,
        what.scale,
        sparse_state=state if state.chain else None,
    )
    return output


def _visible(start: int, end: int, course: Course) -> Tensor:
    """The mask of a pass over the keys that the cache still has."""
    first = 0 if course.window is None else max(0, start - course.window + 1)
    return visible_mask(start, end, course.padding, course.window)[..., first:]


def visible_mask(start: int, end: int, padding: Sequence[int] = (0,), window: int | None = None) -> Tensor:
    """bool [batch, 1, end - start, end]: causal, less each row's left padding, inside the window."""
    key, query = torch.arange(end), torch.arange(start, end)[:, None]
    seen = (key <= query) & (key > query - (window or end))
    return torch.stack([seen & (key >= pad) for pad in padding])[:, None]


def _whole(selections: Sequence[Tensor], mask: Tensor, query: Tensor) -> Tensor:
    """Selections of the rows of a batch, or of blocks of queries, with what was left out as padding put back as 0."""
    if not selections:
        return mask.float().expand(*query.shape[:3], -1)
    parts = [torch.nn.functional.pad(kept, (mask.shape[-1] - kept.shape[-1], 0)) for kept in selections]
    return torch.cat(parts, 0 if mask.shape[0] > 1 else 2)

"""The attention function that transformers' models call: dense, or a chain of maskers as one biased fused call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from hpc_bench.adapters.base import AdapterError
from hpc_bench.adapters.sparse.layer_pass import LayerPass, causal_mask, rows_without_padding
from hpc_bench.adapters.sparse.state import SparseState

__all__ = ["NAME", "attend", "register"]

NAME = "hpc_bench"


def register() -> None:
    """Makes NAME a valid attn_implementation in this process; harmless when repeated."""
    AttentionInterface.register(NAME, attend)
    # Without a mask function of the same name, transformers would hand over no mask where one is needed.
    AttentionMaskInterface.register(NAME, sdpa_mask)


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    sparse_state: SparseState | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """One layer's attention, in transformers' signature; the output is [batch, queries, heads, head_dim].

    query: [batch, heads, queries, head_dim]; key, value: [batch, kv_heads, keys, head_dim]; attention_mask: bool,
    True where attended, or None where causality is all there is to it; softcap: scores are capped to softcap x
    tanh(score / softcap).
    """
    _refuse(module, kwargs, "s_aux", "indices")
    queries, keys = query.shape[2], key.shape[2]
    state = SparseState((), is_dense=True) if sparse_state is None else _entered(module, sparse_state, queries)
    if state.chain or softcap is not None:
        _refuse(module, kwargs, "position_bias")
        passes = _passes(module, (query, key, value, attention_mask), scaling, softcap, state)
        if state.is_dense:
            for one in passes:
                one.look_on()
        if softcap is not None or not state.is_dense:
            return torch.cat([one.attend() for one in passes]), None
    if attention_mask is None and 1 < queries < keys:
        # SDPA's own causal flag would align the first query with the first key, and lose the cache.
        attention_mask = causal_mask(keys - queries, queries, keys, query.device)
    result: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
    )
    return result


def _entered(module: torch.nn.Module, state: SparseState, queries: int) -> SparseState:
    try:
        state.enter_layer(_layer_of(module), queries)
    except ValueError as error:
        raise AdapterError(f"{type(module).__name__} {error}, so it cannot be made sparse") from error
    return state


def _layer_of(module: torch.nn.Module) -> int:
    return int(getattr(module, "layer_idx", 0) or 0)


def _passes(
    module: torch.nn.Module,
    tensors: tuple[Tensor, Tensor, Tensor, Tensor | None],
    scaling: float | None,
    softcap: float | None,
    state: SparseState,
) -> list[LayerPass]:
    query, key, _, mask = tensors
    if mask is not None and mask.dtype != torch.bool:
        raise AdapterError(f"{type(module).__name__} adds numbers to its scores, which sparse attention does not cover")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer, offset = _layer_of(module), state.offset(key.shape[2])
    rows = rows_without_padding(*tensors)
    return [LayerPass(*parts, scale, softcap, layer, offset, row, state) for row, parts in enumerate(rows)]


def _refuse(module: torch.nn.Module, kwargs: dict[str, Any], *names: str) -> None:
    """Raises where the model asks for something that SDPA would leave out without a word."""
    for name in names:
        if kwargs.get(name) is not None:
            raise AdapterError(f"{type(module).__name__} uses {name} in its attention, which is not supported")

"""The attention function that transformers' models call: dense, or a chain of maskers as one biased fused call."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from hpc_bench.adapters.base import AdapterError
from hpc_bench.attention.base import AttentionInputs, Chain
from hpc_bench.attention.bias import chain_bias

__all__ = ["NAME", "SparseState", "attend", "register"]

NAME = "hpc_bench"


class SparseState:
    """What one answer's forward passes carry to every attention layer: the chain, and the densities it measured."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.queries = 0
        # One running sum a device, because the layers of one model may lie on several; read once, at the end.
        self._sums: dict[torch.device, Tensor] = {}

    def add(self, density: Tensor, queries: int) -> None:
        """Notes the mean density of one attention call over `queries` query positions."""
        self.queries += queries
        total = density * queries
        known = self._sums.get(density.device)
        self._sums[density.device] = total if known is None else known + total

    def density(self) -> float:
        """The mean over all query positions, heads and layers so far; waits for the device."""
        return sum(float(total) for total in self._sums.values()) / self.queries


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
    sparse_state: SparseState | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """One layer's attention, in transformers' signature; the output is [batch, queries, heads, head_dim].

    query: [batch, heads, queries, head_dim]; key, value: [batch, kv_heads, keys, head_dim]; attention_mask: bool,
    True where attended, or None where causality is all there is to it.
    """
    _refuse(module, kwargs, "s_aux", "softcap")
    queries, keys = query.shape[2], key.shape[2]
    if attention_mask is None and 1 < queries < keys:
        # SDPA's own causal flag would align the first query with the first key, and lose the cache.
        attention_mask = _causal(queries, keys, query.device)
    if sparse_state is None or not sparse_state.chain:
        result: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return result
    _refuse(module, kwargs, "position_bias")
    visible = _causal(queries, keys, query.device) if attention_mask is None else attention_mask
    if visible.dtype != torch.bool:
        raise AdapterError(f"{type(module).__name__} adds numbers to its scores, which sparse attention does not cover")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer = int(getattr(module, "layer_idx", 0) or 0)
    bias, density = chain_bias(sparse_state.chain, AttentionInputs(query, key, visible, scale, layer))
    sparse_state.add(density, queries)
    return _fused(query, key, value, bias, scale), None


def _refuse(module: torch.nn.Module, kwargs: dict[str, Any], *names: str) -> None:
    """Raises where the model asks for something that SDPA would leave out without a word."""
    for name in names:
        if kwargs.get(name) is not None:
            raise AdapterError(f"{type(module).__name__} uses {name} in its attention, which is not supported")


def _causal(queries: int, keys: int, device: torch.device) -> Tensor:
    """[1, 1, queries, keys]: the queries are the last positions of the keys, and see all up to themselves."""
    positions = torch.arange(keys, device=device)
    return (positions <= positions[keys - queries :, None])[None, None]


def _fused(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float) -> Tensor:
    """Biased attention with the heads of a group laid end to end as more queries of their key head.

    Keys and values are thus used as they are: with a mask, the fused kernels refuse grouped heads, and repeating the
    keys would cost more memory than the cache itself.
    """
    batch, heads, queries, head_dim = query.shape
    kv_heads = key.shape[1]
    group = heads // kv_heads
    if bias.shape[1] == 1:
        bias = bias.repeat(1, 1, group, 1) if queries > 1 else bias
    else:
        bias = bias.reshape(bias.shape[0], kv_heads, group * queries, -1)
    packed = query.reshape(batch, kv_heads, group * queries, head_dim)
    output = F.scaled_dot_product_attention(packed, key, value, attn_mask=bias, scale=scale)
    return output.reshape(batch, heads, queries, value.shape[-1]).transpose(1, 2).contiguous()

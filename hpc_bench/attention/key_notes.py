"""What a masker notes of each key: kept from pass to pass, and made anew where earlier keys were not read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hpc_bench.attention.base import AttentionInputs

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["note_keys"]


def note_keys(inputs: AttentionInputs, known: Tensor | None, make: Callable[[Tensor], Tensor]) -> Tensor:
    """Notes of all keys, [batch, kv_heads, keys, ...]; `make` makes those of keys [batch, kv_heads, n, head_dim].

    `known`: the notes of the last pass; a sliding window's cache has forgotten the first keys since.
    """
    import torch

    if known is None or known.shape[2] < inputs.past:
        return make(inputs.key)
    return torch.cat([known[:, :, known.shape[2] - inputs.past :], make(inputs.key[:, :, inputs.past :])], 2)

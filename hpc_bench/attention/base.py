"""What a masker is: given queries and keys, which keys does each query keep, and with what probability."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["AttentionInputs", "Chain", "Masker", "check_size", "keys_of_size"]


@dataclass(frozen=True)
class AttentionInputs:
    """What one attention layer sees in one forward pass; positions are encoded already (RoPE)."""

    query: Tensor
    """[batch, heads, queries, head_dim]"""
    key: Tensor
    """[batch, kv_heads, keys, head_dim], not repeated; heads is a multiple of kv_heads"""
    visible: Tensor
    """bool [batch or 1, 1, queries, keys]: causal, not padding, inside the layer's own window if it has one"""
    scaling: float
    layer: int


@dataclass(frozen=True)
class Masker(ABC):
    """A sparse attention building block; the dataclass fields are its parameters in a sweep.

    Subclasses are frozen dataclasses, import torch only inside `select` (planning loads them), and check their
    parameters in `__post_init__` with a ValueError that says what is allowed. In a sweep `{name: value}` sets the
    first field, `{name: {field: value, ...}}` any of them.
    """

    @abstractmethod
    def select(self, inputs: AttentionInputs, kept: Tensor) -> Tensor:
        """Adds to what earlier maskers of the chain kept.

        `kept` and the result: float32 [batch or 1, heads or 1, queries, keys], the probability with which each key
        was kept: 0 dropped, 1 kept for sure, p for a key that was sampled with probability p. A masker keeps only
        visible keys and never lowers what is kept already.
        """


Chain: TypeAlias = tuple[Masker, ...]
"""A sparse attention config: maskers applied in order; the empty chain is dense attention."""


def check_size(name: str, size: int | float) -> None:
    """ValueError unless `size` is a count of tokens (int of at least 1) or a share of the keys (float in (0, 1])."""
    fits = size >= 1 if isinstance(size, int) else 0 < size <= 1
    if not fits:
        raise ValueError(f"{name} must be a number of tokens (1, 2, ...) or a share of the keys in (0.0, 1.0]")


def keys_of_size(size: int | float, candidates: Tensor) -> Tensor:
    """How many keys `size` means for each query, given `candidates`, the number of keys that it sees; at least 1.

    A share is rounded to the nearest whole number, so that it does not depend on float noise (0.29 x 100 is 29).
    Shape and dtype of `candidates` (int64).
    """
    if isinstance(size, int):
        return candidates.new_full(candidates.shape, size)
    return (candidates.double() * size + 0.5).floor().long().clamp(min=1)

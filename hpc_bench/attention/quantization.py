"""Rounds numbers to a few bits, as caches of labels are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["check_bits", "rounded"]

_EXACT = 16


def check_bits(name: str, bits: int) -> None:
    """ValueError unless 1 <= bits <= 16."""
    if not 1 <= bits <= _EXACT:
        raise ValueError(f"{name} must be 1 to {_EXACT} bits ({_EXACT}: not quantized)")


def rounded(values: Tensor, bits: int) -> Tensor:
    """float32 values of the last dimension on a grid of 2^bits steps between its minimum and maximum; 16 bits: as is.

    The asymmetric per-token scheme of Double Sparsity (github.com/andy-yang-1/DoubleSparse, `pseudo_quantize`).
    """
    values = values.float()
    if bits >= _EXACT:
        return values
    low, high = values.amin(-1, keepdim=True), values.amax(-1, keepdim=True)
    step = ((high - low) / (2**bits - 1)).clamp(min=1e-12)
    grid: Tensor = ((values - low) / step).round() * step + low
    return grid

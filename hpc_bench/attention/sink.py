"""Sink attention: every query keeps the first keys that it sees (StreamingLLM, arXiv 2309.17453)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpc_bench.attention.base import AttentionInputs, Masker, check_size, keys_of_size

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Sink"]


@dataclass(frozen=True)
class Sink(Masker):
    """Keeps the first `size` visible keys of each query."""

    size: int | float
    """int: tokens; float: share of the keys that a query sees."""

    def __post_init__(self) -> None:
        check_size("size", self.size)

    def select(self, inputs: AttentionInputs, kept: Tensor) -> Tensor:
        """Counts visible keys from the left, so that left padding is skipped."""
        import torch

        rank = inputs.visible.cumsum(-1)
        size = keys_of_size(self.size, rank[..., -1:])
        return torch.where(inputs.visible & (rank <= size), 1.0, kept)

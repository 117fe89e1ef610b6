"""Strided attention: every n-th key (the strided pattern of Sparse Transformers, arXiv 1904.10509)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hpc_bench.plugin import AttentionInputs, Masker

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Strided(Masker):
    """Keeps the first visible key of each query and every `stride`-th after it."""

    source: ClassVar[str] = "Sparse Transformers, arXiv 1904.10509, the strided pattern alone"

    stride: int

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise ValueError("stride must be at least 1 key")

    def select(self, inputs: AttentionInputs, kept: Tensor) -> Tensor:
        """Counts visible keys from the left, so that each query keeps one at least, whatever a window hides."""
        rank = inputs.visible.cumsum(-1)
        return kept.masked_fill(inputs.visible & (rank % self.stride == 1 % self.stride), 1.0)

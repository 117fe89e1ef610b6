"""Sink attention: every query keeps the first keys that it sees (StreamingLLM, arXiv 2309.17453)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from hpc_bench.attention.base import SIZE, AttentionInputs, Masker, check_size, keys_of_size
from hpc_bench.options import doc

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Sink"]


@dataclass(frozen=True)
class Sink(Masker):
    """Keeps the first `size` visible keys of each query."""

    source: ClassVar[str] = "StreamingLLM, arXiv 2309.17453"

    size: int | float = field(metadata=doc(SIZE))

    def __post_init__(self) -> None:
        check_size("size", self.size)

    def select(self, inputs: AttentionInputs, kept: Tensor) -> Tensor:
        """Counts visible keys from the left, so that what a window hides is skipped."""
        rank = inputs.visible.cumsum(-1)
        size = keys_of_size(self.size, rank[..., -1:])
        return kept.masked_fill(inputs.visible & (rank <= size), 1.0)

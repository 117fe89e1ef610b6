"""Local attention: every query keeps its most recent keys (sliding window, as in Longformer, arXiv 2004.05150)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from hpc_bench.attention.base import SIZE, AttentionInputs, Masker, check_size, keys_of_size
from hpc_bench.options import doc

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Local"]


@dataclass(frozen=True)
class Local(Masker):
    """Keeps the last `size` visible keys of each query, its own among them."""

    source: ClassVar[str] = "sliding window, Longformer, arXiv 2004.05150"

    size: int | float = field(metadata=doc(SIZE))

    def __post_init__(self) -> None:
        check_size("size", self.size)

    def select(self, inputs: AttentionInputs, kept: Tensor) -> Tensor:
        """Counts visible keys from the left; those past `seen - size` are the last `size`."""
        rank = inputs.visible.cumsum(-1)
        seen = rank[..., -1:]
        return kept.masked_fill(inputs.visible & (rank > seen - keys_of_size(self.size, seen)), 1.0)

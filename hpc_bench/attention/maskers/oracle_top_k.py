"""Oracle top-k: every query keeps the keys with the highest exact scores, the bound for all top-k approximations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from hpc_bench.attention.base import BUDGET, AttentionInputs, Masker, check_size
from hpc_bench.options import doc

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["OracleTopK"]


@dataclass(frozen=True)
class OracleTopK(Masker):
    """Keeps, per head and query, the `heavy` highest-scoring visible keys that are not kept yet."""

    source: ClassVar[str] = "exact scores"

    heavy: int | float = field(metadata=doc(BUDGET))

    def __post_init__(self) -> None:
        check_size("heavy", self.heavy)

    def select(self, inputs: AttentionInputs, kept: Tensor) -> Tensor:
        """Ranks by exact scores."""
        from hpc_bench.attention.scores import exact_scores, keep_best

        return keep_best(inputs, kept, exact_scores(inputs), self.heavy)

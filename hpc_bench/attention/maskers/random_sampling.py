"""Random sampling: every key has the same chance, and those that are drawn weigh by its inverse."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from hpc_bench.attention.base import AttentionInputs, Masker
from hpc_bench.options import doc

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["RandomSampling"]


@dataclass(frozen=True)
class RandomSampling(Masker):
    """Draws each visible key that is not kept yet with probability `rate`, independently."""

    samples: ClassVar[bool] = True
    source: ClassVar[str] = "importance-weighted (Poisson) sampling"

    rate: float = field(metadata=doc("Probability of a key, in (0.0, 1.0]."))
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise ValueError("rate must be a probability in (0.0, 1.0]")

    def select(self, inputs: AttentionInputs, kept: Tensor) -> Tensor:
        """Bernoulli draws, whose inclusion probability is the rate itself."""
        from hpc_bench.attention.random_draw import uniform

        drawn = inputs.visible & (kept == 0) & (uniform(inputs, self.seed, purpose=1) < self.rate)
        return kept.expand(drawn.shape).masked_fill(drawn, self.rate)

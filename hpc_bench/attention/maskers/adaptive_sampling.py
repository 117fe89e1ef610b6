"""Adaptive sampling: as many random keys as the wanted accuracy needs, query by query (vAttention)."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING, ClassVar

from hpc_bench.attention.base import SIZE, AttentionInputs, Masker, check_size
from hpc_bench.options import doc

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["AdaptiveSampling"]


@dataclass(frozen=True)
class AdaptiveSampling(Masker):
    """Draws keys with the probability at which the softmax denominator is off by more than `epsilon` (relative) in a
    share `delta` of all cases, judged by a first random sample; the ends of the context are kept for sure.
    """

    samples: ClassVar[bool] = True
    source: ClassVar[str] = "vAttention, arXiv 2510.05688, algorithm 1 (the denominator's bound)"

    base_rate: int | float = field(
        metadata=doc(
            "Size of the first sample, and the least that is drawn. int: tokens; float: share of the keys not kept yet."
        )
    )
    epsilon: float = field(metadata=doc("Relative error of the denominator, in (0.0, 1.0)."))
    delta: float = field(metadata=doc("Probability of a larger error, in (0.0, 1.0)."))
    init: int | float = field(default=128, metadata=doc(f"First keys that are kept for sure. {SIZE}"))
    local: int | float = field(default=128, metadata=doc(f"Last keys that are kept for sure. {SIZE}"))
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("base_rate", "init", "local"):
            check_size(name, getattr(self, name))
        for name in ("epsilon", "delta"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between 0.0 and 1.0")

    def select(self, inputs: AttentionInputs, kept: Tensor) -> Tensor:
        """The first sample and the final draw use independent numbers, so that each key's probability is exact."""
        from hpc_bench.attention.maskers.streaming import Streaming
        from hpc_bench.attention.random_draw import uniform

        kept = Streaming(self.init, self.local).select(inputs, kept)
        free = inputs.visible & (kept == 0)
        rate = self._rate(inputs, kept, free)
        drawn = free & (uniform(inputs, self.seed, purpose=3) < rate)
        return rate.float().expand(drawn.shape).where(drawn, kept)

    def _rate(self, inputs: AttentionInputs, kept: Tensor, free: Tensor) -> Tensor:
        """[batch, heads, queries, 1] (float64): b / n, where b = (z n sigma / (epsilon D))^2 draws bound the error.

        n: the keys that may be drawn; sigma, D: standard deviation of their exp(score) and the denominator, both from
        the first sample; z: the normal quantile of 1 - delta / 2. Where the sample has less than two keys, all.
        """
        import torch

        from hpc_bench.attention.random_draw import uniform
        from hpc_bench.attention.scores import exact_scores

        scores = exact_scores(inputs).masked_fill(~inputs.visible, -torch.inf)
        weights = (scores - scores.amax(-1, keepdim=True)).exp().nan_to_num(0.0).double()
        n = free.sum(-1, keepdim=True).double()
        base = (
            self.base_rate / n.clamp(min=1) if isinstance(self.base_rate, int) else torch.full_like(n, self.base_rate)
        )
        base = base.clamp(max=1)
        sample = free & (uniform(inputs, self.seed, purpose=2) < base)
        size = sample.sum(-1, keepdim=True).double()
        mean = (weights * sample).sum(-1, keepdim=True) / size.clamp(min=1)
        variance = ((weights - mean).square() * sample).sum(-1, keepdim=True) / (size - 1).clamp(min=1)
        denominator = (weights * (kept > 0)).sum(-1, keepdim=True) + n * mean
        z = NormalDist().inv_cdf(1 - self.delta / 2)
        draws = z**2 * n * variance * n / (self.epsilon * denominator).square().clamp(min=1e-300)
        rate = torch.maximum(draws / n.clamp(min=1), base).clamp(max=1)
        return rate.masked_fill(size < 2, 1.0)

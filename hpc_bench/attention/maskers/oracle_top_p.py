"""Oracle top-p: every query keeps the smallest set of keys that holds a share p of the attention mass (Twilight)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from hpc_bench.attention.base import AttentionInputs, Masker
from hpc_bench.options import doc

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["OracleTopP"]


@dataclass(frozen=True)
class OracleTopP(Masker):
    """Adds, per head and query, the heaviest keys until the kept ones hold the share `p` of the exact attention."""

    source: ClassVar[str] = "Twilight, arXiv 2502.02770, section 3"

    p: float = field(
        metadata=doc(
            "Share of the attention mass in (0.0, 1.0], what earlier maskers kept included; 1.0 keeps everything."
        )
    )

    def __post_init__(self) -> None:
        if not 0 < self.p <= 1:
            raise ValueError("p must be a share of the attention mass in (0.0, 1.0]")

    def select(self, inputs: AttentionInputs, kept: Tensor) -> Tensor:
        """A key is added while the mass of the kept and of all heavier keys is below p."""
        import torch

        from hpc_bench.attention.scores import attention_weights

        if self.p == 1:  # float sums may reach 1 before the last key
            return kept.masked_fill(inputs.visible, 1.0)
        weights = attention_weights(inputs, inputs.visible.float())
        taken = kept > 0
        mass = (weights * taken).sum(-1, keepdim=True)
        free = weights.masked_fill(taken | ~inputs.visible, -1.0)
        ordered, index = free.sort(dim=-1, descending=True, stable=True)
        heavier = mass + ordered.clamp(min=0).cumsum(-1) - ordered
        wanted = (heavier < self.p) & (ordered >= 0)
        chosen = torch.zeros_like(wanted).scatter(-1, index, wanted)
        return kept.expand(chosen.shape).masked_fill(chosen, 1.0)

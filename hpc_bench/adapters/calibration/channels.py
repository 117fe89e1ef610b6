"""Which channels of the keys decide most of the scores? The file of the masker double_sparsity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpc_bench.adapters.calibration.capture import LayerPiece, Piece

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["order_channels"]


def order_channels(pieces: Sequence[Piece]) -> dict[str, Tensor]:
    """layers.<i>.channels: int64 [kv_heads, head_dim], the most important first.

    A channel matters as much as it adds to the scores: mean |query| of the group's heads times mean |key| (Double
    Sparsity, arXiv 2408.07092, section 3.2, offline calibration).
    """
    return {
        f"layers.{number}.channels": _importance(layer).argsort(stable=True, descending=True)
        for number, layer in enumerate(zip(*pieces, strict=True))
    }


def _importance(layer: Sequence[LayerPiece]) -> Tensor:
    """float32 [kv_heads, head_dim] from one layer's views of all texts."""
    import torch

    kv_heads, _, head_dim = layer[0].key.shape
    query = torch.cat([one.query.float() for one in layer], 1).abs().mean(1)
    key = torch.cat([one.key.float() for one in layer], 1).abs().mean(1)
    return query.reshape(kv_heads, -1, head_dim).mean(1) * key

"""How many of the keys that score highest does a masker find?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from statistics import fmean

from hpc_bench.adapters.calibration.capture import Piece
from hpc_bench.attention.base import AttentionInputs, Masker

__all__ = ["BEST", "measure_recall"]

BEST = 1 / 32
"""The share of the keys that counts as the best ones: 32 of 1024."""


def measure_recall(masker: Masker, pieces: Sequence[Piece], device: str) -> float:
    """Share of the exactly best `BEST` keys of a query among those that `masker`, with `heavy=BEST`, keeps; mean over
    queries, heads, layers and texts.
    """
    return fmean(_recall(masker, layer.inputs(device)) for piece in pieces for layer in piece)


def _recall(masker: Masker, inputs: AttentionInputs) -> float:
    import torch

    from hpc_bench.attention.scores import exact_scores, keep_best

    with torch.inference_mode():
        nothing = torch.zeros_like(inputs.visible, dtype=torch.float32)
        best = keep_best(inputs, nothing, exact_scores(inputs), BEST)
        found = masker.select(dataclasses.replace(inputs, memo=masker.read(inputs)), nothing) * best
        return float((found.sum(-1) / best.sum(-1)).mean())

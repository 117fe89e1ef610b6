"""What a chain keeps of a short prompt, for whoever wants to look at it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hpc_bench.adapters.sparse.passes import Passes
from hpc_bench.adapters.sparse.state import SparseState
from hpc_bench.attention.base import AttentionConfig, AttentionInputs

__all__ = ["record_selections"]


def record_selections(
    passes: Passes, context: Sequence[int], question: Sequence[int], attention: AttentionConfig
) -> dict[int, Tensor]:
    """layer -> the probability with which each key was kept, float32 [heads, queries, keys] on the CPU; NaN where a key
    is hidden from a query.

    Queries are those of the question, read in one pass behind the context; with `sparse_prefill` those of both.
    """
    rows: dict[int, list[Tensor]] = {}

    def note(inputs: AttentionInputs, kept: Tensor) -> None:
        hidden = inputs.offset
        shown = kept.expand(*inputs.query.shape[:3], -1).masked_fill(~inputs.visible, torch.nan)[0].cpu()
        padded = torch.nn.functional.pad(shown, (hidden, total - hidden - shown.shape[-1]), value=torch.nan)
        rows.setdefault(inputs.layer, []).append(padded)

    total = len(context) + len(question)
    cache = passes.new_cache()
    prefill = SparseState(attention.chain, is_dense=not attention.sparse_prefill, recorder=note)
    passes.feed(cache, context, prefill)
    passes.feed(
        cache, question, SparseState(attention.chain, memos=prefill.memos, position=len(context), recorder=note)
    )
    return {layer: torch.cat(parts, 1) for layer, parts in sorted(rows.items())}

"""Quest: whole pages of keys, chosen by an upper bound of their scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from hpc_bench.attention.base import SIZE, AttentionInputs, Masker, check_size, keys_of_size
from hpc_bench.options import doc

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Quest"]

_LARGEST_PAGE = 4096


@dataclass(frozen=True)
class _Pages:
    bounds: Tensor
    """[batch, kv_heads, pages, 2 head_dim]: the greatest value of each channel in each page, then the least ones,
    quantized"""
    offset: int
    """Position in the text of the first key that was read."""
    keys: int
    """How many keys were read."""


@dataclass(frozen=True)
class Quest(Masker):
    """Keeps, per head and query, pages in the order of their bounds until they hold `heavy` keys not kept before.

    A page's bound is the sum over channels of max(q x least, q x greatest key); the page that a query stands in counts
    only up to it. Pages start at multiples of `page_size` in the text.
    """

    source: ClassVar[str] = "Quest, arXiv 2406.10774, section 3.3"

    heavy: int | float = field(metadata=doc(f"{SIZE} Whole pages: the last one may exceed it."))
    page_size: int = field(default=16, metadata=doc("Tokens."))
    label_bits: int = field(default=16, metadata=doc("Bits of a page's least and greatest values; 16: not quantized."))

    def __post_init__(self) -> None:
        from hpc_bench.attention.quantization import check_bits

        check_size("heavy", self.heavy)
        check_bits("label_bits", self.label_bits)
        if not 1 <= self.page_size <= _LARGEST_PAGE:
            raise ValueError(f"page_size must be 1 to {_LARGEST_PAGE} tokens")

    def read(self, inputs: AttentionInputs) -> _Pages:
        """Bounds the pages that got new keys; all, where a sliding window forgot some."""
        import torch

        memo: _Pages | None = inputs.memo
        keys = inputs.key.shape[2]
        if memo is None or memo.offset != inputs.offset or memo.keys != inputs.past:
            return _Pages(self._bounds(inputs.key, inputs.offset % self.page_size), inputs.offset, keys)
        lead = inputs.offset % self.page_size
        full = (lead + inputs.past) // self.page_size
        fresh = self._bounds(inputs.key[:, :, max(0, full * self.page_size - lead) :], 0 if full else lead)
        return _Pages(torch.cat([memo.bounds[:, :, :full], fresh], 2), inputs.offset, keys)

    def _bounds(self, key: Tensor, lead: int) -> Tensor:
        """Bounds by page, where the first page lacks its first `lead` keys."""
        import torch

        high = self._paged(key.float(), lead, -torch.inf).amax(3)
        low = self._paged(key.float(), lead, torch.inf).amin(3)
        return self._quantized(high, low)

    def _quantized(self, high: Tensor, low: Tensor) -> Tensor:
        import torch

        from hpc_bench.attention.quantization import rounded

        return torch.cat([rounded(high, self.label_bits), rounded(low, self.label_bits)], -1)

    def _paged(self, values: Tensor, lead: int, fill: float) -> Tensor:
        """[..., keys, d] as [..., pages, page_size, d]."""
        import torch.nn.functional as F  # noqa: N812

        missing = -(lead + values.shape[-2]) % self.page_size
        padded = F.pad(values, (0, 0, lead, missing), value=fill)
        return padded.reshape(*values.shape[:-2], -1, self.page_size, values.shape[-1])

    def select(self, inputs: AttentionInputs, kept: Tensor) -> Tensor:
        """Pages by bound, as long as better pages hold less than `heavy` free keys."""
        import torch

        pages: _Pages = inputs.memo
        lead, keys = inputs.offset % self.page_size, inputs.key.shape[2]
        free = inputs.visible & (kept == 0)
        held = self._paged(free[..., None], lead, False)[..., 0].sum(-1).expand(*inputs.query.shape[:3], -1)
        bound = self._page_scores(inputs, pages, lead).masked_fill(held == 0, -torch.inf)
        order = bound.sort(dim=-1, descending=True, stable=True).indices
        ordered = held.gather(-1, order)
        count = keys_of_size(self.heavy, inputs.visible.sum(-1, keepdim=True))
        wanted = torch.zeros_like(held, dtype=torch.bool).scatter(-1, order, ordered.cumsum(-1) - ordered < count)
        chosen = wanted.repeat_interleave(self.page_size, -1)[..., lead : lead + keys] & free
        return torch.maximum(kept, chosen.float())

    def _page_scores(self, inputs: AttentionInputs, pages: _Pages, lead: int) -> Tensor:
        """[batch, heads, queries, pages]: the bounds, with each query's own page cut at the query."""
        import torch

        from hpc_bench.attention.scores import grouped_product, per_query_head

        query = inputs.query.float()
        signed = torch.cat([query.clamp(min=0), query.clamp(max=0)], -1)
        scores = grouped_product(signed, pages.bounds)
        queries = query.shape[2]
        if inputs.first + 1 == inputs.key.shape[2]:
            return scores  # the last page ends at the one query already
        bounds = per_query_head(self._bounds_up_to_queries(inputs, lead), query.shape[1])
        own = (signed * bounds).sum(-1, keepdim=True)
        place = torch.arange(lead + inputs.first, lead + inputs.first + queries, device=query.device)
        page = (place // self.page_size)[None, None, :, None]
        return scores.scatter(-1, page.expand(*own.shape), own)

    def _bounds_up_to_queries(self, inputs: AttentionInputs, lead: int) -> Tensor:
        """[batch, kv_heads, queries, 2 head_dim]: bounds over the keys of a query's page up to the query."""
        import torch

        start = max(0, (lead + inputs.first) // self.page_size * self.page_size - lead)
        lead = lead if start == 0 else 0
        key = inputs.key[:, :, start : inputs.first + inputs.query.shape[2]].float()
        own = slice(lead + inputs.first - start, lead + key.shape[2])
        high = self._paged(key, lead, -torch.inf).cummax(3).values.flatten(2, 3)[:, :, own]
        low = self._paged(key, lead, torch.inf).cummin(3).values.flatten(2, 3)[:, :, own]
        return self._quantized(high, low)

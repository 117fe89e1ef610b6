"""One layer's part of one pass under a chain of maskers, block by block of queries so that memory stays bounded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor

from hpc_bench.adapters.sparse.state import SparseState, now
from hpc_bench.attention.base import AttentionInputs, Chain, Masker
from hpc_bench.attention.bias import bias_of, density_of, select_keys
from hpc_bench.attention.scores import exact_scores

__all__ = ["LayerPass", "causal_mask", "rows_without_padding"]


@dataclass(frozen=True)
class LayerPass:
    """Queries, keys and values of one layer in one pass; the rows of a batch see alike, or are passes of their own."""

    query: Tensor
    """[batch, heads, queries, head_dim]"""
    key: Tensor
    """[batch, kv_heads, keys, head_dim], not repeated"""
    value: Tensor
    """[batch, kv_heads, keys, head_dim]"""
    mask: Tensor | None
    """bool [batch or 1, 1, queries, keys], True where attended; None: causal"""
    scaling: float
    softcap: float | None
    layer: int
    offset: int
    """Position in the text of key 0, when padding is not counted."""
    row: int
    state: SparseState

    def attend(self) -> Tensor:
        """The output under the chain, [batch, queries, heads, head_dim]; the maskers' memos and measures move on."""
        chain = () if self.state.is_dense else self.state.chain
        self._read(chain)
        batch, heads, queries, _ = self.query.shape
        # Made before the blocks: results kept between their large tensors would keep glibc from reusing that memory.
        output = self.value.new_empty(batch, queries, heads, self.value.shape[-1])
        for block in self._blocks():
            start = block.first - block.past
            output[:, start : start + block.query.shape[2]] = self._attend_block(block, chain)
        return output

    def look_on(self) -> None:
        """Has the maskers read the keys, and observe dense attention, without changing anything."""
        for masker in dict.fromkeys(self.state.chain):
            started = now(self.query.device)
            self._read((masker,))
            for block in self._blocks() if type(masker).observe is not Masker.observe else ():
                self._observe(block, block.visible.float(), (masker,))
            self.state.add_notes_time(masker, now(self.query.device) - started)

    def _read(self, chain: Chain) -> None:
        # The block's fields are for `select`; a reader looks at keys alone.
        whole = self._inputs(0, self.query.shape[2], visible=torch.empty(0, device=self.query.device))
        for masker in dict.fromkeys(chain):
            memo = masker.read(dataclasses.replace(whole, memo=self.state.memo(whole, self.row, masker)))
            self.state.note(whole, self.row, masker, memo)

    def _inputs(self, start: int, stop: int, visible: Tensor) -> AttentionInputs:
        queries, keys = self.query.shape[2], self.key.shape[2]
        return AttentionInputs(
            query=self.query[:, :, start:stop],
            key=self.key,
            visible=visible,
            scaling=self.scaling,
            layer=self.layer,
            past=keys - queries,
            first=keys - queries + start,
            offset=self.offset,
            softcap=self.softcap,
        )

    def _blocks(self) -> Iterator[AttentionInputs]:
        _, heads, queries, _ = self.query.shape
        keys = self.key.shape[2]
        step = max(1, self.state.largest_block // (heads * keys))
        for start in range(0, queries, step):
            stop = min(queries, start + step)
            if self.mask is None:
                visible = causal_mask(keys - queries + start, stop - start, keys, self.query.device)
            else:
                visible = self.mask[:, :, start:stop]
            yield self._inputs(start, stop, visible)

    def _attend_block(self, block: AttentionInputs, chain: Chain) -> Tensor:
        if not chain:
            return self._output(block, block.visible.float(), sampled=False)
        memos = [self.state.memo(block, self.row, masker) for masker in chain]
        kept = select_keys(chain, block, memos, check=self.state.is_first_call)
        output = self._output(block, kept, sampled=any(masker.samples for masker in chain))
        if self.state.recorder:
            self.state.recorder(block, kept)
        queries = block.query.shape[2]
        self.state.add_density(self.layer, density_of(kept, block.visible), queries)
        self._observe(block, kept, dict.fromkeys(chain))
        if self.state.measures_error:
            self._measure_error(block, output)
        return output

    def _observe(self, block: AttentionInputs, kept: Tensor, maskers: Iterable[Masker]) -> None:
        for masker in maskers:
            memo = self.state.memo(block, self.row, masker)
            self.state.note(block, self.row, masker, masker.observe(dataclasses.replace(block, memo=memo), kept))

    def _measure_error(self, block: AttentionInputs, output: Tensor) -> None:
        started = now(output.device)
        dense = self._output(block, block.visible.float(), sampled=False).float()
        error = (output.float() - dense).norm(dim=-1) / dense.norm(dim=-1).clamp(min=1e-12)
        self.state.add_error(self.layer, error.mean(), block.query.shape[2], now(output.device) - started)

    def _output(self, block: AttentionInputs, kept: Tensor, *, sampled: bool) -> Tensor:
        """[batch, queries, heads, head_dim]."""
        bias = bias_of(kept, block.visible, sampled=sampled, dtype=self.query.dtype)
        if self.softcap is not None:
            return self._output_with_capped_scores(block, bias)
        return fused_attention(block.query, self.key, self.value, bias, self.scaling)

    def _output_with_capped_scores(self, block: AttentionInputs, bias: Tensor) -> Tensor:
        """Fused kernels cannot cap scores, so this is the textbook's way, in float32."""
        batch, heads, queries, _ = block.query.shape
        kv_heads = self.key.shape[1]
        weights = (exact_scores(block) + bias.float()).softmax(-1).to(self.value.dtype)
        packed = weights.reshape(batch, kv_heads, heads // kv_heads * queries, -1)
        return (packed @ self.value).reshape(batch, heads, queries, -1).transpose(1, 2).contiguous()


def fused_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float) -> Tensor:
    """Biased attention with the heads of a group laid end to end as more queries of their key head.

    Keys and values are thus used as they are: with a mask, the fused kernels refuse grouped heads, and repeating the
    keys would cost more memory than the cache itself. bias: [batch or 1, heads or 1, queries, keys]; the output is
    [batch, queries, heads, head_dim].
    """
    batch, heads, queries, head_dim = query.shape
    kv_heads = key.shape[1]
    group = heads // kv_heads
    if bias.shape[1] == 1:
        bias = bias.repeat(1, 1, group, 1) if queries > 1 else bias
    else:
        bias = bias.reshape(bias.shape[0], kv_heads, group * queries, -1)
    packed = query.reshape(batch, kv_heads, group * queries, head_dim)
    output = F.scaled_dot_product_attention(packed, key, value, attn_mask=bias, scale=scale)
    return output.reshape(batch, heads, queries, value.shape[-1]).transpose(1, 2).contiguous()


def causal_mask(first: int, queries: int, keys: int, device: torch.device) -> Tensor:
    """bool [1, 1, queries, keys]: the queries stand at the keys `first`, `first` + 1, ..., and see all up to those."""
    positions = torch.arange(keys, device=device)
    return (positions <= positions[first : first + queries, None])[None, None]


def rows_without_padding(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
    """Query, key, value and mask of each row of a batch, less the leading keys that none of its queries sees; the
    whole batch at once where all rows see alike.
    """
    if mask is None or mask.shape[0] == 1:
        yield query, key, value, mask
        return
    for row in range(query.shape[0]):
        hidden = int((~mask[row, 0].any(0)).int().cumprod(-1).sum())
        one = slice(row, row + 1)
        yield query[one], key[one, :, hidden:], value[one, :, hidden:], mask[one, ..., hidden:]

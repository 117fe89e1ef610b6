"""What queries and keys does a model make of a text? Gathered from dense prefills, after the position encoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from hpc_bench.adapters.base import AdapterError, ModelAdapter
from hpc_bench.attention.base import AttentionConfig, AttentionInputs, Masker
from hpc_bench.attention.model_shape import ModelShape
from hpc_bench.errors import SweepError
from hpc_bench.values import Sample

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LayerPiece", "Piece", "capture_pieces", "shape_of_pieces"]

_QUERIES = 256
"""Queries a layer and text, so that memory grows with the keys alone."""


@dataclass(frozen=True)
class LayerPiece:
    """One layer's view of one text, on the host and in the model's dtype."""

    query: Tensor
    """[heads, n, head_dim]: some of the queries, evenly spaced"""
    key: Tensor
    """[kv_heads, keys, head_dim]: all keys"""
    positions: Tensor
    """int64 [n]: which key is each query's own; it sees all up to that one"""
    scaling: float
    softcap: float | None
    layer: int

    def inputs(self, device: str) -> AttentionInputs:
        """The same as a masker sees it, as a batch of one in float32; a sliding window is taken for full attention."""
        import torch

        # Copies, since tensors that were made in inference mode cannot be trained on.
        query, key = (part[None].to(device, torch.float32, copy=True) for part in (self.query, self.key))
        visible = torch.arange(key.shape[2], device=device) <= self.positions.to(device)[:, None]
        return AttentionInputs(
            query, key, visible[None, None], self.scaling, self.layer, past=0, first=0, softcap=self.softcap
        )


Piece: TypeAlias = tuple[LayerPiece, ...]
"""All layers' views of one text."""


@dataclass(frozen=True)
class _Capture(Masker):
    """Notes what a pass shows it, and selects nothing."""

    queries: int = _QUERIES

    def read(self, inputs: AttentionInputs) -> LayerPiece:
        import torch

        count = inputs.query.shape[2]
        # The first queries see too few keys to tell a good choice from a bad one.
        positions = torch.linspace(count // 4, count - 1, min(self.queries, count - count // 4)).round().long()
        query = inputs.query[0, :, positions.to(inputs.query.device)]
        return LayerPiece(query.cpu(), inputs.key[0].cpu(), positions, inputs.scaling, inputs.softcap, inputs.layer)

    def select(self, inputs: AttentionInputs, kept: Tensor) -> Tensor:  # noqa: ARG002
        return kept


def capture_pieces(adapter: ModelAdapter, texts: Sequence[str], advance: Callable[[], None]) -> list[Piece]:
    """Reads each text with dense attention, `advance` called after each; SweepError if the model cannot read it."""
    attention = AttentionConfig((_Capture(),))
    pieces = []
    for text in texts:
        try:
            sample = Sample("", text, "", (), max_new_tokens=0, chat=False)
            prefill = adapter.prefill([sample], [attention])
        except AdapterError as error:
            raise SweepError(f"a text cannot be read (a smaller --context-tokens may help): {error}") from error
        layers: dict[int, LayerPiece] = {layer: seen for (layer, _, _), seen in prefill.state.memos.items()}
        pieces.append(tuple(layers[layer] for layer in sorted(layers)))
        advance()
    return pieces


def shape_of_pieces(pieces: Sequence[Piece]) -> ModelShape:
    """The sizes of the model's attention, which its files must have."""
    first = pieces[0][0]
    return ModelShape(len(pieces[0]), first.query.shape[0], first.key.shape[0], first.query.shape[2])

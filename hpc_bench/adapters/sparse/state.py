"""What one prefill's or one answer's forward passes carry to every attention layer, and what they measure there."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from hpc_bench.attention.base import AttentionInputs, Chain, Masker

__all__ = ["LARGEST_BLOCK", "Memos", "SparseState", "now"]

LARGEST_BLOCK = 2**22
"""Numbers in the largest tensor of a block of queries, [heads, queries, keys]; several such tensors live at a time."""

Memos: TypeAlias = Mapping[tuple[int, int, Masker], Any]
"""(layer, row of the batch, masker) -> the masker's memo"""

Recorder: TypeAlias = Callable[[AttentionInputs, Tensor], None]


class SparseState:
    """The chain, its maskers' memos and the running measurements of consecutive passes over one cache.

    With `is_dense` the maskers only read and observe, as in the shared prefill.
    """

    def __init__(
        self,
        chain: Chain,
        *,
        memos: Memos | None = None,
        position: int = 0,
        is_dense: bool = False,
        measure_error: float = 0.0,
        measure_seed: str = "",
        recorder: Recorder | None = None,
    ) -> None:
        self.chain = chain
        self.is_dense = is_dense
        self.recorder = recorder
        """Is told every selection, for whoever wants to look."""
        self.largest_block = LARGEST_BLOCK
        self.calls = 0
        """How many layers were called with this state."""
        self.measures_error = False
        """Whether this pass is one whose output is compared with dense attention's."""
        self.untimed_s = 0.0
        """What these comparisons took."""
        self.notes_s: dict[Masker, float] = {}
        """What each masker's looking on took."""
        self._memos = dict(memos or {})
        self._position = position
        self._tokens = 0
        self._entered: set[int] = set()
        self._measure_error = measure_error
        self._draw = random.Random(measure_seed)  # noqa: S311 - which passes are measured, the same at every run
        self._density = _Means()
        self._error = _Means()

    @property
    def is_first_call(self) -> bool:
        """Whether this is the first layer of the first pass, where maskers' results are looked at more closely."""
        return self.calls <= 1

    @property
    def memos(self) -> Memos:
        """What the maskers noted so far; the memos themselves never change."""
        return self._memos

    def begin_pass(self, tokens: int) -> None:
        """The next calls, one a layer, are about so many further tokens."""
        self._position += tokens
        self._tokens = tokens
        self._entered.clear()
        self.measures_error = self._draw.random() < self._measure_error

    def enter_layer(self, layer: int, queries: int) -> None:
        """Counts a layer's call; ValueError if its maskers would note less than the pass, or for two layers at once."""
        if queries != self._tokens:
            raise ValueError(f"shows layer {layer} {queries} of the {self._tokens} tokens of a pass")
        if layer in self._entered:
            raise ValueError(f"has several attention layers with the number {layer}")
        self._entered.add(layer)
        self.calls += 1

    def offset(self, keys: int) -> int:
        """Position in the text of the first of the `keys` that this pass sees."""
        return self._position - keys

    def memo(self, inputs: AttentionInputs, row: int, masker: Masker) -> Any:
        """What a masker noted in a layer."""
        return self._memos.get((inputs.layer, row, masker))

    def note(self, inputs: AttentionInputs, row: int, masker: Masker, memo: Any) -> None:
        """Replaces it."""
        self._memos[inputs.layer, row, masker] = memo

    def add_notes_time(self, masker: Masker, seconds: float) -> None:
        """Notes what a masker's looking on took in one layer."""
        self.notes_s[masker] = self.notes_s.get(masker, 0.0) + seconds

    def add_density(self, layer: int, density: Tensor, queries: int) -> None:
        """Notes the mean density of a block of query positions."""
        self._density.add(layer, density, queries)

    def add_error(self, layer: int, error: Tensor, queries: int, seconds: float) -> None:
        """Notes the mean relative error of the output of a block of query positions, and what it took to measure."""
        self._error.add(layer, error, queries)
        self.untimed_s += seconds

    def density(self) -> float:
        """The mean over all layers, query positions and heads so far; waits for the device."""
        return _mean(self._density.by_layer())

    def layer_density(self) -> tuple[float, ...]:
        """The same for each layer, in order."""
        return tuple(self._density.by_layer())

    def error(self) -> float | None:
        """|sparse - dense| / |dense| of the attention output, mean over the measured passes; None if none was."""
        errors = self._error.by_layer()
        return _mean(errors) if errors else None


class _Means:
    """Running means a layer, left on the layer's device until they are asked for."""

    def __init__(self) -> None:
        self._sums: dict[int, Tensor] = {}
        self._counts: dict[int, int] = {}

    def add(self, layer: int, mean: Tensor, count: int) -> None:
        total = mean.float() * count
        self._sums[layer] = self._sums[layer] + total if layer in self._sums else total
        self._counts[layer] = self._counts.get(layer, 0) + count

    def by_layer(self) -> list[float]:
        return [float(total) / self._counts[layer] for layer, total in sorted(self._sums.items())]


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known)


def now(device: torch.device) -> float:
    """Seconds, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()

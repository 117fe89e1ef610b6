"""Streaming attention: the first and the most recent keys (StreamingLLM, arXiv 2309.17453)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hpc_bench.attention.base import AttentionInputs, Masker, check_size
from hpc_bench.attention.maskers.local import Local
from hpc_bench.attention.maskers.sink import Sink

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Streaming"]


@dataclass(frozen=True)
class Streaming(Masker):
    """Keeps the first `sink` and the last `local` visible keys of each query: `sink` and `local` in one."""

    source: ClassVar[str] = "StreamingLLM, arXiv 2309.17453"

    sink: int | float = 4
    """int: tokens; float: share of the keys that a query sees."""
    local: int | float = 1020
    """int: tokens; float: share of the keys that a query sees."""

    def __post_init__(self) -> None:
        check_size("sink", self.sink)
        check_size("local", self.local)

    def select(self, inputs: AttentionInputs, kept: Tensor) -> Tensor:
        """The two maskers one after the other."""
        return Local(self.local).select(inputs, Sink(self.sink).select(inputs, kept))

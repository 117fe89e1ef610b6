"""Streaming attention: the first and the most recent keys (StreamingLLM, arXiv 2309.17453)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from hpc_bench.attention.base import SIZE, AttentionInputs, Masker, check_size
from hpc_bench.attention.maskers.local import Local
from hpc_bench.attention.maskers.sink import Sink
from hpc_bench.options import doc

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Streaming"]


@dataclass(frozen=True)
class Streaming(Masker):
    """Keeps the first `sink` and the last `local` visible keys of each query: `sink` and `local` in one."""

    source: ClassVar[str] = "StreamingLLM, arXiv 2309.17453"

    sink: int | float = field(default=4, metadata=doc(SIZE))
    local: int | float = field(default=1020, metadata=doc(SIZE))

    def __post_init__(self) -> None:
        check_size("sink", self.sink)
        check_size("local", self.local)

    def select(self, inputs: AttentionInputs, kept: Tensor) -> Tensor:
        """The two maskers one after the other."""
        return Local(self.local).select(inputs, Sink(self.sink).select(inputs, kept))

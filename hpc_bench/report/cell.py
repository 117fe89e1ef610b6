"""One stub in a summary: its score, or why it has none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hpc_bench.execution.attempts.claims import Outcome
from hpc_bench.execution.results.facts import Facts
from hpc_bench.execution.results.raw_results import SampleScores
from hpc_bench.execution.stub import Stub

__all__ = ["Cell"]


@dataclass(frozen=True)
class Cell:
    """One stub in the summary."""

    stub: Stub
    state: str
    """complete, stale, invalid, failed, running or pending"""
    attempt: int
    score: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    by: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    facts: Facts | None = None
    """Of a complete stub, without the identity."""
    failure: Outcome | None = None
    samples: SampleScores = field(default_factory=SampleScores)

    def fact(self, name: str) -> Any:
        """One of the facts by its name; None where there is no result."""
        return getattr(self.facts, name, None)

    @property
    def reason(self) -> str:
        """Why there is no result, in a line; empty if there is one."""
        if not self.failure:
            return ""
        first = (self.failure.message.strip().splitlines() or [""])[0]
        # An exception may quote a path or an answer that cannot be encoded.
        return f"{self.failure.error}: {first}".encode(errors="backslashreplace").decode()

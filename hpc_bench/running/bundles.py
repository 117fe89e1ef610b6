"""Which stubs belong together, and what each group will cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpc_bench.benchmarks.base import SubsetSize
from hpc_bench.execution.header import Header
from hpc_bench.execution.stub import Stub

__all__ = ["Bundle", "bundle_stubs"]

TOKENS_PER_S, NEW_TOKENS_PER_S = 8000.0, 30.0
"""A guess at one GPU with a model of about 8 billion parameters, for the estimate before anything was measured."""


@dataclass(frozen=True)
class Bundle:
    """Stubs that differ only in their attention config."""

    stubs: tuple[Stub, ...]
    gpus: int
    cost_s: float
    """An estimate; only its ratio to other bundles' matters."""

    @property
    def model(self) -> str:
        """The model of all its stubs."""
        return self.stubs[0].model


def bundle_stubs(header: Header, stubs: Sequence[Stub], slots: int) -> list[Bundle]:
    """Stubs grouped by what can share a prefill; a bundle is split only when there are fewer than slots."""
    groups: dict[tuple[str, str, str | None], list[Stub]] = {}
    for stub in stubs:
        groups.setdefault(stub.bundle, []).append(stub)
    pieces = max(1, -(-slots // max(1, len(groups))))
    bundles = []
    for (model, benchmark, subset), members in groups.items():
        size = header.benchmarks[benchmark].sizes[subset or ""]
        step = -(-len(members) // pieces)
        for start in range(0, len(members), step):
            part = tuple(members[start : start + step])
            cost = _cost_s(header, size, part)
            bundles.append(Bundle(part, header.models[model].gpus, cost))
    return bundles


def _cost_s(header: Header, size: SubsetSize, stubs: Sequence[Stub]) -> float:
    measured = header.measured.get("/".join(part or "" for part in stubs[0].bundle))
    if measured is not None:
        return len(stubs) * measured
    samples = min(size.samples, header.request.max_samples or size.samples)
    new_tokens = header.generation.limit(size.new_tokens)
    context = min(size.context_tokens, header.request.max_context_length or size.context_tokens)
    prefills = -(-samples // size.questions_per_context)
    return prefills * context / TOKENS_PER_S + samples * len(stubs) * new_tokens / NEW_TOKENS_PER_S

"""The values that go into the Python API and come out of it, with the field names of the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpc_bench.attention.base import Masker

__all__ = [
    "AdapterConfig",
    "BenchmarkConfig",
    "BenchmarkFailure",
    "BenchmarkResult",
    "BenchmarkStub",
    "ExecutionProgress",
    "ExecutionResults",
    "SparseAttentionConfig",
]

SparseAttentionConfig = Sequence[Masker | Mapping[str, Any]] | Mapping[str, Any]
"""A chain of maskers, as objects (`Sink(4)`) or as in a sweep file (`{"sink": 4}`), or a mapping with `maskers` (such a
chain), `sparse_prefill` and `measure_error`; None or empty is dense."""


@dataclass
class BenchmarkConfig:
    """A benchmark and its subsets; None: all of them, one stub each."""

    benchmark_name: str
    subsets: list[str] | None = None
    options: dict[str, Any] | None = None
    """The benchmark's own, such as `samples` of needle"""


@dataclass
class AdapterConfig:
    """How models are loaded; the sparse attention config is a dimension of the matrix, not part of this."""

    adapter_name: str = "huggingface"
    model_kwargs: dict[str, Any] | None = None
    tokenizer_kwargs: dict[str, Any] | None = None
    device: str = "auto"


@dataclass(frozen=True)
class BenchmarkStub:
    """One run: model x sparse attention config x benchmark x subset."""

    model_name: str
    sparse_config_name: str
    sparse_attention_config: SparseAttentionConfig | None
    benchmark_name: str
    subset: str | None
    adapter_config: AdapterConfig
    generation_kwargs: dict[str, Any]
    result_dir: str


@dataclass(frozen=True)
class BenchmarkResult:
    """A stub that is complete."""

    stub: BenchmarkStub
    metrics: dict[str, Any]
    """`score` (0-100) and the benchmark's named metrics"""
    execution_time: float
    """Seconds"""
    success: bool = True
    error_message: str | None = None


@dataclass(frozen=True)
class BenchmarkFailure:
    """A stub that has no result, and why."""

    stub: BenchmarkStub
    error_message: str
    error_type: str
    execution_time: float
    """Seconds of its last attempt"""


@dataclass
class ExecutionProgress:
    """How far an execution is; given to the `on_progress` callback."""

    total_stubs: int = 0
    skipped_stubs: int = 0
    completed_stubs: int = 0
    failed_stubs: int = 0
    current_executions: dict[int, str] = field(default_factory=dict)
    """Worker's number -> the stub that it is at"""


@dataclass(frozen=True)
class ExecutionResults:
    """What `run_benchmark_matrix` returns."""

    execution_summary: dict[str, Any]
    individual_results: list[BenchmarkResult]
    failed_executions: list[BenchmarkFailure]
    execution_time: float
    """Seconds"""

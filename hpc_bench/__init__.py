"""hpc-bench: models x sparse attention configs x long-context benchmarks, on one machine or a Slurm cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpc_bench.executor import BenchmarkExecutor
    from hpc_bench.executor_values import (
        AdapterConfig,
        BenchmarkConfig,
        BenchmarkFailure,
        BenchmarkResult,
        BenchmarkStub,
        ExecutionProgress,
        ExecutionResults,
        SparseAttentionConfig,
    )

__all__ = [
    "AdapterConfig",
    "BenchmarkConfig",
    "BenchmarkExecutor",
    "BenchmarkFailure",
    "BenchmarkResult",
    "BenchmarkStub",
    "ExecutionProgress",
    "ExecutionResults",
    "SparseAttentionConfig",
]


def __getattr__(name: str) -> Any:
    """Loads the Python API when it is used, so that commands and engines do not pay for it."""
    if name in __all__:
        from hpc_bench import executor, executor_values

        return getattr(executor if name == "BenchmarkExecutor" else executor_values, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

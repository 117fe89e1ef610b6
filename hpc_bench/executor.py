"""The Python API: the plan's `BenchmarkExecutor`, a thin face of the same planner, backend and collector."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpc_bench import catalog
from hpc_bench.attention.base import Masker
from hpc_bench.backends.local import LocalBackend
from hpc_bench.bundles import bundle_stubs
from hpc_bench.collector import Cell, Summary, collect_execution, write_summary
from hpc_bench.crew import Crew, run_crew
from hpc_bench.manifest import Manifest, Stub
from hpc_bench.planner import Plan, make_plan, refuse_conflict, refuse_stale
from hpc_bench.status import Status, StatusReader
from hpc_bench.submit import prepare_execution
from hpc_bench.sweep import Sweep, parse_sweep, refuse_twice

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

SparseAttentionConfig = Sequence[Masker | Mapping[str, Any]]
"""A chain of maskers, as objects (`Sink(4)`) or as in a sweep file (`{"sink": 4}`); None or empty is dense."""


@dataclass
class BenchmarkConfig:
    """A benchmark and its subsets; None: all of them, one stub each."""

    benchmark_name: str
    subsets: list[str] | None = None


@dataclass
class AdapterConfig:
    """How models are loaded; the sparse attention config is a dimension of the matrix, not part of this."""

    adapter_name: str = "huggingface"
    model_kwargs: dict[str, Any] | None = None
    tokenizer_kwargs: dict[str, Any] | None = None


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


class BenchmarkExecutor:
    """Runs benchmark matrices on the GPUs of this machine; resumes the newest execution of the same name."""

    def __init__(
        self,
        gpu_ids: Sequence[int],
        max_concurrent_runs: int,
        base_result_dir: str = "./benchmark_results",
        *,
        name: str = "benchmark_matrix",
    ) -> None:
        """`gpu_ids`: empty runs on the CPU. `name`: executions of one name are resumed by one another."""
        self._gpu_ids = list(gpu_ids)
        self._max_concurrent_runs = max_concurrent_runs
        self._base_result_dir = base_result_dir
        self._name = name
        self.progress = ExecutionProgress()

    def plan_matrix(
        self,
        model_names: Sequence[str],
        sparse_attention_configs: Sequence[tuple[str, SparseAttentionConfig | None]],
        benchmark_configs: Sequence[BenchmarkConfig],
        adapter_config: AdapterConfig,
        generation_kwargs: Mapping[str, Any] | None = None,
    ) -> list[BenchmarkStub]:
        """The stubs of a matrix; nothing is written or run."""
        sweep = self._sweep(model_names, sparse_attention_configs, benchmark_configs, adapter_config, generation_kwargs)
        return _stubs(make_plan(sweep).manifest, self._base_result_dir, adapter_config)

    def run_benchmark_matrix(
        self,
        model_names: Sequence[str],
        sparse_attention_configs: Sequence[tuple[str, SparseAttentionConfig | None]],
        benchmark_configs: Sequence[BenchmarkConfig],
        adapter_config: AdapterConfig,
        generation_kwargs: Mapping[str, Any] | None = None,
    ) -> ExecutionResults:
        """Runs what is missing of a matrix and returns all of it; a mistake in the arguments is a SweepError."""
        started = time.monotonic()
        sweep = self._sweep(model_names, sparse_attention_configs, benchmark_configs, adapter_config, generation_kwargs)
        plan = make_plan(sweep)
        refuse_stale(plan)
        refuse_conflict(plan)
        backend = LocalBackend(
            self._gpu_ids or "none", sweep.max_concurrent_runs, max(model.gpus for model in sweep.models)
        )
        execution = prepare_execution(plan)
        bundles = len(bundle_stubs(plan.manifest.header, plan.to_run, backend.size))
        if run_crew(Crew(execution, backend), bundles, self._follower(plan)):
            raise KeyboardInterrupt
        summary = collect_execution(execution)
        write_summary(summary)
        return _results(summary, adapter_config, time.monotonic() - started)

    def _sweep(
        self,
        models: Sequence[str],
        attentions: Sequence[tuple[str, SparseAttentionConfig | None]],
        benchmarks: Sequence[BenchmarkConfig],
        adapter: AdapterConfig,
        generation: Mapping[str, Any] | None,
    ) -> Sweep:
        refuse_twice([name for name, _ in attentions], "sparse_attention_configs")
        refuse_twice([config.benchmark_name for config in benchmarks], "benchmark_configs")
        return parse_sweep(
            {
                "name": self._name,
                "base_result_dir": self._base_result_dir,
                "model_names": list(models),
                "sparse_attention_configs": {name: _chain(config) for name, config in attentions},
                "benchmark_configs": {config.benchmark_name: config.subsets for config in benchmarks},
                "adapter_config": {
                    "adapter_name": adapter.adapter_name,
                    "model_kwargs": _plain(adapter.model_kwargs),
                    "tokenizer_kwargs": _plain(adapter.tokenizer_kwargs),
                },
                "generation_kwargs": dict(generation or {}),
                "max_concurrent_runs": self._max_concurrent_runs,
            }
        )

    def _follower(self, plan: Plan) -> Any:
        skipped = len(plan.with_state("complete"))

        def follow(reader: StatusReader, status: Status) -> None:
            current = {}
            for index, worker in enumerate(status.workers):
                stub = reader.stub(worker.heartbeat.stub)
                current[index] = stub.title if stub else worker.heartbeat.state
            self.progress = ExecutionProgress(
                status.total, skipped, status.counts["complete"] - skipped, status.counts["failed"], current
            )

        return follow


def _chain(config: SparseAttentionConfig | None) -> list[Any] | None:
    names = {catalog.resolve("masker", name): name for name in catalog.BUILT_IN["masker"]}
    names |= {catalog.resolve("masker", name): name for name in catalog.names("masker") if name not in names.values()}
    return [
        {names[type(item)]: dataclasses.asdict(item)} if isinstance(item, Masker) else dict(item)
        for item in config or ()
    ] or None


def _plain(kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Keyword arguments as YAML would hold them: a torch.dtype becomes its name."""
    return {
        key: str(value).removeprefix("torch.") if type(value).__module__ == "torch" else value
        for key, value in (kwargs or {}).items()
    }


def _stubs(manifest: Manifest, base: str | Path, adapter: AdapterConfig) -> list[BenchmarkStub]:
    return [_face(manifest, stub, str(Path(base) / stub.result_path), adapter) for stub in manifest.stubs]


def _face(manifest: Manifest, stub: Stub, result_dir: str, adapter: AdapterConfig) -> BenchmarkStub:
    header = manifest.header
    return BenchmarkStub(
        model_name=header.models[stub.model]["name"],
        sparse_config_name=stub.attention,
        sparse_attention_config=header.chain(stub.attention) or None,
        benchmark_name=stub.benchmark,
        subset=stub.subset,
        adapter_config=adapter,
        generation_kwargs=dict(header.generation),
        result_dir=result_dir,
    )


def _results(summary: Summary, adapter: AdapterConfig, seconds: float) -> ExecutionResults:
    manifest = Manifest(summary.header, tuple(cell.stub for cell in summary.cells))
    done: list[BenchmarkResult] = []
    failed: list[BenchmarkFailure] = []
    for cell in summary.cells:
        stub = _face(manifest, cell.stub, str(summary.execution.result(cell.stub.result_path)), adapter)
        if cell.state == "complete":
            done.append(BenchmarkResult(stub, _metrics(cell), float(cell.facts["seconds"])))
        else:
            outcome = cell.failure
            failed.append(
                BenchmarkFailure(
                    stub,
                    outcome.message if outcome else f"the stub is {cell.state}",
                    outcome.error if outcome else cell.state,
                    outcome.seconds if outcome else 0.0,
                )
            )
    return ExecutionResults({"execution": str(summary.execution.path), **summary.counts}, done, failed, seconds)


def _metrics(cell: Cell) -> dict[str, Any]:
    return {"score": cell.score, **cell.metrics}

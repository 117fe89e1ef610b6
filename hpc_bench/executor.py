"""The Python API: the plan's `BenchmarkExecutor`, a thin face of the same planner, backend and collector."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpc_bench import catalog
from hpc_bench.attention.base import Masker
from hpc_bench.errors import SweepError, unknown_name
from hpc_bench.execution.manifest import Manifest
from hpc_bench.execution.stub import Stub
from hpc_bench.execution.view import ExecutionView
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
from hpc_bench.report.cell import Cell
from hpc_bench.report.collect import Summary, collect_execution
from hpc_bench.report.files import write_summary
from hpc_bench.running.local import GpuChoice, LocalBackend
from hpc_bench.running.status import Status
from hpc_bench.running.submit import prepare_execution
from hpc_bench.sweep.plan import Plan, make_plan, refuse_conflict, refuse_stale
from hpc_bench.sweep.reading import refuse_twice
from hpc_bench.sweep.sweep import Sweep, parse_sweep
from hpc_bench.values import plain_options

__all__ = ["BenchmarkExecutor"]

_SECTIONS = ("request_kwargs", "limits", "include", "exclude", "offline", "baseline")


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
        model_names: Sequence[str | Mapping[str, Any]],
        sparse_attention_configs: Sequence[tuple[str, SparseAttentionConfig | None]],
        benchmark_configs: Sequence[BenchmarkConfig],
        adapter_config: AdapterConfig,
        generation_kwargs: Mapping[str, Any] | None = None,
        **sections: Any,
    ) -> list[BenchmarkStub]:
        """The stubs of a matrix, arguments as in `run_benchmark_matrix`; nothing is written or run."""
        matrix = (model_names, sparse_attention_configs, benchmark_configs, adapter_config, generation_kwargs)
        plan = make_plan(self._sweep(*matrix, **sections))
        folder = plan.execution.path if plan.execution else Path(self._base_result_dir)
        return [_face(plan.manifest, stub, folder, adapter_config) for stub in plan.manifest.stubs]

    def run_benchmark_matrix(
        self,
        model_names: Sequence[str | Mapping[str, Any]],
        sparse_attention_configs: Sequence[tuple[str, SparseAttentionConfig | None]],
        benchmark_configs: Sequence[BenchmarkConfig],
        adapter_config: AdapterConfig,
        generation_kwargs: Mapping[str, Any] | None = None,
        *,
        new: bool = False,
        retry_failed: bool = False,
        **sections: Any,
    ) -> ExecutionResults:
        """Runs what is missing of a matrix and returns all of it; a mistake in the arguments is a SweepError.

        `new` and `retry_failed` are the flags of `hpc-bench submit`; `sections` are the other keys of a sweep file:
        request_kwargs, limits, include, exclude, offline, baseline.
        """
        started = time.monotonic()
        matrix = (model_names, sparse_attention_configs, benchmark_configs, adapter_config, generation_kwargs)
        sweep = self._sweep(*matrix, **sections)
        plan = make_plan(sweep, new=new, retry_failed=retry_failed)
        refuse_stale(plan)
        refuse_conflict(plan)
        most_gpus = max(model.gpus for model in sweep.models)
        choice: GpuChoice = self._gpu_ids or "none"
        backend = LocalBackend(choice, sweep.max_concurrent_runs, most_gpus, device=adapter_config.device)
        execution = prepare_execution(plan)
        if backend.attend(execution, plan.manifest.header, plan.to_run, self._follower(plan), say=lambda _: None):
            raise KeyboardInterrupt
        summary = collect_execution(execution)
        write_summary(summary)
        return _results(summary, adapter_config, time.monotonic() - started)

    def _sweep(
        self,
        models: Sequence[str | Mapping[str, Any]],
        attentions: Sequence[tuple[str, SparseAttentionConfig | None]],
        benchmarks: Sequence[BenchmarkConfig],
        adapter: AdapterConfig,
        generation: Mapping[str, Any] | None,
        **sections: Any,
    ) -> Sweep:
        for key in sections:
            if key not in _SECTIONS:  # the others are arguments of their own, and would be overridden without a word
                raise SweepError(unknown_name("argument", key, _SECTIONS))
        refuse_twice([name for name, _ in attentions], "sparse_attention_configs")
        refuse_twice([config.benchmark_name for config in benchmarks], "benchmark_configs")
        return parse_sweep(
            {
                **sections,
                "name": self._name,
                "base_result_dir": self._base_result_dir,
                "model_names": list(models),
                "sparse_attention_configs": {name: _attention(config) for name, config in attentions},
                "benchmark_configs": {
                    config.benchmark_name: {"subsets": config.subsets, **(config.options or {})}
                    for config in benchmarks
                },
                "adapter_config": {
                    "adapter_name": adapter.adapter_name,
                    "device": adapter.device,
                    "model_kwargs": _plain(adapter.model_kwargs),
                    "tokenizer_kwargs": _plain(adapter.tokenizer_kwargs),
                },
                "generation_kwargs": dict(generation or {}),
                "max_concurrent_runs": self._max_concurrent_runs,
            }
        )

    def _follower(self, plan: Plan) -> Any:
        skipped = len(plan.with_state("complete"))

        def follow(view: ExecutionView, status: Status) -> None:
            current = {}
            for index, worker in enumerate(status.workers):
                stub = view.stub(worker.heartbeat.stub)
                current[index] = stub.title if stub else worker.heartbeat.state
            self.progress = ExecutionProgress(
                status.total, skipped, status.counts["complete"] - skipped, status.counts["failed"], current
            )

        return follow


def _attention(config: SparseAttentionConfig | None) -> Any:
    """A config as a sweep file writes it."""
    if isinstance(config, Mapping):
        return {**config, "maskers": _attention(config.get("maskers"))}
    return [
        {catalog.name_of("masker", type(item)): dataclasses.asdict(item)} if isinstance(item, Masker) else dict(item)
        for item in config or ()
    ] or None


def _plain(kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Keyword arguments as YAML would hold them: a torch.dtype becomes its name."""
    return {
        key: str(value).removeprefix("torch.") if type(value).__module__ == "torch" else value
        for key, value in (kwargs or {}).items()
    }


def _face(manifest: Manifest, stub: Stub, folder: Path, adapter: AdapterConfig) -> BenchmarkStub:
    header = manifest.header
    return BenchmarkStub(
        model_name=header.models[stub.model].name,
        sparse_config_name=stub.attention,
        sparse_attention_config=header.attention(stub.attention).chain or None,
        benchmark_name=stub.benchmark,
        subset=stub.subset,
        adapter_config=adapter,
        generation_kwargs=plain_options(header.generation),
        result_dir=str(folder / stub.result_path),
    )


def _results(summary: Summary, adapter: AdapterConfig, seconds: float) -> ExecutionResults:
    manifest = Manifest(summary.header, tuple(cell.stub for cell in summary.cells))
    done: list[BenchmarkResult] = []
    failed: list[BenchmarkFailure] = []
    for cell in summary.cells:
        stub = _face(manifest, cell.stub, summary.execution.path, adapter)
        if cell.facts:
            done.append(BenchmarkResult(stub, _metrics(cell), cell.facts.seconds))
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

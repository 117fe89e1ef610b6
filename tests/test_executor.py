"""The Python API of the plan: same planner, same backend, same results."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from hpc_bench import AdapterConfig, BenchmarkConfig, BenchmarkExecutor
from hpc_bench.attention.maskers.local import Local
from hpc_bench.attention.maskers.sink import Sink
from hpc_bench.errors import SweepError

MODELS = ["microsoft/Phi-4-mini-instruct", "meta-llama/Llama-3.1-8B-Instruct"]
STREAMING = [Sink(4), Local(64)]


def test_basic_example_of_the_plan_expands_to_12_stubs(tmp_path: Path) -> None:
    executor = BenchmarkExecutor(gpu_ids=[0, 1], max_concurrent_runs=4, base_result_dir=str(tmp_path))

    stubs = executor.plan_matrix(
        model_names=MODELS,
        sparse_attention_configs=[("dense", None), ("streaming", STREAMING)],
        benchmark_configs=[BenchmarkConfig("longbench", ["narrativeqa", "qasper"]), BenchmarkConfig("mock_benchmark")],
        adapter_config=AdapterConfig(model_kwargs={"torch_dtype": torch.bfloat16}),
        generation_kwargs={"max_new_tokens": 256},
    )

    assert len(stubs) == 12
    assert stubs[0].result_dir.endswith("microsoft_Phi_4_mini_instruct/dense/longbench_narrativeqa")
    assert stubs[0].sparse_attention_config is None
    assert tuple(stubs[3].sparse_attention_config or ()) == tuple(STREAMING)
    assert list(tmp_path.iterdir()) == []


def test_advanced_example_of_the_plan_expands_to_32_stubs(tmp_path: Path) -> None:
    executor = BenchmarkExecutor(gpu_ids=[0, 1, 2, 3], max_concurrent_runs=8, base_result_dir=str(tmp_path))

    stubs = executor.plan_matrix(
        model_names=list(reversed(MODELS)),
        sparse_attention_configs=[
            ("dense", None),
            ("streaming", STREAMING),
            ("oracle", [{"sink": 4}, {"oracle_top_k": 0.1}]),
            ("sink_local", [{"sink": 128}, {"local": 128}]),
        ],
        benchmark_configs=[
            BenchmarkConfig("longbench", ["narrativeqa", "qasper", "hotpotqa"]),
            BenchmarkConfig("mock_benchmark"),
        ],
        adapter_config=AdapterConfig(
            model_kwargs={"torch_dtype": torch.bfloat16}, tokenizer_kwargs={"padding_side": "left"}
        ),
        generation_kwargs={"max_new_tokens": 512},
    )

    assert len(stubs) == 32


def test_matrix_runs_and_resumes(tmp_path: Path) -> None:
    executor = BenchmarkExecutor(gpu_ids=[], max_concurrent_runs=2, base_result_dir=str(tmp_path))
    matrix = {
        "model_names": ["demo/tiny-2l"],
        "sparse_attention_configs": [("dense", None), ("streaming", STREAMING)],
        "benchmark_configs": [BenchmarkConfig("mock_benchmark")],
        "adapter_config": AdapterConfig("scripted", model_kwargs={"answer": "half"}),
    }

    first = executor.run_benchmark_matrix(**matrix)
    progress_of_first = executor.progress
    second = executor.run_benchmark_matrix(**matrix)

    assert [result.metrics["score"] for result in first.individual_results] == [60.0, 60.0]
    assert first.failed_executions == []
    assert progress_of_first.completed_stubs == 2
    assert executor.progress.skipped_stubs == 2
    assert first.execution_summary == second.execution_summary
    assert first.individual_results == second.individual_results


def test_failures_are_returned_with_class_and_message(tmp_path: Path) -> None:
    executor = BenchmarkExecutor(gpu_ids=[], max_concurrent_runs=1, base_result_dir=str(tmp_path))

    done = executor.run_benchmark_matrix(
        ["demo/tiny-2l"],
        [("dense", None)],
        [BenchmarkConfig("mock_benchmark")],
        AdapterConfig("scripted", model_kwargs={"load_error": "no weights"}),
    )

    (failure,) = done.failed_executions
    assert (failure.error_type, failure.error_message) == ("AdapterError", "no weights")
    assert done.individual_results == []


def test_config_named_twice_is_refused(tmp_path: Path) -> None:
    executor = BenchmarkExecutor(gpu_ids=[], max_concurrent_runs=1, base_result_dir=str(tmp_path))

    with pytest.raises(SweepError, match="'dense' is named twice"):
        executor.plan_matrix(
            ["demo/tiny-2l"], [("dense", None), ("dense", None)], [BenchmarkConfig("needle")], AdapterConfig()
        )


def test_other_keys_of_a_sweep_file_work_as_well(tmp_path: Path) -> None:
    executor = BenchmarkExecutor(gpu_ids=[], max_concurrent_runs=1, base_result_dir=str(tmp_path))
    matrix = {
        "model_names": [{"name": "demo/tiny-2l", "gpus": 1}],
        "sparse_attention_configs": [("dense", None), ("streaming", STREAMING)],
        "benchmark_configs": [BenchmarkConfig("needle", ["256"])],
        "adapter_config": AdapterConfig("scripted", device="cpu"),
        "request_kwargs": {"max_samples": 3},
        "exclude": [{"attention": "streaming"}],
    }

    done = executor.run_benchmark_matrix(**matrix)

    (result,) = done.individual_results
    assert len(pd.read_csv(Path(result.stub.result_dir) / "raw_results.csv")) == 3
    for key in ("request_kwarg", "name", "local"):
        with pytest.raises(SweepError, match=f"unknown argument '{key}'.*request_kwargs, limits, include, exclude"):
            executor.plan_matrix(**{**matrix, key: {}})

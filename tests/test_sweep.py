"""What a sweep file means."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from hpc_bench.attention.local import Local
from hpc_bench.attention.oracle_top_k import OracleTopK
from hpc_bench.attention.sink import Sink
from hpc_bench.benchmarks.needle import Needle
from hpc_bench.errors import SweepError
from hpc_bench.executor import AdapterConfig, BenchmarkConfig, BenchmarkExecutor
from hpc_bench.expansion import expand_sweep
from hpc_bench.sections import seconds_of
from hpc_bench.sweep import KEYS, load_sweep, parse_sweep
from tests.builders import sweep_data

FULL = """
name: quickstart
base_result_dir: results
model_names:
  - demo/tiny-2l
  - {name: meta-llama/Llama-3.1-8B-Instruct, revision: main, gpus: 1, model_kwargs: {dtype: bfloat16}}
sparse_attention_configs:
  dense:
  streaming: [{sink: 4}, {local: 64}]
  oracle_topk: [{sink: 4}, {local: 16}, {oracle_top_k: 0.1}]
benchmark_configs:
  needle: [256, 512, 1024, 2048]
  mock_benchmark:
adapter_config: {adapter_name: huggingface, device: auto, model_kwargs: {}, tokenizer_kwargs: {padding_side: left}}
generation_kwargs: {max_new_tokens: 256}
request_kwargs: {max_context_length: 32768, max_samples: 100}
exclude: [{model: "*Phi*", attention: streaming}]
max_concurrent_runs: 4
limits: {stub_timeout: 2h, max_attempts: 2}
local: {gpus: [0, 1]}
slurm: {partition: main, time: 4:00:00, setup: [module load cuda]}
offline: true
"""


def test_every_documented_key_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "my-sweep.yaml"
    path.write_text(FULL)

    sweep = load_sweep(path)

    assert sweep.name == "quickstart"
    assert sweep.base_result_dir == Path("results")
    assert [model.name for model in sweep.models] == ["demo/tiny-2l", "meta-llama/Llama-3.1-8B-Instruct"]
    assert (sweep.models[1].revision, sweep.models[1].gpus) == ("main", 1)
    assert sweep.models[1].model_kwargs == {"dtype": "bfloat16"}
    assert sweep.attentions == {
        "dense": (),
        "streaming": (Sink(4), Local(64)),
        "oracle_topk": (Sink(4), Local(16), OracleTopK(0.1)),
    }
    assert [(entry.name, entry.subsets) for entry in sweep.benchmarks] == [
        ("needle", ("256", "512", "1024", "2048")),
        ("mock_benchmark", (None,)),
    ]
    assert sweep.adapter.tokenizer_kwargs == {"padding_side": "left"}
    assert sweep.generation.max_new_tokens == 256
    assert (sweep.request.max_context_length, sweep.request.max_samples) == (32768, 100)
    assert [(pattern.model, pattern.attention) for pattern in sweep.exclude] == [("*Phi*", "streaming")]
    assert sweep.max_concurrent_runs == 4
    assert (sweep.limits.stub_timeout_s, sweep.limits.max_attempts) == (7200.0, 2)
    assert sweep.local.gpus == [0, 1]
    assert (sweep.slurm.partition, sweep.slurm.time_min, sweep.slurm.setup) == ("main", 240, ("module load cuda",))
    assert sweep.offline is True


def test_defaults_are_the_documented_ones(tmp_path: Path) -> None:
    path = tmp_path / "my-sweep.yaml"
    path.write_text("model_names: [demo/tiny-2l]\nbenchmark_configs: {mock_benchmark: }\n")

    sweep = load_sweep(path)

    assert sweep.name == "my-sweep"
    assert sweep.base_result_dir == Path("results")
    assert sweep.attentions == {"dense": ()}
    assert sweep.generation.max_new_tokens is None
    assert (sweep.request.max_context_length, sweep.request.max_samples) == (None, None)
    assert sweep.max_concurrent_runs is None
    assert sweep.local.gpus is None
    assert sweep.offline is False


def test_shipped_quickstart_is_valid() -> None:
    sweep = load_sweep(Path(__file__).parent.parent / "hpc_bench" / "quickstart.yaml")

    assert len(expand_sweep(sweep).stubs) == 40


def test_python_api_takes_the_keys_of_the_sweep_file(tmp_path: Path) -> None:
    executor = BenchmarkExecutor([], 1, str(tmp_path))

    assert set(signature(executor.run_benchmark_matrix).parameters) <= {*KEYS, "new", "retry_failed", "sections"}
    with pytest.raises(SweepError, match=r"^benchmark_configs: unknown benchmark 'needles'; did you mean 'needle'"):
        executor.plan_matrix(["org/alpha"], [("dense", None)], [BenchmarkConfig("needles")], AdapterConfig())
    with pytest.raises(SweepError, match=r"^sparse_attention_configs.x.0: unknown masker 'sinks'"):
        executor.plan_matrix(
            ["org/alpha"], [("x", [{"sinks": 4}])], [BenchmarkConfig("mock_benchmark")], AdapterConfig()
        )
    with pytest.raises(SweepError, match=r"^generation_kwargs: unknown key 'max_tokens'"):
        executor.plan_matrix(
            ["org/alpha"], [("x", None)], [BenchmarkConfig("mock_benchmark")], AdapterConfig(), {"max_tokens": 4}
        )


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1d", 86400), ("1h30m", 5400), (" 5s ", 5)]
)
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "2", "-1h", "1.5h", "30s1h", "2 h", "h", "2H", "9" * 20 + "s", "٣s1"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="write it as 90s, 30m, 2h or 1h30m"):
        seconds_of(text)


def test_whole_number_is_tokens_and_float_is_a_share(tmp_path: Path) -> None:
    configs = {"tokens": [{"oracle_top_k": 1}], "share": [{"oracle_top_k": 1.0}]}

    sweep = parse_sweep(sweep_data(tmp_path, sparse_attention_configs=configs))

    sizes = [chain[0].heavy for chain in sweep.attentions.values() if isinstance(chain[0], OracleTopK)]
    assert [type(size) for size in sizes] == [int, float]
    fingerprints = {stub.attention: stub.fingerprint for stub in expand_sweep(sweep).stubs}
    assert fingerprints["tokens"] != fingerprints["share"]


def test_masker_parameters_by_name_are_those_by_place(tmp_path: Path) -> None:
    configs = {"a": [{"sink": 4}], "b": [{"sink": {"size": 4}}]}

    sweep = parse_sweep(sweep_data(tmp_path, sparse_attention_configs=configs))

    assert sweep.attentions["a"] == sweep.attentions["b"] == (Sink(4),)


def test_benchmark_without_subsets_named_expands_to_its_subsets(tmp_path: Path) -> None:
    benchmarks = {"needle": None, "longbench": None, "mock_benchmark": None}

    sweep = parse_sweep(sweep_data(tmp_path, benchmark_configs=benchmarks))

    subsets = {entry.name: entry.subsets for entry in sweep.benchmarks}
    assert subsets["needle"] == Needle.subsets
    assert "narrativeqa" in subsets["longbench"]
    assert len(subsets["longbench"]) > 1
    assert subsets["mock_benchmark"] == (None,)


def test_benchmark_options_stand_beside_its_subsets(tmp_path: Path) -> None:
    sweep = parse_sweep(sweep_data(tmp_path, benchmark_configs={"needle": {"subsets": [300], "samples": 7, "seed": 3}}))

    assert sweep.benchmarks[0].benchmark == Needle(samples=7, seed=3)
    assert sweep.benchmarks[0].subsets == ("300",)


PATTERNS: list[tuple[dict[str, Any], int]] = [
    ({}, 12),
    ({"exclude": [{"model": "*beta"}]}, 6),
    ({"exclude": [{"model": "org/*"}, {"attention": "none"}], "include": None}, 0),
    ({"exclude": [{"model": "*beta", "attention": "stream*"}]}, 9),
    ({"exclude": [{"benchmark": "needle", "subset": "5??"}]}, 8),
    ({"exclude": [{"attention": "dense"}, {"benchmark": "mock*"}]}, 4),
    ({"include": [{"attention": "dense"}]}, 6),
    ({"include": [{"attention": "dense"}, {"subset": "256"}]}, 8),
    ({"include": [{"attention": "dense"}], "exclude": [{"model": "org/alpha"}]}, 3),
    ({"include": [{"subset": ""}]}, 4),
    ({"exclude": [{"model": "ALPHA"}]}, 12),
]


@pytest.mark.parametrize(("patterns", "count"), PATTERNS)
def test_include_and_exclude_are_globs_over_stubs(tmp_path: Path, patterns: dict[str, Any], count: int) -> None:
    sweep = parse_sweep(sweep_data(tmp_path, **patterns))

    if count:
        assert len(expand_sweep(sweep).stubs) == count
    else:
        with pytest.raises(SweepError, match="loosen the patterns"):
            expand_sweep(sweep)

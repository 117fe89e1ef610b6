"""What a sweep file means."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from hpc_bench.attention.base import AttentionConfig
from hpc_bench.attention.maskers.local import Local
from hpc_bench.attention.maskers.oracle_top_k import OracleTopK
from hpc_bench.attention.maskers.sink import Sink
from hpc_bench.benchmarks.suites.needle import Needle
from hpc_bench.errors import SweepError
from hpc_bench.executor import AdapterConfig, BenchmarkConfig, BenchmarkExecutor
from hpc_bench.sweep.expand import expand_sweep
from hpc_bench.sweep.sections import seconds_of
from hpc_bench.sweep.sweep import KEYS, load_sweep, parse_sweep
from tests.support.builders import sweep_data
from tests.support.places import REPOSITORY

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
        "dense": AttentionConfig(),
        "streaming": AttentionConfig((Sink(4), Local(64))),
        "oracle_topk": AttentionConfig((Sink(4), Local(16), OracleTopK(0.1))),
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
    assert sweep.attentions == {"dense": AttentionConfig()}
    assert sweep.generation.max_new_tokens is None
    assert (sweep.request.max_context_length, sweep.request.max_samples) == (None, None)
    assert sweep.max_concurrent_runs is None
    assert sweep.local.gpus is None
    assert sweep.offline is False


def test_shipped_quickstart_is_valid() -> None:
    sweep = load_sweep(REPOSITORY / "hpc_bench" / "quickstart.yaml")

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

    maskers = [attention.chain[0] for attention in sweep.attentions.values()]
    assert [type(one.heavy) for one in maskers if isinstance(one, OracleTopK)] == [int, float]
    fingerprints = {stub.attention: stub.fingerprint for stub in expand_sweep(sweep).stubs}
    assert fingerprints["tokens"] != fingerprints["share"]


def test_masker_parameters_by_name_are_those_by_place(tmp_path: Path) -> None:
    configs = {"a": [{"sink": 4}], "b": [{"sink": {"size": 4}}]}

    sweep = parse_sweep(sweep_data(tmp_path, sparse_attention_configs=configs))

    assert sweep.attentions["a"] == sweep.attentions["b"] == AttentionConfig((Sink(4),))


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
    ({"exclude": [{"model": "org/*"}, {"attention": "dense"}], "include": None}, 0),
    ({"exclude": [{"model": "*beta", "attention": "stream*"}]}, 9),
    ({"exclude": [{"benchmark": "needle", "subset": "5??"}]}, 8),
    ({"exclude": [{"attention": "dense"}, {"benchmark": "mock*"}]}, 4),
    ({"include": [{"attention": "dense"}]}, 6),
    ({"include": [{"attention": "dense"}, {"subset": "256"}]}, 8),
    ({"include": [{"attention": "dense"}], "exclude": [{"model": "org/alpha"}]}, 3),
    ({"include": [{"subset": ""}]}, 4),
    ({"exclude": [{"model": "org/alpha"}, {"model": "*alpha"}]}, 6),
    ({"include": [{"attention": "dense"}], "exclude": [{"attention": "streaming"}]}, 6),
]


@pytest.mark.parametrize(("patterns", "count"), PATTERNS)
def test_include_and_exclude_are_globs_over_stubs(tmp_path: Path, patterns: dict[str, Any], count: int) -> None:
    sweep = parse_sweep(sweep_data(tmp_path, **patterns))

    if count:
        assert len(expand_sweep(sweep).stubs) == count
    else:
        with pytest.raises(SweepError, match="loosen the patterns"):
            expand_sweep(sweep)


@pytest.mark.parametrize("profile", ["gpu", "preemptible", "container"])
def test_shipped_profiles_are_sound_and_found_from_the_repository(profile: str) -> None:
    data = {
        "name": "x",
        "model_names": ["org/m"],
        "benchmark_configs": {"mock_benchmark": None},
        "slurm": {"profile": profile, "account": "ours"},
    }

    settings = parse_sweep(data, REPOSITORY).slurm

    assert settings.partition in ("gpu", "preemptible")
    assert settings.account == "ours"


@pytest.mark.parametrize(
    ("time", "minutes"),
    [("4:00:00", 240), ("90:00", 90), (90, 90), ("90", 90), ("2h30m", 150), ("1-12", 2160), ("1-0:30:30", 1471)],
)
def test_walltime_is_understood_as_slurm_writes_it_and_as_we_do(tmp_path: Path, time: object, minutes: int) -> None:
    file = tmp_path / "sweep.yaml"
    # Bare: YAML 1.1 would read 4:00:00 as a number to the base of 60.
    file.write_text(
        f"model_names: [org/m]\nbenchmark_configs: {{mock_benchmark: }}\nslurm: {{time: {time}, signal_delay: 30s}}\n"
    )

    assert load_sweep(file).slurm.time_min == minutes


def test_set_puts_a_key_over_the_sweep(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("model_names: [org/m]\nbenchmark_configs: {mock_benchmark: }\nslurm: {time: 4h, nice: 1}\n")

    sweep = load_sweep(file, ["slurm.nice=7", "max_concurrent_runs=3", "slurm.setup=[module load x, cd /]"])

    assert (sweep.slurm.nice, sweep.slurm.time_min, sweep.max_concurrent_runs) == (7, 240, 3)
    assert sweep.slurm.setup == ("module load x", "cd /")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("slurm.nice", "--set: 'slurm.nice' is not of the form key=value"),
        ("=3", "is not of the form"),
        ("model_names.0=x", "model_names is no mapping"),
        ("slurm.time=[", "--set.slurm.time: line 1: not valid YAML"),
        ("slurms.time=4h", "did you mean 'slurm'"),
    ],
)
def test_set_that_cannot_be_understood_is_refused(tmp_path: Path, change: str, message: str) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("model_names: [org/m]\nbenchmark_configs: {mock_benchmark: }\n")

    with pytest.raises(SweepError) as refused:
        load_sweep(file, [change])

    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"time": "12:xx"}, "time: '12:xx' is no walltime"),
        ({"time": "1m", "signal_delay": "90s"}, "signal_delay (90s) must be shorter than time (1m)"),
        ({"mem": "much"}, "mem: 'much' is no amount of memory"),
        ({"partition": "a\n#SBATCH --x"}, "partition must be text on one line"),
        ({"gpus_per_node": -1}, "gpus_per_node must be at least 0"),
        ({"additional_parameters": {"array": "0-9"}}, "'array' is set by hpc-bench"),
        ({"additional_parameters": {"partition": "x"}}, "'partition' is a key of the slurm section"),
        ({"additional_parameters": {"--exclusive": True}}, "without dashes in front"),
        ({"additional_parameters": {"comment": "a\nb"}}, "text on one line"),
        ({"setup": "module load x"}, "setup: input should be a valid array"),
    ],
)
def test_bad_slurm_setting_is_named(tmp_path: Path, settings: dict[str, object], message: str) -> None:
    data = {"name": "x", "model_names": ["org/m"], "benchmark_configs": {"mock_benchmark": None}, "slurm": settings}

    with pytest.raises(SweepError) as refused:
        parse_sweep(data)

    assert str(refused.value).startswith("slurm")
    assert message in str(refused.value)

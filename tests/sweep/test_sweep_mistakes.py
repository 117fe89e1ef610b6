"""Every mistake in a sweep ends in one line that names file, key and remedy, and a disk as it was before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.builders import run_cli, sweep_data, tree, write_keys
from tests.support.refusals import assert_refused

pytestmark = pytest.mark.usefixtures("no_workers")

Change = Callable[[dict[str, Any]], object]


def put(*path: str | int, value: Any) -> Change:
    """Sets a key deep in a sweep."""

    def change(data: dict[str, Any]) -> None:
        place: Any = data
        for key in path[:-1]:
            place = place.setdefault(key, {}) if isinstance(place, dict) else place[key]
        place[path[-1]] = value

    return change


def model(**options: Any) -> Change:
    return put("model_names", 0, value={"name": "org/alpha", **options})


CASES: dict[str, tuple[Change, tuple[str, ...]]] = {
    "unknown key": (put("modell_names", value=[]), ("'modell_names'", "did you mean 'model_names'", "slurm")),
    "unknown key of adapter_config": (
        put("adapter_config", "devise", value="cpu"),
        ("adapter_config: ", "'devise'", "did you mean 'device'"),
    ),
    "unknown key of generation_kwargs": (
        put("generation_kwargs", "max_new_token", value=4),
        ("generation_kwargs: ", "did you mean 'max_new_tokens'"),
    ),
    "unknown key of request_kwargs": (
        put("request_kwargs", "max_sample", value=4),
        ("request_kwargs: ", "did you mean 'max_samples'"),
    ),
    "unknown key of limits": (put("limits", "stub_timout", value="2h"), ("limits: ", "did you mean 'stub_timeout'")),
    "unknown key of local": (put("local", "gpu", value=[0]), ("local: ", "did you mean 'gpus'")),
    "unknown key of a model": (model(revison="main"), ("model_names.0: ", "did you mean 'revision'")),
    "unknown key of exclude": (
        put("exclude", value=[{"model": "*"}, {"atention": "dense"}]),
        ("exclude.1: ", "did you mean 'attention'"),
    ),
    "unknown key of include": (put("include", value=[{"bench": "x"}]), ("include.0: ", "benchmark")),
    "unknown option of a benchmark": (
        put("benchmark_configs", "needle", value={"sample": 5}),
        ("benchmark_configs.needle: ", "did you mean 'samples'"),
    ),
    "unknown option of a masker": (
        put("sparse_attention_configs", "streaming", value=[{"sink": {"sizes": 4}}]),
        ("sparse_attention_configs.streaming.0.sink: ", "did you mean 'size'"),
    ),
    "name is no text": (put("name", value=5), ("name: ", "text")),
    "name is nothing": (put("name", value=None), ("name: ", "text")),
    "name leads out of the folder": (put("name", value="../x"), ("name: ", "'../x'")),
    "base_result_dir is no text": (put("base_result_dir", value=["a"]), ("base_result_dir: ", "text")),
    "base_result_dir is empty": (put("base_result_dir", value=""), ("base_result_dir: ", "folder")),
    "base_result_dir is too long": (put("base_result_dir", value="x" * 5000), ("base_result_dir",)),
    "models are text": (put("model_names", value="org/alpha"), ("model_names: ", "list")),
    "models are a mapping": (put("model_names", value={"a": 1}), ("model_names: ", "list")),
    "model is a number": (put("model_names", value=[5]), ("model_names.0: ", "mapping")),
    "model without a name": (put("model_names", value=[{"gpus": 1}]), ("model_names.0", "name")),
    "model with a number as name": (put("model_names", value=[{"name": 5}]), ("model_names.0.name: ",)),
    "model_kwargs is a list": (model(model_kwargs=[1]), ("model_names.0.model_kwargs: ",)),
    "gpus is text": (model(gpus="1"), ("model_names.0.gpus: ", "integer")),
    "gpus is a truth value": (model(gpus=True), ("model_names.0.gpus: ", "integer")),
    "gpus is zero": (model(gpus=0), ("model_names.0: ", "gpus must be at least 1")),
    "gpus is negative": (model(gpus=-1), ("model_names.0: ", "gpus must be at least 1")),
    "a token in the sweep": (model(model_kwargs={"token": "hf_x"}), ("model_names.0.model_kwargs.token: ", "HF_TOKEN")),
    "attention swapped by hand": (model(model_kwargs={"attn_implementation": "eager"}), ("attn_implementation",)),
    "unknown dtype": (model(model_kwargs={"dtype": "bfloat61"}), ("did you mean 'bfloat16'",)),
    "configs are a list": (put("sparse_attention_configs", value=["dense"]), ("sparse_attention_configs: ", "mapping")),
    "config is a mapping": (
        put("sparse_attention_configs", "streaming", value={"sink": 4}),
        ("sparse_attention_configs.streaming: ", "list of maskers"),
    ),
    "unknown key of an attention config": (
        put("sparse_attention_configs", "streaming", value={"maskers": [{"sink": 4}], "sparse_prefil": True}),
        ("sparse_attention_configs.streaming: ", "did you mean 'sparse_prefill'"),
    ),
    "sparse_prefill is text": (
        put("sparse_attention_configs", "streaming", value={"maskers": [{"sink": 4}], "sparse_prefill": "yes"}),
        ("sparse_attention_configs.streaming.sparse_prefill: ", "boolean"),
    ),
    "sparse_prefill without maskers": (
        put("sparse_attention_configs", "streaming", value={"sparse_prefill": True}),
        ("sparse_attention_configs.streaming: ", "without maskers"),
    ),
    "sparse_prefill of what needs a dense one": (
        put("sparse_attention_configs", "x", value={"maskers": [{"snapkv": 64}], "sparse_prefill": True}),
        ("sparse_attention_configs.x: ", "SnapKV"),
    ),
    "measure_error above one": (
        put("sparse_attention_configs", "x", value={"maskers": [{"sink": 4}], "measure_error": 1.5}),
        ("sparse_attention_configs.x: ", "measure_error", "[0.0, 1.0]"),
    ),
    "two sampling maskers": (
        put("sparse_attention_configs", "x", value=[{"random_sampling": 0.1}, {"magic_pig": {"l": 8, "k": 8}}]),
        ("sparse_attention_configs.x: ", "RandomSampling, MagicPig", "a chain may have one"),
    ),
    "page size of zero": (
        put("sparse_attention_configs", "x", value=[{"quest": {"heavy": 64, "page_size": 0}}]),
        ("sparse_attention_configs.x.0.quest: ", "page_size must be 1 to 4096 tokens"),
    ),
    "masker without a parameter it needs": (
        put("sparse_attention_configs", "x", value=[{"h2o": {"heavy": 64}}]),
        ("sparse_attention_configs.x.0.h2o.recent: ", "required"),
    ),
    "masker's file that is not there": (
        put("sparse_attention_configs", "x", value=[{"hash_attention": {"heavy": 64, "weights": "no.safetensors"}}]),
        (
            "sparse_attention_configs.x.0.hash_attention: ",
            "no.safetensors does not exist",
            "hpc-bench attention train-hash",
        ),
    ),
    "two maskers in one": (
        put("sparse_attention_configs", "streaming", value=[{"sink": 4, "local": 5}]),
        ("sparse_attention_configs.streaming.0: ", "one masker"),
    ),
    "masker without parameters": (
        put("sparse_attention_configs", "streaming", value=["sink"]),
        ("sparse_attention_configs.streaming.0: ", "{sink: 4}"),
    ),
    "masker with text": (
        put("sparse_attention_configs", "streaming", value=[{"sink": "four"}]),
        ("sparse_attention_configs.streaming.0.sink.size: ",),
    ),
    "zero tokens": (
        put("sparse_attention_configs", "streaming", value=[{"sink": 0}]),
        ("sparse_attention_configs.streaming.0.sink: ", "1, 2, ..."),
    ),
    "negative share": (
        put("sparse_attention_configs", "streaming", value=[{"sink": 1}, {"oracle_top_k": -0.1}]),
        ("sparse_attention_configs.streaming.1.oracle_top_k: ", "share"),
    ),
    "share above one": (put("sparse_attention_configs", "streaming", value=[{"sink": 1.5}]), ("share",)),
    "share is no number": (put("sparse_attention_configs", "streaming", value=[{"sink": float("nan")}]), ("0.sink: ",)),
    "config name is a number": (put("sparse_attention_configs", 4, value=None), ("key 4", "quotes")),
    "benchmarks are a list": (put("benchmark_configs", value=["needle"]), ("benchmark_configs: ", "mapping")),
    "subsets are text": (put("benchmark_configs", "needle", value="256"), ("benchmark_configs.needle: ", "mapping")),
    "subset is a share": (put("benchmark_configs", "needle", value=[2.5]), ("benchmark_configs.needle.subsets: ",)),
    "adapter_config is a list": (put("adapter_config", value=[]), ("adapter_config: ", "mapping")),
    "limits is false": (put("limits", value=False), ("limits: ", "mapping")),
    "slurm is text": (put("slurm", value="x"), ("slurm: ", "mapping")),
    "generation_kwargs is text": (put("generation_kwargs", value="x"), ("generation_kwargs: ", "mapping")),
    "exclude is a mapping": (put("exclude", value={"model": "x"}), ("exclude: ", "list")),
    "exclude holds text": (put("exclude", value=["dense"]), ("exclude.0: ", "mapping")),
    "exclude holds an empty pattern": (put("exclude", value=[{}]), ("exclude.0: ", "empty")),
    "exclude is empty": (put("exclude", value=[]), ("exclude: ", "at least one")),
    "misspelled attention of exclude": (
        put("exclude", value=[{"model": "*"}, {"attention": "streming"}]),
        ("exclude.1.attention: matches no stub: ", "'streming'; did you mean 'streaming'? (valid: dense, streaming)"),
    ),
    "attention of include that is not in the sweep": (
        put("include", value=[{"attention": "quest*"}]),
        ("include.0.attention: matches no stub: ", "'quest*' (valid: dense, streaming)"),
    ),
    "model of exclude in other case": (
        put("exclude", value=[{"model": "ORG/alpha"}]),
        ("exclude.0.model: matches no stub: ", "'ORG/alpha'; did you mean 'org/alpha'? (valid: org/alpha, org/beta)"),
    ),
    "benchmark of exclude that is not in the sweep": (
        put("exclude", value=[{"benchmark": "longbench", "subset": "256"}]),
        ("exclude.0.benchmark: matches no stub: ", "(valid: needle, mock_benchmark)"),
    ),
    "subset of exclude that is not in the sweep": (
        put("exclude", value=[{"subset": 1024}]),
        ("exclude.0.subset: matches no stub: ", "'1024'", "(valid: 256, 512)"),
    ),
    "subset of exclude of another benchmark": (
        put("exclude", value=[{"benchmark": "mock*", "subset": "256"}]),
        ("exclude.0.subset: '256' matches no stub: the benchmark has no subsets; leave the key out",),
    ),
    "everything is excluded": (put("exclude", value=[{"model": "*"}]), ("include/exclude: ", "loosen")),
    "unknown device": (put("adapter_config", "device", value="gpu"), ("adapter_config.device: ", "'cuda'")),
    "local gpus negative": (put("local", "gpus", value=[-1]), ("local: ", "gpus")),
    "local gpus empty": (put("local", "gpus", value=[]), ("local: ", "gpus")),
    "local gpus twice": (put("local", "gpus", value=[0, 0]), ("local: ", "gpus")),
    "local gpus text": (put("local", "gpus", value="some"), ("local.gpus: ", "'all'", "'none'")),
    "unknown benchmark": (
        put("benchmark_configs", "needles", value=None),
        ("benchmark_configs: ", "unknown benchmark 'needles'; did you mean 'needle'?", "longbench", "mock_benchmark"),
    ),
    "unknown subset": (
        put("benchmark_configs", "longbench", value=["narativeqa"]),
        ("benchmark_configs.longbench.subsets: ", "did you mean 'narrativeqa'?", "hotpotqa"),
    ),
    "subset of another form": (put("benchmark_configs", "needle", value=[1]), ("needle.subsets: ", "from 128 to")),
    "subset where there are none": (
        put("benchmark_configs", "mock_benchmark", value=["a"]),
        ("benchmark_configs.mock_benchmark.subsets: ", "no subsets"),
    ),
    "unknown masker": (
        put("sparse_attention_configs", "streaming", value=[{"oracle_topk": 0.1}]),
        ("sparse_attention_configs.streaming.0: ", "did you mean 'oracle_top_k'?", "local", "sink"),
    ),
    "unknown adapter": (
        put("adapter_config", "adapter_name", value="hugingface"),
        ("adapter_config.adapter_name: ", "did you mean 'huggingface'?"),
    ),
    "unknown demo model": (put("model_names", value=["demo/tiny"]), ("model_names.0: ", "demo/tiny-2l, demo/")),
    "no models": (put("model_names", value=[]), ("model_names: ", "at least one")),
    "no configs": (put("sparse_attention_configs", value={}), ("sparse_attention_configs: ", "empty")),
    "no benchmarks": (put("benchmark_configs", value={}), ("benchmark_configs: ", "empty")),
    "no subsets": (put("benchmark_configs", "needle", value=[]), ("benchmark_configs.needle.subsets: ", "at least")),
    "a model twice": (put("model_names", value=["org/a", "org/a"]), ("model_names: ", "'org/a' is named twice")),
    "a subset twice": (
        put("benchmark_configs", "needle", value=[256, "256"]),
        ("benchmark_configs.needle.subsets: ", "'256' is named twice"),
    ),
    "models of one folder": (
        put("model_names", value=["org/a-b", "org/a_b"]),
        ("model_names: ", "'org/a-b'", "'org/a_b'", "'org_a_b'", "rename"),
    ),
    "configs of one folder": (
        put("sparse_attention_configs", value={"top k": None, "top-k": None}),
        ("sparse_attention_configs: ", "'top k'", "'top-k'", "'top_k'"),
    ),
    "model named like a file": (put("model_names", value=["summary.csv"]), ("model_names: ", "'summary.csv'")),
    "model leads out of the folder": (put("model_names", value=["../x"]), ("model_names.0: ", "'../x'")),
    "model has dots inside": (put("model_names", value=["org/../../x"]), ("model_names.0: ", "'org/../../x'")),
    "model is a path to nothing": (put("model_names", value=["/no/such/model"]), ("model_names.0: ", "config.json")),
    "model in an unknown home": (put("model_names", value=["~nobody-here/x"]), ("model_names.0: ", "'~nobody-here/x'")),
    "model name is too long": (put("model_names", value=["x" * 5000]), ("model_names.0: ",)),
    "model folder is too long": (put("model_names", value=["/" + "x" * 5000]), ("model_names.0: ",)),
    "model with a null byte": (put("model_names", value=["/a\0b"]), ("model_names.0: ",)),
    "config leads out of the folder": (put("sparse_attention_configs", "../x", value=None), ("'../x'", "name")),
    "config is an absolute path": (put("sparse_attention_configs", "/tmp/x", value=None), ("'/tmp/x'", "name")),
    "config is two dots": (put("sparse_attention_configs", "..", value=None), ("'..'", "name")),
    "config name is too long": (put("sparse_attention_configs", "x" * 300, value=None), ("name",)),
    "config name holds a newline": (put("sparse_attention_configs", "a\nb", value=None), (r"'a\nb'", "name")),
    "subset leads out of the folder": (put("benchmark_configs", "needle", value=["../x"]), ("'../x'", "needle")),
    "benchmark leads out of the folder": (put("benchmark_configs", "../x", value=None), ("'../x'", "needle")),
    "no runs": (put("max_concurrent_runs", value=0), ("max_concurrent_runs: ", "at least 1")),
    "negative runs": (put("max_concurrent_runs", value=-4), ("max_concurrent_runs: ", "at least 1")),
    "half a run": (put("max_concurrent_runs", value=0.5), ("max_concurrent_runs: ", "at least 1")),
    "no samples": (put("request_kwargs", "max_samples", value=0), ("request_kwargs: ", "max_samples", "at least 1")),
    "unknown truncation": (
        put("request_kwargs", value={"max_context_length": 100, "truncation": "centre"}),
        ("request_kwargs.truncation: ", "'middle', 'left' or 'right'"),
    ),
    "unknown place of the answer prefix": (
        put("request_kwargs", "answer_prefix", value="system"),
        ("request_kwargs.answer_prefix: ", "'user' or 'assistant'"),
    ),
    "unknown encoding": (
        put("request_kwargs", "encode", value="apart"),
        ("request_kwargs.encode: ", "'whole' or 'parts'"),
    ),
    "truncation of nothing": (
        put("request_kwargs", "truncation", value="left"),
        ("request_kwargs: ", "truncation has no effect without max_context_length", "add it"),
    ),
    "unknown order of samples": (
        put("request_kwargs", value={"max_samples": 3, "sample_order": "random"}),
        ("request_kwargs.sample_order: ", "'first' or 'spread'"),
    ),
    "order of all samples": (
        put("request_kwargs", "sample_order", value="spread"),
        ("request_kwargs: ", "sample_order has no effect without max_samples", "add it"),
    ),
    "limits overridden by nothing": (
        put("generation_kwargs", "override_limits", value=True),
        ("generation_kwargs: ", "override_limits has no effect without max_new_tokens", "add it"),
    ),
    "thinking is text": (
        put("generation_kwargs", "enable_thinking", value="yes"),
        ("generation_kwargs.enable_thinking: ", "boolean"),
    ),
    "negative context": (put("request_kwargs", "max_context_length", value=-1), ("max_context_length", "at least 1")),
    "no new tokens": (put("generation_kwargs", "max_new_tokens", value=0), ("generation_kwargs: ", "at least 1")),
    "negative temperature": (put("generation_kwargs", "temperature", value=-1), ("generation_kwargs: ", "temperature")),
    "infinite temperature": (
        put("generation_kwargs", "temperature", value=float("inf")),
        ("generation_kwargs.temperature: ", ".inf is"),
    ),
    "no attempts": (put("limits", "max_attempts", value=0), ("limits: ", "max_attempts", "at least 1")),
    "no benchmark samples": (put("benchmark_configs", "needle", value={"samples": 0}), ("needle: ", "at least 1")),
    **{
        f"duration {text!r}": (put("limits", "stub_timeout", value=text), ("limits", "stub_timeout: "))
        for text in ("2 hours", "", "-1h", "0s", "2", "1.5h", "h", "30s1h", 7200, None)
    },
    "baseline is a list": (put("baseline", value=["dense"]), ("baseline: must be one name",)),
    "whole number in quotes": (
        put("request_kwargs", "max_samples", value="10"),
        (
            "request_kwargs.max_samples: ",
            "valid integer, not '10'; write a whole number such as 4 (no quotes, no",
        ),
    ),
    "whole number with a point": (
        put("request_kwargs", "max_samples", value=2.0),
        ("integer, not 2.0; write a whole",),
    ),
    "number is a truth value": (
        put("request_kwargs", "max_samples", value=True),
        ("integer, not true; write a whole",),
    ),
    "switch is text": (
        put("generation_kwargs", "enable_thinking", value="yes"),
        ("generation_kwargs.enable_thinking: ", "boolean, not 'yes'; write true or false (no quotes)"),
    ),
    "long text for a number": (
        put("request_kwargs", "max_samples", value="x" * 500),
        (f"not '{'x' * 59}...; write",),
    ),
    "number for a choice": (put("adapter_config", "device", value=1), ("'cpu' or 'cuda', not 1\n",)),
    "text for a size": (
        put("sparse_attention_configs", "x", value=[{"sink": "four"}]),
        ("not 'four'; write a whole number such as 4 (no quotes, no point) or a number such as 0.5 (no quotes)\n",),
    ),
    "wait for nothing": (
        put("adapter_config", value={"adapter_name": "scripted", "model_kwargs": {"faults": [{"kind": "wait"}]}}),
        ("model_kwargs: ", "faults: ", "needs until"),
    ),
    "lease too short": (put("limits", "lease", value="1s"), ("limits: ", "lease", "5s")),
}


@pytest.mark.parametrize(("change", "words"), CASES.values(), ids=CASES)
def test_mistake_in_a_sweep_is_one_line_with_file_key_and_remedy(
    tmp_path: Path, change: Change, words: tuple[str, ...]
) -> None:
    data = sweep_data(tmp_path / "results")
    change(data)
    path = write_keys(tmp_path, data)
    before = tree(tmp_path)

    for command in ("plan", "submit"):
        result = run_cli(command, "--gpus", "none", path)

        assert_refused(result, f"Error: {path}: ", *words)
        assert result.stdout == ""
        assert tree(tmp_path) == before

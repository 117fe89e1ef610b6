"""Every mistake that a user can make ends in one line, exit code 2, and a disk as it was before."""

from __future__ import annotations

import copy
import errno
import json
import os
import random
import resource
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpc_bench import catalog
from hpc_bench.cli import main
from hpc_bench.running.local import LocalBackend
from tests.support.builders import claim, fail, prepare, publish, run_cli, stubs_of, sweep_data, tree, write_sweep

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(autouse=True)
def _no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A submission that should have been refused fails its test instead of running."""

    def start(*_arguments: object, **_options: object) -> None:
        raise AssertionError("workers were started")

    monkeypatch.setattr(LocalBackend, "launch", start)


def assert_refused(result: Result, *words: str) -> None:
    """Exit code 2 and one line for the user that holds all the words."""
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith("\n")
    for word in words:
        assert word in result.stderr


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
    "a token in the sweep": (model(model_kwargs={"token": "hf_x"}), ("model_names.0: ", "HF_TOKEN")),
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
    "infinite temperature": (put("generation_kwargs", "temperature", value=float("inf")), ("generation_kwargs: ",)),
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
    "lease too short": (put("limits", "lease", value="1s"), ("limits: ", "lease", "5s")),
}


@pytest.mark.parametrize(("change", "words"), CASES.values(), ids=CASES)
def test_mistake_in_a_sweep_is_one_line_with_file_key_and_remedy(
    tmp_path: Path, change: Change, words: tuple[str, ...]
) -> None:
    data = sweep_data(tmp_path / "results")
    change(data)
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    before = tree(tmp_path)

    for command in ("plan", "submit"):
        result = run_cli(command, "--gpus", "none", path)

        assert_refused(result, f"Error: {path}: ", *words)
        assert result.stdout == ""
        assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ("is empty", "hpc-bench init")),
        (b"# nothing but a comment\n", ("is empty", "hpc-bench init")),
        (b"model_names: [demo/tiny-2l\nx: 1\n", ("line 2", "not valid YAML")),
        (b"a: b: c\n", ("line 1", "not valid YAML")),
        (b"\tname: x\n", ("line 1", "not valid YAML")),
        (b"- a\n- b\n", ("mapping", "model_names")),
        (b"just text\n", ("mapping", "model_names")),
        (b"1: 2\n", ("mapping", "model_names")),
        (b"name: a\nname: b\n", ("line 2", "duplicate key 'name'")),
        (b"benchmark_configs:\n  needle: [256]\n  needle: [512]\n", ("line 3", "duplicate key 'needle'")),
        (b"? [a, b]\n: c\n", ("line 1", "not valid YAML")),
        (b"name: &x a\nbase_result_dir: *x\n", ("line 2", "aliases")),
        (b"a: 1\n---\nb: 2\n", ("not valid YAML",)),
        (b"name: a\0b\n", ("not valid YAML", "x0000")),
        (b"name: \xff\xfe\xfa\n", ("not valid YAML",)),
        (b"name: !!python/object/apply:os.system [ls]\n", ("line 1", "not valid YAML")),
        (b"name: !!bool maybe\n", ("not valid YAML",)),
        (b"name: !!timestamp maybe\n", ("not valid YAML",)),
        (b"name: !!int ''\n", ("not valid YAML",)),
        (b"name: !!map ab\n", ("not valid YAML",)),
        (b"name: 2020-13-45\n", ("not valid YAML",)),
        (b"name: " + b"[" * 3000, ("not valid YAML",)),
        (b"name: " + b"{a: " * 2000 + b"1" + b"}" * 2000, ("not valid YAML",)),
        (b"#" * 10_000_001, ("larger than", "bytes")),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else "",
)
def test_file_that_is_no_sweep_is_one_line(tmp_path: Path, content: bytes, words: tuple[str, ...]) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_bytes(content)
    before = tree(tmp_path)

    for command in ("plan", "submit"):
        result = run_cli(command, path)

        assert_refused(result, f"Error: {path}: ", *words)
        assert tree(tmp_path) == before


@pytest.mark.parametrize("command", ["plan", "submit"])
def test_file_that_cannot_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)

    assert_refused(run_cli(command), "./sweep.yaml", "hpc-bench init")
    assert_refused(run_cli(command, "nowhere.yaml"), "nowhere.yaml: ", "No such file", "hpc-bench init")
    assert_refused(run_cli(command, tmp_path), f"{tmp_path}: ", "directory")
    assert_refused(run_cli(command, "x" * 300), "too long")
    assert_refused(run_cli(command, "/dev/zero"), "/dev/zero: ", "larger than")
    assert tree(tmp_path) == before


def test_local_folders_that_mean_one_model_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    path = write_sweep(tmp_path, model_names=[str(folder), f"{tmp_path}/./model"])

    assert_refused(run_cli("plan", path), f"{path}: model_names: ", str(folder), "twice")


def test_model_folder_without_config_is_refused(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, model_names=[str(tmp_path)])

    assert_refused(run_cli("plan", path), "model_names.0: ", "config.json")


def test_missing_section_values_mean_the_default(tmp_path: Path) -> None:
    sections = ("adapter_config", "generation_kwargs", "request_kwargs", "limits", "local", "slurm")
    path = write_sweep(tmp_path, **dict.fromkeys((*sections, "include", "exclude", "max_concurrent_runs")))

    result = run_cli("plan", "--gpus", "none", "--json", path)

    assert result.exit_code == 0
    assert json.loads(result.stdout)["stubs"] == 12


def test_wrong_gpus_are_refused(tmp_path: Path) -> None:
    path = write_sweep(tmp_path)
    before = tree(tmp_path)

    for value in ("x", "0,0", "-1", "", "0,", "999999"):
        assert_refused(run_cli("submit", "--gpus", value, path), "--gpus: ", value)
    assert_refused(run_cli("submit", "--gpus", "4711", path), "no GPU 4711", "visible: ")
    assert tree(tmp_path) == before


# The disk


@pytest.mark.parametrize("command", ["plan", "submit"])
def test_base_result_dir_that_is_a_file_is_refused(tmp_path: Path, command: str) -> None:
    (tmp_path / "taken").write_text("mine")
    for base in (tmp_path / "taken", tmp_path / "taken" / "below"):
        path = write_sweep(tmp_path, base_result_dir=str(base))
        before = tree(tmp_path)

        result = run_cli(command, "--gpus", "none", path)

        assert_refused(result, str(path), "base_result_dir: ", str(base), "choose a folder, not a file")
        assert tree(tmp_path) == before


def test_base_result_dir_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, base_result_dir="/proc/results")  # even root may not create this
    before = tree(tmp_path)

    assert_refused(run_cli("submit", "--gpus", "none", path), "base_result_dir: ", "/proc/results", "choose")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("base_exists", [True, False])
def test_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base_exists: bool
) -> None:
    path = write_sweep(tmp_path, base_result_dir=str(tmp_path / "deep" / "results"))
    if base_exists:
        (tmp_path / "deep" / "results").mkdir(parents=True)
    before = tree(tmp_path)

    def fsync(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    result = run_cli("submit", "--gpus", "none", path)

    assert_refused(result, "base_result_dir: ", "No space left on device", "free some space")
    assert tree(tmp_path) == before


def test_full_disk_on_resuming_leaves_the_execution_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path / "results")
    path = write_sweep(tmp_path, limits={"max_attempts": 5})  # else the manifest stays as it is
    before = tree(tmp_path)
    real, calls = os.fsync, iter(range(1000))

    def fsync(descriptor: int) -> None:
        if next(calls) >= 2:  # the copy of the earlier manifest still fits
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    result = run_cli("submit", "--gpus", "none", path)

    assert_refused(result, "base_result_dir: ", "No space left on device")
    assert tree(tmp_path) == before


def test_write_that_the_kernel_cuts_off_leaves_nothing(tmp_path: Path) -> None:
    path = write_sweep(tmp_path)
    before = tree(tmp_path)

    done = subprocess.run(
        [sys.executable, "-m", "hpc_bench", "submit", "--gpus", "none", str(path)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64)),
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )

    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert "File too large" in done.stderr
    assert tree(tmp_path) == before


def test_summary_that_cannot_be_written_is_still_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    execution = prepare(tmp_path / "results")
    publish(execution, stubs_of(execution)[0])

    def fsync(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = tree(tmp_path)
    monkeypatch.setattr(os, "fsync", fsync)
    result = run_cli("collect", execution.path)

    assert_refused(result, str(execution.path), "No space left on device")
    assert "1 complete" in result.stdout
    assert tree(tmp_path) == before


# What is on disk


def reading_commands(base: Path) -> list[tuple[str | Path, ...]]:
    return [("collect", base), ("status", base), ("logs", base, "dense"), ("cancel", base)]


def test_folder_without_executions_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    before = tree(tmp_path)

    for command in reading_commands(tmp_path / "nowhere"):
        assert_refused(run_cli(*command), "nowhere: ", "no such folder")
    for command in reading_commands(tmp_path / "file"):
        assert_refused(run_cli(*command), "file: is a file; name a base result dir")
    for command in reading_commands(tmp_path / "empty"):
        assert_refused(run_cli(*command), "empty: ", "no execution", "hpc-bench submit")
    for command in reading_commands(Path("x" * 300)):
        assert_refused(run_cli(*command), "no such folder")
    assert tree(tmp_path) == before


def test_folder_of_a_result_is_refused_with_the_execution_it_is_of(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    result = publish(execution, stubs_of(execution)[0])

    for command in reading_commands(result):
        assert_refused(run_cli(*command), f"{result}: is a part of an execution", f"name the whole, {execution.path}\n")


def test_unknown_execution_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    execution = prepare(tmp_path)

    for command in reading_commands(tmp_path):
        for name in ("execution_20200101_000000", "../x", "/tmp", ""):
            assert_refused(run_cli(*command, "--execution", name), "no execution", execution.path.name)


def header_with(**changes: Any) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        first, _, rest = content.partition(b"\n")
        return json.dumps({**json.loads(first), **changes}).encode() + b"\n" + rest

    return change


def header_without(key: str) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        first, _, rest = content.partition(b"\n")
        data = json.loads(first)
        del data[key]
        return json.dumps(data).encode() + b"\n" + rest

    return change


CORRUPT_HEADERS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "torn": lambda content: content[:100],
    "zeros": lambda content: b"\0" * len(content),
    "no UTF-8": lambda content: b"\xff\xfe" + content,
    "a list": lambda _: b"[]\n",
    "a number": lambda _: b"1\n",
    "deeply nested": lambda _: b"[" * 100_000,
    "without models": header_without("models"),
    "without limits": header_without("limits"),
    "without a format version": header_without("format_version"),
    "with models of a wrong type": header_with(models=5),
    "with limits of a wrong type": header_with(limits=[]),
    "with empty limits": header_with(limits={}),
    "with attempts of a wrong type": header_with(forgiven=3),
    "with an odd format version": header_with(format_version="one"),
    "with a key too much": header_with(extra=1),
}
CORRUPT_LINES: dict[str, Callable[[bytes], bytes]] = {
    "a torn last line": lambda content: content[:-20],
    "a line of text": lambda content: content + b"stub\n",
    "a line too short": lambda content: content + b"[0, 0]\n",
    "an unknown model": lambda content: content + b'[9, 0, 0, null, "f"]\n',
    "a name for a number": lambda content: content + b'["a", 0, 0, null, "f"]\n',
    "a number for a subset": lambda content: content + b'[0, 0, 0, {"a": 1}, "f"]\n',
    "an empty line": lambda content: content + b"\n",
}


CORRUPT = {**CORRUPT_HEADERS, **CORRUPT_LINES}


@pytest.mark.parametrize("corrupt", CORRUPT.values(), ids=CORRUPT)
def test_corrupt_manifest_is_one_line_with_a_remedy(tmp_path: Path, corrupt: Callable[[bytes], bytes]) -> None:
    execution = prepare(tmp_path / "results")
    path = write_sweep(tmp_path)
    execution.manifest.write_bytes(corrupt(execution.manifest.read_bytes()))
    before = tree(tmp_path)

    commands = reading_commands(tmp_path / "results")
    if corrupt in CORRUPT_HEADERS.values():  # planning reads no more than the header
        commands += [("plan", "--gpus", "none", path), ("submit", "--gpus", "none", path)]
    for command in commands:
        assert_refused(run_cli(*command), f"{execution.manifest}: ", "corrupt", "manifest.<k>.jsonl", "--new")
        assert tree(tmp_path) == before
    assert run_cli("plan", "--gpus", "none", "--new", path).exit_code == 0


def test_manifest_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    execution = prepare(tmp_path / "results")
    path = write_sweep(tmp_path)
    execution.manifest.write_bytes(header_with(format_version=99, a_new_key=1)(execution.manifest.read_bytes()))
    before = tree(tmp_path)

    for command in [*reading_commands(tmp_path / "results"), ("plan", path), ("submit", path)]:
        assert_refused(run_cli(*command), f"{execution.manifest}: ", "format version 99 is newer", "update hpc-bench")
        assert tree(tmp_path) == before


def test_manifest_that_is_a_folder_is_one_line(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    execution.manifest.unlink()
    execution.manifest.mkdir()

    for command in reading_commands(tmp_path):
        assert_refused(run_cli(*command), f"{execution.manifest}: ")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\0\0", b"[" * 100_000])
def test_corrupt_metrics_are_stale_to_submit_and_invalid_to_collect(tmp_path: Path, content: bytes) -> None:
    execution = prepare(tmp_path / "results")
    result = publish(execution, stubs_of(execution)[0])
    (result / "metrics.json").write_bytes(content)
    path = write_sweep(tmp_path)
    before = tree(tmp_path)

    planned = json.loads(run_cli("plan", "--gpus", "none", "--json", path).stdout)
    submitted = run_cli("submit", "--gpus", "none", path)

    assert tree(tmp_path) == before
    assert (planned["stale"], planned["complete"], planned["to_run"]) == (1, 0, 11)
    assert_refused(submitted, str(result), "corrupt", "--discard-stale")
    collected = run_cli("collect", tmp_path / "results")
    assert collected.exit_code == 1
    assert "1 invalid" in collected.stdout
    assert str(result) in collected.stdout


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"5", b"\xff\xfe\xfd", b"[" * 100_000])
def test_corrupt_claim_is_one_line_and_spares_the_summary(tmp_path: Path, content: bytes) -> None:
    execution = prepare(tmp_path / "results")
    stub, other = stubs_of(execution)[:2]
    publish(execution, other)
    made = claim(execution, stub)
    torn = execution.claim(stub.key, made.attempt)
    torn.write_bytes(content)
    path = write_sweep(tmp_path)
    before = tree(tmp_path)

    for command in [
        ("plan", "--gpus", "none", path),
        ("submit", "--gpus", "none", path),
        ("status", tmp_path / "results"),
        ("logs", tmp_path / "results", stub.title),
        ("cancel", tmp_path / "results"),
    ]:
        assert_refused(run_cli(*command), f"{torn}: ", "corrupt", "delete it")
        assert tree(tmp_path) == before
    collected = run_cli("collect", tmp_path / "results")
    assert collected.exit_code == 1
    assert "1 complete" in collected.stdout
    assert "1 invalid" in collected.stdout
    assert str(torn) in collected.stdout


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"state": "failed"}', b'{"state": "failed", "error": 1, "message": 2}', b"[" * 9999]
)
def test_corrupt_outcome_is_a_failure_that_says_so(tmp_path: Path, content: bytes) -> None:
    execution = prepare(tmp_path)
    stub = stubs_of(execution)[0]
    fail(execution, stub, attempts=2)
    execution.outcome(stub.key, 2).write_bytes(content)

    result = run_cli("collect", tmp_path)

    assert result.exit_code == 1
    assert f"failed: {stub.title}: CorruptOutcome: " in result.stdout


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"[" * 9999, b'{"worker": "w", "process": {"pid": "x"}}', b'{"worker": 1}']
)
def test_corrupt_heartbeat_counts_as_none(tmp_path: Path, content: bytes) -> None:
    execution = prepare(tmp_path)
    (execution.workers / "w.json").write_bytes(content)

    assert run_cli("status", tmp_path).exit_code == 0
    assert run_cli("collect", tmp_path).exit_code == 1


def test_unknown_stub_of_logs_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    execution = prepare(tmp_path)

    assert_refused(run_cli("logs", tmp_path, "gamma"), "unknown stub 'gamma'", stubs_of(execution)[0].title)
    assert_refused(run_cli("logs", tmp_path, "alpha"), "'alpha' matches 6 stubs", "name one")
    assert_refused(run_cli("logs", tmp_path, stubs_of(execution)[0].title), "not been started")


def test_log_that_is_gone_is_one_line(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    stub = stubs_of(execution)[0]
    fail(execution, stub)

    assert_refused(run_cli("logs", tmp_path, stub.title), stub.title, "log", "w.engine1.log")


def test_init_leaves_an_existing_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("mine")

    assert_refused(run_cli("init", path), f"{path}: ", "exists already")
    assert_refused(run_cli("init", tmp_path / "no" / "x.yaml"), "cannot be written")
    assert path.read_text() == "mine"


def test_package_is_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hpc_bench", "--version"], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.startswith("python -m hpc_bench, version ")


def test_console_script_shows_one_line_and_no_traceback(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, model_names=[])

    done = subprocess.run(
        [sys.executable, "-m", "hpc_bench", "plan", str(path)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (f"Error: {path}: model_names: must be a list of model names, with at least one entry\n")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise RuntimeError('no luck')", "cannot be loaded: RuntimeError: no luck"),
        ("raise SystemExit(3)", "cannot be loaded: SystemExit: 3"),
        ("1 +", "cannot be loaded: SyntaxError: invalid syntax"),
        ("class Odd: pass", "is no dataclass"),
        ("def Odd(): pass", "is no dataclass"),
    ],
)
def test_plug_in_that_cannot_be_used_is_one_line_and_keeps_no_result_from_being_collected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, words: str
) -> None:
    points = {"odd": EntryPoint("odd", "tests.cli.test_benchmarks_command:Proper", "hpc_bench.benchmarks")}
    monkeypatch.setattr(catalog, "_plug_ins", lambda _: points)
    execution = prepare(tmp_path / "results", benchmark_configs={"odd": None, "mock_benchmark": None})
    for stub in stubs_of(execution):
        publish(execution, stub)
    (tmp_path / "odd_plug_in.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "odd_plug_in", None)
    del sys.modules["odd_plug_in"]
    points["odd"] = EntryPoint("odd", "odd_plug_in:Odd", "hpc_bench.benchmarks")
    catalog.resolve.cache_clear()

    for kind, wrong in (
        ("benchmark", {"benchmark_configs": {"odd": None}}),
        ("masker", {"sparse_attention_configs": {"x": [{"odd": 4}]}}),
    ):
        assert_refused(run_cli("plan", write_sweep(tmp_path, **wrong)), f"{kind} 'odd'", "odd_plug_in:Odd", words)
    collected = run_cli("collect", execution.path)

    assert collected.exit_code == 0, collected.output
    assert "8 complete" in collected.stdout
    assert words in " ".join(collected.stdout.split())


# Fuzzing

ODD_VALUES = [
    None, True, False, 0, -1, 1, 10**30, -(10**400), 10**400, 10**5000, 0.5, -0.0, 1e308, float("nan"), float("inf"),
    "", " ", ".", "..", "../x", "/", "/etc", "~", "~nobody-here", "a" * 300, "a" * 5000, "é", "\u202e", "a\tb", "a\nb",
    "\U0001f600", "\ud800", "\0", "a\0b", "*", "[", "[z-a]", "{}", "%s", "demo/tiny-2l", "2h", "all", "none", "256",
    b"\xff", [], [[]], {}, {"a": {}}, [None], {None: None}, {1: 2}, {"subsets": [256]}, {"name": "demo/tiny-4l"},
    {"sink": 4}, [{"sink": 4}], [{"oracle_top_k": 10**400}], {"sink": {"size": 1}}, {"samples": 10**400},
    {"gpus": 10**30}, {"max_samples": 10**400}, {"temperature": 10**400, "do_sample": True},
    {"max_new_tokens": 10**400}, {"model": "["}, [{"model": "["}], [{"subset": "\0"}],
]  # fmt: skip
FULL = {
    "name": "fuzz",
    "base_result_dir": "results",
    "model_names": ["demo/tiny-2l", {"name": "org/a", "revision": "v1", "gpus": 1, "model_kwargs": {"dtype": "auto"}}],
    "sparse_attention_configs": {"dense": None, "topk": [{"sink": 4}, {"local": {"size": 16}}, {"oracle_top_k": 0.1}]},
    "benchmark_configs": {"needle": {"subsets": [256, 512], "samples": 8}, "mock_benchmark": None},
    "adapter_config": {"adapter_name": "huggingface", "device": "auto", "model_kwargs": {}, "tokenizer_kwargs": {}},
    "generation_kwargs": {"max_new_tokens": 8, "do_sample": True, "temperature": 0.5, "stop_strings": ["x"],
                          "override_limits": True, "enable_thinking": False},
    "request_kwargs": {"max_context_length": 1024, "max_samples": 10, "truncation": "left", "sample_order": "spread"},
    "exclude": [{"model": "*beta*", "attention": "dense"}],
    "include": [{"benchmark": "*"}],
    "max_concurrent_runs": 4,
    "limits": {"stub_timeout": "2h", "max_attempts": 2},
    "local": {"gpus": "none"},
    "slurm": {},
}  # fmt: skip


def places(value: Any, depth: int = 0) -> list[tuple[Any, Any]]:
    """Every (container, key) in a tree of lists and mappings, as deep as sweeps go."""
    keys: list[Any] = []
    if isinstance(value, (dict, list)) and depth < 8:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [place for key in keys for place in [(value, key), *places(value[key], depth + 1)]]


def nested(depth: int, value: Any) -> Any:
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def mutate(data: dict[str, Any], rng: random.Random) -> None:
    """Deletes, replaces, inserts, renames, copies or nests something somewhere."""
    container, key = rng.choice(places(data) or [({"": data}, "")])
    odd = copy.deepcopy(rng.choice(FULL_VALUES if rng.random() < 0.3 else ODD_VALUES))
    kind = rng.choice(("delete", "replace", "replace", "replace", "insert", "rename", "copy", "nest"))
    if kind == "delete":
        del container[key]
    elif kind == "replace":
        container[key] = odd
    elif kind == "nest":
        container[key] = nested(rng.choice((1, 2, 50, 120)), container[key])
    elif isinstance(container, list):
        container.insert(rng.randrange(len(container) + 1), odd if kind == "insert" else copy.deepcopy(container[key]))
    elif kind == "insert":
        container[rng.choice(ODD_KEYS)] = odd
    elif kind == "rename":
        container[rng.choice(ODD_KEYS)] = container.pop(key)
    else:
        container[rng.choice(list(container))] = copy.deepcopy(container[key])


ODD_KEYS = [value for value in ODD_VALUES if not isinstance(value, (dict, list))]
FULL_VALUES = [container[key] for container, key in places(FULL)]


def as_text(data: dict[str, Any], rng: random.Random) -> bytes:
    """YAML, mostly whole, sometimes with bytes cut, doubled or overwritten."""
    sys.set_int_max_str_digits(10_000)
    try:
        raw = yaml.safe_dump(data, allow_unicode=rng.random() < 0.5, sort_keys=False).encode("utf-8", "surrogatepass")
    finally:
        sys.set_int_max_str_digits(4300)
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        start = rng.randrange(len(raw) + 1)
        end = start + rng.randrange(1, 30)
        noise = (b"", raw[start:end] * 2, b"\xff", b"\0", b": ", b"- ", b"!!bool ", b"&a ", b"*a", b"\t", b"? ")
        raw = raw[:start] + rng.choice(noise) + raw[end:]
    return raw


@settings(max_examples=800, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), mutations=st.integers(1, 4))
def test_mutated_sweeps_never_show_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, seed: int, mutations: int
) -> None:
    rng = random.Random(seed)
    data = yaml.safe_load(yaml.safe_dump(FULL))
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    folder.mkdir(exist_ok=True)
    for _ in range(mutations):
        mutate(data, rng)
    try:
        raw = as_text(data, rng)
    except RecursionError:  # PyYAML cannot even write it
        return
    (folder / "sweep.yaml").write_bytes(raw)
    here = Path.cwd()
    os.chdir(folder)
    try:
        result = CliRunner().invoke(main, ["plan"])
    finally:
        os.chdir(here)

    assert result.exception is None or isinstance(result.exception, SystemExit), (raw, result.exception)
    assert result.exit_code in (0, 2)
    assert (result.exit_code == 2) == result.stderr.startswith("Error: "), raw
    assert result.stderr.count("\n") == (result.exit_code == 2)
    assert os.listdir(folder) == ["sweep.yaml"]  # noqa: PTH208

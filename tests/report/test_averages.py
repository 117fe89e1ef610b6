"""Averages over subsets as each benchmark's authors average, and what becomes of incomplete sets."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hpc_bench import catalog
from hpc_bench.benchmarks.base import Benchmark
from hpc_bench.benchmarks.suites.longbench import LongBench
from hpc_bench.benchmarks.suites.longbenchv2 import LongBenchV2
from hpc_bench.benchmarks.suites.mock_benchmark import MockBenchmark
from hpc_bench.benchmarks.suites.needle import Needle
from hpc_bench.benchmarks.suites.ruler import Ruler
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.header import Header
from hpc_bench.execution.manifest import read_header
from hpc_bench.execution.specs import BenchmarkSpec
from hpc_bench.report.averages import Group, find_groups
from tests.support.builders import prepare, publish, publish_all, run_cli, stubs_of


@pytest.mark.parametrize(
    ("benchmark", "scores", "averages"),
    [
        (Needle, {"256": 100.0, "512": 50.0, "1024": 0.0}, {"mean": 50.0}),
        (MockBenchmark, {"": 70.0}, {"mean": 70.0}),
        (LongBench, {"qasper": 40.0, "trec": 60.0}, {"mean": 50.0}),
        (LongBench, {"qasper": 40.0, "trec": 60.0, "qasper_e": 10.0}, {"mean": 50.0, "mean_e": 10.0}),
        (Ruler, {"4096_vt": 80.0, "8192_vt": 60.0, "4096_niah_single_1": 100.0}, {"4096": 90.0, "8192": 60.0}),
        (LongBenchV2, {"0shot": 30.0, "cot": 40.0}, {"0shot": 30.0, "cot": 40.0}),
    ],
)
def test_averages_are_the_authors(
    benchmark: type[Benchmark], scores: Mapping[str, float], averages: Mapping[str, float]
) -> None:
    groups = [Group("b", name, weights) for name, weights in benchmark.averages(list(scores)).items()]

    assert {group.name: group.average(scores) for group in groups} == averages


@pytest.mark.parametrize("name", catalog.names("benchmark"))
def test_every_benchmark_averages_its_subsets_with_weights(name: str, tmp_path: Path) -> None:
    kind = catalog.resolve("benchmark", name)
    subsets = kind.subsets or ("",)
    header = make_header(tmp_path, name, subsets)

    groups, notes = find_groups(header)

    assert notes == ()
    assert {subset for group in groups for subset in group.weights} == set(subsets)
    assert {group.name: dict(group.weights) for group in groups} == kind.averages(subsets)
    assert {group.left_out for group in groups} == {0}


def make_header(folder: Path, benchmark: str, subsets: Sequence[str]) -> Header:
    spec = BenchmarkSpec(benchmark, {}, {subset: {} for subset in subsets})
    return dataclasses.replace(read_header(prepare(folder)), benchmarks={benchmark: spec})


def test_average_of_some_is_weighted_among_these() -> None:
    group = Group("b", "mean", {"x": 1.0, "y": 3.0, "z": 4.0})

    assert group.average({"x": 10.0, "y": 50.0, "other": 0.0}) == 40.0
    assert group.average({}) is None


class Crooked(MockBenchmark):
    """A plug-in whose averages cannot be used."""

    result: ClassVar[Any] = None

    @classmethod
    def averages(cls, subsets: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        if isinstance(cls.result, Exception):
            raise cls.result
        return cls.result  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "result",
    [
        ZeroDivisionError("oops"),
        {"mean": {"a": 1.0, "b": 0.0}},
        {"mean": {"a": 1.0, "b": -1.0}},
        {"mean": {"a": 1.0, "b": float("nan")}},
        {"mean": {"a": 1.0, "b": "1"}},
        {"mean": ["a", "b"]},
        None,
    ],
)
def test_averages_that_cannot_be_used_are_said_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: object
) -> None:
    header = make_header(tmp_path, "own", ["a", "b"])
    monkeypatch.setattr(Crooked, "result", result)
    monkeypatch.setattr("hpc_bench.report.averages.catalog.resolve", lambda kind, name: Crooked)

    groups, notes = find_groups(header)

    assert groups == (Group("own", "mean", {"a": 1.0, "b": 1.0}),)
    assert notes[0].startswith("own: averaged as the mean of the subset scores: its averages ")


def test_weights_of_a_benchmark_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = make_header(tmp_path, "own", ["b", "a"])
    monkeypatch.setattr(Crooked, "result", {"all": {"a": 3.0, "b": 1.0, "c": 4.0}, "other": {"c": 1.0}})
    monkeypatch.setattr("hpc_bench.report.averages.catalog.resolve", lambda kind, name: Crooked)

    (group,), notes = find_groups(header)

    assert notes == ()
    assert (group.name, group.total) == ("all", 3)
    assert group.average({"a": 10.0, "b": 50.0}) == 20.0


def test_benchmark_that_is_not_installed_any_more_is_averaged_all_the_same(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    publish_all(execution)
    text = execution.manifest.read_text().replace('"kind": "needle"', '"kind": "gone"')
    execution.manifest.write_text(text)

    result = run_cli("collect", tmp_path)

    assert result.exit_code == 0
    assert "needle: averaged as the mean of the subset scores: unknown benchmark 'gone'" in result.stdout
    assert "50.00" in result.stdout


# The command


@pytest.fixture
def ruler(tmp_path: Path) -> ExecutionDir:
    """Two lengths of five tasks each, of which one of the longer's is not complete."""
    tasks = ["niah_single_1", "niah_single_2", "vt", "cwe", "fwe"]
    subsets = [f"{length}_{task}" for length in (4096, 8192) for task in tasks]
    execution = prepare(tmp_path, model_names=["org/alpha"], benchmark_configs={"ruler": subsets})
    for stub in stubs_of(execution):
        if stub.subset != "8192_vt":
            publish(execution, stub, 90.0 if str(stub.subset).startswith("4096") else 60.0)
    return execution


def test_ruler_has_a_column_for_each_length(ruler: ExecutionDir) -> None:
    output = run_cli("collect", ruler.path).stdout

    assert "ruler 4096 mean" in output
    assert "90.00" in output
    assert "60.00* 4/13" in output
    assert "+0.00 [0.00, 0.00] 4/13" in output


def test_averages_stand_in_the_summary_with_how_complete_they_are(ruler: ExecutionDir) -> None:
    run_cli("collect", ruler.path)

    averages = json.loads(ruler.summary_json.read_text())["averages"]
    assert [(part["attention"], part["average"], part["score"]) for part in averages] == [
        ("dense", "4096", 90.0),
        ("dense", "8192", 60.0),
        ("streaming", "4096", 90.0),
        ("streaming", "8192", 60.0),
    ]
    assert [(part["scored"], part["subsets"], part["complete"]) for part in averages[2:]] == [
        (5, 13, False),
        (4, 13, False),
    ]
    assert averages[3]["delta_note"] == "over 4 of 13 subsets"


def test_longbench_e_is_apart(tmp_path: Path) -> None:
    subsets = ["qasper", "trec", "qasper_e", "trec_e"]
    execution = prepare(tmp_path, model_names=["org/alpha"], benchmark_configs={"longbench": subsets})
    for stub in stubs_of(execution):
        publish(execution, stub, 20.0 if str(stub.subset).endswith("_e") else 70.0)

    output = run_cli("collect", tmp_path).stdout

    averages = json.loads(execution.summary_json.read_text())["averages"]
    assert {(part["average"], part["score"]) for part in averages} == {("mean", 70.0), ("mean_e", 20.0)}
    assert {(part["average"], part["scored"], part["subsets"]) for part in averages} == {
        ("mean", 2, 21),
        ("mean_e", 2, 13),
    }
    assert "longbench mean_e" in output
    assert "70.00* 2/21" in output
    assert "20.00* 2/13" in output


def test_average_over_all_that_the_authors_average_is_complete(tmp_path: Path) -> None:
    subsets = [subset for subset in LongBench.subsets if subset.endswith("_e")]
    execution = prepare(tmp_path, model_names=["org/alpha"], benchmark_configs={"longbench": subsets})
    publish_all(execution)

    output = run_cli("collect", tmp_path).stdout

    averages = json.loads(execution.summary_json.read_text())["averages"]
    assert {(part["scored"], part["subsets"], part["complete"]) for part in averages} == {(13, 13, True)}
    assert "*" not in output.partition("less dense")[0]


def test_subset_alone_is_no_average_of_its_benchmark(tmp_path: Path) -> None:
    subsets = ["shortdep_qa", "shortdep_cloze"]
    execution = prepare(tmp_path, model_names=["org/alpha"], benchmark_configs={"loogle": subsets})

    (first, second), notes = find_groups(read_header(execution))

    assert notes == ()
    assert (first.title, second.title) == ("loogle shortdep_qa", "loogle shortdep_cloze")
    assert (first.total, second.total) == (1, 1)

"""Data that a run cannot have: one failure for all stubs that need it, and no other stub pays."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpc_bench.running.submit import prepare_execution
from hpc_bench.sweep.plan import make_plan
from hpc_bench.sweep.sweep import load_sweep
from tests.support.benchmark_rows import write_longbench
from tests.support.fake_hub import FakeHub, longbench_repo, running_hub
from tests.support.running import PATIENCE_S, execution_of, hpc_bench, outcomes, results, submit, write_scripted_sweep

DATA = "datasets/Xnhyacinth/LongBench"
BENCHMARKS = {"longbench": ["qasper", "musique"], "needle": {"subsets": [256], "samples": 8}}
MODELS = ["demo/tiny-2l", "demo/tiny-4l"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub without repositories."""
    with running_hub() as made:
        for name, value in made.environment(tmp_path / "hf").items():
            monkeypatch.setenv(name, value)
        yield made


def sweep_of(folder: Path, **changes: Any) -> Path:
    """Two models x two configs x (two subsets of the hub + needle), one worker."""
    keys = {"model_names": MODELS, "benchmark_configs": BENCHMARKS, "max_concurrent_runs": 1}
    return write_scripted_sweep(folder, **{**keys, **changes})


def tries(sweep: Path) -> int:
    """How often an engine met data that it could not have."""
    logs = execution_of(sweep).jobs.glob("*.engine*.log")
    return sum(log.read_text().count(" DataUnavailable ") for log in logs)


def failed(sweep: Path) -> list[str]:
    """The failures that `status` shows."""
    shown = hpc_bench("status", str(sweep.parent / "results")).stdout.splitlines()
    return [line for line in shown if line.startswith("failed: ")]


def names(sweep: Path) -> list[str]:
    """Of the results' folders."""
    return [path.name for path in results(sweep)]


@pytest.mark.parametrize(
    ("revision", "words"),
    [("main", "is not on http://127.0.0.1"), ("v9", "there is no such revision; name a branch, a tag or a commit")],
)
def test_data_set_that_is_not_there_fails_all_its_stubs_at_once_and_no_others(
    hub: FakeHub, tmp_path: Path, revision: str, words: str
) -> None:
    if revision != "main":
        hub.push(DATA, longbench_repo(tmp_path))
    asked = {"subsets": ["qasper", "musique"], "revision": revision}
    sweep = sweep_of(tmp_path, benchmark_configs={**BENCHMARKS, "longbench": asked})

    done = submit(sweep)

    assert done.returncode == 1
    assert names(sweep) == ["needle_256"] * 4
    assert len(outcomes(sweep)) == 2 * 2 * 2 * 2  # models, configs, subsets, attempts
    assert {outcome["error"] for outcome in outcomes(sweep)} == {"dataset_unavailable"}
    assert all("Xnhyacinth/LongBench" in o["message"] and words in o["message"] for o in outcomes(sweep))
    assert tries(sweep) == 2
    (line,) = failed(sweep)
    assert " and 7 more: dataset_unavailable: data set Xnhyacinth/LongBench" in line
    assert done.stdout.count("dataset_unavailable") == 1


def test_retry_takes_data_that_is_there_by_then(hub: FakeHub, tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, limits={"max_attempts": 1})
    submit(sweep)
    hub.push(DATA, longbench_repo(tmp_path))

    left_alone = submit(sweep)
    asked = submit(sweep, "--retry-failed")

    assert left_alone.returncode == 1
    assert asked.returncode == 0, asked.stdout
    assert len(results(sweep)) == 12


def test_subset_of_another_schema_fails_alone_for_all_models(hub: FakeHub, tmp_path: Path) -> None:
    files = longbench_repo(tmp_path)
    hub.push(DATA, {**files, "more/musique.jsonl": files["more/musique.jsonl"].replace(b'"answers"', b'"label"')})
    sweep = sweep_of(tmp_path)

    submit(sweep)

    assert sorted(names(sweep)) == ["longbench_qasper"] * 4 + ["needle_256"] * 4
    assert tries(sweep) == 2
    (line,) = failed(sweep)
    assert " and 3 more: dataset_unavailable: data set Xnhyacinth/LongBench (musique) at main: lacks answers" in line
    assert "columns expected: context, question, answer_prefix, answers; found: " in line
    assert "name another `revision`, or local `data`" in line


@pytest.mark.slow
def test_cached_subset_runs_where_the_hub_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_hub() as hub:
        hub.push(DATA, longbench_repo(tmp_path))
        for name, value in hub.environment(tmp_path / "hf").items():
            monkeypatch.setenv(name, value)
        submit(sweep_of(tmp_path, model_names=MODELS[:1], benchmark_configs={"longbench": ["qasper"]}))
    sweep = sweep_of(tmp_path, limits={"max_attempts": 1})

    submit(sweep)

    assert sorted(names(sweep)) == ["longbench_qasper"] * 4 + ["needle_256"] * 4
    (line,) = failed(sweep)
    assert "musique) at main cannot be fetched from http://127.0.0.1" in line
    assert "hpc-bench prefetch" in line


def test_half_of_a_surrogate_pair_from_the_hub_costs_no_stub_and_is_in_the_log(hub: FakeHub, tmp_path: Path) -> None:
    files = longbench_repo(tmp_path)
    halved = files["more/musique.jsonl"].replace(b"number", rb"number \ud83d").replace(b'"12"', rb'"12 \ud83d"')
    hub.push(DATA, {**files, "more/musique.jsonl": halved})
    sweep = sweep_of(tmp_path, model_names=MODELS[:1], benchmark_configs={"longbench": ["musique"]})

    done = submit(sweep)

    assert done.returncode == 0, done.stdout
    for result in results(sweep):
        table = (result / "raw_results.csv").read_text()
        assert "What is the number \ufffd?" in table
        assert "12 \ufffd" in table
    (log,) = execution_of(sweep).jobs.glob("*.engine*.log")
    assert log.read_text().count("half of a surrogate pair in a text is replaced by U+FFFD (rows: 2") == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("lose a row", "longbench qasper: the data, or hpc-bench itself, has changed since"),
        ("lose the file", "holds no qasper"),
    ],
)
def test_data_that_changed_since_it_was_planned_with_gives_no_result(tmp_path: Path, change: str, words: str) -> None:
    file = write_longbench(tmp_path / "data", ["qasper"]) / "qasper.jsonl"
    asked = {"longbench": {"subsets": ["qasper"], "data": str(tmp_path / "data")}}
    sweep = sweep_of(tmp_path, benchmark_configs=asked, limits={"max_attempts": 1})
    execution = prepare_execution(make_plan(load_sweep(sweep)))
    if change == "lose a row":
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    else:
        file.unlink()

    worker = [sys.executable, "-m", "tests.support.run_worker", str(execution.path), "0", "1"]
    subprocess.run(worker, check=True, timeout=PATIENCE_S)

    assert results(sweep) == []
    assert len(outcomes(sweep)) == 4
    assert {outcome["error"] for outcome in outcomes(sweep)} == {"dataset_unavailable"}
    assert all(words in outcome["message"] for outcome in outcomes(sweep)), json.dumps(outcomes(sweep)[0])

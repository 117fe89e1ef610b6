"""Scoring again: from the disk alone, all of a result at once or nothing of it, and only what is complete."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpc_bench.benchmarks.suites.needle import Needle
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.files import file_digest
from hpc_bench.values import Scores
from tests.support.builders import claim, fail, prepare, publish, rewrite_json, run_cli, stubs_of, tree
from tests.support.running import results, submit, write_scripted_sweep
from tests.support.scored_results import (
    ANSWERS,
    NAMES,
    cell_of,
    publish_scored,
    rescored,
    result_of,
    text_files,
)

# What changes


def test_scores_are_computed_from_the_answers_on_disk(execution: ExecutionDir) -> None:
    (item,) = rescored(execution)

    assert (item.state, item.old, item.new) == ("changed", 80.0, 50.0)
    assert item.differing == ("score", "metrics", "by", "4 of 4 samples")
    cell = cell_of(execution)
    assert (cell.state, cell.score, dict(cell.metrics)) == ("complete", 50.0, {"string_match": 50.0})
    assert cell.by == {"depth": {"0-20": 100.0, "20-40": 0.0, "40-60": 100.0, "60-80": 0.0}}
    rows = (result_of(execution) / "raw_results.csv").read_text().splitlines()
    assert rows[0].startswith("sample_id,task,question,prediction,references,score_string_match,tokens_in")
    assert [row.split(",")[5] for row in rows[1:]] == ["100.0", "0.0", "100.0", "0.0"]


def test_earlier_files_are_kept_whole_each_time(execution: ExecutionDir) -> None:
    result = result_of(execution)
    first = text_files(result)
    rescored(execution)
    second = text_files(result)
    rewrite_json(result / "metrics.json", score=70.0)
    facts = json.loads((result / "stub.json").read_text())
    rewrite_json(result / "stub.json", sha256={**facts["sha256"], "metrics.json": file_digest(result / "metrics.json")})

    (item,) = rescored(execution)

    assert (item.old, item.new, item.differing) == (70.0, 50.0, ("score",))
    assert text_files(result / "earlier" / "1") == first
    assert text_files(result / "earlier" / "2")["raw_results.csv"] == second["raw_results.csv"]
    assert {path.name for path in result.iterdir()} == {*NAMES, "earlier"}
    assert not execution.rescoring.exists()


def test_stub_says_who_scored_again_and_the_rest_stays(execution: ExecutionDir) -> None:
    before = json.loads((result_of(execution) / "stub.json").read_text())
    rescored(execution)

    after = json.loads((result_of(execution) / "stub.json").read_text())

    assert after.pop("rescored").keys() == {"time", "host", "hpc_bench", "benchmark_version"}
    digests: dict[str, Any] = {"sha256": None, "bytes": None, "digest": None}
    assert {**after, **digests} == {**before, **digests}
    assert json.loads((result_of(execution) / "metrics.json").read_text())["layer_density"] == [0.25, 0.75]


def test_second_time_nothing_is_written(execution: ExecutionDir) -> None:
    rescored(execution)
    before, moment = tree(execution.path), result_of(execution).stat().st_ctime_ns

    (item,) = rescored(execution)

    assert (item.state, item.old, item.new) == ("unchanged", 50.0, 50.0)
    assert tree(execution.path) == before
    assert result_of(execution).stat().st_ctime_ns == moment


def test_time_of_a_result_stays_that_of_its_making(execution: ExecutionDir) -> None:
    os.utime(result_of(execution), (1_000_000_000, 1_000_000_000))

    rescored(execution)

    assert result_of(execution).stat().st_mtime == 1_000_000_000


def test_changed_score_of_one_sample_is_a_change(execution: ExecutionDir, monkeypatch: pytest.MonkeyPatch) -> None:
    rescored(execution)
    score = Needle.score

    def swapped(self: Needle, samples: Any, predictions: Any) -> Scores:
        found = score(self, samples, predictions)
        return Scores(found.score, found.metrics, found.per_sample[::-1], found.by)

    monkeypatch.setattr(Needle, "score", swapped)

    (item,) = rescored(execution)

    assert (item.state, item.differing) == ("changed", ("4 of 4 samples",))
    assert cell_of(execution).state == "complete"


def test_benchmarks_own_file_is_written_again_and_the_earlier_one_kept(
    execution: ExecutionDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("one", "two"):
        scores = Scores(50.0, {}, tuple({} for _ in ANSWERS), files={"mine.txt": text})
        monkeypatch.setattr(Needle, "score", lambda self, samples, predictions, scores=scores: scores)
        assert rescored(execution)[0].differing[-1] == "mine.txt"
        assert rescored(execution)[0].state == "unchanged"

    assert (result_of(execution) / "mine.txt").read_text() == "two"
    assert (result_of(execution) / "earlier" / "2" / "mine.txt").read_text() == "one"
    assert cell_of(execution).state == "complete"


def test_what_was_thought_is_not_scored(execution: ExecutionDir, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(Needle, "score", lambda self, samples, predictions: heard.extend(predictions))
    raw = result_of(execution) / "raw_results.csv"
    raw.write_text(raw.read_text().replace("it is right", "<think>hm</think>it is right"))
    facts = json.loads((result_of(execution) / "stub.json").read_text())
    rewrite_json(result_of(execution) / "stub.json", sha256={**facts["sha256"], "raw_results.csv": file_digest(raw)})

    rescored(execution)

    assert heard == list(ANSWERS)


# What is left alone


def test_results_that_are_not_complete_are_named_and_left(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    stubs = stubs_of(execution)
    publish_scored(execution, 80.0, 0)
    publish_scored(execution, 80.0, 1)
    publish_scored(execution, 80.0, 3)
    fail(execution, stubs[4], attempts=2)
    claim(execution, stubs[5])
    invalid, stale = execution.result(stubs[1].result_path), execution.result(stubs[3].result_path)
    rewrite_json(invalid / "metrics.json", score=90.0)
    rewrite_json(stale / "stub.json", fingerprint="0" * 64)
    before = tree(invalid), tree(stale), tree(execution.state)

    result = run_cli("rescore", tmp_path)

    assert result.exit_code == 1
    assert f"{stubs[0].title}: 80 -> 50 (score, metrics, by, 4 of 4 samples)" in result.stdout
    assert f"left as it is: {stubs[1].title}: InvalidResult: " in result.stdout
    assert f"left as it is: {stubs[3].title}: StaleResult: " in result.stdout
    assert "1 changed, 0 unchanged, 2 left" in result.stdout
    assert f"hpc-bench collect {execution.path}" in result.stdout
    assert (tree(invalid), tree(stale), tree(execution.state)) == before


def test_one_benchmark_alone(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    publish_scored(execution, 80.0, 0)
    mock = publish(execution, stubs_of(execution)[2], score=10.0)
    before = tree(mock)

    items = rescored(execution, "needle")

    assert [item.state for item in items] == ["changed"]
    assert tree(mock) == before
    assert [item.state for item in rescored(execution, "mock_benchmark", "needle")] == ["unchanged", "changed"]


def test_unknown_benchmark_is_the_users_mistake(execution: ExecutionDir) -> None:
    result = run_cli("rescore", execution.path, "--benchmark", "nedle")

    assert result.exit_code == 2
    assert "Error: --benchmark: unknown benchmark 'nedle'; did you mean 'needle'?" in result.stderr


def test_all_unchanged_is_exit_code_0(execution: ExecutionDir) -> None:
    assert run_cli("rescore", execution.path).exit_code == 0

    result = run_cli("rescore", execution.path)

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.replace("\n", "").endswith("0 changed, 1 unchanged, 0 left")


def raising(self: Any, samples: Any, predictions: Any) -> Scores:
    raise ZeroDivisionError("by \udcff")


def scoring(score: float | None, rows: int = 4) -> Callable[..., Scores]:
    return lambda self, samples, predictions: Scores(score, {}, tuple({} for _ in range(rows)))


@pytest.mark.parametrize("score", [raising, scoring(float("nan")), scoring(101.0), scoring(50.0, rows=3)])
def test_benchmark_that_cannot_score_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, score: Callable[..., Scores]
) -> None:
    execution = prepare(tmp_path)
    broken = publish_scored(execution, 80.0, 0)
    publish(execution, stubs_of(execution)[2], score=10.0)
    monkeypatch.setattr(Needle, "score", score)
    before = tree(broken)

    items = rescored(execution)

    assert [item.state for item in items] == ["left", "changed"]
    items[0].reason.encode()
    assert tree(broken) == before
    assert cell_of(execution).state == "complete"


def test_benchmark_of_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    data = tmp_path / "my.jsonl"
    data.write_text('{"context": "c", "question": "q", "answer": "a", "max_new_tokens": 8}\n')
    mine = {"data": str(data), "metric": "qa_f1"}
    execution = prepare(tmp_path / "results", benchmark_configs={"mine": mine})
    publish(execution, stubs_of(execution)[0])
    data.unlink()

    (item,) = rescored(execution)

    assert item.state == "left"
    assert str(data) in item.reason


def test_scores_of_another_version_of_the_benchmark_are_told(
    execution: ExecutionDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Needle, "version", Needle.version + 1)

    result = run_cli("rescore", execution.path)

    asked = (
        f"asked by version {Needle.version - 1} of needle, whose prompts or samples version {Needle.version} changed"
    )
    assert asked in result.stdout
    assert "scoring version" not in result.stdout


def test_unwritable_result_is_left(execution: ExecutionDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(shutil, "copy2", refuse)

    (item,) = rescored(execution)

    assert item.state == "left"
    assert "Permission denied" in item.reason
    assert cell_of(execution).score == 80.0


# The whole path


WITHOUT_TORCH = """
import sys
for name in ("torch", "transformers", "datasets"):
    sys.modules[name] = None
from hpc_bench.cli import main
main()
"""


def test_results_of_a_sweep_are_scored_again_without_torch(tmp_path: Path) -> None:
    data = tmp_path / "mine.jsonl"
    rows = [{"context": "c", "question": f"q{i}", "answers": ["a b", "c"], "task": f"t{i % 2}"} for i in range(4)]
    data.write_text("".join(json.dumps({**row, "max_new_tokens": 8}) + "\n" for row in rows))
    sweep = write_scripted_sweep(
        tmp_path,
        script={"answer": "half"},
        benchmark_configs={
            "needle": {"subsets": [256], "samples": 4},
            "mock_benchmark": None,
            "mine": {"data": str(data), "metric": "qa_f1"},
        },
        request_kwargs={"keep_context": True},
    )
    assert submit(sweep).returncode == 0
    assert all(json.loads((folder / "stub.json").read_text())["scoring_version"] == 1 for folder in results(sweep))
    before = tree(tmp_path / "results")

    same = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "rescore", str(tmp_path / "results")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert same.returncode == 0, same.stdout + same.stderr
    assert "0 changed, 6 unchanged, 0 left" in same.stdout.replace("\n", "")
    assert tree(tmp_path / "results") == before
    assert all("context_sha256,context" in (folder / "raw_results.csv").read_text() for folder in results(sweep))


def test_kept_context_changes_no_fingerprint(tmp_path: Path) -> None:
    plain, keeping = prepare(tmp_path / "a"), prepare(tmp_path / "b", request_kwargs={"keep_context": True})

    assert stubs_of(plain) == stubs_of(keeping)

"""A new scoring version: results stay complete, say by which rules they were scored, and are scored again."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from hpc_bench import catalog
from hpc_bench.benchmarks.suites.needle import Needle
from hpc_bench.execution.attempts.claims import Claim
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.manifest import read_manifest
from hpc_bench.execution.results.facts import Place, facts_of
from hpc_bench.values import Answer, Metric, Sample, Scores
from tests.support.builders import prepare, publish, run_cli, stubs_of, tree, write_sweep
from tests.support.scored_results import (
    NAMES,
    ONE_STUB,
    one_stub,
    publish_scored,
    rescored,
    result_of,
    text_files,
)

OTHERWISE = "1 result was scored by other rules than the present ones"


def half(self: Any, samples: Any, predictions: Any) -> Scores:
    """Rules by which each answer is a quarter right."""
    return Scores(25.0, {"string_match": Metric(25.0)}, tuple({"string_match": 25.0} for _ in samples))


def raise_scoring_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Needle, "scoring_version", Needle.scoring_version + 1)


def summary_of(execution: ExecutionDir) -> Any:
    return json.loads((execution.path / "execution_summary.json").read_text())


def stub_json(execution: ExecutionDir) -> Any:
    return json.loads((result_of(execution) / "stub.json").read_text())


def test_new_scoring_version_costs_a_rescore_and_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = write_sweep(tmp_path, **ONE_STUB)
    execution = one_stub(tmp_path / "results")
    publish_scored(execution, 80.0)
    assert "other rules" not in run_cli("plan", sweep).stdout + run_cli("collect", execution.path).stdout
    raise_scoring_version(monkeypatch)
    monkeypatch.setattr(Needle, "score", half)

    before = run_cli("plan", sweep), run_cli("collect", execution.path)
    rescore = run_cli("rescore", execution.path)
    after = run_cli("plan", sweep), run_cli("submit", "--gpus", "none", sweep)

    said = f"{OTHERWISE}; `hpc-bench rescore {execution.path}` scores it again\n"
    assert [result.stdout.count(said) for result in before] == [1, 1]
    assert [result.exit_code for result in before] == [0, 0]
    assert "1 complete, 0 stale, 0 failed, 0 running, 0 to run" in before[0].stdout
    assert "80 -> 25 (score, metrics, 4 of 4 samples); scored by scoring version 2 of needle, before by 1\n" in (
        rescore.stdout
    )
    assert not any("other rules" in result.stdout for result in after)
    assert "1 complete, 0 stale, 0 failed, 0 running, 0 to run" in after[1].stdout
    assert after[1].exit_code == 0
    assert summary_of(execution)["stubs"][0]["score"] == 25.0


def test_summary_says_by_which_rules_each_result_was_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    execution = prepare(tmp_path)
    publish_scored(execution, 80.0, 0)
    raise_scoring_version(monkeypatch)
    rescored(execution)
    publish_scored(execution, 80.0, 1)
    publish(execution, stubs_of(execution)[2])

    run_cli("collect", execution.path)

    summary = summary_of(execution)
    assert [stub.get("scoring_version") for stub in summary["stubs"][:4]] == [2, 1, 1, None]
    assert [note.startswith(OTHERWISE) for note in summary["notes"]] == [True]
    with execution.summary_csv.open(newline="") as file:
        assert [row["scoring_version"] for row in csv.DictReader(file)][:4] == ["2", "1", "1", ""]


def test_result_that_new_rules_score_as_before_says_so(
    execution: ExecutionDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    rescored(execution)
    before = text_files(result_of(execution))
    raise_scoring_version(monkeypatch)

    result = run_cli("rescore", execution.path)

    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == f"{execution.path}: 0 changed, 0 unchanged, 0 left, 1 confirmed"
    after = text_files(result_of(execution))
    assert [name for name in NAMES if before[name] != after[name]] == ["stub.json"]
    assert stub_json(execution)["scoring_version"] == 2
    assert text_files(result_of(execution) / "earlier" / "2") == before
    assert "other rules" not in run_cli("collect", execution.path).stdout
    assert "0 changed, 1 unchanged, 0 left\n" in run_cli("rescore", execution.path).stdout
    assert text_files(result_of(execution)) == after


def test_result_that_says_no_scoring_version_has_the_first(
    execution: ExecutionDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    rescored(execution)
    facts = stub_json(execution)
    del facts["scoring_version"], facts["digest"]
    (result_of(execution) / "stub.json").write_text(json.dumps(facts))
    before = tree(result_of(execution))

    assert "other rules" not in run_cli("collect", execution.path).stdout
    assert summary_of(execution)["stubs"][0]["scoring_version"] == 1
    assert [item.state for item in rescored(execution)] == ["unchanged"]
    assert tree(result_of(execution)) == before
    raise_scoring_version(monkeypatch)
    assert OTHERWISE in run_cli("collect", execution.path).stdout
    assert [item.state for item in rescored(execution)] == ["confirmed"]


def test_scores_of_a_benchmark_that_is_not_installed_are_held_against_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = prepare(tmp_path)
    publish_scored(execution, 80.0, 0)
    raise_scoring_version(monkeypatch)
    rescored(execution)
    publish_scored(execution, 80.0, 1)
    without = {kind: {} for kind in catalog.BUILT_IN}
    monkeypatch.setattr(catalog, "BUILT_IN", without)
    monkeypatch.setattr(catalog, "resolve", catalog.resolve.__wrapped__)

    assert OTHERWISE in run_cli("collect", execution.path).stdout


def test_scoring_version_is_in_no_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = one_stub(tmp_path / "a")
    raise_scoring_version(monkeypatch)

    assert stubs_of(one_stub(tmp_path / "b")) == stubs_of(first)


def test_new_result_says_by_which_rules_it_was_scored(execution: ExecutionDir, monkeypatch: pytest.MonkeyPatch) -> None:
    raise_scoring_version(monkeypatch)
    header, made = read_manifest(execution).header, Claim(stubs_of(execution)[0], 1)
    answers = {"0": Answer("right", 9, 1, 0, 0.5, 0.25, 0.5)}

    facts = facts_of(header, made, [Sample("0", "c", "q", ("right",), 8)], answers, Place({}, None, ""))

    assert facts.scoring_version == 2

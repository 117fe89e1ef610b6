"""Results that were made in different environments are named where they stand beside each other."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from hpc_bench.execution.folder import ExecutionDir
from tests.support.builders import prepare, publish_all, rewrite_json, run_cli, stubs_of, write_sweep

CHANGES: dict[str, Any] = {"model_names": ["org/alpha"], "benchmark_configs": {"needle": [256, 512]}}
MADE = {"hpc_bench": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "dtype": "float32", "device": "Test GPU"}


@pytest.fixture
def execution(tmp_path: Path) -> ExecutionDir:
    """Four complete stubs of one environment."""
    made = prepare(tmp_path / "results", **CHANGES)
    publish_all(made)
    for stub in stubs_of(made):
        rewrite_json(made.result(stub.result_path) / "stub.json", provenance=MADE)
    return made


def make_otherwise(execution: ExecutionDir, number: int, **changes: str) -> str:
    stub = stubs_of(execution)[number]
    rewrite_json(execution.result(stub.result_path) / "stub.json", provenance={**MADE, **changes})
    return stub.title


def test_collect_names_what_differs_from_the_baseline_beside_it(execution: ExecutionDir) -> None:
    title = make_otherwise(execution, 2, torch="2.12.0", dtype="bfloat16")

    shown = run_cli("collect", execution.path).stdout

    assert title.startswith("org/alpha/streaming")
    for difference in ("torch 2.12.0, not 2.13.0", "dtype bfloat16, not float32"):
        assert f"made in another environment than what it is compared with: {difference}: {title}" in shown


def test_one_environment_needs_no_words(execution: ExecutionDir) -> None:
    assert "another environment" not in run_cli("collect", execution.path).stdout


def test_summary_has_a_column_for_each_part_of_the_environment(execution: ExecutionDir) -> None:
    make_otherwise(execution, 1, device="Other GPU")
    run_cli("collect", execution.path)

    with execution.summary_csv.open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert [row["device"] for row in rows] == ["Test GPU", "Other GPU", "Test GPU", "Test GPU"]
    assert all(row[key] == MADE[key] for row in rows for key in ("hpc_bench", "torch", "transformers", "dtype"))


def test_plan_names_results_of_other_versions_than_the_installed_ones(execution: ExecutionDir, tmp_path: Path) -> None:
    titles = [make_otherwise(execution, number, torch="2.0.1") for number in (0, 3)]
    sweep = write_sweep(tmp_path, **CHANGES)

    shown = " ".join(run_cli("plan", "--gpus", "none", sweep).stdout.split())
    (torch,) = (
        each
        for each in json.loads(run_cli("plan", "--gpus", "none", "--json", sweep).stdout)["other_environments"]
        if each["theirs"] == "2.0.1"
    )

    assert "complete in another environment: torch 2.0.1, not " in shown
    assert torch["titles"] == titles

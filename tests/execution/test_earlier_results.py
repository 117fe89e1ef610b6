"""Results that an earlier version made stay what they are.

`earlier_results.tar.gz` is an execution of 16 stubs as the last version before the eight rooms left it on disk (commit
49c919b; its jobs' files and heartbeats are left out), with its sweep file and local data beside it.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.report.collect import collect_execution
from tests.support.builders import run_cli, tree
from tests.support.refusals import assert_refused

STORED = Path(__file__).parent / "earlier_results.tar.gz"
RIGHT = {"dense": 100.0, "streaming": 25.0, "measured": 100.0, "everywhere": 25.0}
"""Score of needle under each attention config; every other score is 0."""


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExecutionDir:
    """In the present folder, as the sweep's data paths want it."""
    with tarfile.open(STORED) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return ExecutionDir.locate(tmp_path / "results")


def planned() -> Any:
    return json.loads(run_cli("plan", "--gpus", "none", "--json", "stored.yaml").stdout)


def test_plan_says_that_their_format_is_an_earlier_one(stored: ExecutionDir) -> None:
    plan = planned()

    assert plan["execution"] == str(Path("results") / stored.path.name)
    assert (plan["complete"], plan["stale"], plan["to_run"], plan["scored_otherwise"]) == (0, 16, 0, 0)
    assert json.loads(run_cli("status", "results", "--json").stdout)["complete"] == 16


def test_scores_are_collected_as_they_are(stored: ExecutionDir) -> None:
    summary = collect_execution(stored)

    assert summary.counts == {"complete": 16}
    for cell in summary.cells:
        assert cell.score == (RIGHT[cell.stub.attention] if cell.stub.benchmark == "needle" else 0.0)
    assert run_cli("collect", "results").exit_code == 0


def test_submitting_again_is_refused_and_writes_nothing(stored: ExecutionDir) -> None:
    before = tree(stored.path)

    done = run_cli("submit", "--gpus", "none", "stored.yaml")

    assert_refused(done, "16 with format: 1 is on disk", "CHANGELOG.md says why", "--new")
    assert tree(stored.path) == before


def test_scoring_again_changes_nothing(stored: ExecutionDir) -> None:
    before = tree(stored.path)

    done = run_cli("rescore", "results")

    assert done.exit_code == 0, done.output
    assert "0 changed, 16 unchanged, 0 left" in done.stdout
    assert tree(stored.path) == before

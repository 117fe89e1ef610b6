"""Whether a result stands is answered once, and the same to every command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hpc_bench.benchmarks.suites.needle import Needle
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.results import replacement
from tests.support.builders import prepare, publish, run_cli, stubs_of, write_sweep
from tests.support.scored_results import ONE_STUB, publish_scored, rescored


def edit(result: Path, name: str, old: str, new: str) -> None:
    """Changes a file in the way of an editor."""
    text = (result / name).read_text()
    assert old in text
    (result / name).write_text(text.replace(old, new))


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "edited facts": (lambda result: edit(result, "stub.json", '"seconds": 2.0', '"seconds": 1.0'), "stub.json"),
    "edited scores": (lambda result: edit(result, "metrics.json", "50.0", "90.0"), "metrics.json"),
    "torn rows": (lambda result: (result / "raw_results.csv").write_text("sample_id\r\n"), "raw_results.csv"),
}


@pytest.mark.parametrize(("damage", "name"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_result_is_invalid_for_every_command(tmp_path: Path, damage: Callable[[Path], None], name: str) -> None:
    execution = prepare(tmp_path / "results", **ONE_STUB)
    sweep = write_sweep(tmp_path, **ONE_STUB)
    damage(publish(execution, stubs_of(execution)[0]))
    said = f"{name} is not as it was published"

    plan, collect, rescore = (
        " ".join(run_cli(*command).stdout.split())
        for command in (
            ("plan", "--gpus", "none", sweep),
            ("collect", tmp_path / "results"),
            ("rescore", tmp_path / "results"),
        )
    )

    assert "0 complete, 1 stale" in plan
    assert said in plan
    assert "0 complete, 1 invalid" in collect
    assert said in collect
    assert "0 changed, 0 unchanged, 1 left" in rescore
    assert said in rescore


def test_facts_of_before_they_had_a_digest_stay_valid(tmp_path: Path) -> None:
    execution = prepare(tmp_path, **ONE_STUB)
    path = publish(execution, stubs_of(execution)[0]) / "stub.json"
    facts = json.loads(path.read_text())
    del facts["digest"], facts["bytes"]
    path.write_text(json.dumps(facts))

    assert run_cli("collect", tmp_path).exit_code == 0


def test_scoring_again_that_broke_off_after_its_rename_counts_for_plan_as_for_collect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = prepare(tmp_path / "results", **ONE_STUB)
    sweep = write_sweep(tmp_path, **ONE_STUB)
    publish_scored(execution, 80.0)
    monkeypatch.setattr(Needle, "scoring_version", Needle.scoring_version + 1)
    assert scored_otherwise(execution, sweep) == (1, True)

    with monkeypatch.context() as patch:
        patch.setattr(replacement, "finish_replacing", broken_off)
        (item,) = rescored(execution)

    assert item.state == "unfinished"
    assert scored_otherwise(execution, sweep) == (0, False)


def broken_off(folder: Path) -> None:
    """The new files are in force, and nothing is moved to its place."""
    if (folder / ".next").exists():
        raise OSError("the program was killed here")


def scored_otherwise(execution: ExecutionDir, sweep: Path) -> tuple[int, bool]:
    """The results that are scored by other rules, by plan; and whether collect speaks of any."""
    plan = json.loads(run_cli("plan", "--gpus", "none", "--json", sweep).stdout)
    return plan["scored_otherwise"], "scored by other rules" in run_cli("collect", execution.path).stdout

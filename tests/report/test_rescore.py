"""Scoring again: from the disk alone, all of a result at once or nothing of it, and only what is complete."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpc_bench import catalog
from hpc_bench.benchmarks.suites.needle import Needle
from hpc_bench.execution.claims import Claim
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.manifest import read_manifest
from hpc_bench.execution.results import result as publishing
from hpc_bench.execution.results.replacement import replace_files
from hpc_bench.execution.results.result import publish_result, write_result
from hpc_bench.files import file_digest
from hpc_bench.report.collect import Cell, collect_execution
from hpc_bench.report.rescore import Rescored, rescore_execution
from hpc_bench.values import Answer, Metric, Sample, Scores
from tests.support.builders import claim, fail, prepare, publish, rewrite_json, run_cli, stub_facts, stubs_of, tree
from tests.support.builders import write_sweep as write_planned_sweep
from tests.support.running import results, submit, write_sweep

ANSWERS = ("right", "wrong", "it is right", "")
NAMES = ("metrics.json", "raw_results.csv", "stub.json")


def publish_scored(execution: ExecutionDir, score: float, number: int = 0) -> Path:
    """A result of needle, half of whose answers are right, published with that score."""
    stub = stubs_of(execution)[number]
    made = claim(execution, stub)
    folder = execution.attempt(stub.key, made.attempt)
    folder.mkdir(parents=True)
    asked = [
        Sample(str(index), "context", "q", ("right",), 8, task="needle", extra={"depth": 25.0 * index})
        for index in range(len(ANSWERS))
    ]
    answers = {
        sample.sample_id: Answer(text, 9, 1, 0, 0.5, 0.25, 0.5) for sample, text in zip(asked, ANSWERS, strict=True)
    }
    scores = Scores(score, {"string_match": Metric(score)}, tuple({"string_match": score} for _ in asked))
    write_result(folder, asked, answers, scores, stub_facts(read_manifest(execution), made, len(asked)))
    assert publish_result(execution, made)
    return execution.result(stub.result_path)


ONE_STUB: dict[str, Any] = {
    "model_names": ["org/alpha"],
    "sparse_attention_configs": {"dense": None},
    "benchmark_configs": {"needle": [256]},
}


def one_stub(base: Path) -> ExecutionDir:
    return prepare(base, **ONE_STUB)


@pytest.fixture
def execution(tmp_path: Path) -> ExecutionDir:
    """One stub, complete, with a score of 80 where 50 is right."""
    made = one_stub(tmp_path)
    publish_scored(made, 80.0)
    return made


def rescored(execution: ExecutionDir, *benchmarks: str) -> list[Rescored]:
    return list(rescore_execution(execution, benchmarks))


def cell_of(execution: ExecutionDir) -> Cell:
    return collect_execution(execution).cells[0]


def result_of(execution: ExecutionDir) -> Path:
    return execution.result(stubs_of(execution)[0].result_path)


def text_files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in NAMES}


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
    assert {**after, "sha256": None} == {**before, "sha256": None}
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


# A new scoring version

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
    sweep = write_planned_sweep(tmp_path, **ONE_STUB)
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
    del facts["scoring_version"]
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

    facts = publishing.stub_facts(header, made, [Sample("0", "c", "q", ("right",), 8)], answers)

    assert facts["scoring_version"] == 2


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


# All at once, whenever it ends

CALLS = ("link", "rename", "replace", "mkdir", "rmdir", "unlink", "fsync", "utime")
FIRST, LAST = 1, 32


def break_at(step: int, action: Callable[[], None], patch: Callable[[str, Any], None]) -> Callable[[], int]:
    """Has `action` happen in the place of the `step`-th call that changes the filesystem; returns the count."""
    calls = 0

    def wrap(real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == step:
                action()
            return real(*args, **kwargs)

        return call

    for name in CALLS:
        patch(name, wrap(getattr(os, name)))
    return lambda: calls


def assert_old_or_new(execution: ExecutionDir, result: Path) -> float:
    cell = cell_of(execution)
    assert cell.state == "complete", cell.reason
    assert cell.score in (50.0, 80.0)
    assert cell.metrics == {"string_match": cell.score}
    assert all((result / name).exists() or (result / ".next" / name).exists() for name in NAMES)
    return cell.score


def copies(folder: Path) -> list[ExecutionDir]:
    """One complete stub each, in a base result dir named after the step to break at."""
    publish_scored(one_stub(folder / "first"), 80.0)
    bases = [folder / str(step) for step in range(FIRST, LAST)]
    return [ExecutionDir.locate(shutil.copytree(folder / "first", base)) for base in bases]


def fails() -> None:
    raise OSError(5, "Input/output error")


def test_error_at_any_step_leaves_the_old_result_or_the_new_one(tmp_path: Path) -> None:
    seen = set()
    for step, execution in enumerate(copies(tmp_path), FIRST):
        result = result_of(execution)
        first = text_files(result)
        with pytest.MonkeyPatch.context() as patch:
            count = break_at(step, fails, lambda name, value, patch=patch: patch.setattr(os, name, value))
            (item,) = rescored(execution)
        score = assert_old_or_new(execution, result)
        seen.add((item.state, score))

        rescored(execution)

        assert cell_of(execution).score == 50.0
        assert text_files(result / "earlier" / "1") == first
        assert not (result / "earlier" / "2").exists()
        assert {path.name for path in result.iterdir()} == {*NAMES, "earlier"}
        if count() < step:
            break
    else:
        pytest.fail("there are more steps than were tried")
    assert seen == {("left", 80.0), ("unfinished", 50.0), ("changed", 50.0)}


KILLED = """
import os, signal, sys
from pathlib import Path
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.report.rescore import rescore_execution
from tests.report.test_rescore import break_at

for folder in map(Path, sys.argv[1:]):
    execution = ExecutionDir.locate(folder)
    child = os.fork()
    if child == 0:
        break_at(int(folder.name), lambda: os.kill(os.getpid(), signal.SIGKILL), lambda *item: setattr(os, *item))
        list(rescore_execution(execution))
        os._exit(0)
    print(folder.name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_kill_at_any_step_leaves_the_old_result_or_the_new_one(tmp_path: Path) -> None:
    executions = copies(tmp_path)
    folders = [str(execution.path.parent) for execution in executions]

    done = subprocess.run([sys.executable, "-c", KILLED, *folders], capture_output=True, text=True, check=True)

    ends = [line.split()[1] for line in done.stdout.splitlines()]
    assert len(ends) == len(executions)
    assert ends.count("-9") > 10
    assert ends[-1] == "0"
    scores = [assert_old_or_new(execution, result_of(execution)) for execution in executions]
    assert scores == sorted(scores, reverse=True)
    assert set(scores) == {50.0, 80.0}
    for execution in executions:
        rescored(execution)
        assert cell_of(execution).score == 50.0
        assert {path.name for path in result_of(execution).iterdir()} == {*NAMES, "earlier"}
        assert [path.name for path in (result_of(execution) / "earlier").iterdir()] == ["1"]


def test_rename_that_reports_an_error_but_happened_counts(
    execution: ExecutionDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.rename

    def rename(source: Any, target: Any) -> None:
        real(source, target)
        if Path(target).name == ".next":
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "rename", rename)

    assert rescored(execution)[0].state == "changed"
    assert cell_of(execution).score == 50.0


def test_what_a_killed_program_left_is_removed_when_it_is_old(execution: ExecutionDir) -> None:
    for name, age_s in (("old", 100_000), ("new", 0)):
        folder = execution.rescoring / name
        folder.mkdir(parents=True)
        moment = folder.stat().st_mtime - age_s
        os.utime(folder, (moment, moment))

    rescored(execution)

    assert [path.name for path in execution.rescoring.iterdir()] == ["new"]


SCORED_OVER_AND_OVER = """
import sys
from pathlib import Path
from hpc_bench.benchmarks.suites.needle import Needle
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.values import Metric, Scores
from hpc_bench.report.rescore import rescore_execution

for number in range(int(sys.argv[2])):
    score = float(number % 2)
    Needle.score = lambda self, samples, predictions: Scores(
        score, {"string_match": Metric(score)}, tuple({"string_match": score} for _ in samples)
    )
    (item,) = rescore_execution(ExecutionDir(Path(sys.argv[1])))
    assert item.state == "changed", item
"""


def test_collector_never_sees_half_of_a_change(execution: ExecutionDir) -> None:
    command = [sys.executable, "-c", SCORED_OVER_AND_OVER, str(execution.path), "40"]
    writer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    seen: set[Any] = set()

    while writer.poll() is None:
        cell = cell_of(execution)
        assert cell.state == "complete", cell.reason
        assert cell.metrics == {"string_match": cell.score}
        seen.add(cell.score)

    assert writer.stderr is not None
    assert writer.returncode == 0, writer.stderr.read()
    writer.stderr.close()
    assert seen > {80.0}


def test_two_that_score_at_once_leave_one_whole_result(execution: ExecutionDir) -> None:
    command = [sys.executable, "-m", "hpc_bench", "rescore", str(execution.path)]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]

    for process in both:
        process.wait(timeout=60)

    assert cell_of(execution).score == 50.0
    assert rescored(execution)[0].state == "unchanged"


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
    sweep = write_sweep(
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


def test_files_are_kept_as_copies_where_folders_share_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, text in (("result", "old"), ("prepared", "new")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "metrics.json").write_text(text)

    def refuse(*_paths: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr("hpc_bench.execution.results.replacement.os.link", refuse)

    replace_files(tmp_path / "result", tmp_path / "prepared")

    assert (tmp_path / "result" / "metrics.json").read_text() == "new"
    assert (tmp_path / "result" / "earlier" / "1" / "metrics.json").read_text() == "old"

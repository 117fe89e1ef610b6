"""Scoring again, stopped at any moment or done by two at once, leaves the old result or the new one."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.results.replacement import replace_files
from tests.support.running import PATIENCE_S
from tests.support.scored_results import (
    NAMES,
    cell_of,
    one_stub,
    publish_scored,
    rescored,
    result_of,
    text_files,
)

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
from tests.report.test_rescore_faults import break_at

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
        process.wait(timeout=PATIENCE_S)

    assert cell_of(execution).score == 50.0
    assert rescored(execution)[0].state == "unchanged"


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

"""What is made of squeue's words, with a squeue that says what the test wants."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hpc_bench.errors import BackendError
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.submission import JobArray, Submission, write_submission
from hpc_bench.files import filesystem_now, write_whole
from hpc_bench.running.slurm.queue import ABSENT_S, ASK_EVERY_S, Queue, read_queue
from tests.support.builders import prepare, run_cli
from tests.support.refusals import assert_refused
from tests.support.slurm_sweeps import age_queue


class Squeue:
    """A command on PATH."""

    def __init__(self, folder: Path) -> None:
        self._said, self._calls = folder / "said", folder / "calls"
        self._calls.touch()
        script = folder / "squeue"
        script.write_text(f'#!/bin/sh\necho "$*" >> {self._calls}\n. {self._said}\n')
        script.chmod(0o755)
        self.says()

    def says(self, *lines: str) -> None:
        self._said.write_text("".join(f"echo '{line}'\n" for line in lines))

    def says_by_cluster(self, **lines: str) -> None:
        """On each cluster that is named one line, on the default one nothing."""
        cases = " ".join(f"*--clusters={name}*) echo '{line}';;" for name, line in lines.items())
        self._said.write_text(f'case "$*" in {cases} esac\n')

    def fails(self, message: str) -> None:
        self._said.write_text(f"echo 'slurm_load_jobs error: {message}' >&2\nexit 1\n")

    @property
    def calls(self) -> int:
        return len(self._calls.read_text().splitlines())


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Squeue:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return Squeue(folder)


@pytest.fixture
def execution(tmp_path: Path) -> ExecutionDir:
    return prepare(tmp_path / "results")


def array(job: str, cluster: str = "") -> JobArray:
    """Such as an array that was submitted."""
    return JobArray(job, 0, 2, 0, 2, "", 10, "", cluster)


def ask(execution: ExecutionDir, jobs: list[str], *, fresh: bool = False) -> Queue:
    return read_queue(execution, map(array, jobs), filesystem_now(execution.state), fresh=fresh)


def test_lines_of_arrays_single_jobs_and_states(squeue: Squeue, execution: ExecutionDir) -> None:
    squeue.says(
        "12_[4,7-9%3]|PENDING|JobArrayTaskLimit|N/A|",
        "12_1|RUNNING|None|2026-01-02T03:04:05|node7",
        "13|CONFIGURING|None|N/A|node8",
    )

    queue = ask(execution, ["12", "13"])

    assert [tasks.names for tasks in queue.tasks] == [["12_4", "12_7", "12_8", "12_9"], ["12_1"], ["13"]]
    assert queue.tasks[0].throttle == 3
    assert len(queue.pending) == 1
    assert len(queue.pending[0]) == 4
    assert queue.running(array("12")) == ["12_1"]
    assert queue.running(array("13")) == ["13"]


def test_one_asking_serves_everybody_for_a_while(squeue: Squeue, execution: ExecutionDir) -> None:
    for _ in range(3):
        ask(execution, ["12"])
    within = squeue.calls
    age_queue(execution, ASK_EVERY_S + 1)
    ask(execution, ["12"])

    assert (within, squeue.calls) == (1, 2)


def test_new_job_is_asked_about_at_once(squeue: Squeue, execution: ExecutionDir) -> None:
    ask(execution, ["12"])

    ask(execution, ["12", "13"])

    assert squeue.calls == 2


@pytest.mark.parametrize("state", ["NODE_FAIL", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED"])
def test_passing_states_may_still_bring_a_worker(squeue: Squeue, execution: ExecutionDir, state: str) -> None:
    squeue.says(f"12_0|{state}|None|N/A|node1")

    assert ask(execution, ["12"]).may_hold_work


def test_job_that_is_missing_for_a_moment_is_not_over(squeue: Squeue, execution: ExecutionDir) -> None:
    squeue.fails("Invalid job id specified")

    missing = ask(execution, ["12"])
    age_queue(execution, ASK_EVERY_S + 1)
    still_missing = ask(execution, ["12"])
    age_queue(execution, ABSENT_S)
    gone = ask(execution, ["12"])

    assert missing.may_hold_work
    assert still_missing.may_hold_work
    assert not gone.may_hold_work
    before = squeue.calls
    age_queue(execution, ABSENT_S)
    assert not ask(execution, ["12"]).may_hold_work
    assert squeue.calls == before  # nobody asks about what is over


def test_job_that_comes_back_is_there_again(squeue: Squeue, execution: ExecutionDir) -> None:
    ask(execution, ["12"])
    age_queue(execution, ASK_EVERY_S + 1)
    squeue.says("12_0|PENDING|BeginTime|N/A|")

    queue = ask(execution, ["12"])

    assert queue.absent == {}
    assert len(queue.tasks) == 1


def test_silent_slurm_leaves_the_last_answer_and_says_so(squeue: Squeue, execution: ExecutionDir) -> None:
    squeue.says("12_[0-3]|PENDING|Resources|N/A|")
    ask(execution, ["12"])
    age_queue(execution, ASK_EVERY_S + 1)
    squeue.fails("Unable to contact slurm controller (connect failure)")

    queue = ask(execution, ["12"])

    assert not queue.answered
    assert [tasks.reason for tasks in queue.tasks] == ["Resources"]
    with pytest.raises(BackendError, match="Unable to contact"):
        ask(execution, ["12"], fresh=True)


def test_unreadable_notes_are_asked_for_again(squeue: Squeue, execution: ExecutionDir) -> None:
    squeue.says("12_0|RUNNING|None|N/A|node1")
    execution.queue.write_text("{torn")

    assert ask(execution, ["12"]).running(array("12")) == ["12_0"]


@pytest.mark.parametrize("way", ["fresh", "heard"])
def test_job_that_was_called_over_is_there_again_when_it_is_seen(
    squeue: Squeue, execution: ExecutionDir, way: str
) -> None:
    ask(execution, ["12"])
    age_queue(execution, ABSENT_S + 1)
    over = ask(execution, ["12"])
    squeue.says("12_0|RUNNING|None|N/A|node1")

    heard = {"12"} if way == "heard" else set()
    queue = read_queue(execution, [array("12")], filesystem_now(execution.state), fresh=way == "fresh", living=heard)

    assert over.over == ("12",)
    assert queue.over == ()
    assert queue.running(array("12")) == ["12_0"]


def test_equal_ids_on_two_clusters_are_two_jobs(squeue: Squeue, execution: ExecutionDir) -> None:
    here, there = array("12"), array("12", "c2")
    squeue.says_by_cluster(c2="12_0|RUNNING|None|N/A|node1")

    def look() -> Queue:
        return read_queue(execution, [here, there], filesystem_now(execution.state))

    look()
    age_queue(execution, ABSENT_S + 1)
    queue = look()

    assert queue.running(there) == ["12_0"]
    assert queue.running(here) == []
    assert queue.over == ("12",)


def test_notes_of_earlier_versions_are_still_read(squeue: Squeue, execution: ExecutionDir) -> None:
    squeue.says("12_0|RUNNING|None|N/A|node1")
    ask(execution, ["12"])
    notes = json.loads(execution.queue.read_text())
    del notes["tasks"][0]["cluster"]
    write_whole(execution.queue, json.dumps(notes))

    assert ask(execution, ["12"]).running(array("12")) == ["12_0"]
    assert squeue.calls == 1


def test_log_of_a_job_is_found_by_its_cluster(execution: ExecutionDir) -> None:
    for cluster in ("c1", "c2"):
        write_submission(
            execution, Submission(f"slurm-{cluster}", "slurm", "login", (), arrays=(array("12", cluster),))
        )
        log = execution.job_log(f"slurm-{cluster}", "12_0")
        log.parent.mkdir()
        log.write_text(f"on {cluster}")

    assert_refused(run_cli("logs", execution.path, "12_0"), "job 12 is on several clusters", "12;c1, 12;c2")
    assert "on c2" in run_cli("logs", execution.path, "12_0;c2").stdout

"""A slot stands on disk under its name, and comes back as it was."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.heartbeat import Heartbeat, read_workers, this_process, write_heartbeat
from hpc_bench.execution.slot import Slot
from hpc_bench.execution.submission import (
    JobArray,
    is_told_to_stop,
    new_submission,
    read_submissions,
    write_submission,
)
from tests.support.builders import prepare


@pytest.fixture
def execution(tmp_path: Path) -> ExecutionDir:
    return prepare(tmp_path)


def test_name_holds_submission_and_index() -> None:
    slot = Slot("slurm-20260102-030405-000006", 12)

    assert str(slot) == "slurm-20260102-030405-000006-12"
    assert Slot.parse(str(slot)) == slot


@pytest.mark.parametrize("name", ["", "7", "-7", "local", "local-", "local-x", "local-²", "local--", "local-07"])
def test_what_is_not_a_slot_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a slot"):
        Slot.parse(name)


def test_submission_comes_back_with_its_slots_and_jobs(execution: ExecutionDir) -> None:
    made = new_submission("local", "host", [0, 3])
    made = dataclasses.replace(made, jobs={slot: str(100 + slot.index) for slot in made.slots})

    write_submission(execution, made)

    assert read_submissions(execution) == [made]


def test_array_names_the_slot_of_each_of_its_jobs() -> None:
    made = new_submission("slurm", "host", [4, 5])
    array = JobArray("77", 4, 2, 1, 2, "", 60, "script.sh")
    single = JobArray("78", 6, 1, 1, 1, "", 60, "script.sh")

    assert made.jobs_of(array) == {"77_0": Slot(made.name, 4), "77_1": Slot(made.name, 5)}
    assert made.jobs_of(single) == {"78": Slot(made.name, 6)}


def test_request_to_stop_is_for_one_slot_or_a_whole_submission(execution: ExecutionDir) -> None:
    first, second, other = Slot("a", 0), Slot("a", 1), Slot("b", 0)
    execution.stop_request(str(first)).touch()
    execution.stop_request("b").touch()

    assert [is_told_to_stop(execution, slot) for slot in (first, second, other)] == [True, False, True]


def test_heartbeat_comes_back_with_its_slot(execution: ExecutionDir) -> None:
    beat = Heartbeat("w", Slot("local-1", 2), "local", this_process(), samples={"key": (1, 4)})

    write_heartbeat(execution, beat)

    assert read_workers(execution, 60)["w"].heartbeat == beat


def test_heartbeat_that_cannot_be_read_still_names_its_slot(execution: ExecutionDir) -> None:
    execution.heartbeat("local-1-2.abc").write_text("{")

    (worker,) = read_workers(execution, 60).values()

    assert (worker.heartbeat.slot, worker.heartbeat.reason) == (Slot("local-1", 2), "unreadable")

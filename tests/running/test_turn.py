"""Submitting alone: turns that are stale, damaged or refused, and two local submits at once."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpc_bench.errors import BackendError
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.heartbeat import this_process
from hpc_bench.execution.schema import dump_as
from hpc_bench.execution.submission import read_submissions
from hpc_bench.running.turn import SILENT_S, Turn, submitting_alone
from tests.support.builders import prepare
from tests.support.running import (
    HPC_BENCH,
    PATIENCE_S,
    execution_of,
    results,
    start_submit,
    wait_until,
    waiting_for,
    write_scripted_sweep,
)

ROUNDS, RACERS = 60, 4


def _leave_stale_turn(execution: ExecutionDir, number: int) -> Path:
    """As of a process of another machine that ended long ago."""
    execution.turns.mkdir(exist_ok=True)
    path = execution.turn(number)
    path.write_text(dump_as(Turn, Turn(replace(this_process(), host="elsewhere"))))
    os.utime(path, (time.time() - SILENT_S - 60,) * 2)
    return path


def _race(folder: Path, barrier: Any, doubled: Any) -> None:
    execution = ExecutionDir(folder)
    for number in range(ROUNDS):
        barrier.wait()
        with submitting_alone(execution):
            try:
                descriptor = os.open(folder / "inside", os.O_CREAT | os.O_EXCL)
                time.sleep(0.002)
                os.close(descriptor)
                (folder / "inside").unlink()
            except FileExistsError:
                doubled.value += 1
        if barrier.wait() == 0:
            last = max(int(path.name) for path in execution.turns.glob("[0-9]*"))
            _leave_stale_turn(execution, last + 1 + number % 2)
        barrier.wait()


@pytest.mark.slow
def test_stale_turn_lets_one_in_at_a_time(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    _leave_stale_turn(execution, 1)
    context = multiprocessing.get_context("spawn")
    barrier, doubled = context.Barrier(RACERS), context.Value("i", 0)
    racers = [context.Process(target=_race, args=(execution.path, barrier, doubled)) for _ in range(RACERS)]

    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()

    assert [racer.exitcode for racer in racers] == [0] * RACERS
    assert doubled.value == 0


@pytest.mark.parametrize("kind", ["corrupt", "folder", "unreadable"])
def test_damaged_turn_is_not_waited_for_without_end(tmp_path: Path, kind: str) -> None:
    execution = prepare(tmp_path)
    path = _leave_stale_turn(execution, 1)
    if kind == "corrupt":
        path.write_text("{torn")
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.chmod(0)
    os.utime(path, (time.time() - SILENT_S - 60,) * 2)

    with submitting_alone(execution):
        assert execution.turn(2).exists()


def test_turn_of_a_process_that_is_gone_is_over_at_once(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    path = _leave_stale_turn(execution, 1)
    path.write_text(dump_as(Turn, Turn(replace(this_process(), pid=2**22 + 1))))

    with submitting_alone(execution):
        assert execution.turn(2).exists()


def test_turns_that_cannot_be_written_get_one_line(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    execution.turns.write_text("")

    with (
        pytest.raises(BackendError, match=r"turns: cannot be used: .*; make it a writable folder"),
        submitting_alone(execution),
    ):
        pass


@pytest.mark.slow
def test_two_local_submits_at_once_fill_each_slot_once(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    sweep = write_scripted_sweep(tmp_path, script=waiting_for(gate))

    submits = [start_submit(sweep, "--detach") for _ in range(2)]
    outputs = [submit.communicate()[0] for submit in submits]

    assert [submit.returncode for submit in submits] == [0, 0], outputs
    slots = [slot for submission in read_submissions(execution_of(sweep)) for slot in submission.slots]
    gate.touch()
    wait_until(lambda: len(results(sweep)) == 4)
    assert len(slots) == 2


SBATCH = """\
[[ " $* " == *" --test-only "* ]] && exit
for option; do [[ $option == --array=* ]] && tasks=${option#--array=}; done
echo "$tasks" >> "$FAKE/submitted"
until [ -e "$FAKE/gate" ]; do sleep 0.1; done
job=$(wc -l < "$FAKE/submitted")
echo "${job}_[$tasks]|PENDING|None|N/A|" >> "$FAKE/queue"
echo "$job"
"""


def fake_slow_slurm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm's commands, of which sbatch answers only once there is a file `gate`; `submitted` has a line an array."""
    commands = {"sbatch": SBATCH, "srun": "", "squeue": 'cat "$FAKE/queue"', "scontrol": "", "scancel": ""}
    for name, body in commands.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    (folder / "queue").touch()
    monkeypatch.setenv("FAKE", str(folder))
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def submit_on_slurm(sweep: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([*HPC_BENCH, "submit", "--backend", "slurm", str(sweep)], stdout=subprocess.PIPE, text=True)


def test_launcher_of_a_killed_submit_keeps_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "fake"
    fake.mkdir()
    fake_slow_slurm(fake, monkeypatch)
    sweep = write_scripted_sweep(tmp_path)
    submits = [submit_on_slurm(sweep)]
    wait_until((fake / "submitted").exists)

    submits[0].kill()
    turn = execution_of(sweep).turn(1)
    os.utime(turn, (time.time() - SILENT_S - 60,) * 2)
    wait_until(lambda: time.time() - turn.stat().st_mtime < SILENT_S)  # by which other machines know
    submits.append(submit_on_slurm(sweep))
    time.sleep(4)  # long enough to submit beside the launcher, if it were let
    (fake / "gate").touch()
    outputs = [submit.communicate(timeout=PATIENCE_S)[0] for submit in submits]

    assert submits[1].returncode == 0, outputs
    assert "no worker was needed" in outputs[1]
    assert (fake / "submitted").read_text().splitlines() == ["0-1%2"]


def test_launcher_that_outlives_the_patience_of_its_submit_keeps_the_turn(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    with subprocess.Popen(["sleep", "600"]) as launcher:
        with submitting_alone(execution) as turn:
            turn.share(launcher)
        threading.Timer(0.5, launcher.kill).start()

        with submitting_alone(execution):
            assert launcher.poll() is not None

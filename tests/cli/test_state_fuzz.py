"""State files changed at random: no command shows a traceback, hangs, or writes outside of the results folder."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hpc_bench.cli import main
from hpc_bench.execution.attempts.claims import Outcome, write_outcome
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.heartbeat import Heartbeat, Process, this_process, write_heartbeat
from hpc_bench.execution.manifest import read_manifest, write_manifest
from hpc_bench.execution.results.samples_file import SamplesFile
from hpc_bench.execution.slot import Slot
from hpc_bench.execution.stub import Stub
from hpc_bench.execution.submission import JobArray, Submission, write_submission
from hpc_bench.files import write_whole
from hpc_bench.values import Answer
from tests.support.builders import claim, fail, publish, rewrite_json, run_cli, tree, write_sweep
from tests.support.fuzzing import HangError, limited, problem_of, seed_chunks
from tests.support.places import TINY
from tests.support.scored_results import publish_scored
from tests.support.state_mutations import mutate_state

pytestmark = pytest.mark.usefixtures("no_workers")

COMMANDS: dict[str, Sequence[str]] = {
    "status": ("status", "results"),
    "status as JSON": ("status", "results", "--json"),
    "plan": ("plan", "--gpus", "none"),
    "logs of a job": ("logs", "results", "77_1"),
    "logs of a complete stub": ("logs", "results", "org/alpha/dense/needle/256"),
    "logs of a failed stub": ("logs", "results", "org/alpha/streaming/needle/256"),
    "logs of a running stub": ("logs", "results", "org/alpha/dense/needle/512"),
    "dry run": ("submit", "--gpus", "none", "--dry-run"),
    "collect": ("collect", "results"),
    "rescore": ("rescore", "results"),
    "cancel": ("cancel", "results", "--wait", "0"),
}


def write_state(folder: Path) -> ExecutionDir:
    """One execution with a file of every kind: results, attempts of every state, workers, submissions, logs."""
    shutil.copytree(TINY, folder / "model")
    write_sweep(folder, model_names=["org/alpha", "./model"], base_result_dir="results")
    assert run_cli("plan", "--gpus", "none").exit_code == 0
    execution = _prepared()
    stubs = {stub.title: stub for stub in read_manifest(execution).stubs}
    alpha = [stub for title, stub in stubs.items() if title.startswith("org/alpha")]
    rewrite_json(publish_scored(execution, 50.0) / "stub.json", log=".state/jobs/w.engine1.log")
    publish(execution, _named(alpha, "dense/mock_benchmark"))
    publish(execution, _named(alpha, "streaming/mock_benchmark"))
    fail(execution, _named(alpha, "streaming/needle/256"), attempts=2, log=".state/jobs/w.engine1.log")
    released = claim(execution, _named(alpha, "streaming/needle/512"))
    write_outcome(execution, released, Outcome("released", "Terminated", "asked to end"))
    _write_workers(execution, _named(alpha, "dense/needle/512"))
    _write_slurm(execution)
    write_manifest(execution, read_manifest(execution))  # the earlier one is kept
    assert run_cli("collect", "results").exit_code == 1
    return execution


def _prepared() -> ExecutionDir:
    from hpc_bench.running.submit import prepare_execution
    from hpc_bench.sweep.plan import make_plan
    from hpc_bench.sweep.sweep import load_sweep

    return prepare_execution(make_plan(load_sweep(Path("sweep.yaml"))))


def _named(stubs: Sequence[Stub], ending: str) -> Stub:
    return next(stub for stub in stubs if stub.title.endswith(ending))


def _write_workers(execution: ExecutionDir, stub: Stub) -> None:
    """One on this machine with a stub in its hands, one elsewhere, and one that ended."""
    local = Submission("local-20260101-000000-000001", "local", "here", (Slot("local-20260101-000000-000001", 0),), {})
    write_submission(execution, local)
    (slot,) = local.slots
    log = ".state/jobs/w.engine1.log"
    (execution.path / log).write_text("loading\n")
    running = Heartbeat(f"{slot}.aaaaaa", slot, "local", this_process(), "running", stub=stub.key, log=log)
    write_heartbeat(execution, running)
    elsewhere = Process("node7", "boot", "pid:[1]", 7, 7)
    write_heartbeat(execution, Heartbeat(f"{slot}.bbbbbb", slot, "local", elsewhere, "running", samples={"x": (1, 2)}))
    write_heartbeat(execution, Heartbeat(f"{slot}.cccccc", slot, "local", elsewhere, "broken", "no GPU", log=log))
    made = claim(execution, stub, running.worker)
    answers = SamplesFile(execution, made)
    answers.add("a", Answer("yes", 9, 1, 0, 0.5, 0.25, 0.5))
    answers.close()


def _write_slurm(execution: ExecutionDir) -> None:
    array = JobArray("77", 0, 4, 1, 2, "debug", 60, ".state/jobs/slurm.sh")
    name = "slurm-20260101-000000-000002"
    write_submission(execution, Submission(name, "slurm", "login", (), arrays=(array,)))
    execution.job_folder(name).mkdir()
    execution.job_log(name, "77_1").write_text("hpc-bench: no such module\n")
    tasks = [
        {"job": "77", "indices": [2, 3], "state": "PENDING", "reason": "Priority", "start": "", "nodes": "",
         "throttle": 2},
        {"job": "77", "indices": [0], "state": "RUNNING", "reason": "None", "start": "2026-01-01T00:00:00",
         "nodes": "n1", "throttle": None},
    ]  # fmt: skip
    queue = {"tasks": tasks, "jobs": ["77"], "answered": True, "absent": {"76": time.time()}, "over": ["75"]}
    write_whole(execution.queue, json.dumps(queue))
    execution.turns.mkdir()
    process = {"host": "x", "boot": "b", "pid_space": "p", "pid": 3, "started_ticks": 3}
    write_whole(execution.turn(1), json.dumps({"process": process, "over": False}))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sweep and the results that every case gets a copy of."""
    folder = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_state(folder)
    return folder


@pytest.fixture
def harmless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No signal leaves this process, and Slurm is a `scancel` that does nothing."""
    kill = os.kill

    def judge(pid: int, number: int) -> None:
        if number == 0:
            kill(pid, number)
        elif pid != os.getpid():
            raise AssertionError(f"signal {number} for process {pid}")

    monkeypatch.setattr(os, "kill", judge)
    (tmp_path / "scancel").write_text("#!/bin/sh\n")
    (tmp_path / "scancel").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


def problems(seed: int, original: Path, place: Path) -> list[str]:
    """What goes wrong in one case, in whichever command."""
    rng = random.Random(seed)
    shutil.rmtree(place / "case", ignore_errors=True)
    shutil.copytree(original, place / "case")
    changed = mutate_state(place / "case", rng, only=("results", "model"))
    os.chdir(place / "case")
    found = []
    for name, command in COMMANDS.items():
        try:
            with limited():
                done = CliRunner().invoke(main, list(command))
            problem = problem_of(done) or _unnamed(done, name, changed)
        except HangError as error:
            problem = str(error)
        if problem:
            found.append(f"seed {seed}, {changed.relative_to(place)}, {name}: {problem}")
    if (others := sorted(path.name for path in place.iterdir())) != ["case", "outside"]:
        found.append(f"seed {seed}: {others}")
    return found


def _unnamed(done: Result, name: str, changed: Path) -> str:
    """What is wrong with an error that does not name the file, or the model that it is of; a log has other reasons."""
    if done.exit_code != 2 or name.startswith("logs") or changed.name in done.stderr:
        return ""
    return "" if changed.parent.name == "model" and "model_names.1" in done.stderr else f"unnamed: {done.stderr}"


@pytest.mark.usefixtures("harmless")
def test_no_command_fails_before_a_file_is_changed(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(original, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")

    codes = {name: CliRunner().invoke(main, list(command)).exit_code for name, command in COMMANDS.items()}

    assert codes == {name: int(name in ("collect", "cancel")) for name in COMMANDS}


@pytest.mark.parametrize("seeds", seed_chunks(), ids=str)
@pytest.mark.usefixtures("harmless")
def test_changed_state_files_never_show_a_traceback(
    seeds: range, original: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path_factory.mktemp("place")
    (place / "outside").mkdir()
    (place / "outside" / "mine").write_text("mine")
    monkeypatch.chdir(place)  # and back in the end
    before = tree(original), tree(place / "outside")

    found = [problem for seed in seeds for problem in problems(seed, original, place)]

    assert not found, f"{len(found)} problems:\n" + "\n".join(found)
    assert (tree(original), tree(place / "outside")) == before

"""What a death of an engine or a worker costs the stubs, and what errors of a filesystem do, in whole runs."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from hpc_bench.execution.attempts.claims import Outcome
from hpc_bench.files import may_pass
from hpc_bench.running.engine.events import Cause
from hpc_bench.running.submit import prepare_execution
from hpc_bench.running.worker import setbacks
from hpc_bench.running.worker.pulse import BrokenSlotError, Pulse
from hpc_bench.running.worker.setbacks import MOST_HINDRANCES, Setbacks
from hpc_bench.sweep.plan import make_plan
from hpc_bench.sweep.sweep import load_sweep
from tests.support.builders import stubs_of
from tests.support.running import (
    PATIENCE_S,
    answered,
    assert_each_stub_once,
    engine_of,
    execution_of,
    outcomes,
    results,
    start_submit,
    submit,
    wait_until,
    workers_of,
    write_scripted_sweep,
)

STUBS, SAMPLES = 4, 8


def engine_logs(sweep: Path) -> list[Path]:
    return list(execution_of(sweep).jobs.glob("*.engine*.log"))


def ends(sweep: Path, state: str) -> list[dict[str, object]]:
    return [outcome for outcome in outcomes(sweep) if outcome["state"] == state]


def test_killed_engine_is_replaced_charges_nothing_and_loses_no_finished_sample(tmp_path: Path) -> None:
    fault = {"kind": "kill", "sample": "0001-2", "once": str(tmp_path / "once")}
    sweep = write_scripted_sweep(
        tmp_path, script={"faults": [fault]}, max_concurrent_runs=1, limits={"max_attempts": 1}
    )

    done = submit(sweep)

    assert done.returncode == 0, done.stdout
    assert ends(sweep, "failed") == []
    answering = next(end for end in outcomes(sweep) if end["phase"] == "answering")
    assert (answering["error"], answering["death"]) == ("EngineDied", True)
    assert answering["gained"] > 0
    assert "SIGKILL" in answering["message"]
    assert "answered" in answering["traceback"]
    assert (execution_of(sweep).path / answering["log"]).exists()
    assert_each_stub_once(sweep, stubs=STUBS, samples=SAMPLES)


def test_sample_that_kills_every_engine_is_given_up_and_the_others_are_spared(tmp_path: Path) -> None:
    sweep = write_scripted_sweep(tmp_path, script={"faults": [{"kind": "segfault", "sample": "0000-1", "maskers": 2}]})

    done = submit(sweep)

    assert done.returncode == 1
    assert {path.parent.name for path in results(sweep)} == {"dense"}
    failed = ends(sweep, "failed")
    assert len(failed) == 2 * 2  # two stubs, two attempts each
    assert all("SIGSEGV" in end["message"] and "3 times in a row" in end["message"] for end in failed)
    deaths = [end for end in outcomes(sweep) if end["death"] and end["phase"] == "answering"]
    assert 2 * 6 <= len(deaths) <= 2 * 8  # three an attempt, and at most one more that came after new samples
    summary = json.loads((execution_of(sweep).path / "execution_summary.json").read_text())
    assert summary["counts"] == {"stubs": 4, "complete": 2, "failed": 2}
    assert all(failure["log"] and failure["error"] == "EngineDied" for failure in summary["failures"])


def test_engines_killed_from_outside_while_loading_fail_no_stub(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    sweep = write_scripted_sweep(
        tmp_path,
        script={"load_fault": {"kind": "wait", "until": str(gate)}},
        limits={"max_attempts": 1},
        max_concurrent_runs=1,
    )
    going = start_submit(sweep)
    killed: list[psutil.Process] = []
    for _ in range(2):
        engine = wait_until(lambda: _loading_engine(sweep, killed))
        killed.append(engine)
        engine.kill()
    gate.touch()
    said, _ = going.communicate(timeout=PATIENCE_S)

    assert going.returncode == 0, said
    assert ends(sweep, "failed") == []
    assert {end["phase"] for end in outcomes(sweep)} == {"loading"}
    assert_each_stub_once(sweep, stubs=STUBS, samples=SAMPLES)


def _loading_engine(sweep: Path, killed: list[psutil.Process]) -> psutil.Process | None:
    """The engine of the only worker, once it has said in its log that it loads."""
    for worker in workers_of(sweep):
        log = execution_of(sweep).path / worker.heartbeat.log
        engine = engine_of(worker)
        if engine and engine not in killed and log.is_file() and "loading" in log.read_text():
            return engine
    return None


def test_model_that_kills_every_load_is_given_up_once_an_attempt_not_once_a_bundle(tmp_path: Path) -> None:
    sweep = write_scripted_sweep(
        tmp_path,
        script={"load_fault": {"kind": "kill"}},
        benchmark_configs={"needle": [256, 512, 1024]},
        max_concurrent_runs=1,
    )

    done = submit(sweep)

    assert done.returncode == 1
    assert {end["error"] for end in outcomes(sweep)} == {"EngineDied"}
    assert len(ends(sweep, "failed")) == 6 * 2
    assert all("while the model was being loaded, 5 times in a row" in end["message"] for end in ends(sweep, "failed"))
    assert len(engine_logs(sweep)) == 5 * 2


def test_worker_that_dies_amid_a_sample_again_and_again_charges_that_stub_alone(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    fault = {"kind": "wait", "sample": "0000-1", "maskers": 2, "until": str(gate)}
    sweep = write_scripted_sweep(
        tmp_path,
        script={"faults": [fault]},
        benchmark_configs={"needle": {"subsets": [256], "samples": 8}},
        limits={"max_attempts": 1},
        max_concurrent_runs=1,
    )
    (guilty,) = (
        stub.key for stub in stubs_of(prepare_execution(make_plan(load_sweep(sweep)))) if stub.attention != "dense"
    )
    killed: list[int] = []
    while len(killed) < 4:  # the first one had new samples
        going = start_submit(sweep)
        while going.poll() is None and len(killed) < 4:
            killed += _kill_worker_at(sweep, guilty, killed)
            time.sleep(0.05)
        gate.touch() if len(killed) == 4 else None
        going.communicate(timeout=PATIENCE_S)

    (failed,) = ends(sweep, "failed")
    assert (failed["error"], failed["phase"], failed["gained"]) == ("WorkerLost", "answering", 0)
    assert [end["gained"] > 0 for end in outcomes(sweep) if end["phase"] == "answering"] == [True, False, False, False]
    assert {path.parent.name for path in results(sweep)} == {"dense"}


def _kill_worker_at(sweep: Path, stub: str, killed: list[int]) -> list[int]:
    """Kills the worker that has said that it is at the stub, with the sample before the one that waits done."""
    for worker in workers_of(sweep):
        beat = worker.heartbeat
        pid = beat.process.pid
        if beat.state == "running" and beat.stub == stub and beat.samples[stub][0] == 1 and pid not in killed:
            os.kill(pid, signal.SIGKILL)
            return [pid]
    return []


@pytest.mark.parametrize("load", [False, True])
def test_full_disk_gives_stubs_back_and_charges_none(tmp_path: Path, load: bool) -> None:
    fault = {"kind": "full", "once": str(tmp_path / "once")}
    script = {"load_fault": fault} if load else {"faults": [{**fault, "sample": "0000-1"}]}
    sweep = write_scripted_sweep(tmp_path, script=script, limits={"max_attempts": 1}, max_concurrent_runs=1)

    done = submit(sweep)

    assert done.returncode == 0, done.stdout
    assert {end["state"] for end in outcomes(sweep)} == {"released"}
    assert any("No space left on device" in end["message"] for end in outcomes(sweep))
    assert len(answered(sweep)) == STUBS * SAMPLES
    assert_each_stub_once(sweep, stubs=STUBS, samples=SAMPLES)


def quiet_setbacks(monkeypatch: pytest.MonkeyPatch) -> Setbacks:
    monkeypatch.setattr(setbacks, "LONGEST_PAUSE_S", 0.0)
    return Setbacks(Pulse.__new__(Pulse), lambda: "")


def test_error_that_should_pass_and_does_not_breaks_the_slot_and_not_the_stubs(monkeypatch: pytest.MonkeyPatch) -> None:
    counted, cause = quiet_setbacks(monkeypatch), Cause("OSError", "No space left on device")

    for _ in range(MOST_HINDRANCES - 1):
        counted.hindered(cause)
    counted.got_on()
    for _ in range(MOST_HINDRANCES - 1):
        counted.hindered(cause)

    with pytest.raises(BrokenSlotError, match="No space left on device"):
        counted.hindered(cause)


def test_deaths_while_loading_are_counted_by_model_with_those_that_others_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = quiet_setbacks(monkeypatch)

    assert counted.died_loading("a", 0) == 1
    assert counted.died_loading("a", 0) == 2
    assert counted.died_loading("b", 3) == 4
    counted.loaded("a")
    assert counted.died_loading("a", 0) == 1


def test_error_that_passes_is_known_by_what_it_came_of() -> None:
    def wrapped(message: str, inner: Exception) -> Exception:
        try:
            try:
                raise inner
            except Exception:
                raise RuntimeError(message)  # noqa: B904 - as libraries do
        except RuntimeError as error:
            return error

    assert may_pass(wrapped("cannot load", OSError(errno.EDQUOT, "quota")))
    assert may_pass(RuntimeError("Error while serializing: I/O error: Stale file handle (os error 116)"))
    assert not may_pass(wrapped("cannot load", FileNotFoundError(errno.ENOENT, "gone")))
    assert not may_pass(RuntimeError("I/O error: No such file or directory (os error 2)"))
    assert Outcome("released", "x", "y").death is False


SITE = """
import os, sys, time
if "hpc_bench.running.engine" in sys.orig_argv:
    while not os.path.exists(os.environ["GATE"]):
        time.sleep(0.05)
"""


@pytest.mark.parametrize(
    "changes",
    [
        {"benchmark_configs": {"needle": {"subsets": [256], "samples": 8}}},  # the costlier one is claimed
        {"sparse_attention_configs": {"dense": None}},
        {"model_names": ["demo/tiny-4l"]},
    ],
    ids=["subset", "attention config", "model"],
)
def test_sweep_that_shrinks_while_an_engine_starts_charges_no_stub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("GATE", str(tmp_path / "gate"))
    whole = {"limits": {"max_attempts": 1}, "max_concurrent_runs": 1}
    sweep = write_scripted_sweep(tmp_path, **whole)
    going = start_submit(sweep)
    wait_until(lambda: [worker for worker in workers_of(sweep) if engine_of(worker)])

    prepare_execution(make_plan(load_sweep(write_scripted_sweep(tmp_path, **whole, **changes))))
    (tmp_path / "gate").touch()
    said, _ = going.communicate(timeout=PATIENCE_S)

    assert going.returncode == 0, said
    assert {(end["state"], end["message"]) for end in outcomes(sweep)} <= {
        ("released", "the manifest asks for another configuration now")
    }
    assert submit(sweep).returncode == 0
    asked = {stub.result_path for stub in stubs_of(execution_of(sweep))}
    assert asked <= {str(path.relative_to(execution_of(sweep).path)) for path in results(sweep)}

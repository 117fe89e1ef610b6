"""Whole runs on one machine, and what happens when something dies in them."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import hpc_bench as hpc_bench_package
from hpc_bench.files import to_json
from hpc_bench.running.submit import prepare_execution
from hpc_bench.sweep.plan import make_plan
from hpc_bench.sweep.sweep import load_sweep
from tests.support.running import (
    PATIENCE_S,
    answered,
    engine_of,
    execution_of,
    hpc_bench,
    outcomes,
    processes_of,
    results,
    start_submit,
    submit,
    wait_until,
    waiting_for,
    workers_of,
    write_scripted_sweep,
)

STUBS, SAMPLES = 4, 8


def assert_all_complete(sweep: Path, stubs: int = STUBS) -> None:
    assert len(results(sweep)) == stubs
    for folder in results(sweep):
        with (folder / "raw_results.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len({row["sample_id"] for row in rows}) == len(rows) == SAMPLES
        assert json.loads((folder / "metrics.json").read_text())["score"] == 100
        assert {path.name for path in folder.iterdir()} == {"raw_results.csv", "metrics.json", "stub.json"}


def test_second_submit_runs_nothing(tmp_path: Path) -> None:
    sweep = write_scripted_sweep(tmp_path)
    first = submit(sweep)
    before = {path: path.stat().st_mtime_ns for path in results(sweep)}

    second = submit(sweep)

    assert first.returncode == second.returncode == 0, first.stdout + first.stderr
    assert "4 complete, 0 stale, 0 failed, 0 running, 0 to run" in second.stdout
    assert {path: path.stat().st_mtime_ns for path in results(sweep)} == before
    assert len(answered(sweep)) == STUBS * SAMPLES
    assert_all_complete(sweep)


def test_submit_runs_only_what_is_missing(tmp_path: Path) -> None:
    sweep = write_scripted_sweep(tmp_path, benchmark_configs={"needle": {"subsets": [256], "samples": 8}})
    submit(sweep)

    write_scripted_sweep(tmp_path)
    again = submit(sweep)

    assert "2 complete, 0 stale, 0 failed, 0 running, 2 to run" in again.stdout
    assert len(answered(sweep)) == STUBS * SAMPLES
    assert (execution_of(sweep).path / "manifest.1.jsonl").exists()
    assert_all_complete(sweep)


@pytest.mark.parametrize(("kind", "error"), [("raise", "RuntimeError"), ("oom", "OutOfMemoryError")])
def test_exception_ends_its_own_stub_with_class_and_traceback(tmp_path: Path, kind: str, error: str) -> None:
    sweep = write_scripted_sweep(
        tmp_path, script={"faults": [{"kind": kind, "maskers": 2}]}, limits={"max_attempts": 1}
    )

    done = submit(sweep)

    assert done.returncode == 1
    assert len(results(sweep)) == 2
    assert [outcome["error"] for outcome in outcomes(sweep)] == [error, error]
    assert all("Traceback" in outcome["traceback"] for outcome in outcomes(sweep))


def test_failed_stub_runs_again_only_when_asked(tmp_path: Path) -> None:
    fault = {"kind": "raise", "sample": "0000-0", "maskers": 2, "once": str(tmp_path / "once")}
    sweep = write_scripted_sweep(
        tmp_path,
        script={"faults": [fault]},
        limits={"max_attempts": 1},
        benchmark_configs={"needle": {"subsets": [256], "samples": 8}},
    )
    submit(sweep)

    left_alone = submit(sweep)
    asked = submit(sweep, "--retry-failed")

    assert left_alone.returncode == 1
    assert asked.returncode == 0, asked.stdout
    assert_all_complete(sweep, stubs=2)


def test_timeout_is_enforced_and_spares_the_bundle(tmp_path: Path) -> None:
    fault = {"kind": "hang", "sample": "0000-1", "maskers": 2}
    sweep = write_scripted_sweep(
        tmp_path,
        script={"faults": [fault]},
        limits={"stub_timeout": "3s", "max_attempts": 1},
        benchmark_configs={"needle": {"subsets": [256], "samples": 8}},
    )

    done = submit(sweep)

    assert done.returncode == 1
    assert [path.parent.name for path in results(sweep)] == ["dense"]
    (failure,) = [outcome for outcome in outcomes(sweep) if outcome["state"] == "failed"]
    assert failure["error"] == "StubTimeout"
    assert failure["seconds"] >= 3


def test_model_that_cannot_be_loaded_is_tried_once_an_attempt_not_once_a_stub(tmp_path: Path) -> None:
    sweep = write_scripted_sweep(
        tmp_path,
        script={"load_error": "the weights are gone"},
        benchmark_configs={"needle": [256, 512, 1024]},
        max_concurrent_runs=1,
    )

    done = submit(sweep)

    assert done.returncode == 1
    assert len(outcomes(sweep)) == 6 * 2
    assert {outcome["message"] for outcome in outcomes(sweep)} == {"the weights are gone"}
    loads = sum(log.read_text().count("loading") for log in engine_logs(sweep))
    assert loads == 2
    assert "the weights are gone" in done.stdout


def test_killed_worker_is_replaced_and_its_engine_ends_with_it(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    sweep = write_scripted_sweep(tmp_path, script=waiting_for(gate, sample="0001-0"))
    submitting = start_submit(sweep)
    wait_until(lambda: execution_of_exists(sweep) and list(execution_of(sweep).attempts.glob("*/samples.jsonl")))
    worker = next(w for w in workers_of(sweep) if engine_of(w))
    engine = engine_of(worker)
    assert engine

    os.kill(worker.heartbeat.process.pid, signal.SIGKILL)

    wait_until(lambda: not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE)
    gate.touch()
    output, _ = submitting.communicate(timeout=PATIENCE_S)
    assert submitting.returncode == 0, output
    assert_all_complete(sweep)
    doubled = len(answered(sweep)) - STUBS * SAMPLES
    assert doubled <= 1  # at most the sample in flight


def test_signals_that_a_scheduler_sends_to_all_processes_leave_the_engine_to_its_worker(tmp_path: Path) -> None:
    sweep = write_scripted_sweep(tmp_path, script={"load_seconds": 1.0, "seconds": 0.1}, max_concurrent_runs=1)
    submitting = start_submit(sweep)
    engine = wait_until(lambda: [e for w in workers_of(sweep) if (e := engine_of(w))])[0]
    for number in (signal.SIGUSR2, signal.SIGTERM) * 3:  # also while it is still starting
        engine.send_signal(number)
        time.sleep(0.3)

    output, _ = submitting.communicate(timeout=PATIENCE_S)

    assert submitting.returncode == 0, output
    assert outcomes(sweep) == []
    assert_all_complete(sweep)


def test_killed_submit_loses_nothing(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    sweep = write_scripted_sweep(tmp_path, script=waiting_for(gate, sample="0001-0"))
    submitting = start_submit(sweep)
    wait_until(lambda: workers_of(sweep))

    submitting.kill()
    submitting.communicate()

    shown = json.loads(hpc_bench("status", "--json", str(tmp_path / "results")).stdout)
    assert [worker for worker in shown["workers"] if worker["alive"]]
    gate.touch()
    again = submit(sweep)
    assert again.returncode == 0, again.stdout
    assert len(answered(sweep)) == STUBS * SAMPLES
    assert_all_complete(sweep)


def test_detached_submit_returns_at_once_and_a_second_one_joins(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    sweep = write_scripted_sweep(tmp_path, script=waiting_for(gate))
    detached = submit(sweep, "--detach")
    gate.touch()  # without which nothing is ever answered

    joined = submit(sweep)

    assert detached.returncode == 0
    assert joined.returncode == 0, joined.stdout
    assert len(answered(sweep)) == STUBS * SAMPLES
    assert_all_complete(sweep)


def test_two_submits_at_once_give_each_stub_one_result(tmp_path: Path) -> None:
    sweep = write_scripted_sweep(tmp_path, script={"seconds": 0.1})
    submit(write_scripted_sweep(tmp_path, script={"seconds": 0.1}, benchmark_configs={"mock_benchmark": None}))
    sweep = write_scripted_sweep(tmp_path, script={"seconds": 0.1})

    both = [start_submit(sweep), start_submit(sweep)]

    for one in both:
        output, _ = one.communicate(timeout=PATIENCE_S)
        assert one.returncode == 0, output
    assert len([line for line in answered(sweep) if "-" in line]) == STUBS * SAMPLES
    assert len(list(execution_of(sweep).path.glob("*/*/needle_*"))) == STUBS


def test_data_that_one_model_cannot_have_fails_no_other_model(tmp_path: Path) -> None:
    wasteful = {"name": "demo/tiny-2l", "model_kwargs": {"tokens_per_word": 50}}
    sweep = write_scripted_sweep(
        tmp_path,
        model_names=[wasteful, "demo/tiny-4l"],
        benchmark_configs={"needle": {"subsets": [128], "samples": 8}},
    )

    done = submit(sweep)

    assert done.returncode == 1
    assert {path.parent.parent.name for path in results(sweep)} == {"demo_tiny_4l"}
    assert len(outcomes(sweep)) == 2 * 2


def test_dead_engine_is_noticed_though_its_child_lives_and_the_child_is_ended(tmp_path: Path) -> None:
    fault = {"kind": "fork", "sample": "0000-1", "once": str(tmp_path / "once")}
    sweep = write_scripted_sweep(tmp_path, script={"faults": [fault]}, max_concurrent_runs=1)

    done = submit(sweep)

    assert done.returncode == 0, done.stdout
    assert_all_complete(sweep)
    wait_until(lambda: not processes_of(sweep))


def test_worker_loads_no_other_model_for_what_its_holder_ends_sooner(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    scripts = [{"seconds": s, "load_fault": {"kind": "wait", "until": str(gate)}} for s in (0.0, 0.02)]
    sweep = write_scripted_sweep(
        tmp_path,
        model_names=[
            {"name": "demo/tiny-2l", "model_kwargs": scripts[0]},
            {"name": "demo/tiny-4l", "model_kwargs": scripts[1]},
        ],
        benchmark_configs={"needle": {"subsets": [256, 320, 384, 448], "samples": 8}},
    )
    submitting = start_submit(sweep)
    wait_until(
        lambda: execution_of_exists(sweep) and [log.read_text()[:7] for log in engine_logs(sweep)] == ["loading"] * 2
    )
    time.sleep(4)
    gate.touch()  # loading took 4 s or more, and both are loaded at once, however long their workers took to start

    output, _ = submitting.communicate(timeout=PATIENCE_S)

    assert submitting.returncode == 0, output
    assert_all_complete(sweep, stubs=16)
    assert len(engine_logs(sweep)) == 2


def engine_logs(sweep: Path) -> list[Path]:
    return list(execution_of(sweep).jobs.glob("*.engine*.log"))


def test_heartbeats_that_cannot_be_written_for_a_moment_cost_nothing(tmp_path: Path) -> None:
    sweep = write_scripted_sweep(tmp_path, script={"seconds": 0.2})
    submitting = start_submit(sweep)
    wait_until(lambda: execution_of_exists(sweep) and list(execution_of(sweep).attempts.glob("*/samples.jsonl")))
    workers = execution_of(sweep).workers

    workers.rename(tmp_path / "aside")
    time.sleep(2)
    (tmp_path / "aside").rename(workers)

    output, _ = submitting.communicate(timeout=PATIENCE_S)
    assert submitting.returncode == 0, output
    assert outcomes(sweep) == []
    assert len(answered(sweep)) == STUBS * SAMPLES
    assert_all_complete(sweep)


def test_interrupt_releases_claims_and_leaves_no_process(tmp_path: Path) -> None:
    sweep = write_scripted_sweep(tmp_path, script={"seconds": 0.3})
    submitting = start_submit(sweep)
    wait_until(lambda: execution_of_exists(sweep) and list(execution_of(sweep).attempts.glob("*/samples.jsonl")))

    before = len(answered(sweep))
    os.killpg(submitting.pid, signal.SIGINT)
    output, _ = submitting.communicate(timeout=PATIENCE_S)

    assert submitting.returncode == 130
    assert "submit again" in output
    assert len(answered(sweep)) - before < STUBS * SAMPLES / 2
    wait_until(lambda: not processes_of(sweep))
    assert {(outcome["state"], outcome["error"]) for outcome in outcomes(sweep)} == {("released", "Released")}
    again = submit(sweep)
    assert again.returncode == 0, again.stdout
    assert len(answered(sweep)) == STUBS * SAMPLES
    assert_all_complete(sweep)


def test_second_interrupt_ends_everything_at_once(tmp_path: Path) -> None:
    sweep = write_scripted_sweep(tmp_path, script={"seconds": 600})
    submitting = start_submit(sweep)
    wait_until(lambda: execution_of_exists(sweep) and list(execution_of(sweep).attempts.glob("*/samples.jsonl")))
    for worker in workers_of(sweep):
        os.kill(worker.heartbeat.process.pid, signal.SIGSTOP)  # cannot end in order

    os.killpg(submitting.pid, signal.SIGINT)
    time.sleep(1)
    os.killpg(submitting.pid, signal.SIGINT)

    submitting.communicate(timeout=PATIENCE_S)
    wait_until(lambda: not processes_of(sweep))
    assert outcomes(sweep)
    assert {outcome["state"] for outcome in outcomes(sweep)} == {"released"}
    assert len(outcomes(sweep)) == len(list(execution_of(sweep).claims.iterdir()))


def test_cancel_from_another_shell(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    sweep = write_scripted_sweep(tmp_path, script=waiting_for(gate, sample="0001-0"))
    submit(sweep, "--detach")
    wait_until(lambda: workers_of(sweep))

    cancelled = hpc_bench("cancel", str(tmp_path / "results"))

    assert cancelled.returncode == 0, cancelled.stdout
    assert "0 still running" in cancelled.stdout
    wait_until(lambda: not processes_of(sweep))
    assert hpc_bench("cancel", str(tmp_path / "results")).stdout == "no worker is running\n"
    gate.touch()
    assert submit(sweep).returncode == 0
    assert_all_complete(sweep)


def test_disk_that_refuses_answers_fails_the_attempts_and_loses_no_earlier_answer(tmp_path: Path) -> None:
    sweep = write_scripted_sweep(tmp_path, benchmark_configs={"needle": {"subsets": [256], "samples": 100}})

    refused = submit(sweep, file_limit=10_000)  # a samples.jsonl of 100 answers is larger
    enough = submit(sweep, "--retry-failed")

    assert refused.returncode == 1
    failures = [outcome for outcome in outcomes(sweep) if outcome["state"] == "failed"]
    assert {failure["error"] for failure in failures} == {"OSError"}
    assert all("File too large" in failure["message"] for failure in failures)
    assert enough.returncode == 0, enough.stdout
    assert len(results(sweep)) == 2
    assert len(answered(sweep)) < 2 * 100 + 2 * 2 * 2  # what the disk took was not answered again


def test_manifest_replaced_under_a_working_crew_mixes_no_configurations(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = waiting_for(gate, sample="0001-0")
    sweep = write_scripted_sweep(tmp_path, script=script, max_concurrent_runs=1)
    submit(sweep, "--detach")
    wait_until(lambda: answered(sweep))

    write_scripted_sweep(tmp_path, script=script, max_concurrent_runs=1, generation_kwargs={"max_new_tokens": 2})
    refused = submit(sweep)
    hpc_bench("cancel", str(tmp_path / "results"))
    gate.touch()
    accepted = submit(sweep)

    assert refused.returncode == 2
    assert "under another configuration" in refused.stderr
    assert accepted.returncode == 0, accepted.stdout
    for folder in results(sweep):
        facts = json.loads((folder / "stub.json").read_text())
        assert facts["identity"]["generation"]["max_new_tokens"] == 2
        assert facts["fingerprint"] == hashlib.sha256(to_json(facts["identity"]).encode()).hexdigest()


def test_worker_whose_code_is_another_than_the_submissions_ends_and_says_so(tmp_path: Path) -> None:
    sweep = write_scripted_sweep(tmp_path)
    execution = prepare_execution(make_plan(load_sweep(sweep)))
    header, *stubs = execution.manifest.read_text().splitlines()
    changed = json.loads(header)
    changed["generation"]["seed"] = 7  # whatever makes other fingerprints of the same stubs
    execution.manifest.write_text("\n".join([json.dumps(changed), *stubs]) + "\n")
    worker = [sys.executable, "-m", "tests.support.run_worker", str(execution.path), "0", "1"]

    done = subprocess.run(worker, check=True, timeout=PATIENCE_S, capture_output=True, text=True)

    assert "kind='broken'" in done.stdout
    assert "was changed after these stubs were submitted; submit again" in done.stdout
    assert {(outcome["state"], outcome["attempt"]) for outcome in outcomes(sweep)} == {("released", 1)}


def test_adapter_of_another_version_than_the_submissions_gives_no_result(tmp_path: Path) -> None:
    sweep = write_scripted_sweep(tmp_path)
    execution = prepare_execution(make_plan(load_sweep(sweep)))
    header, *stubs = execution.manifest.read_text().splitlines()
    changed = json.loads(header)
    for spec in changed["models"].values():
        spec["adapter_version"] += 1
    execution.manifest.write_text("\n".join([json.dumps(changed), *stubs]) + "\n")
    worker = [sys.executable, "-m", "tests.support.run_worker", str(execution.path), "0", "1"]

    subprocess.run(worker, check=True, timeout=PATIENCE_S)

    assert results(sweep) == []
    assert {outcome["message"] for outcome in outcomes(sweep)} == {
        "the code of the adapter scripted has changed since the sweep was planned; submit it again"
    }


def test_error_that_breaks_the_device_ends_the_engine_and_charges_one_stub(tmp_path: Path) -> None:
    fault = {"kind": "device", "sample": "0000-1", "maskers": 0, "once": str(tmp_path / "once")}
    sweep = write_scripted_sweep(tmp_path, script={"faults": [fault]}, max_concurrent_runs=1)

    done = submit(sweep)

    assert done.returncode == 0, done.stdout
    assert [o["error"] for o in outcomes(sweep) if o["state"] == "failed"] == ["ScriptedDeviceError"]
    assert len(engine_logs(sweep)) == 2
    assert_all_complete(sweep)


def test_interrupt_while_workers_start_leaves_no_process(tmp_path: Path) -> None:
    sweep = write_scripted_sweep(tmp_path, script={"seconds": 0.5})
    submitting = start_submit(sweep)
    wait_until(lambda: execution_of_exists(sweep) and list(execution_of(sweep).jobs.glob("*.json")))

    os.killpg(submitting.pid, signal.SIGINT)
    output, _ = submitting.communicate(timeout=PATIENCE_S)

    assert submitting.returncode == 130, output
    wait_until(lambda: not processes_of(sweep))


def test_first_submits_at_the_same_time_share_one_execution(tmp_path: Path) -> None:
    sweep = write_scripted_sweep(tmp_path, script={"seconds": 0.05})

    both = [start_submit(sweep), start_submit(sweep)]

    for one in both:
        output, _ = one.communicate(timeout=PATIENCE_S)
        assert one.returncode == 0, output
    assert len(answered(sweep)) == STUBS * SAMPLES
    assert_all_complete(sweep)


def test_submit_with_nothing_to_do_starts_nobody_and_writes_no_manifest(tmp_path: Path) -> None:
    sweep = write_scripted_sweep(tmp_path)
    submit(sweep)
    before = sorted(path.name for path in [*execution_of(sweep).workers.iterdir(), *execution_of(sweep).path.iterdir()])

    submit(sweep)

    after = sorted(path.name for path in [*execution_of(sweep).workers.iterdir(), *execution_of(sweep).path.iterdir()])
    assert after == before


def test_logs_of_a_stub_are_those_of_the_engine_that_ran_it(tmp_path: Path) -> None:
    sweep = write_scripted_sweep(tmp_path, model_names=["demo/tiny-2l", "demo/tiny-4l"], max_concurrent_runs=1)
    submit(sweep)

    for model in ("tiny-2l", "tiny-4l"):
        log = hpc_bench("logs", str(tmp_path / "results"), f"demo/{model}/dense/needle/256")
        assert f"loading {Path(hpc_bench_package.__file__).parent}/demo/{model}" in log.stdout


def test_logs_and_collect_read_the_disk_alone(tmp_path: Path) -> None:
    sweep = write_scripted_sweep(tmp_path)
    submit(sweep)

    log = hpc_bench("logs", str(tmp_path / "results"), "demo/tiny-2l/streaming/needle/512")
    collected = hpc_bench("collect", str(tmp_path / "results"))

    assert "answered" in log.stdout
    assert collected.returncode == 0
    assert "needle 256" in collected.stdout


def execution_of_exists(sweep: Path) -> bool:
    return (sweep.parent / "results").exists() and any((sweep.parent / "results").iterdir())

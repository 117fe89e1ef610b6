"""What happens to a sweep when something happens to Slurm, its nodes, its jobs; each fault is caused for real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from hpc_bench.running.slurm.queue import ABSENT_S
from tests.support.cluster import Cluster
from tests.support.running import (
    HPC_BENCH,
    PATIENCE_S,
    assert_each_stub_once,
    execution_of,
    hpc_bench,
    outcomes,
    wait_until,
    waiting_for,
    workers_of,
)
from tests.support.slurm_sweeps import (
    age_queue,
    answering,
    arrays_of,
    start_waiting,
    submit,
    wait_complete,
    write_cluster_sweep,
)

pytestmark = pytest.mark.usefixtures("on_the_cluster")


def start(sweep: Path) -> str:
    """Submits, waits for the first answers, and returns the job's id."""
    submit(sweep)
    wait_until(lambda: len(workers_of(sweep)) >= 2 and answering(sweep))
    return arrays_of(sweep)[0].job


def assert_nobody_was_charged(sweep: Path) -> None:
    assert not [outcome for outcome in outcomes(sweep) if outcome["state"] == "failed"]


def incarnations(sweep: Path, slot: int) -> list[dict[str, object]]:
    """The heartbeats of all workers that a slot has had."""
    files = execution_of(sweep).workers.glob(f"slurm-*-{slot}.*.json")
    return [json.loads(file.read_text()) for file in files]


def test_cancelled_running_task_releases_its_work_to_others(tmp_path: Path, cluster: Cluster) -> None:
    sweep = write_cluster_sweep(tmp_path, samples=16)
    job = start(sweep)

    cluster.run("scancel", f"{job}_0")

    wait_complete(sweep, 8)
    assert_each_stub_once(sweep, stubs=8, samples=16, doubled=1)
    assert_nobody_was_charged(sweep)


def test_cancelled_pending_task_is_missed_by_nobody(tmp_path: Path, cluster: Cluster) -> None:
    sweep = write_cluster_sweep(tmp_path)
    job = start(sweep)

    cluster.run("scancel", f"{job}_2", f"{job}_3")

    wait_complete(sweep, 8)
    assert_each_stub_once(sweep, stubs=8, samples=8)


def test_requeued_task_goes_on_where_it_was(tmp_path: Path, cluster: Cluster) -> None:
    sweep = write_cluster_sweep(tmp_path, bundles=2, samples=32, seconds=0.2)
    job = start(sweep)

    cluster.run("scontrol", "requeue", f"{job}_0")

    wait_until(lambda: len(incarnations(sweep, 0)) == 2)
    wait_complete(sweep, 4)
    assert_each_stub_once(sweep, stubs=4, samples=32, doubled=1)
    assert_nobody_was_charged(sweep)


def test_requeue_that_is_refused_leaves_the_work_to_the_next_submit(tmp_path: Path, cluster: Cluster) -> None:
    settings = {"additional_parameters": {"no-requeue": True}}
    sweep = write_cluster_sweep(tmp_path, bundles=2, samples=16, slurm=settings)
    job = start(sweep)

    cluster.run("scancel", "--signal=USR2", job)

    wait_until(lambda: not workers_of(sweep))
    wait_until(lambda: not cluster.run("squeue", "--noheader").strip())
    logs = "".join(file.read_text() for file in execution_of(sweep).jobs.glob("slurm-*/*_log.out"))
    assert "not requeued" in logs
    submit(sweep)
    wait_complete(sweep, 4)
    assert_each_stub_once(sweep, stubs=4, samples=16, doubled=2)
    assert_nobody_was_charged(sweep)


@pytest.mark.slow
def test_work_longer_than_the_walltime_is_done_in_several_incarnations(tmp_path: Path) -> None:
    # 2 workers x 1 minute of work in jobs of 1 minute, whose signal comes after 20 to 50 s.
    sweep = write_cluster_sweep(
        tmp_path, bundles=2, samples=30, seconds=1.0, slurm={"time": "1m", "signal_delay": "10s"}
    )
    submit(sweep)

    wait_complete(sweep, 4)
    assert_each_stub_once(sweep, stubs=4, samples=30, doubled=8)
    assert len(incarnations(sweep, 0)) >= 2
    reasons = {beat["reason"] for slot in (0, 1) for beat in incarnations(sweep, slot)}
    assert "stopped by SIGUSR2" in reasons
    assert_nobody_was_charged(sweep)
    assert_no_sample_twice_but_in_flight(sweep)


def assert_no_sample_twice_but_in_flight(sweep: Path) -> None:
    """Each incarnation may have computed one sample in vain."""
    given = sum(int(beat["answered"]) for slot in (0, 1) for beat in incarnations(sweep, slot))  # type: ignore[call-overload]
    assert given == 4 * 30


def test_preempted_workers_come_back_and_go_on(tmp_path: Path, cluster: Cluster) -> None:
    sweep = write_cluster_sweep(tmp_path, samples=24)
    start(sweep)

    cluster.run("sbatch", "--partition=high", "--nodes=4", "--gpus-per-node=4", "--output=/dev/null", "--wrap=sleep 8")

    wait_until(lambda: not workers_of(sweep))
    released = len(outcomes(sweep))
    wait_complete(sweep, 8)
    assert released
    assert "stopped by SIGUSR2" in {beat["reason"] for beat in incarnations(sweep, 0)}
    assert_each_stub_once(sweep, stubs=8, samples=24, doubled=2)
    assert_nobody_was_charged(sweep)


@pytest.mark.slow
def test_node_that_dies_with_its_jobs_loses_no_finished_sample(tmp_path: Path, cluster: Cluster) -> None:
    sweep = write_cluster_sweep(tmp_path, bundles=2, samples=40, seconds=0.2, slurm={"nodelist": "node3"})
    start(sweep)

    cluster.kill_node("node3")

    wait_until(lambda: not workers_of(sweep))
    wait_until(lambda: cluster.run("sinfo", "--noheader", "--nodes=node3", "--format=%T").startswith("down"))
    cluster.up()
    wait_complete(sweep, 4)
    assert_each_stub_once(sweep, stubs=4, samples=40, doubled=2)


@pytest.mark.slow
def test_two_incarnations_of_one_worker_at_once_share_the_work(tmp_path: Path, cluster: Cluster) -> None:
    settings = {"max_array_size": 2}  # no other task takes the place of one that Slurm thinks dead
    gate = tmp_path / "gate"
    script = waiting_for(gate, sample="0001-0")
    sweep = write_cluster_sweep(tmp_path, bundles=10, samples=16, max_concurrent_runs=2, slurm=settings, script=script)
    start(sweep)

    cluster.kill("slurmd.node0")  # its jobs go on; Slurm thinks them dead and starts them again elsewhere

    wait_until(lambda: both_alive(sweep))
    gate.touch()
    wait_complete(sweep, 20)
    assert_each_stub_once(sweep, stubs=20, samples=16, doubled=0)
    assert_nobody_was_charged(sweep)


def both_alive(sweep: Path) -> bool:
    """Whether two workers of one slot live at the same time."""
    slots = [worker.heartbeat.slot for worker in workers_of(sweep)]
    return len(set(slots)) < len(slots)


def test_worker_that_is_killed_is_replaced_by_the_rest_of_the_array(tmp_path: Path) -> None:
    sweep = write_cluster_sweep(tmp_path, samples=16)
    start(sweep)
    worker = workers_of(sweep)[0].heartbeat.process.pid

    os.kill(worker, signal.SIGKILL)

    wait_complete(sweep, 8)
    assert_each_stub_once(sweep, stubs=8, samples=16, doubled=1)


def test_last_worker_that_is_killed_is_replaced_by_a_waiting_submit(tmp_path: Path) -> None:
    sweep = write_cluster_sweep(tmp_path, bundles=1, samples=60, max_concurrent_runs=1)
    waiting = start_waiting(sweep)
    wait_until(lambda: (tmp_path / "results").exists() and workers_of(sweep) and answering(sweep))

    os.kill(workers_of(sweep)[0].heartbeat.process.pid, signal.SIGKILL)

    wait_until(lambda: age_queue(execution_of(sweep), 2 * ABSENT_S) or len(arrays_of(sweep)) == 2)
    output, _ = waiting.communicate(timeout=PATIENCE_S)
    assert waiting.returncode == 0, output
    assert len(arrays_of(sweep)) == 2
    assert_each_stub_once(sweep, stubs=2, samples=60, doubled=1)


@pytest.mark.slow
def test_slurmctld_that_is_away_for_half_a_minute_stops_nobody(tmp_path: Path, cluster: Cluster) -> None:
    sweep = write_cluster_sweep(tmp_path, samples=64, seconds=0.2)
    start(sweep)
    time.sleep(6)  # until slurmctld has written down the jobs

    cluster.kill("slurmctld")
    before = len(answers(sweep))
    told = hpc_bench("status", str(tmp_path / "results"))
    refused = hpc_bench("submit", "--backend", "slurm", str(sweep))
    time.sleep(20)
    during = len(answers(sweep))
    cluster.up()

    assert told.returncode == 0, told.stderr
    assert "8 stubs" in told.stdout
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert during > before
    wait_complete(sweep, 8)
    assert_each_stub_once(sweep, stubs=8, samples=64)


def answers(sweep: Path) -> list[str]:
    return [line for file in execution_of(sweep).jobs.glob("*.engine*.log") for line in file.read_text().splitlines()]


def test_no_slurmdbd_changes_nothing(tmp_path: Path, cluster: Cluster) -> None:
    cluster.kill("slurmdbd")
    sweep = write_cluster_sweep(tmp_path)

    waited = submit(sweep, "--wait")

    assert "8 stubs: 8 complete" in waited.stdout
    assert_each_stub_once(sweep, stubs=8, samples=8)


def test_closed_login_shell_stops_nothing(tmp_path: Path) -> None:
    sweep = write_cluster_sweep(tmp_path)
    command = " ".join([*HPC_BENCH, "submit", "--backend", "slurm", "--wait", str(sweep)])
    shell = subprocess.Popen(["bash", "-c", f"{command}; true"], start_new_session=True, stdout=subprocess.DEVNULL)
    wait_until(lambda: (tmp_path / "results").exists() and workers_of(sweep))

    os.killpg(shell.pid, signal.SIGHUP)
    os.killpg(shell.pid, signal.SIGKILL)

    shell.wait()
    wait_complete(sweep, 8)
    assert_each_stub_once(sweep, stubs=8, samples=8)


def test_shell_that_is_closed_amid_the_submission_leaves_no_job_that_nobody_knows(
    tmp_path: Path, cluster: Cluster
) -> None:
    sweep = write_cluster_sweep(tmp_path, seconds=0.3)
    command = [*HPC_BENCH, "submit", "--backend", "slurm", str(sweep)]
    shell = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    jobs = "*/.state/jobs/slurm-*"
    wait_until(lambda: [path for path in (tmp_path / "results").glob(jobs) if path.is_dir()])  # by the launcher

    os.killpg(shell.pid, signal.SIGKILL)

    shell.wait()
    wait_until(lambda: arrays_of(sweep))
    queued = set(cluster.run("squeue", "--noheader", "--format=%F").split())
    assert queued <= {array.job for array in arrays_of(sweep)}
    wait_complete(sweep, 8)
    assert_each_stub_once(sweep, stubs=8, samples=8)


@pytest.mark.slow
def test_slot_that_never_gets_anything_done_is_given_up(tmp_path: Path, cluster: Cluster) -> None:
    sweep = write_cluster_sweep(tmp_path, bundles=1, script={"load_seconds": 600}, max_concurrent_runs=1)
    submit(sweep)
    for restart in range(5):
        wait_until(lambda: len(incarnations(sweep, 0)) == restart + 1 and workers_of(sweep))  # noqa: B023
        cluster.run("scancel", "--signal=USR2", arrays_of(sweep)[0].job)
        wait_until(lambda: not workers_of(sweep))

    wait_until(lambda: [beat for beat in incarnations(sweep, 0) if beat["state"] == "broken"])

    time.sleep(2)
    assert not cluster.run("squeue", "--noheader").strip()
    told = hpc_bench("status", str(tmp_path / "results")).stdout
    assert "started 5 times without finishing a sample" in told
    assert_nobody_was_charged(sweep)

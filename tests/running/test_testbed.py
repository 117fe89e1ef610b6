"""The cluster that the project brings along: it comes up, is real, is private, and goes away."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.support.cluster import GPUS, Cluster
from tests.support.running import wait_until


def daemons(cluster: Cluster) -> list[psutil.Process]:
    """Every process that belongs to the testbed's folder."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.environ().get("SLURM_CONF", "")]
        except psutil.Error:
            continue
        if any(str(cluster.folder) in word for word in words) and process.pid != os.getpid():
            found.append(process)
    return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


def names_of(processes: list[psutil.Process]) -> set[str]:
    return {process.name() for process in processes}


def test_up_again_changes_nothing(cluster: Cluster) -> None:
    before = {process.pid for process in daemons(cluster)}

    cluster.up()

    assert {process.pid for process in daemons(cluster)} == before


def test_dead_daemons_are_told_and_revived_and_jobs_live_on(cluster: Cluster) -> None:
    cluster.run("sbatch", "--output=/dev/null", "--nodelist=node1", "--wrap=sleep 60")
    wait_until(lambda: cluster.run("squeue", "-h", "-t", "R", "-o", "%i"))
    cluster.kill("slurmctld", "TERM")  # on KILL it forgets what was submitted in its last seconds
    cluster.kill("slurmd.node0")

    told = cluster.testbed("status")
    cluster.up()

    assert told.returncode == 1
    assert "slurmctld down" in told.stdout
    assert "slurmd.node0 down" in told.stdout
    assert "slurmd.node1 up" in told.stdout
    assert cluster.testbed("status").returncode == 0
    assert cluster.run("squeue", "-h", "-t", "R", "-o", "%i").strip()


def test_jobs_on_one_node_get_gpus_of_their_own(cluster: Cluster, tmp_path: Path) -> None:
    for number in range(GPUS):
        cluster.run(
            "sbatch",
            "--nodelist=node2",
            "--gpus-per-node=1",
            f"--output={tmp_path}/{number}",
            "--wrap=echo $CUDA_VISIBLE_DEVICES; sleep 3",
        )

    files = [tmp_path / str(number) for number in range(GPUS)]
    wait_until(lambda: all(file.exists() and file.read_text().strip() for file in files))
    assert sorted(file.read_text().strip() for file in files) == ["0", "1", "2", "3"]


def test_finished_job_is_in_the_accounting(cluster: Cluster) -> None:
    job = cluster.run("sbatch", "--parsable", "--output=/dev/null", "--wrap=true").strip()

    wait_until(lambda: "COMPLETED" in cluster.run("sacct", "-n", "-X", "-j", job, "-o", "State"))


def test_every_daemon_listens_on_loopback_alone(cluster: Cluster) -> None:
    listening = {
        (process.name(), connection.laddr.ip)
        for process in daemons(cluster)
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }

    assert {name for name, _ in listening} >= {"slurmctld", "slurmd", "slurmdbd", "mariadbd"}
    assert {address for _, address in listening} == {"127.0.0.1"}


@pytest.mark.usefixtures("cluster")
def test_second_cluster_without_accounting_runs_beside_the_first_and_leaves_nothing(another_cluster: Cluster) -> None:
    another_cluster.up()
    another_cluster.run("sbatch", "--output=/dev/null", "--wrap=sleep 100 & sleep 100")
    wait_until(lambda: "sleep" in names_of(daemons(another_cluster)))
    names = names_of(daemons(another_cluster))

    stopped = another_cluster.testbed("down")

    assert stopped.returncode == 0
    assert "slurmctld" in names
    assert "mariadbd" not in names
    wait_until(lambda: not daemons(another_cluster))
    assert (another_cluster.folder / "log").exists()
    another_cluster.testbed("down", "--wipe")
    assert not another_cluster.folder.exists()


def test_zombie_is_no_living_daemon(another_cluster: Cluster) -> None:
    another_cluster.up()
    os.kill(another_cluster.pid("slurmctld"), signal.SIGKILL)  # nobody may reap it here

    wait_until(lambda: "slurmctld down" in another_cluster.testbed("status").stdout)

"""What the user's shell and wrappers around sbatch do to submissions."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from hpc_bench.execution.heartbeat import Heartbeat, Worker, this_process
from hpc_bench.execution.slot import Slot
from hpc_bench.running.slurm.commands import read_job, sbatch_command
from hpc_bench.running.slurm.environment import clean_environment, inherited, inherited_words
from hpc_bench.running.slurm.queue import ABSENT_S, living_jobs
from hpc_bench.sweep.slurm_section import SlurmSection
from tests.support.cluster import Cluster
from tests.support.running import execution_of, hpc_bench, wait_until, waiting_for
from tests.support.slurm_sweeps import (
    age_queue,
    arrays_of,
    most_at_once,
    running_tasks,
    submit,
    try_submit,
    wait_complete,
    write_cluster_sweep,
)


@pytest.mark.parametrize("name", ["SQUEUE_PARTITION", "SINFO_FORMAT", "SLURM_TIME_FORMAT", "SCANCEL_STATE", "SACCT_X"])
def test_variables_that_bend_queries_are_ignored(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "x")

    assert name not in clean_environment()


@pytest.mark.parametrize("name", ["SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT", "SLURM_CONF_SERVER"])
def test_settings_of_the_user_are_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "x")

    assert clean_environment()[name] == "x"


def test_key_of_the_sweep_wins_and_a_variable_for_another_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PARTITION", "QOS", "EXPORT", "TIMELIMIT"):
        monkeypatch.setenv(f"SBATCH_{name}", "high")

    assert inherited(SlurmSection(partition="main")) == {"SBATCH_QOS": "high"}
    assert "partition: high (SBATCH_PARTITION)" in inherited_words(SlurmSection())


def test_options_of_the_script_are_on_the_command_line() -> None:
    script = "#!/bin/bash\n#SBATCH --comment='a b'\n#SBATCH --requeue\necho\n"

    assert sbatch_command(script, "c1") == ["sbatch", "--parsable", "--clusters=c1", "--comment=a b", "--requeue"]


@pytest.mark.parametrize(
    ("output", "job"),
    [
        ("10\n", ("10", "")),
        ("10;c1\n", ("10", "c1")),
        ("Balance before job 5000 SU\n10\n", ("10", "")),
        ("Submitted batch job 10 on cluster c1\nthank you\n", ("10", "c1")),
    ],
)
def test_job_id_is_read_among_a_wrappers_words(output: str, job: tuple[str, str]) -> None:
    assert read_job(output) == job


def test_job_of_a_living_worker_is_not_over() -> None:
    beat = Heartbeat("w", Slot("s", 0), "slurm", this_process(), job="12_3")

    assert living_jobs([Worker(beat, 0.0, alive=True)]) == {"12"}
    assert living_jobs([Worker(beat, 0.0, alive=False)]) == set()


def wrap_sbatch(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Puts a wrapper of sbatch in front of PATH; $SBATCH in it is the real one."""
    folder.mkdir()
    (folder / "sbatch").write_text(f"#!/bin/bash\nSBATCH={shutil.which('sbatch')}\n{body}\n")
    (folder / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.usefixtures("on_the_cluster")
def test_variables_of_the_shell_and_a_chatty_wrapper_change_nothing(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrap_sbatch(tmp_path / "bin", monkeypatch, 'echo "Balance before job 5000 SU"; exec $SBATCH "$@"')
    settings = {"SBATCH_PARTITION": "high", "SBATCH_TIMELIMIT": "2", "SBATCH_EXPORT": "NONE", "SQUEUE_PARTITION": "no"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    sweep = write_cluster_sweep(tmp_path, slurm={"partition": "main"})

    submit(sweep)
    (array,) = arrays_of(sweep)
    shown = cluster.run("scontrol", "show", "job", array.job)
    wait_complete(sweep, 8)

    assert "Partition=main" in shown
    assert "TimeLimit=00:10:00" in shown


@pytest.mark.usefixtures("on_the_cluster")
def test_sbatch_that_names_no_job_gets_a_line_that_says_how_to_find_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrap_sbatch(tmp_path / "bin", monkeypatch, '$SBATCH "$@" >/dev/null; echo thanks')
    sweep = write_cluster_sweep(tmp_path)

    refused = try_submit(sweep)

    assert refused.returncode == 2
    assert "squeue --me --name=hpc-bench-test" in refused.stdout + refused.stderr


@pytest.mark.usefixtures("on_the_cluster")
def test_named_cluster_is_recorded_and_asked(tmp_path: Path, cluster: Cluster) -> None:
    sweep = write_cluster_sweep(tmp_path, slurm={"clusters": cluster.name})

    submit(sweep)
    wait_complete(sweep, 8)

    assert [array.cluster for array in arrays_of(sweep)] == [cluster.name]


@pytest.mark.usefixtures("on_the_cluster")
def test_cap_holds_though_the_shell_hides_the_jobs(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = tmp_path / "gate"
    sweep = write_cluster_sweep(tmp_path, script=waiting_for(gate), max_concurrent_runs=2)

    submit(sweep)
    wait_until(lambda: len(running_tasks(cluster)) == 2)
    with monkeypatch.context() as shell:
        shell.setenv("SQUEUE_PARTITION", "high")  # the jobs are in another one
        hpc_bench("status", str(execution_of(sweep).path))
        age_queue(execution_of(sweep), ABSENT_S + 1)
        hpc_bench("status", str(execution_of(sweep).path))
        again = submit(sweep)
    running = len(running_tasks(cluster))
    gate.touch()
    wait_complete(sweep, 8)

    assert "no worker was needed" in again.stdout
    assert len(arrays_of(sweep)) == 1
    assert running == most_at_once(sweep) == 2

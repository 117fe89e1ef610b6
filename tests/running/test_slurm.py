"""Sweeps on a real Slurm cluster: how they are submitted, run, followed and ended."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import yaml

from hpc_bench.running.slurm.queue import ABSENT_S, ASK_EVERY_S
from tests.support.builders import write_keys
from tests.support.cluster import Cluster
from tests.support.places import REPOSITORY
from tests.support.running import (
    HPC_BENCH,
    PATIENCE_S,
    assert_each_stub_once,
    execution_of,
    hpc_bench,
    outcomes,
    predictions,
    results,
    wait_until,
    waiting_for,
    workers_of,
)
from tests.support.running import submit as submit_locally
from tests.support.slurm_sweeps import (
    age_queue,
    answering,
    arrays_of,
    most_at_once,
    running_tasks,
    start_waiting,
    submit,
    try_submit,
    wait_complete,
    write_cluster_sweep,
)

pytestmark = pytest.mark.usefixtures("on_the_cluster")


def count_calls(folder: Path, monkeypatch: pytest.MonkeyPatch, *commands: str) -> Path:
    """Puts wrappers of Slurm's commands in front of PATH that write each call to the file returned."""
    calls, wrappers = folder / "calls", folder / "wrappers"
    wrappers.mkdir()
    calls.touch()
    for command in commands:
        real = subprocess.run(["which", command], capture_output=True, text=True, check=True).stdout.strip()
        wrapper = wrappers / command
        wrapper.write_text(f'#!/bin/sh\necho "{command} $*" >> {calls}\nexec {real} "$@"\n')
        wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrappers}:{os.environ['PATH']}")
    return calls


def test_array_keeps_to_its_cap_and_comes_to_the_results_of_the_local_backend(tmp_path: Path, cluster: Cluster) -> None:
    (tmp_path / "local").mkdir()
    local = write_cluster_sweep(tmp_path / "local", bundles=20, samples=4, seconds=0.0, max_concurrent_runs=3)
    assert submit_locally(local).returncode == 0
    sweep = write_cluster_sweep(tmp_path, bundles=20, samples=4, max_concurrent_runs=3)

    submit(sweep)

    seen = []
    wait_until(lambda: seen.append(len(running_tasks(cluster))) or len(results(sweep)) == 40)
    assert max(seen) <= 3
    assert 2 <= most_at_once(sweep) <= 3
    (array,) = arrays_of(sweep)
    assert (array.tasks, array.throttle, array.gpus) == (20, 3, 1)
    assert_each_stub_once(sweep, stubs=40, samples=4)
    assert predictions(sweep) == predictions(local)
    wait_until(lambda: not cluster.run("squeue", "--noheader").strip())  # the tasks that nobody needed are gone


def test_submit_returns_at_once_and_says_how_to_go_on(tmp_path: Path) -> None:
    sweep = write_cluster_sweep(tmp_path, script=waiting_for(tmp_path / "never"))

    done = submit(sweep)

    execution = execution_of(sweep).path
    for command in (f"status {execution} --watch", f"cancel {execution}", f"collect {execution}"):
        assert f"hpc-bench {command}" in done.stdout
    (array,) = arrays_of(sweep)
    assert "#SBATCH --array=0-3%2" in (execution / array.script).read_text()
    assert (array.partition, array.time_min) == ("", 10)


def test_waiting_submit_shows_progress_and_the_summary(tmp_path: Path) -> None:
    sweep = write_cluster_sweep(tmp_path, bundles=2)

    done = submit(sweep, "--wait")

    assert "4 stubs: 4 complete" in done.stdout
    assert "needle mean" in done.stdout
    assert_each_stub_once(sweep, stubs=4, samples=8)


def test_example_runs_the_demo_models_on_the_cluster_as_locally(tmp_path: Path) -> None:
    example = yaml.safe_load((REPOSITORY / "examples" / "slurm_quickstart.yaml").read_text())
    sweeps = []
    for backend in ("slurm", "local"):
        (tmp_path / backend).mkdir()
        keys = {**example, "base_result_dir": str(tmp_path / backend / "results")}
        sweeps.append(write_keys(tmp_path / backend, keys))

    submit(sweeps[0], "--wait")

    assert submit_locally(sweeps[1]).returncode == 0
    assert len(results(sweeps[0])) == 12
    assert predictions(sweeps[0]) == predictions(sweeps[1])


def test_interrupted_wait_leaves_the_jobs_alone(tmp_path: Path) -> None:
    sweep = write_cluster_sweep(tmp_path)
    waiting = start_waiting(sweep)
    wait_until(lambda: execution_exists(sweep) and answering(sweep))

    os.killpg(waiting.pid, 2)
    output, _ = waiting.communicate(timeout=PATIENCE_S)

    assert waiting.returncode == 130
    assert "the jobs go on" in output
    wait_complete(sweep, 8)
    assert_each_stub_once(sweep, stubs=8, samples=8)


def execution_exists(sweep: Path) -> bool:
    return any((sweep.parent / "results").glob("execution_*/manifest.jsonl"))


def test_dry_run_prints_the_scripts_that_are_submitted_and_writes_nothing(tmp_path: Path) -> None:
    settings = {"partition": "main", "setup": ["echo 'it is'"], "mem": "1G", "nice": 5, "time": "1:30:00"}
    sweep = write_cluster_sweep(tmp_path, slurm=settings)
    before = sorted(tmp_path.rglob("*"))

    dry = submit(sweep, "--dry-run")

    assert sorted(tmp_path.rglob("*")) == before
    assert "8 stubs" in dry.stdout
    assert "GPU hours" in dry.stdout
    submit(sweep)
    (array,) = arrays_of(sweep)
    folder = (execution_of(sweep).path / array.script).parent
    script = (execution_of(sweep).path / array.script).read_text()
    shown = dry.stdout.replace(
        str(tmp_path / "results/execution_of_this_submission/.state/jobs/slurm-submission"), str(folder)
    )
    assert script.strip() in shown
    for line in ("--mem=1G", "--nice=5", "--time=90", "--partition=main", "--gpus-per-node=1"):
        assert f"#SBATCH {line}" in script


def test_settings_of_the_command_line_win_over_the_sweep_and_those_over_the_profile(tmp_path: Path) -> None:
    profiles = tmp_path / "slurm" / "profiles"
    profiles.mkdir(parents=True)
    (profiles / "ours.yaml").write_text("partition: high\nnice: 1\nmem: 2G\nadditional_parameters: {comment: hello}\n")
    sweep = write_cluster_sweep(tmp_path, slurm={"profile": "ours", "nice": 2, "mem": "1G"})

    shown = submit(sweep, "--dry-run", "--set", "slurm.nice=3", "--set", "max_concurrent_runs=1").stdout

    for line in ("--partition=high", "--nice=3", "--mem=1G", "--comment=hello", "--array=0-3%1"):
        assert f"#SBATCH {line}\n" in shown


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"partition": "nowhere"}, "invalid partition specified: nowhere"),
        ({"gpus_per_node": 5}, "Requested node configuration is not available"),
        ({"time": "12:xx"}, "slurm: time: '12:xx' is no walltime"),
        ({"profile": "nowhere"}, "nowhere'"),
        ({"patition": "main"}, "did you mean 'partition'"),
        ({"time": "1m", "signal_delay": "90s"}, "signal_delay (90s) must be shorter"),
    ],
)
def test_bad_settings_get_one_line_and_nothing_is_written(
    tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    sweep = write_cluster_sweep(tmp_path, slurm=settings)

    refused = try_submit(sweep)

    assert refused.returncode == 2
    assert message in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_profile_with_an_unknown_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("partitions: main\n")
    sweep = write_cluster_sweep(tmp_path, slurm={"profile": "./mine.yaml"})

    refused = try_submit(sweep)

    assert refused.returncode == 2
    assert "mine.yaml" in refused.stderr
    assert "did you mean 'partition'" in refused.stderr


def test_without_slurm_nothing_is_written_and_nothing_runs_locally(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")

    refused = try_submit(write_cluster_sweep(tmp_path))

    assert refused.returncode == 2
    assert "sbatch and srun were not found" in refused.stderr
    assert not (tmp_path / "results").exists()


def test_array_that_slurm_refuses_leaves_the_execution_resumable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: Cluster
) -> None:
    calls = count_calls(tmp_path, monkeypatch, "sbatch")
    wrapper = tmp_path / "wrappers" / "sbatch"
    refusal = (
        'case "$*" in --test-only) ;; *) [ "$(grep -vc test-only "$CALLS")" -lt 2 ] || '
        '{ echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1; };; esac\n'
    )
    wrapper.write_text(wrapper.read_text().replace("exec ", refusal.replace("$CALLS", str(calls)) + "exec "))
    models = [{"name": "demo/tiny-2l"}, {"name": "demo/tiny-4l", "gpus": 4}]
    sweep = write_cluster_sweep(tmp_path, model_names=models)

    refused = try_submit(sweep)

    assert refused.returncode == 2
    assert "QOSMaxSubmitJobPerUserLimit" in refused.stderr
    assert "submitted before that: job" in refused.stderr
    assert len(arrays_of(sweep)) == 1
    wait_complete(sweep, 8)
    wrapper.unlink()
    submit(sweep)
    wait_complete(sweep, 16)
    assert_each_stub_once(sweep, stubs=16, samples=8)


def test_models_of_one_and_of_four_gpus_share_the_cap(tmp_path: Path, cluster: Cluster) -> None:
    models = [{"name": "demo/tiny-2l"}, {"name": "demo/tiny-4l", "gpus": 4}]
    sweep = write_cluster_sweep(tmp_path, model_names=models, max_concurrent_runs=3)

    submit(sweep)

    seen = []
    wait_until(lambda: seen.append(len(running_tasks(cluster))) or len(results(sweep)) == 16)
    assert max(seen) <= 3
    assert sum(array.throttle for array in arrays_of(sweep)) == 3
    assert {array.gpus for array in arrays_of(sweep)} == {1, 4}
    assert_each_stub_once(sweep, stubs=16, samples=8)
    for folder in results(sweep):
        gpus = json.loads((folder / "stub.json").read_text())["provenance"]["gpus"]
        assert len(gpus.split(",")) == (4 if "4l" in str(folder) else 1)


def test_more_shapes_than_the_cap_follow_one_another(tmp_path: Path, cluster: Cluster) -> None:
    models = [{"name": "demo/tiny-2l"}, {"name": "demo/tiny-4l", "gpus": 2}]
    sweep = write_cluster_sweep(tmp_path, bundles=2, model_names=models, max_concurrent_runs=1)

    submit(sweep)

    submit(sweep)  # must leave the array that waits alone
    seen = []
    wait_until(lambda: seen.append(len(running_tasks(cluster))) or len(results(sweep)) == 8)
    assert max(seen) == 1
    assert len(arrays_of(sweep)) == 2
    assert_each_stub_once(sweep, stubs=8, samples=8)


def test_array_is_no_larger_than_the_cluster_allows(tmp_path: Path, cluster: Cluster) -> None:
    cluster.up("--max-array-size", "5")
    sweep = write_cluster_sweep(tmp_path, bundles=12, samples=2, max_concurrent_runs=3)

    submit(sweep)

    wait_complete(sweep, 24)
    assert [array.tasks for array in arrays_of(sweep)] == [5]
    assert_each_stub_once(sweep, stubs=24, samples=2)


def test_cap_is_lowered_and_raised_by_submitting_again(tmp_path: Path, cluster: Cluster) -> None:
    sweep = write_cluster_sweep(tmp_path, bundles=16, samples=16, max_concurrent_runs=4)
    submit(sweep)
    wait_until(lambda: len(running_tasks(cluster)) == 4)

    submit(sweep, "--set", "max_concurrent_runs=2")
    wait_until(lambda: len(running_tasks(cluster)) == 2)
    time.sleep(3)
    lowered = len(running_tasks(cluster))
    submit(sweep, "--set", "max_concurrent_runs=6")
    wait_until(lambda: len(running_tasks(cluster)) == 6)

    assert lowered == 2
    wait_complete(sweep, 32)
    assert most_at_once(sweep) <= 6
    assert_each_stub_once(sweep, stubs=32, samples=16, doubled=8)


def test_second_submit_with_the_same_cap_adds_no_worker(tmp_path: Path, cluster: Cluster) -> None:
    sweep = write_cluster_sweep(tmp_path, bundles=8)
    submit(sweep)
    wait_until(lambda: len(running_tasks(cluster)) == 2)

    submit(sweep)

    assert len(arrays_of(sweep)) == 1
    wait_complete(sweep, 16)
    assert_each_stub_once(sweep, stubs=16, samples=8)


def test_later_submit_adds_stubs_to_the_same_execution(tmp_path: Path) -> None:
    sweep = write_cluster_sweep(tmp_path, bundles=2)
    submit(sweep)
    wait_complete(sweep, 4)

    write_cluster_sweep(tmp_path, bundles=4)
    submit(sweep)

    wait_complete(sweep, 8)
    assert_each_stub_once(sweep, stubs=8, samples=8)


def test_local_and_slurm_workers_drain_one_execution_together(tmp_path: Path) -> None:
    sweep = write_cluster_sweep(tmp_path, bundles=8)
    submit(sweep)
    wait_until(lambda: answering(sweep))

    local = submit_locally(sweep)

    assert local.returncode == 0, local.stdout + local.stderr
    assert_each_stub_once(sweep, stubs=16, samples=8)
    backends = {json.loads(path.read_text())["backend"] for path in execution_of(sweep).workers.glob("*.json")}
    assert backends == {"local", "slurm"}


def test_two_submissions_at_once_keep_to_the_cap_and_give_each_stub_one_result(
    tmp_path: Path, cluster: Cluster
) -> None:
    sweep = write_cluster_sweep(tmp_path, bundles=6)
    command = [*HPC_BENCH, "submit", "--backend", "slurm", str(sweep)]

    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]

    for one in both:
        output, _ = one.communicate(timeout=PATIENCE_S)
        assert one.returncode == 0, output
    seen = []
    wait_until(lambda: seen.append(len(running_tasks(cluster))) or len(results(sweep)) == 12)
    assert max(seen) <= 2
    assert_each_stub_once(sweep, stubs=12, samples=8)


def test_cancel_sends_one_scancel_and_frees_every_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: Cluster
) -> None:
    sweep = write_cluster_sweep(tmp_path, bundles=8, seconds=0.5)
    submit(sweep)
    wait_until(lambda: answering(sweep))
    calls = count_calls(tmp_path, monkeypatch, "scancel")

    cancelled = hpc_bench("cancel", str(tmp_path / "results"))

    assert cancelled.returncode == 0, cancelled.stdout + cancelled.stderr
    assert "0 still running" in cancelled.stdout
    assert len(calls.read_text().splitlines()) == 1
    assert {outcome["state"] for outcome in outcomes(sweep)} == {"released"}
    wait_until(lambda: not cluster.run("squeue", "--noheader").strip())
    monkeypatch.undo()
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    write_cluster_sweep(tmp_path, bundles=8, seconds=0.5)
    again = submit(sweep, "--set", "max_concurrent_runs=8")
    wait_complete(sweep, 16)
    assert "array of 8 tasks" in again.stdout
    assert_each_stub_once(sweep, stubs=16, samples=8, doubled=2)


def test_status_asks_squeue_once_in_30_seconds_whoever_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = write_cluster_sweep(tmp_path, bundles=8, seconds=0.5)
    submit(sweep)
    calls = count_calls(tmp_path, monkeypatch, "squeue", "sacct")

    started = time.monotonic()
    for _ in range(5):
        hpc_bench("status", str(tmp_path / "results"))

    assert 1 <= len(calls.read_text().splitlines()) <= 1 + (time.monotonic() - started) // ASK_EVERY_S
    hpc_bench("cancel", str(tmp_path / "results"))


def test_worker_in_the_queue_shows_why_it_waits(tmp_path: Path, cluster: Cluster) -> None:
    cluster.run(
        "sbatch", "--partition=high", "--nodes=4", "--gpus-per-node=4", "--output=/dev/null", "--wrap=sleep 120"
    )
    wait_until(lambda: running_tasks(cluster))
    sweep = write_cluster_sweep(tmp_path)
    submit(sweep)

    shown = wait_until(lambda: waiting_lines(sweep))

    assert shown[0].startswith("waiting: ")
    assert "4 workers of job" in shown[0]
    told = json.loads(hpc_bench("status", "--json", str(tmp_path / "results")).stdout)
    assert sum(entry["tasks"] for entry in told["queue"]) == 4
    cluster.run("scancel", "--partition=high", "--state=RUNNING")
    wait_complete(sweep, 8)


def waiting_lines(sweep: Path) -> list[str]:
    """What `status` says at once of workers that wait for nodes."""
    age_queue(execution_of(sweep), ASK_EVERY_S + 1)
    return [line for line in status(sweep) if "Resources" in line or "Priority" in line]


def status(sweep: Path) -> list[str]:
    return hpc_bench("status", str(sweep.parent / "results")).stdout.splitlines()


def test_environment_of_an_enclosing_job_does_not_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SLURM_LEAK": "1", "SRUN_LEAK": "1", "SLURM_NTASKS": "7", "SLURM_JOB_ID": "1"}.items():
        monkeypatch.setenv(name, value)
    seen = tmp_path / "seen"
    sweep = write_cluster_sweep(tmp_path, bundles=2, slurm={"setup": [f"env >> {seen}"]})

    submit(sweep)

    wait_complete(sweep, 4)
    lines = seen.read_text().splitlines()
    assert not [line for line in lines if "LEAK" in line]
    assert "SLURM_NTASKS=7" not in lines
    assert f"SLURM_CONF={os.environ['SLURM_CONF']}" in lines


def test_submission_from_inside_a_job_works(tmp_path: Path, cluster: Cluster) -> None:
    sweep = write_cluster_sweep(tmp_path, bundles=2)
    command = " ".join([*HPC_BENCH, "submit", "--backend", "slurm", str(sweep)])

    cluster.run("sbatch", "--ntasks=4", "--mem=100M", f"--output={tmp_path}/outer", f"--wrap=srun --ntasks=1 {command}")

    wait_until(lambda: execution_exists(sweep))
    wait_complete(sweep, 4)
    assert_each_stub_once(sweep, stubs=4, samples=8)


def test_setup_line_that_fails_ends_the_job_and_its_log_says_which(tmp_path: Path) -> None:
    setup = ["export GREETING=hello", "echo $GREETING", "cd /nowhere/at/all", "echo never"]
    sweep = write_cluster_sweep(tmp_path, slurm={"setup": setup})

    submit(sweep)

    logs = wait_until(lambda: [log for log in job_logs(sweep) if "slurm.setup" in log.read_text()])
    text = logs[0].read_text()
    assert "hello" in text
    assert "hpc-bench: slurm.setup line 3 failed with code 1: cd /nowhere/at/all" in text
    assert "never" not in text.splitlines()
    job = logs[0].name.removesuffix("_0_log.out")
    assert "slurm.setup line 3" in hpc_bench("logs", str(tmp_path / "results"), job).stdout
    told = wait_until(lambda: [line for line in status(sweep) if "ended before a worker started" in line])
    assert len(told) == 1
    assert "slurm.setup line 3 failed with code 1: cd /nowhere/at/all" in told[0]


def job_logs(sweep: Path) -> list[Path]:
    return sorted(execution_of(sweep).jobs.glob("slurm-*/*_log.out"))


def test_engine_has_node_local_folders_of_its_own_that_are_gone_afterwards(tmp_path: Path) -> None:
    sweep = write_cluster_sweep(tmp_path, bundles=2, seconds=0.5, max_concurrent_runs=2)
    submit(sweep)
    wait_until(lambda: answering(sweep))

    engines = [child for w in workers_of(sweep) for child in psutil.Process(w.heartbeat.process.pid).children()]
    environments = [engine.environ() for engine in engines]

    folders = {environment["TMPDIR"] for environment in environments}
    assert len(folders) == len(engines) == 2
    assert all(environment["TRITON_CACHE_DIR"].startswith(environment["TMPDIR"]) for environment in environments)
    assert all(Path(folder).is_dir() and tmp_path not in Path(folder).parents for folder in folders)
    wait_complete(sweep, 4)
    wait_until(lambda: not any(Path(folder).exists() for folder in folders))


@pytest.mark.parametrize("place", ["/scratch/of/the/login/node", "/proc"])
def test_temporary_folder_of_the_login_node_need_not_be_of_use_on_the_compute_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("TMPDIR", place)
    sweep = write_cluster_sweep(tmp_path, bundles=2)

    submit(sweep)

    wait_complete(sweep, 4)
    assert_each_stub_once(sweep, stubs=4, samples=8)


def test_fewer_gpus_a_node_than_a_model_needs_are_refused(tmp_path: Path) -> None:
    models = [{"name": "demo/tiny-2l"}, {"name": "demo/tiny-4l", "gpus": 4}]
    sweep = write_cluster_sweep(tmp_path, model_names=models, slurm={"gpus_per_node": 2})

    refused = try_submit(sweep)

    assert refused.returncode == 2
    assert "slurm.gpus_per_node is 2, but a model of the sweep needs 4 GPUs" in refused.stderr
    assert not (tmp_path / "results").exists()


def test_larger_slots_than_a_model_needs_serve_all_models(tmp_path: Path) -> None:
    models = [{"name": "demo/tiny-2l"}, {"name": "demo/tiny-4l", "gpus": 4}]
    sweep = write_cluster_sweep(tmp_path, bundles=2, model_names=models, slurm={"gpus_per_node": 4})

    submit(sweep)

    wait_complete(sweep, 8)
    assert [array.gpus for array in arrays_of(sweep)] == [4]
    assert_each_stub_once(sweep, stubs=8, samples=8)


@pytest.mark.parametrize("mask", [0o027, 0o002])
def test_umask_holds_for_every_file(tmp_path: Path, mask: int) -> None:
    sweep = write_cluster_sweep(tmp_path, bundles=2)
    before = os.umask(mask)
    try:
        submit(sweep)
    finally:
        os.umask(before)
    wait_complete(sweep, 4)
    wait_until(lambda: not workers_of(sweep))
    hpc_bench("collect", str(tmp_path / "results"))

    for path in (tmp_path / "results").rglob("*"):
        if path.is_symlink() or path == execution_of(sweep).summary_json or path == execution_of(sweep).summary_csv:
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        if path == execution_of(sweep).jobs:
            assert mode == 0o700
            continue
        readable = 0o750 if path.is_dir() else 0o640
        assert mode & readable == readable, f"{path}: {mode:o}"
        assert not mode & mask, f"{path}: {mode:o}"


def test_submitting_again_keeps_away_from_a_node_that_was_found_broken(tmp_path: Path, cluster: Cluster) -> None:
    sweep = write_cluster_sweep(tmp_path, bundles=1, script={"broken_node": "node0"}, max_concurrent_runs=1)
    submit(sweep)
    wait_until(lambda: list(execution_of(sweep).workers.glob("slurm-*.json")))
    wait_until(lambda: not cluster.run("squeue", "--noheader").strip())

    submit(sweep)

    wait_complete(sweep, 2)
    assert_each_stub_once(sweep, stubs=2, samples=8)


def test_all_nodes_found_broken_lock_nobody_out(tmp_path: Path, cluster: Cluster) -> None:
    # Fake GPUs and a CPU build of PyTorch: the device check fails on every node.
    huggingface = {"adapter_name": "huggingface", "model_kwargs": {"dtype": "float32"}}
    needle = {"needle": {"subsets": [256, 320, 384, 448, 512, 576], "samples": 2}}
    one = {"adapter_config": huggingface, "benchmark_configs": needle, "sparse_attention_configs": {"dense": None}}
    sweep = write_cluster_sweep(
        tmp_path, max_concurrent_runs=6, slurm={"additional_parameters": {"exclusive": True}}, **one
    )
    submit(sweep)
    wait_until(lambda: len({node for node in broken_on(sweep) if node}) == 4)
    wait_until(lambda: not cluster.run("squeue", "--noheader").strip())

    told = submit(sweep)
    wait_until(lambda: not cluster.run("squeue", "--noheader").strip())
    mended = submit(sweep, "--set", "adapter_config.device=cpu", "--set", "max_concurrent_runs=2")

    assert "whose GPUs did not work, since there are no other nodes" in told.stdout
    assert "whose GPUs" not in mended.stdout
    wait_complete(sweep, 6)
    log = hpc_bench("logs", str(tmp_path / "results"), f"{arrays_of(sweep)[0].job}_0").stdout
    assert "broken: DeviceError: 1 GPU(s) are needed" in log


def broken_on(sweep: Path) -> list[str]:
    heartbeats = [json.loads(path.read_text()) for path in execution_of(sweep).workers.glob("slurm-*.json")]
    return [beat["node"] for beat in heartbeats if beat["bad_device"]]


def test_log_of_an_array_names_its_tasks(tmp_path: Path) -> None:
    sweep = write_cluster_sweep(tmp_path, bundles=2)
    submit(sweep)
    wait_complete(sweep, 4)

    job = arrays_of(sweep)[0].job
    refused = hpc_bench("logs", str(tmp_path / "results"), job)

    assert refused.returncode == 2
    assert f"{job}_0" in refused.stderr


def test_waiting_submit_ends_where_no_job_comes_to_work(tmp_path: Path) -> None:
    sweep = write_cluster_sweep(tmp_path, bundles=1, slurm={"setup": ["module load nosuch"]})

    waiting = start_waiting(sweep)

    wait_until(lambda: execution_exists(sweep))
    wait_until(lambda: age_queue(execution_of(sweep), 2 * ABSENT_S) or waiting.poll() is not None)
    output, _ = waiting.communicate()
    assert waiting.returncode == 1
    assert "slurm.setup line 1 failed with code 127: module load nosuch" in output
    assert len(arrays_of(sweep)) == 1


def test_status_where_slurm_is_not_calls_no_job_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = write_cluster_sweep(tmp_path, slurm={"setup": ["sleep 6"]})
    submit(sweep)
    wait_until(lambda: job_logs(sweep))

    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("PATH", "/nonexistent")
        told = status(sweep)

    assert "ended before a worker started" not in "\n".join(told)
    assert "8 stubs: 0 complete" in "\n".join(told)
    wait_complete(sweep, 8)


@pytest.mark.parametrize("command", ["false; exit 3", "set -e; false"])
def test_setup_line_that_leaves_the_shell_is_named_too(tmp_path: Path, command: str) -> None:
    sweep = write_cluster_sweep(tmp_path, bundles=1, slurm={"setup": [command]})

    submit(sweep)

    said = "hpc-bench: slurm.setup line 1 failed with code"
    wait_until(lambda: [log for log in job_logs(sweep) if said in log.read_text() and command in log.read_text()])


def test_node_whose_gpu_does_not_work_is_left_by_the_rest_of_the_array_and_charges_nobody(
    tmp_path: Path, cluster: Cluster
) -> None:
    sweep = write_cluster_sweep(tmp_path, bundles=6, script={"broken_node": "node0"}, max_concurrent_runs=1)

    submit(sweep)

    wait_complete(sweep, 12)
    assert_each_stub_once(sweep, stubs=12, samples=8)
    heartbeats = [json.loads(path.read_text()) for path in execution_of(sweep).workers.glob("*.json")]
    broken = [beat for beat in heartbeats if beat["state"] == "broken"]
    assert [beat["node"] for beat in broken] == ["node0"]
    assert not [outcome for outcome in outcomes(sweep) if outcome["state"] == "failed"]

"""What `hpc-bench doctor` finds: each fault is caused for real, in the filesystem, in Slurm, or in the job."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pynvml
import pytest
from click.testing import CliRunner

from hpc_bench import files
from hpc_bench.cli import main
from hpc_bench.cli.doctor import probe
from hpc_bench.running.slurm.commands import has_slurm
from tests.support.cluster import Cluster
from tests.support.running import HPC_BENCH, PATIENCE_S, wait_until, write_scripted_sweep

Findings = dict[str, dict[str, str]]

# A filter that has link(2) and linkat(2) fail with EPERM, as on filesystems that know no hard links (seccomp(2)).
WITHOUT_LINKS = """
import ctypes, struct, sys
rules = [(0x20, 0, 0, 0), (0x15, 1, 0, 86), (0x15, 0, 1, 265), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(rules), ctypes.addressof(code)))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
from hpc_bench.cli import main
main()
"""


def run(
    folder: Path,
    *arguments: str,
    command: list[str] = HPC_BENCH,
    environment: dict[str, str] | None = None,
) -> tuple[int, Findings, str]:
    """Exit code, findings by name, and standard error of `hpc-bench doctor` in `folder`."""
    done = subprocess.run(
        [*command, "doctor", "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        cwd=folder,
        env={**os.environ, "HF_HOME": str(folder / "hf"), **(environment or {})},
    )
    findings = json.loads(done.stdout) if done.stdout else []
    return done.returncode, {finding["name"]: finding for finding in findings}, done.stderr


def examine(*arguments: str) -> tuple[int, Findings]:
    """The same in this process, for what has to be faked in it."""
    done = CliRunner().invoke(main, ["doctor", "--json", *arguments])
    return done.exit_code, {finding["name"]: finding for finding in json.loads(done.stdout)}


def states(findings: Findings, *names: str) -> dict[str, str]:
    return {name: findings[name]["state"] for name in names}


def test_sound_folder_passes_and_is_left_as_it_was(tmp_path: Path) -> None:
    code, findings, _ = run(tmp_path, "--backend", "local", "--results", "deep/results")

    assert code == 0
    names = ("results folder", "link", "rename", "replace", "clock", "versions")
    assert states(findings, *names) == dict.fromkeys(names, "ok")
    assert "deep/results" not in findings["space"]["message"]
    assert list(tmp_path.iterdir()) == []


def test_findings_are_lines_with_the_remedy_below(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")

    done = subprocess.run([*HPC_BENCH, "doctor"], capture_output=True, text=True, check=False, cwd=tmp_path)

    assert done.returncode == 1
    lines = done.stdout.splitlines()
    (place,) = [index for index, line in enumerate(lines) if line.startswith("wrong   results folder")]
    assert lines[place].endswith(f"{tmp_path}/results is not a folder")
    assert lines[place + 1].strip().startswith("-> choose a base_result_dir")


def test_folder_that_cannot_be_written_is_wrong_also_for_root(tmp_path: Path) -> None:
    code, findings, _ = run(tmp_path, "--backend", "local", "--results", "/sys/results")

    assert code == 1
    assert findings["results folder"]["state"] == "wrong"
    assert "/sys" in findings["results folder"]["message"]
    assert "link" not in findings


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the filter names system calls by their x86_64 numbers")
def test_filesystem_without_hard_links_is_wrong(tmp_path: Path) -> None:
    code, findings, _ = run(tmp_path, "--backend", "local", command=[sys.executable, "-c", WITHOUT_LINKS])

    assert code == 1
    assert states(findings, "link", "rename", "replace") == {"link": "wrong", "rename": "ok", "replace": "ok"}
    assert "hard links are refused" in findings["link"]["message"]
    assert list(tmp_path.iterdir()) == []


def test_small_node_local_filesystem_is_told(tmp_path: Path) -> None:
    mount = ["unshare", "-rm", "sh", "-c", f'mount -t tmpfs -o size=1m none {tmp_path} && exec "$@"', "sh"]
    if subprocess.run([*mount, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace can be made here")

    _, findings, _ = run(tmp_path, "--backend", "slurm", "--results", str(tmp_path), command=[*mount, *HPC_BENCH])

    assert states(findings, "filesystem", "space") == {"filesystem": "warning", "space": "warning"}
    assert "tmpfs" in findings["filesystem"]["message"]
    assert "--probe" in findings["filesystem"]["remedy"]


def test_slow_disk_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.os, "fsync", lambda _: time.sleep(0.06))

    code, findings = examine("--backend", "local", "--results", str(tmp_path))

    assert code == 0
    assert findings["write latency"]["state"] == "warning"


def test_clock_that_is_off_is_a_harmless_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "filesystem_now", lambda _: time.time() + 60)

    code, findings = examine("--backend", "local", "--results", str(tmp_path))

    assert code == 0
    assert findings["clock"]["state"] == "warning"
    assert "60 s behind" in findings["clock"]["message"]


def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = importlib.metadata.version

    def without_datasets(name: str) -> str:
        if name == "datasets":
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(importlib.metadata, "version", without_datasets)

    code, findings = examine("--backend", "local", "--results", str(tmp_path))

    assert code == 1
    assert findings["versions"]["remedy"] == "pip install datasets"


@pytest.mark.parametrize(
    ("device", "state", "code"), [("auto", "warning", 0), ("cuda", "wrong", 1), ("cpu", "skipped", 0)]
)
def test_machine_without_gpu(
    device: str, state: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_driver() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    sweep = write_scripted_sweep(tmp_path, adapter_config={"device": device})

    exit_code, findings = examine("--backend", "local", str(sweep))

    assert (findings["GPUs"]["state"], exit_code) == (state, code)


def test_gpus_are_shown_with_their_driver_and_must_suffice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name, value in {
        "Init": None,
        "Shutdown": None,
        "SystemGetDriverVersion": "550.54",
        "DeviceGetCount": 2,
    }.items():
        monkeypatch.setattr(pynvml, f"nvml{name}", lambda value=value: value)
    for name, value in {"HandleByIndex": "", "UUID": "GPU-aaaa", "Name": "H100"}.items():
        monkeypatch.setattr(pynvml, f"nvmlDeviceGet{name}", lambda index, value=value: value or index)
    greedy = write_scripted_sweep(tmp_path, model_names=[{"name": "demo/tiny-2l", "gpus": 4}])

    _, few = examine("--backend", "local", "--results", str(tmp_path))
    code, many = examine("--backend", "local", str(greedy))

    assert few["GPUs"]["message"] == "0 (H100), 1 (H100); driver 550.54"
    assert (code, many["GPUs"]["state"]) == (1, "wrong")
    assert "needs 4 GPUs" in many["GPUs"]["message"]


def test_hf_home_in_the_home_folder_is_a_warning_on_a_cluster(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "HF_HOME": "", "XDG_CACHE_HOME": ""}

    _, on_cluster, _ = run(tmp_path, "--backend", "slurm", environment=home)
    _, at_home, _ = run(tmp_path, "--backend", "local", environment=home)

    assert on_cluster["HF_HOME"]["state"] == "warning"
    assert f"{tmp_path}/.cache/huggingface" in on_cluster["HF_HOME"]["message"]
    assert "home folder" not in at_home["HF_HOME"]["message"]


def test_hf_home_that_cannot_be_a_folder_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    code, findings, _ = run(tmp_path, "--backend", "local", environment={"HF_HOME": str(tmp_path / "file" / "hf")})

    assert code == 1
    assert findings["HF_HOME"]["state"] == "wrong"


@pytest.mark.parametrize("arguments", [["no-such.yaml"], ["--probe", "--backend", "local"], ["--probe-timeout", "0"]])
def test_wrong_arguments_are_the_users_mistake(arguments: list[str], tmp_path: Path) -> None:
    code, findings, error = run(tmp_path, *arguments)

    assert (code, findings) == (2, {})
    assert "Error: " in error


def test_missing_slurm_commands_are_named(tmp_path: Path) -> None:
    code, findings, _ = run(tmp_path, "--backend", "slurm", "--probe", environment={"PATH": str(tmp_path)})

    assert code == 1
    assert findings["Slurm"]["message"] == ("not on this machine: sbatch, srun, squeue, scontrol, scancel, sinfo")
    assert states(findings, "jobs", "node", "link") == {"jobs": "skipped", "node": "skipped", "link": "ok"}


@pytest.mark.skipif(not has_slurm(), reason="needs Slurm's commands")
def test_controller_that_does_not_answer_is_told(tmp_path: Path) -> None:
    config = tmp_path / "slurm.conf"
    config.write_text(
        "ClusterName=x\nSlurmctldHost=localhost\nSlurmctldPort=1\nNodeName=n0\nPartitionName=p Nodes=n0\n"
    )

    code, findings, _ = run(tmp_path, environment={"SLURM_CONF": str(config)})

    assert code == 1
    assert "slurmctld does not answer" in findings["Slurm"]["message"]
    assert findings["jobs"]["state"] == "skipped"


def test_refused_partition_is_shown_with_slurms_own_words(cluster: Any, tmp_path: Path) -> None:
    sweep = write_scripted_sweep(tmp_path, slurm={"partition": "no-such-partition"})

    code, findings, _ = run(tmp_path, "--probe", str(sweep), environment=cluster.environment)

    assert code == 1
    assert findings["partition"]["state"] == "warning"
    assert "invalid partition specified: no-such-partition" in findings["jobs"]["message"].lower()
    assert findings["node"]["state"] == "skipped"


def test_partition_that_is_down_is_a_warning(cluster: Any, tmp_path: Path) -> None:
    cluster.run("scontrol", "create", "PartitionName=closed", "Nodes=ALL", "State=DOWN")
    try:
        _, findings, _ = run(
            tmp_path,
            str(write_scripted_sweep(tmp_path, slurm={"partition": "closed"})),
            environment=cluster.environment,
        )
    finally:
        cluster.run("scontrol", "delete", "PartitionName=closed")

    assert findings["partition"]["state"] == "warning"
    assert "the partition is down" in findings["partition"]["message"]


@pytest.mark.parametrize("known", [True, False])
def test_cluster_that_the_sweep_names_is_the_one_that_is_asked(cluster: Cluster, tmp_path: Path, known: bool) -> None:
    name = cluster.name if known else "elsewhere"
    sweep = write_scripted_sweep(tmp_path, slurm={"clusters": name})

    _, findings, _ = run(tmp_path, str(sweep), environment=cluster.environment)

    if known:
        assert states(findings, "Slurm", "arrays", "partition") == dict.fromkeys(("Slurm", "arrays", "partition"), "ok")
        assert f"partition main of cluster {name}: 4 of 4 nodes" in findings["partition"]["message"]
    else:
        assert findings["Slurm"]["state"] == "wrong"
        assert name in findings["Slurm"]["message"]


@pytest.mark.parametrize(("device", "code", "gpus"), [("cpu", 0, "ok"), ("auto", 1, "wrong")])
def test_probe_reports_from_inside_and_leaves_nothing(
    cluster: Any, tmp_path: Path, device: str, code: int, gpus: str
) -> None:
    sweep = write_scripted_sweep(tmp_path, adapter_config={"adapter_name": "scripted", "device": device})

    given, findings, _ = run(tmp_path, "--probe", str(sweep), environment=cluster.environment)

    assert given == code, findings
    assert findings["node GPUs"]["state"] == gpus  # they are fake: an engine that was given one would refuse it
    names = ("Slurm", "arrays", "partition", "jobs", "node", "node versions", "node link", "node clock", "node HF_HOME")
    assert states(findings, *names) == dict.fromkeys(names, "ok")
    assert "asked for 1" in findings["node GPUs"]["message"]
    assert "CUDA_VISIBLE_DEVICES 0" in findings["node GPUs"]["message"]
    assert list(tmp_path.iterdir()) == [sweep]


def test_packages_that_differ_on_the_node_are_named_with_both_versions(cluster: Any, tmp_path: Path) -> None:
    other = tmp_path / "other" / "torch-0.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 0.0.1\n")
    start = tmp_path / "start"
    start.mkdir()
    (start / "sitecustomize.py").write_text(
        f"import os, sys\nif 'SLURM_JOB_ID' in os.environ:\n    sys.path.insert(0, {str(other.parent)!r})\n"
    )
    paths = os.pathsep.join(filter(None, (str(start), os.environ.get("PYTHONPATH"))))

    code, findings, _ = run(tmp_path, "--probe", environment={**cluster.environment, "PYTHONPATH": paths})

    assert code == 1
    here = importlib.metadata.version("torch")
    assert findings["node versions"]["state"] == "wrong"
    assert findings["node versions"]["message"].startswith(f"torch {here} here, 0.0.1 there (")


def test_folder_that_the_node_does_not_share_is_wrong(cluster: Any, tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace can be made here")
    covered = tmp_path / "covered"
    (covered / "in").mkdir(parents=True)
    # bash reads this before a job's script: the job then sees a disk of its own in the folder's place
    (tmp_path / "start.sh").write_text(
        '[ -n "$COVERED" ] || { export COVERED=1; '
        f'exec unshare -m bash -c \'mount -t tmpfs none {covered} && mkdir {covered}/in && exec bash "$0"\' "$0"; }}\n'
    )
    environment = {**cluster.environment, "BASH_ENV": str(tmp_path / "start.sh")}

    code, findings, _ = run(tmp_path, "--probe", "--results", str(covered / "in"), environment=environment)

    assert code == 1
    assert f"{covered}/in is not shared" in findings["node"]["message"]
    assert "base_result_dir" in findings["node"]["remedy"]
    assert list((covered / "in").iterdir()) == []


def test_python_that_the_node_lacks_is_told_by_the_jobs_own_words(cluster: Any, tmp_path: Path) -> None:
    sweep = write_scripted_sweep(tmp_path, slurm={"python": "/no/such/python"})

    code, findings, _ = run(tmp_path, "--probe", str(sweep), environment=cluster.environment)

    assert code == 1
    assert "/no/such/python: No such file or directory" in findings["node"]["message"]


LATER = {"additional_parameters": {"begin": "now+1hour"}}


def jobs(cluster: Any) -> list[str]:
    done = subprocess.run(
        ["squeue", "-h", "-n", "hpc-bench-doctor", "-o", "%i"],
        env={**os.environ, **cluster.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_job_that_waits_too_long_is_cancelled_and_its_reason_shown(cluster: Any, tmp_path: Path) -> None:
    sweep = write_scripted_sweep(tmp_path, slurm=LATER)

    code, findings, error = run(
        tmp_path, "--probe", "--probe-timeout", "1", str(sweep), environment=cluster.environment
    )

    assert code == 1
    assert "pending (BeginTime)" in findings["node"]["message"]
    assert "pending (BeginTime)" in error
    assert jobs(cluster) == []


def test_interrupt_cancels_the_job_and_clears_the_folder(cluster: Any, tmp_path: Path) -> None:
    sweep = write_scripted_sweep(tmp_path, slurm=LATER)
    # A background job of a script, as tests may be one, ignores Ctrl-C, and hands that on.
    command = ["env", "--default-signal=INT", *HPC_BENCH, "doctor", "--probe", str(sweep)]
    doctor = subprocess.Popen(
        command, env={**os.environ, **cluster.environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: jobs(cluster))

    doctor.send_signal(signal.SIGINT)

    assert doctor.wait(30) != 0
    assert jobs(cluster) == []
    assert list(tmp_path.iterdir()) == [sweep]

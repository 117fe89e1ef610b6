"""Where a sweep runs when the command line does not say, and what `plan` shows where Slurm cannot be reached."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from hpc_bench.running.slurm.commands import has_slurm
from tests.support.builders import run_cli, write_sweep
from tests.support.places import REPOSITORY
from tests.support.running import submit, write_scripted_sweep

COMMAND = r"hpc-bench submit [^`\n]*"


def write_cluster_sweep(folder: Path, **changes: Any) -> Path:
    return write_sweep(folder, **{"slurm": {"partition": "gpu"}, **changes})


def shown_commands(text: str) -> list[list[str]]:
    return [shlex.split(command)[1:] for command in re.findall(COMMAND, text)]


@pytest.fixture
def no_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")


@pytest.mark.parametrize("given", ["section", "profile", "--set"])
def test_sweep_for_a_cluster_is_submitted_nowhere_by_accident(given: str, tmp_path: Path) -> None:
    (tmp_path / "ours.yaml").write_text("partition: gpu\n")
    section = {"section": {"partition": "gpu"}, "profile": {"profile": "./ours.yaml"}, "--set": None}[given]
    sweep = write_sweep(tmp_path, slurm=section)
    options = ["--set", "slurm.partition=gpu"] if given == "--set" else []

    refused = run_cli("submit", "--new", "--detach", *options, sweep)

    assert refused.exit_code == 2
    assert f"{sweep} has a slurm section, so say where to run it" in refused.stderr
    rest = [*options, "--new", "--detach", str(sweep)]
    assert sorted(shown_commands(refused.stderr)) == [
        ["submit", "--backend", name, *rest] for name in ("local", "slurm")
    ]
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("option", [["--gpus", "none"], ["--backend", "local"]])
def test_named_backend_or_gpus_are_an_answer(option: list[str], tmp_path: Path) -> None:
    shown = run_cli("submit", "--dry-run", *option, write_cluster_sweep(tmp_path, local={"gpus": "none"}))

    assert shown.exit_code == 0
    assert "on the CPU" in shown.stdout
    assert "Slurm" not in shown.stdout


def test_sweep_without_the_section_runs_here(tmp_path: Path) -> None:
    sweep = write_scripted_sweep(tmp_path, local={"gpus": "none"})

    assert "on the CPU" in run_cli("submit", "--dry-run", sweep).stdout
    assert submit(sweep).returncode == 0


def test_plan_shows_both_backends_and_their_commands(tmp_path: Path, no_slurm: None) -> None:
    sweep = write_cluster_sweep(tmp_path, local={"gpus": "none"})

    shown = run_cli("plan", sweep)

    assert shown.exit_code == 0
    text = " ".join(shown.stdout.split())
    assert "--backend local: 6 bundles; 1 worker on the CPU" in text
    assert "--backend slurm: 12 bundles; Slurm, partition gpu" in text
    assert shown_commands(shown.stdout)[-2:] == [
        ["submit", "--backend", name, str(sweep)] for name in ("local", "slurm")
    ]


def test_plan_says_of_a_backend_that_cannot_serve_why(tmp_path: Path, no_slurm: None) -> None:
    sweep = write_cluster_sweep(tmp_path, adapter_config={"device": "cuda"})

    shown, data = run_cli("plan", sweep), json.loads(run_cli("plan", "--json", sweep).stdout)

    assert "--backend local: not possible: adapter_config.device is cuda" in shown.stdout
    assert "there is no GPU" in data["backends"]["local"]["error"]
    assert data["backends"]["slurm"]["workers"] == 8
    assert run_cli("plan", "--backend", "local", sweep).exit_code == 2


@pytest.fixture(params=["missing", "silent"])
def unreachable(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """No Slurm on this machine, or a controller that does not answer its commands."""
    if request.param == "missing":
        monkeypatch.setenv("PATH", "/nonexistent")
    elif not has_slurm():
        pytest.skip("needs Slurm's commands")
    else:
        config = tmp_path / "slurm.conf"
        config.write_text(
            "ClusterName=x\nSlurmctldHost=localhost\nSlurmctldPort=1\nNodeName=n0\nPartitionName=p Nodes=n0\n"
        )
        monkeypatch.setenv("SLURM_CONF", str(config))
    return str(request.param)


def test_scripts_are_shown_where_slurm_cannot_be_reached(tmp_path: Path, unreachable: str) -> None:
    sweep = write_cluster_sweep(tmp_path)

    shown = run_cli("submit", "--backend", "slurm", "--dry-run", sweep)

    assert shown.exit_code == 0
    assert "Slurm cannot be reached from this machine" in " ".join(shown.stdout.split())
    assert shown.stderr == ""
    assert "#SBATCH --partition=gpu" in shown.stdout
    assert "#SBATCH --array=0-11%8" in shown.stdout
    assert not (tmp_path / "results").exists()


def test_submitting_where_slurm_cannot_be_reached_is_refused_in_one_line(tmp_path: Path, unreachable: str) -> None:
    refused = run_cli("submit", "--backend", "slurm", write_cluster_sweep(tmp_path))

    assert refused.exit_code == 2
    assert len(refused.stderr.splitlines()) == 1
    reason = {"missing": "sbatch and srun were not found", "silent": "Slurm cannot be reached"}[unreachable]
    assert reason in refused.stderr
    assert not (tmp_path / "results").exists()


EXAMPLES = sorted(path for path in (REPOSITORY / "examples").glob("*.yaml") if "\nslurm:" in path.read_text())


def test_examples_with_a_slurm_section_are_known() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_example_for_a_cluster_says_how_to_submit_it(example: Path) -> None:
    commands = [line for line in example.read_text().splitlines() if "hpc-bench submit" in line]

    assert all("--backend slurm" in line or "--gpus" in line for line in commands), commands

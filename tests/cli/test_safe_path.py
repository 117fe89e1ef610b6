"""Nothing is imported from the folder that a user happens to stand in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.running import write_scripted_sweep
from tests.support.slurm_sweeps import write_cluster_sweep

OTHERS = [
    "attr",
    "catalogue",
    "click",
    "datasets",
    "huggingface_hub",
    "nltk",
    "numpy",
    "pandas",
    "psutil",
    "pyarrow",
    "pydantic",
    "rich",
    "safetensors",
    "submitit",
    "tokenizers",
    "torch",
    "tqdm",
    "transformers",
    "typing_extensions",
    "yaml",
]
TRAP = "import os; open(os.environ['TRAPS'], 'a').write(__name__ + chr(10)); raise SystemExit('trapped')\n"


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """A folder with a module of every name that is imported somewhere."""
    folder = tmp_path / "traps"
    folder.mkdir()
    for name in {*sys.stdlib_module_names, *OTHERS} - {"__main__", "__future__"}:
        (folder / f"{name}.py").write_text(TRAP)
    return folder


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """As users type it: what `python -m` means, Python itself looks up in the present folder."""
    command = [str(Path(sys.executable).with_name("hpc-bench"))]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**environment, "TRAPS": str(folder.parent / "executed")},
        timeout=600,
    )
    assert not (folder.parent / "executed").exists(), (folder.parent / "executed").read_text()
    return done


def test_traps_are_traps(trapped: Path) -> None:
    command = [sys.executable, "-m", "json.tool", "--help"]

    subprocess.run(command, cwd=trapped, env={**os.environ, "TRAPS": str(trapped.parent / "executed")}, check=False)

    assert (trapped.parent / "executed").exists()


def test_local_run_executes_nothing_of_the_present_folder(tmp_path: Path, trapped: Path) -> None:
    sweep = write_scripted_sweep(tmp_path)

    submitted = run(trapped, "submit", "--backend", "local", "--gpus", "none", sweep)
    collected = run(trapped, "collect", tmp_path / "results")
    again = run(trapped, "rescore", tmp_path / "results")

    assert submitted.returncode == 0, submitted.stderr
    assert collected.returncode == 0, collected.stderr
    assert again.returncode == 0, again.stderr


def test_light_commands_execute_nothing_of_the_present_folder(tmp_path: Path, trapped: Path) -> None:
    sweep = write_scripted_sweep(tmp_path)

    for command in ("plan", "doctor"):
        done = run(trapped, command, sweep)
        assert "Traceback" not in done.stderr
        assert "trapped" not in done.stdout + done.stderr


@pytest.mark.slurm
@pytest.mark.usefixtures("on_the_cluster")
def test_slurm_jobs_execute_nothing_of_the_present_folder(tmp_path: Path, trapped: Path) -> None:
    sweep = write_cluster_sweep(tmp_path, bundles=1)

    submitted = run(trapped, "submit", "--backend", "slurm", "--wait", sweep)

    assert submitted.returncode == 0, submitted.stdout + submitted.stderr

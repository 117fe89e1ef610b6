"""The example of a benchmark in a package of its own, installed and used as its reader would."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import HPC_BENCH, results, write_sweep

REPOSITORY = Path(__file__).parents[1]
EXAMPLE = REPOSITORY / "examples" / "custom_benchmark"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the package was installed into; built from a copy, since a build leaves files behind."""
    folder = tmp_path_factory.mktemp("custom_benchmark")
    source = shutil.copytree(EXAMPLE, folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(folder / "site"), str(source)], check=True, timeout=120)
    return folder / "site"


def run(installed: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{installed}{os.pathsep}{REPOSITORY}"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=environment, cwd=REPOSITORY
    )


def test_its_own_tests_pass(installed: Path) -> None:
    done = run(installed, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLE))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


def test_sweep_with_it_is_planned_and_run(installed: Path, tmp_path: Path) -> None:
    sweep = write_sweep(
        tmp_path,
        script={"answer": "half"},
        sparse_attention_configs={"dense": None},
        benchmark_configs={"sums": {"subsets": [10], "samples": 4}},
        max_concurrent_runs=1,
    )

    plan = run(installed, *HPC_BENCH, "plan", str(sweep))
    done = run(installed, *HPC_BENCH, "submit", "--gpus", "none", str(sweep))

    assert plan.returncode == 0, plan.stdout + plan.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = results(sweep)
    assert result.name == "sums_10"
    assert json.loads((result / "metrics.json").read_text())["score"] == 50.0


def test_without_it_the_name_is_unknown(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, benchmark_configs={"sums": None})

    done = run(tmp_path, *HPC_BENCH, "plan", str(sweep))

    assert done.returncode == 2
    assert "unknown benchmark 'sums'" in done.stderr
    assert "mock_benchmark" in done.stderr


def test_it_is_as_short_as_it_looks() -> None:
    assert len((EXAMPLE / "hpc_bench_sums.py").read_text().splitlines()) < 60

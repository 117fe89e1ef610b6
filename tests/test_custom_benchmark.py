"""The example of a benchmark in a package of its own, installed and used as its reader would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.example_packages import REPOSITORY, install_example, run, run_own_tests
from tests.support.running import HPC_BENCH, results, write_scripted_sweep


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_example("custom_benchmark", tmp_path_factory.mktemp("custom_benchmark"))


def test_its_own_tests_pass(installed: Path) -> None:
    done = run_own_tests(installed, "custom_benchmark")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


def test_sweep_with_it_is_planned_and_run(installed: Path, tmp_path: Path) -> None:
    sweep = write_scripted_sweep(
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
    sweep = write_scripted_sweep(tmp_path, benchmark_configs={"sums": None})

    done = run(tmp_path, *HPC_BENCH, "plan", str(sweep))

    assert done.returncode == 2
    assert "unknown benchmark 'sums'" in done.stderr
    assert "mock_benchmark" in done.stderr


def test_it_is_as_short_as_it_looks() -> None:
    assert len((REPOSITORY / "examples" / "custom_benchmark" / "hpc_bench_sums.py").read_text().splitlines()) < 60

"""The example of a masker in a package of its own, installed and used as its reader would."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.example_packages import install_example, run, run_own_tests
from tests.support.running import HPC_BENCH, results, write_scripted_sweep


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_example("custom_masker", tmp_path_factory.mktemp("custom_masker"))


def test_its_own_tests_pass(installed: Path) -> None:
    done = run_own_tests(installed, "custom_masker")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


def test_sweep_with_it_is_planned_and_run(installed: Path, tmp_path: Path) -> None:
    sweep = write_scripted_sweep(
        tmp_path,
        sparse_attention_configs={"strided": [{"sink": 4}, {"local": 16}, {"strided": 4}]},
        benchmark_configs={"needle": {"subsets": [256], "samples": 1}},
        adapter_config={"model_kwargs": {"dtype": "float32"}},
        max_concurrent_runs=1,
    )

    plan = run(installed, *HPC_BENCH, "plan", str(sweep))
    done = run(installed, *HPC_BENCH, "submit", "--gpus", "none", str(sweep))

    assert plan.returncode == 0, plan.stdout + plan.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = results(sweep)
    assert (result.parent.name, result.name) == ("strided", "needle_256")


def test_without_it_the_name_is_unknown(tmp_path: Path) -> None:
    sweep = write_scripted_sweep(tmp_path, sparse_attention_configs={"strided": [{"strided": 4}]})

    done = run(tmp_path, *HPC_BENCH, "plan", str(sweep))

    assert done.returncode == 2
    assert "strided" in done.stderr + done.stdout
    assert "streaming" in done.stderr + done.stdout

"""Real models through the whole path: the command line, workers, engines, results, the summary."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pandas as pd
import pytest

from tests.support.running import (
    PATIENCE_S,
    REAL,
    engine_of,
    execution_of,
    predictions,
    results,
    start_submit,
    submit,
    wait_until,
    workers_of,
    write_scripted_sweep,
)

CONFIGS = {
    "dense": None,
    "streaming": [{"sink": 4}, {"local": 64}],
    "oracle": [{"sink": 4}, {"local": 16}, {"oracle_top_k": 32}],
}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    sweep = write_scripted_sweep(
        folder,
        **REAL,
        sparse_attention_configs=CONFIGS,
        benchmark_configs={"needle": [256, 512], "mock_benchmark": None},
    )
    done = submit(sweep)
    assert done.returncode == 0, done.stdout + done.stderr
    return sweep


def test_scores_tell_the_attention_configs_apart(together: Path) -> None:
    table = pd.read_csv(execution_of(together).summary_csv)
    score = table.set_index(["attention", "benchmark", "subset"])["score"]

    assert score["dense", "needle", 512] == score["oracle", "needle", 512] == 100
    assert score["streaming", "needle", 512] <= 50
    density = table.set_index(["attention", "benchmark", "subset"])["density"]
    assert density["dense", "needle", 512] == 1
    assert density["oracle", "needle", 512] < density["streaming", "needle", 512] < 0.5


def test_answers_of_a_bundle_equal_those_of_stubs_run_alone(together: Path, tmp_path: Path) -> None:
    alone = write_scripted_sweep(
        tmp_path,
        **REAL,
        sparse_attention_configs={"streaming": CONFIGS["streaming"]},
        benchmark_configs={"needle": [512]},
        max_concurrent_runs=1,
    )
    submit(alone)

    (path,) = predictions(alone)

    assert predictions(alone)[path] == predictions(together)[path]


def test_result_says_what_made_it(together: Path) -> None:
    facts = json.loads((results(together)[0] / "stub.json").read_text())

    assert facts["identity"]["model"]["name"] == "demo/tiny-2l"
    assert facts["provenance"].keys() >= {"device", "dtype", "host", "torch", "transformers", "batch_size"}
    assert facts["seconds"] > 0
    assert facts["tokens_per_s"] > 0
    assert facts["peak_memory_gb"] > 0


def test_killed_engine_of_a_real_model_is_replaced(tmp_path: Path) -> None:
    sweep = write_scripted_sweep(tmp_path, **REAL, benchmark_configs={"needle": [2048]}, max_concurrent_runs=1)
    submitting = start_submit(sweep)
    wait_until(lambda: (tmp_path / "results").exists() and list(execution_of(sweep).attempts.glob("*/samples.jsonl")))
    engine = wait_until(lambda: [engine for worker in workers_of(sweep) if (engine := engine_of(worker))])[0]

    os.kill(engine.pid, signal.SIGKILL)

    output, _ = submitting.communicate(timeout=PATIENCE_S)
    assert submitting.returncode == 0, output
    assert {len(rows) for rows in predictions(sweep).values()} == {8}

"""Attention configs of every kind through the command line, on a demo model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.support.running import (
    REAL,
    execution_of,
    hpc_bench,
    outcomes,
    predictions,
    results,
    submit,
    write_scripted_sweep,
)

CONFIGS: dict[str, Any] = {
    "dense": None,
    "streaming": {"maskers": [{"streaming": {"sink": 4, "local": 64}}], "measure_error": 1.0},
    "everywhere": {"maskers": [{"streaming": {"sink": 4, "local": 64}}], "sparse_prefill": True},
    "quest": [{"quest": {"heavy": 64, "page_size": 8}}],
    "sampled": [{"sink": 4}, {"local": 16}, {"random_sampling": 0.2}],
    "magic": [{"sink": 4}, {"local": 16}, {"magic_pig": {"l": 30, "k": 6}}],
    "pq": [{"pq_cache": {"heavy": 32, "sub_dim": 16}}],
    "h2o": [{"h2o": {"heavy": 60, "recent": 60}}],
    "snapkv": [{"snapkv": {"keep": 100, "window": 16}}],
}
KEYS: dict[str, Any] = {**REAL, "benchmark_configs": {"needle": {"subsets": [256], "questions_per_context": 4}}}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sweep = write_scripted_sweep(tmp_path_factory.mktemp("configs"), **KEYS, sparse_attention_configs=CONFIGS)
    done = submit(sweep)
    assert done.returncode == 0, done.stdout + done.stderr
    return sweep


def metrics(sweep: Path, config: str) -> dict[str, Any]:
    folder = next(path for path in results(sweep) if path.parent.name == config)
    data: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return data


@pytest.mark.slow
def test_every_config_answers_as_if_run_alone(together: Path, tmp_path: Path) -> None:
    shared = predictions(together)
    assert len(shared) == len(CONFIGS)

    for config in ("everywhere", "sampled", "h2o", "snapkv", "pq"):
        folder = tmp_path / config
        folder.mkdir()
        alone = write_scripted_sweep(
            folder, **{**KEYS, "max_concurrent_runs": 1}, sparse_attention_configs={config: CONFIGS[config]}
        )
        assert submit(alone).returncode == 0
        (path,) = predictions(alone)
        assert predictions(alone)[path] == shared[path], config


def test_metrics_tell_density_by_layer_and_the_measured_error(together: Path) -> None:
    dense, streaming, everywhere = (metrics(together, name) for name in ("dense", "streaming", "everywhere"))

    assert (dense["density"], dense["prefill_density"], dense["attention_error"]) == (1.0, 1.0, None)
    assert len(streaming["layer_density"]) == 2
    assert sum(streaming["layer_density"]) / 2 == pytest.approx(streaming["density"], abs=1e-5)
    assert 0.1 < streaming["density"] < 0.5
    assert streaming["prefill_density"] == 1.0
    assert 0 < streaming["attention_error"] < 2
    assert everywhere["prefill_density"] < 0.8
    assert everywhere["attention_error"] is None


def test_summary_and_table_hold_what_was_measured(together: Path) -> None:
    shown = hpc_bench("collect", str(together.parent / "results")).stdout

    table = pd.read_csv(execution_of(together).summary_csv).set_index("attention")
    summary = json.loads(execution_of(together).summary_json.read_text())
    for name in CONFIGS:
        assert table.loc[name, "density"] == pytest.approx(metrics(together, name)["density"], abs=1e-5)
        assert f"{metrics(together, name)['density']:.3f}" in shown
    assert table.loc["streaming", "attention_error"] > 0
    assert "density" in shown
    assert "error" in shown
    by_name = {stub["attention"]: stub for stub in summary["stubs"]}
    assert by_name["streaming"]["layer_density"] == metrics(together, "streaming")["layer_density"]


def test_model_whose_attention_is_another_fails_its_stubs_with_the_reason(tmp_path: Path) -> None:
    sweep = write_scripted_sweep(tmp_path, script={"attention_error": "the mask was lost"}, max_concurrent_runs=1)

    done = submit(sweep)

    assert done.returncode == 1
    assert results(sweep) == []
    failures = outcomes(sweep)
    assert failures
    assert {(failure["error"], failure["message"]) for failure in failures} == {("AdapterError", "the mask was lost")}
    logs = "".join(path.read_text() for path in execution_of(sweep).jobs.glob("*.engine*.log"))
    assert logs.count("checked the attention") == logs.count(" Loaded ") > 0

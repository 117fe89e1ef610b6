"""The sweeps in examples/ run to their end: on scripted or demo models, and small data in the schema of the hub's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpc_bench.attention.model_shape import read_shape
from tests.support.benchmark_rows import write_aime, write_longbench
from tests.support.builders import write_keys
from tests.support.maskers import write_hash
from tests.support.places import REPOSITORY, TINY
from tests.support.running import outcomes, results, submit

EXAMPLES = REPOSITORY / "examples"


def load(name: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())
    return data


def run(folder: Path, sweep: dict[str, Any]) -> list[float]:
    """Runs a copy of a sweep with two samples a subset; the score of each stub, none of which failed."""
    request = {**sweep.get("request_kwargs", {}), "max_samples": 2}
    changed = {**sweep, "base_result_dir": str(folder / "results"), "request_kwargs": request, "max_concurrent_runs": 1}
    path = write_keys(folder, changed)
    done = submit(path, "--backend", "local")
    assert done.returncode == 0, done.stdout + done.stderr + str(outcomes(path))
    return [json.loads((result / "metrics.json").read_text())["score"] for result in results(path)]


def scripted(sweep: dict[str, Any]) -> dict[str, Any]:
    """A model that answers every second question right, whatever its name."""
    return {**sweep, "adapter_config": {"adapter_name": "scripted", "model_kwargs": {"answer": "half"}}}


@pytest.mark.parametrize(("name", "stubs"), [("plan_sweep_12", 12), ("plan_sweep_32", 32)])
def test_plan_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, stubs: int) -> None:
    shape = read_shape(str(TINY), None)
    assert shape is not None
    for model in ("llama", "phi"):
        write_hash(tmp_path / f"{model}-hash.safetensors", shape)
    monkeypatch.chdir(tmp_path)
    sweep = load(name)
    subsets = sweep["benchmark_configs"]["longbench"]
    data = write_longbench(tmp_path / "longbench", subsets)
    sweep["benchmark_configs"]["longbench"] = {"subsets": subsets, "data": str(data)}

    scores = run(tmp_path, scripted(sweep))

    assert len(scores) == stubs
    assert set(scores) == {50.0}


def test_longbench_leaderboard(tmp_path: Path) -> None:
    sweep = load("longbench_leaderboard")
    subsets = sweep["benchmark_configs"]["longbench"]
    data = write_longbench(tmp_path / "longbench", subsets)
    sweep["benchmark_configs"]["longbench"] = {"subsets": subsets, "data": str(data)}

    scores = run(tmp_path, scripted({**sweep, "model_names": sweep["model_names"][:1]}))

    assert len(scores) == 21 * 4
    assert all(50 <= score <= 100 for score in scores)


def test_aime_reasoning(tmp_path: Path) -> None:
    sweep = load("aime_reasoning")
    files = write_aime(tmp_path)
    sweep["benchmark_configs"] = {year: {"data": str(file)} for year, file in files.items()}

    scores = run(tmp_path, scripted(sweep))

    assert scores == [50.0] * 8


def short_ruler(**options: Any) -> dict[str, Any]:
    sweep = load("ruler_length_study")
    tasks = list(dict.fromkeys(subset.partition("_")[2] for subset in sweep["benchmark_configs"]["ruler"]["subsets"]))
    sweep["benchmark_configs"]["ruler"].update(subsets=[f"512_{task}" for task in tasks], **options)
    return sweep


def test_ruler_length_study(tmp_path: Path) -> None:
    scores = run(tmp_path, scripted(short_ruler(samples=2)))

    assert len(scores) == 6 * 6
    assert all(0 <= score <= 100 for score in scores)
    assert len(set(scores)) > 1


def test_ruler_length_study_on_a_demo_model(tmp_path: Path) -> None:
    sweep = short_ruler(samples=1)
    del sweep["benchmark_configs"]["ruler"]["subsets"][1:]
    sweep["adapter_config"] = {"device": "cpu", "model_kwargs": {"dtype": "float32"}}

    scores = run(tmp_path, {**sweep, "model_names": ["demo/tiny-2l"], "generation_kwargs": {"max_new_tokens": 8}})

    assert len(scores) == 6
    assert all(0 <= score <= 100 for score in scores)

"""What `hpc-bench doctor` finds out about a sweep's backends, models and data, before a run does."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpc_bench.running.slurm.commands import has_slurm
from tests.support.builders import write_sweep
from tests.support.fake_hub import DATA, FakeHub, longbench_repo, model_repo, running_hub, use_hub
from tests.support.running import HPC_BENCH, PATIENCE_S

Findings = list[dict[str, str]]
MODEL = "org/tiny"


def write_hub_sweep(folder: Path, **changes: Any) -> Path:
    keys = {
        "model_names": [MODEL],
        "sparse_attention_configs": {"dense": None},
        "benchmark_configs": {"longbench": ["qasper"]},
        "request_kwargs": {"max_context_length": 256},
    }
    return write_sweep(folder, **{**keys, **changes})


def examine(sweep: Path, *options: str, **environment: str) -> tuple[int, Findings]:
    """Exit code and findings, in a process of its own, since the hub's client reads its settings when imported."""
    done = subprocess.run(
        [*HPC_BENCH, "doctor", "--json", *options, str(sweep)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def named(findings: Findings, name: str) -> list[tuple[str, str]]:
    return [(finding["state"], finding["message"]) for finding in findings if finding["name"] == name]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with a model and a data set, and an empty cache."""
    with running_hub() as made:
        made.push(MODEL, model_repo())
        made.push(DATA, longbench_repo(tmp_path))
        use_hub(monkeypatch, made, tmp_path / "hf")
        yield made


def test_models_and_data_that_can_be_fetched_are_ok(hub: FakeHub, tmp_path: Path) -> None:
    code, findings = examine(write_hub_sweep(tmp_path), "--backend", "local")

    assert code == 0, findings
    ((model, said), (data, data_said)) = (*named(findings, "model"), *named(findings, "data set"))
    assert (model, data) == ("ok", "ok")
    assert "org/tiny at main can be fetched from here" in said
    assert "LongBench (qasper) at main can be fetched from here" in data_said
    assert "config.json" in hub.downloads()
    assert not [file for file in hub.downloads() if file.endswith((".safetensors", ".jsonl", ".parquet"))]


def test_cached_models_and_data_need_no_hub(hub: FakeHub, tmp_path: Path) -> None:
    sweep = write_hub_sweep(tmp_path)
    subprocess.run([*HPC_BENCH, "prefetch", str(sweep)], check=True, capture_output=True)

    code, findings = examine(sweep, "--backend", "local", HF_HUB_OFFLINE="1")

    assert code == 0
    assert "is in the cache" in named(findings, "model")[0][1]
    assert "is in the cache" in named(findings, "data set")[0][1]


@pytest.mark.parametrize("fault", ["misspelt", "gated", "unreachable", "offline"])
def test_models_that_no_run_could_load_are_wrong(fault: str, hub: FakeHub, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"misspelt": {"model_names": ["org/tinny"]}, "offline": {"offline": True}}.get(fault, {})
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9"} if fault == "unreachable" else {}
    if fault == "gated":
        hub.gated.add(MODEL)

    code, findings = examine(write_hub_sweep(tmp_path, **changes), "--backend", "local", **environment)

    ((state, said),) = named(findings, "sweep" if fault == "offline" else "model")
    assert (code, state) == (1, "wrong")
    remedy = {
        "misspelt": "model org/tinny at main is not on",
        "gated": "accept its terms on",
        "unreachable": "run `hpc-bench prefetch`",
        "offline": "hpc-bench prefetch",
    }
    assert remedy[fault] in said


def test_missing_subset_of_a_data_set_is_wrong(hub: FakeHub, tmp_path: Path) -> None:
    sweep = write_hub_sweep(tmp_path, benchmark_configs={"longbench": ["qasper", "hotpotqa"]})

    code, findings = examine(sweep, "--backend", "local")

    assert code == 1
    assert [state for state, _ in named(findings, "data set")] == ["ok", "wrong"]
    assert "hotpotqa" in named(findings, "data set")[1][1]


@pytest.mark.parametrize(("longest", "state"), [(None, "wrong"), (4096, "wrong"), (1536, "ok")])
def test_subset_longer_than_the_models_positions_is_wrong(
    longest: int | None, state: str, hub: FakeHub, tmp_path: Path
) -> None:
    """The model has 4,096 positions, the subset's prompts about 5,000 tokens, its answers up to 128."""
    sweep = write_hub_sweep(tmp_path, request_kwargs={"max_context_length": longest})

    code, findings = examine(sweep, "--backend", "local")

    assert [found for found, _ in named(findings, "positions")] == [state]
    assert code == (state == "wrong")
    if state == "wrong":
        assert "longbench/qasper about" in named(findings, "positions")[0][1]


def test_generated_subset_may_fill_the_positions_exactly(tmp_path: Path) -> None:
    fitting = write_sweep(tmp_path, model_names=["demo/tiny-2l"], benchmark_configs={"needle": [4096]})
    _, exact = examine(fitting, "--backend", "local")
    longer = write_sweep(tmp_path, model_names=["demo/tiny-2l"], benchmark_configs={"needle": [4096, 8192]})
    code, found = examine(longer, "--backend", "local")

    assert named(exact, "positions")[0][0] == "ok"
    assert (code, named(found, "positions")[0][0]) == (1, "wrong")
    assert "needle/8192 about 8,192" in named(found, "positions")[0][1]
    assert "needle/4096" not in named(found, "positions")[0][1]


def test_sweep_that_submit_would_refuse_is_wrong(tmp_path: Path) -> None:
    code, findings = examine(write_sweep(tmp_path, model_names=["demo/none"]), "--backend", "local")

    assert code == 1
    assert "demo/none" in named(findings, "sweep")[0][1]


LOCAL = {"model_names": ["demo/tiny-2l"], "benchmark_configs": {"needle": [256]}}


def test_sweep_without_the_section_does_not_need_slurm(tmp_path: Path) -> None:
    code, findings = examine(write_sweep(tmp_path, **LOCAL), PATH="/nonexistent")

    assert code == 0
    assert named(findings, "Slurm") == [
        ("skipped", "sbatch and srun were not found; the sweep has no slurm section and does not need them")
    ]
    assert "GPUs" in {finding["name"] for finding in findings}


@pytest.mark.skipif(not has_slurm(), reason="needs Slurm's commands")
@pytest.mark.parametrize(("section", "code", "state"), [(None, 0, "warning"), ({"partition": "p"}, 1, "wrong")])
def test_silent_slurm_matters_only_to_a_sweep_that_asks_for_it(
    section: dict[str, str] | None, code: int, state: str, tmp_path: Path
) -> None:
    config = tmp_path / "slurm.conf"
    config.write_text(
        "ClusterName=x\nSlurmctldHost=localhost\nSlurmctldPort=1\nNodeName=n0\nPartitionName=p Nodes=n0\n"
    )

    given, findings = examine(write_sweep(tmp_path, slurm=section, **LOCAL), SLURM_CONF=str(config))

    assert (given, named(findings, "Slurm")[0][0]) == (code, state)
    assert "GPUs" in {finding["name"] for finding in findings}


def test_sweep_with_the_section_is_checked_for_both_backends(tmp_path: Path) -> None:
    """On a login node without GPUs, a sweep that wants CUDA is for Slurm alone, and says so without failing for it."""
    sweep = write_sweep(tmp_path, slurm={"partition": "p"}, adapter_config={"device": "cuda"}, **LOCAL)

    _, findings = examine(sweep, PATH="/nonexistent")

    assert f"hpc-bench submit --backend slurm {sweep}" in named(findings, "backend")[0][1]
    assert f"hpc-bench submit --backend local {sweep}" in named(findings, "backend")[0][1]
    assert named(findings, "Slurm")[0][0] == "wrong"
    assert named(findings, "GPUs")[0][0] == "warning"


def test_findings_about_inputs_take_no_torch(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, **LOCAL)
    code = "import sys; from hpc_bench.cli import main; sys.argv[1:] = ['doctor', sys.argv[1]]\ntry: main()\n"
    code += "except SystemExit: pass\nassert 'torch' not in sys.modules"

    done = subprocess.run([HPC_BENCH[0], "-c", code, str(sweep)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr

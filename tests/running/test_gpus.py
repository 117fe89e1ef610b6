"""Which GPU a slot gets; the driver is the only thing faked, since there may be none."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from click.testing import CliRunner

from hpc_bench.cli import main
from hpc_bench.errors import BackendError
from hpc_bench.execution.heartbeat import Heartbeat, Worker, this_process
from hpc_bench.execution.slot import Slot
from hpc_bench.running.gpus import visible_gpus
from hpc_bench.running.local import LocalBackend
from hpc_bench.sweep.expand import expand_sweep
from hpc_bench.sweep.sweep import parse_sweep
from tests.support.builders import prepare, sweep_data
from tests.support.running import execution_of, outcomes, results, write_scripted_sweep


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name, function in {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 4,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda handle: "H100",
        "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}aaaa",
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(used=2**30),
    }.items():
        monkeypatch.setattr(pynvml, name, function)


def masks(backend: LocalBackend, workers: int) -> list[str]:
    manifest = expand_sweep(parse_sweep(sweep_data(Path("results"))))
    one_a_bundle = [stub for stub in manifest.stubs if stub.attention == "dense"][:workers]
    described = backend.describe(manifest.header, one_a_bundle)
    return described.rpartition(": ")[2].split(", ")


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(
    ("inherited", "expected"),
    [
        (None, ["GPU-0aaaa", "GPU-1aaaa", "GPU-2aaaa", "GPU-3aaaa"]),
        ("2,3", ["2", "3"]),
        ("GPU-3aaaa,0", ["GPU-3aaaa", "0"]),
        ("1,9,2", ["1"]),
        ("", []),
        ("-1", []),
    ],
)
def test_inherited_mask_composes(inherited: str | None, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if inherited is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", inherited)

    found = visible_gpus()

    assert [gpu.mask for gpu in found] == expected
    assert [gpu.index for gpu in found] == list(range(len(expected)))


@pytest.mark.usefixtures("four_gpus")
def test_gpu_that_fell_off_the_bus_is_left_out_and_the_others_keep_their_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    def handle(index: int) -> int:
        if index == 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return index

    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", handle)

    assert [(gpu.index, gpu.mask) for gpu in visible_gpus()] == [(0, "GPU-0aaaa"), (2, "GPU-2aaaa"), (3, "GPU-3aaaa")]


@pytest.mark.usefixtures("four_gpus")
def test_gpu_zero_is_the_first_visible_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")

    assert masks(LocalBackend([0], None, 1), 1) == ["2"]


@pytest.mark.usefixtures("four_gpus")
def test_gpu_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(BackendError, match=r"no GPU 7 here \(visible: 0 \(H100\), 1 \(H100\)"):
        LocalBackend([0, 7], None, 1)


@pytest.mark.usefixtures("four_gpus")
def test_model_that_needs_more_gpus_than_listed_is_refused() -> None:
    with pytest.raises(BackendError, match="needs 4 GPUs, but only 2"):
        LocalBackend([0, 1], None, 4)


@pytest.mark.usefixtures("four_gpus")
def test_slots_of_several_gpus_do_not_overlap() -> None:
    assert masks(LocalBackend("all", None, 2), 2) == ["GPU-0aaaa+GPU-1aaaa", "GPU-2aaaa+GPU-3aaaa"]


def sitting(worker: str, gpus: str, **changes: Any) -> dict[str, Worker]:
    process = dataclasses.replace(this_process(), **changes)
    beat = Heartbeat(worker, Slot("s", 0), "local", process, gpus=gpus)
    return {worker: Worker(beat, 0.0, alive=True)}


@pytest.mark.usefixtures("four_gpus")
def test_new_workers_go_where_nobody_sits(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    backend = LocalBackend([0, 1, 2], None, 1)
    shared = LocalBackend([0, 1], 4, 1)

    assert list(backend.free_slots(execution, {})) == [0, 1, 2]
    assert list(backend.free_slots(execution, sitting("a", "GPU-1aaaa"))) == [0, 2]
    assert list(backend.free_slots(execution, sitting("a", "GPU-3aaaa"))) == [0, 1, 2]
    assert list(backend.free_slots(execution, sitting("a", "GPU-1aaaa", host="another-node"))) == [0, 1, 2]
    assert list(shared.free_slots(execution, {**sitting("a", "GPU-0aaaa"), **sitting("b", "GPU-0aaaa")})) == [1, 3]


def run(sweep: Path, *options: str) -> Any:
    return CliRunner().invoke(main, ["submit", *options, str(sweep)])


@pytest.mark.usefixtures("four_gpus")
def test_four_runs_on_two_gpus_are_two_a_gpu(tmp_path: Path) -> None:
    sweep = write_scripted_sweep(
        tmp_path,
        script={"seconds": 0.2},
        max_concurrent_runs=4,
        benchmark_configs={"needle": {"subsets": [256, 512, 768, 1024], "samples": 8}},
    )

    done = run(sweep, "--gpus", "1,3")

    assert done.exit_code == 0, done.output
    beats = [json.loads(path.read_text()) for path in execution_of(sweep).workers.glob("*.json")]
    assert sorted(beat["gpus"] for beat in beats) == ["GPU-1aaaa", "GPU-1aaaa", "GPU-3aaaa", "GPU-3aaaa"]
    made = [json.loads((folder / "stub.json").read_text()) for folder in results(sweep)]
    assert {stub["provenance"]["gpus"] for stub in made} <= {"GPU-1aaaa", "GPU-3aaaa"}


@pytest.mark.usefixtures("four_gpus")
def test_gpu_on_which_cuda_does_not_work_is_an_error_and_charges_no_stub(tmp_path: Path) -> None:
    sweep = write_scripted_sweep(
        tmp_path,
        adapter_config={"adapter_name": "huggingface"},
        max_concurrent_runs=1,
        benchmark_configs={"mock_benchmark": None},
    )

    done = run(sweep, "--gpus", "0")

    assert done.exit_code == 1
    assert results(sweep) == []
    assert {outcome["state"] for outcome in outcomes(sweep)} == {"released"}
    (beat,) = [json.loads(path.read_text()) for path in execution_of(sweep).workers.glob("*.json")]
    assert beat["state"] == "broken"
    assert "CUDA_VISIBLE_DEVICES" in beat["reason"]
    assert "DeviceError" in done.output


def test_without_a_gpu_the_cpu_is_used_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    sweep = write_scripted_sweep(tmp_path)

    planned = CliRunner().invoke(main, ["plan", str(sweep)])
    wanted = CliRunner().invoke(main, ["plan", "--gpus", "all", str(sweep)])

    assert "no GPU found; 2 workers on the CPU" in planned.output
    assert wanted.exit_code == 2
    assert "--gpus none" in wanted.output

"""Workers on two nodes that see each other's files late, whose locks fail or lie, and whose clocks differ."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpc_bench.execution.folder import ExecutionDir
from tests.support.builders import prepare
from tests.support.places import REPOSITORY
from tests.support.running import wait_until

STUBS, SAMPLES = 12, 8
HIDE_S, LEASE_S = 4, 16
"""As 45 s to a lease of 180 s"""
HIDING = REPOSITORY / "tests" / "support" / "hiding"


def make_execution(folder: Path) -> ExecutionDir:
    return prepare(
        folder / "results",
        model_names=["demo/tiny-2l"],
        benchmark_configs={"needle": {"subsets": [256 + 32 * number for number in range(6)], "samples": SAMPLES}},
        adapter_config={"adapter_name": "scripted", "model_kwargs": {"seconds": 0.1}},
        limits={"lease": f"{LEASE_S}s"},
    )


def start_worker(execution: ExecutionDir, index: int, **faults: str) -> subprocess.Popen[str]:
    registry = execution.path.parent.parent / "registry"
    registry.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{HIDING}:{REPOSITORY}",
        "HIDING_ROOT": str(execution.path),
        "HIDING_REGISTRY": str(registry),
        "HIDING_NODE": f"node{index}",
        "HIDING_S": str(HIDE_S),
        **faults,
    }
    command = [sys.executable, "-m", "tests.support.run_worker", str(execution.path), str(index), "2"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def answered(execution: ExecutionDir) -> int:
    logs = execution.jobs.glob("*.engine*.log")
    return sum(line.startswith("answered") for log in logs for line in log.read_text().splitlines())


def assert_each_stub_once(execution: ExecutionDir, doubled: int = 0) -> None:
    folders = [file.parent for file in execution.path.glob("[!.]*/*/*/stub.json")]
    assert len(folders) == STUBS
    for folder in folders:
        with (folder / "raw_results.csv").open(newline="") as file:
            assert len({row["sample_id"] for row in csv.DictReader(file)}) == SAMPLES
    assert STUBS * SAMPLES <= answered(execution) <= STUBS * SAMPLES + doubled


def outcomes(execution: ExecutionDir) -> list[str]:
    return [json.loads(file.read_text())["state"] for file in execution.outcomes.glob("*.json")]


def test_layer_hides_what_another_node_made_and_nothing_else(tmp_path: Path) -> None:
    look = (
        "import os, sys; p = sys.argv[1]; "
        "print(os.path.exists(p), p.split('/')[-1] in os.listdir(os.path.dirname(p)), open(sys.argv[2], 'w').name)"
    )

    def run(node: str, path: Path, made: Path) -> str:
        environment = {
            **os.environ,
            "PYTHONPATH": str(HIDING),
            "HIDING_ROOT": str(tmp_path),
            "HIDING_REGISTRY": str(tmp_path.parent),
            "HIDING_NODE": node,
            "HIDING_S": "60",
        }
        command = [sys.executable, "-c", look, str(path), str(made)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    run("node0", tmp_path, tmp_path / "by0")
    assert run("node0", tmp_path / "by0", tmp_path / "x").startswith("True True")
    assert run("node1", tmp_path / "by0", tmp_path / "x").startswith("False False")


@pytest.mark.parametrize(
    "faults",
    [{}, {"HIDING_FLOCK": "fail"}, {"HIDING_FLOCK": "lie", "HIDING_SKEW_S": "600"}, {"HIDING_SKEW_S": "-600"}],
    ids=["late files", "flock fails", "flock lies, clock ahead", "clock behind"],
)
def test_two_nodes_give_each_stub_one_result_and_answer_nothing_twice(tmp_path: Path, faults: dict[str, str]) -> None:
    execution = make_execution(tmp_path)

    both = [start_worker(execution, 0), start_worker(execution, 1, **faults)]

    for worker in both:
        output, _ = worker.communicate(timeout=60)
        assert worker.returncode == 0, output
    assert_each_stub_once(execution)
    assert outcomes(execution) == []


def test_work_that_a_stopped_node_released_is_found_though_its_files_come_late(tmp_path: Path) -> None:
    execution = make_execution(tmp_path)
    first, second = start_worker(execution, 0), start_worker(execution, 1)
    wait_until(lambda: len(list(execution.path.glob("[!.]*/*/*/stub.json"))) >= STUBS - 4)

    first.send_signal(signal.SIGTERM)

    for worker in (first, second):
        output, _ = worker.communicate(timeout=60)
        assert worker.returncode == 0, output
    assert_each_stub_once(execution, doubled=SAMPLES)
    assert set(outcomes(execution)) <= {"released"}


def test_node_that_dies_is_believed_alive_for_the_lease_and_no_longer(tmp_path: Path) -> None:
    execution = make_execution(tmp_path)
    first = start_worker(execution, 0)
    wait_until(lambda: list(execution.attempts.glob("*/samples.jsonl")))
    first.kill()
    first.communicate()

    second = start_worker(execution, 1)
    output, _ = second.communicate(timeout=60)
    early = len(list(execution.path.glob("[!.]*/*/*/stub.json")))
    wait_until(lambda: lease_is_over(execution), LEASE_S + 5)
    third = start_worker(execution, 1)
    third.communicate(timeout=60)

    assert second.returncode == 0, output
    assert early < STUBS
    assert_each_stub_once(execution, doubled=SAMPLES)


def lease_is_over(execution: ExecutionDir) -> bool:
    (heartbeat,) = execution.workers.glob("test-0.*.json")
    return time.time() - heartbeat.stat().st_mtime > LEASE_S

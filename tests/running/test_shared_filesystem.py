"""Workers on two nodes that see each other's files late, whose locks fail or lie, and whose clocks differ."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpc_bench.running.submit import prepare_execution
from hpc_bench.sweep.plan import make_plan
from hpc_bench.sweep.sweep import load_sweep
from tests.support.places import REPOSITORY
from tests.support.running import (
    PATIENCE_S,
    assert_each_stub_once,
    execution_of,
    outcomes,
    results,
    wait_until,
    write_scripted_sweep,
)

STUBS, SAMPLES = 12, 8
HIDE_S, LEASE_S = 4, 16
"""As 45 s to a lease of 180 s"""
HIDING = REPOSITORY / "tests" / "support" / "hiding"


def make_execution(folder: Path, seconds: float = 0.1) -> Path:
    """The sweep of an execution that no worker has seen yet."""
    sweep = write_scripted_sweep(
        folder,
        script={"seconds": seconds},
        benchmark_configs={"needle": {"subsets": [256 + 32 * number for number in range(6)], "samples": SAMPLES}},
        limits={"lease": f"{LEASE_S}s"},
    )
    prepare_execution(make_plan(load_sweep(sweep)))
    return sweep


def start_worker(sweep: Path, index: int, **faults: str) -> subprocess.Popen[str]:
    execution = execution_of(sweep)
    registry = sweep.parent / "registry"
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
    sweep = make_execution(tmp_path)

    both = [start_worker(sweep, 0), start_worker(sweep, 1, **faults)]

    for worker in both:
        output, _ = worker.communicate(timeout=PATIENCE_S)
        assert worker.returncode == 0, output
    assert_each_stub_once(sweep, stubs=STUBS, samples=SAMPLES)
    assert outcomes(sweep) == []


def test_work_that_a_stopped_node_released_is_found_though_its_files_come_late(tmp_path: Path) -> None:
    sweep = make_execution(tmp_path)
    first, second = start_worker(sweep, 0), start_worker(sweep, 1)
    wait_until(lambda: len(results(sweep)) >= STUBS - 4)

    first.send_signal(signal.SIGTERM)

    for worker in (first, second):
        output, _ = worker.communicate(timeout=PATIENCE_S)
        assert worker.returncode == 0, output
    assert_each_stub_once(sweep, stubs=STUBS, samples=SAMPLES, doubled=SAMPLES)
    assert {outcome["state"] for outcome in outcomes(sweep)} <= {"released"}


def test_node_that_dies_is_believed_alive_for_the_lease_and_no_longer(tmp_path: Path) -> None:
    sweep = make_execution(tmp_path, seconds=0.02)  # all of the work takes much less than the lease
    first = start_worker(sweep, 0)
    wait_until(lambda: list(execution_of(sweep).attempts.glob("*/samples.jsonl")))
    first.kill()
    first.communicate()

    second = start_worker(sweep, 1)
    output, _ = second.communicate(timeout=PATIENCE_S)
    early = len(results(sweep))
    wait_until(lambda: lease_is_over(sweep))
    third = start_worker(sweep, 1)
    third.communicate(timeout=PATIENCE_S)

    assert second.returncode == 0, output
    assert early < STUBS
    assert_each_stub_once(sweep, stubs=STUBS, samples=SAMPLES, doubled=SAMPLES)


def lease_is_over(sweep: Path) -> bool:
    (heartbeat,) = execution_of(sweep).workers.glob("test-0.*.json")
    return time.time() - heartbeat.stat().st_mtime > LEASE_S

"""Runs real sweeps in real processes for the tests, with scripted models where a real one would only take time."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.heartbeat import Worker, read_workers
from tests.support.builders import write_keys

PATIENCE_S = 300.0
"""For so long a test waits for what must come: much longer than it takes, since a busy machine is slow."""
HPC_BENCH = [sys.executable, "-m", "hpc_bench"]
REAL = {
    "adapter_config": {"adapter_name": "huggingface", "model_kwargs": {"dtype": "float32"}},
    "request_kwargs": {"max_samples": 8},
    "generation_kwargs": {"max_new_tokens": 6},
}
"""Keys of a sweep in which the demo model itself answers."""


def write_scripted_sweep(folder: Path, *, script: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A sweep of one scripted model under two attention configs on needle, in `folder`/sweep.yaml."""
    sweep = {
        "name": "test",
        "base_result_dir": str(folder / "results"),
        "model_names": ["demo/tiny-2l"],
        "sparse_attention_configs": {"dense": None, "streaming": [{"sink": 4}, {"local": 64}]},
        "benchmark_configs": {"needle": {"subsets": [256, 512], "samples": 8}},
        "adapter_config": {"adapter_name": "scripted", "model_kwargs": script or {}},
        "max_concurrent_runs": 2,
        **changes,
    }
    return write_keys(folder, sweep)


def waiting_for(gate: Path, sample: str | None = None) -> dict[str, Any]:
    """A script that goes on with a sample, or with any, only once the test has made the file `gate`."""
    return {"faults": [{"kind": "wait", "sample": sample, "until": str(gate)}]}


def submit(sweep: Path, *options: str, file_limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """`hpc-bench submit` to its end, on the CPU; `file_limit`: the bytes from which on writing to a file fails."""
    return hpc_bench("submit", "--gpus", "none", *options, str(sweep), file_limit=file_limit)


def hpc_bench(*arguments: str, file_limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """A command to its end."""
    limit = [] if file_limit is None else ["prlimit", f"--fsize={file_limit}"]
    return subprocess.run(
        [*limit, *HPC_BENCH, *arguments], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def start_submit(sweep: Path, *options: str) -> subprocess.Popen[str]:
    """`hpc-bench submit` in the background, in a process group of its own as under a shell."""
    # A background job of a script, as tests may be one, ignores Ctrl-C, and hands that on.
    command = ["env", "--default-signal=INT", *HPC_BENCH, "submit", "--gpus", "none", *options, str(sweep)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0)


def execution_of(sweep: Path) -> ExecutionDir:
    """The one execution of a sweep."""
    (found,) = ExecutionDir.all_in(sweep.parent / "results")
    return found


def wait_until(condition: Callable[[], Any]) -> Any:
    """What `condition` returned when it was first true; fails if it never was."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {PATIENCE_S:g} s: {condition}")


def workers_of(sweep: Path) -> list[Worker]:
    """The living workers of a sweep's execution."""
    found = ExecutionDir.all_in(sweep.parent / "results")
    return [worker for worker in read_workers(found[0], 180).values() if worker.alive] if found else []


def engine_of(worker: Worker) -> psutil.Process | None:
    """A worker's engine process."""
    children = psutil.Process(worker.heartbeat.process.pid).children()
    return children[0] if children else None


def processes_of(sweep: Path) -> list[psutil.Process]:
    """Every process on this machine that works for a sweep's results folder."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if str(sweep.parent) in line and process.pid != os.getpid():
            found.append(process)
    return found


def answered(sweep: Path) -> list[str]:
    """What the scripted models answered, from the engines' logs, one line a sample and attention config."""
    lines: list[str] = []
    for log in sorted(execution_of(sweep).jobs.glob("*.engine*.log")):
        lines += [line for line in log.read_text().splitlines() if line.startswith("answered")]
    return lines


def outcomes(sweep: Path) -> list[dict[str, Any]]:
    """All recorded outcomes."""
    return [json.loads(path.read_text()) for path in sorted(execution_of(sweep).outcomes.glob("*.json"))]


def results(sweep: Path) -> list[Path]:
    """All published results."""
    return sorted(path.parent for path in execution_of(sweep).path.glob("[!.]*/*/*/stub.json"))


def predictions(sweep: Path) -> dict[str, list[tuple[str, str]]]:
    """Result path -> sample ids and predictions."""
    found = {}
    for folder in results(sweep):
        with (folder / "raw_results.csv").open(newline="") as file:
            rows = [(row["sample_id"], row["prediction"]) for row in csv.DictReader(file)]
        found[str(folder.relative_to(execution_of(sweep).path))] = rows
    return found


def assert_each_stub_once(sweep: Path, *, stubs: int, samples: int, doubled: int = 0) -> None:
    """Every stub has one whole result with all samples, right; at most `doubled` answers were given twice."""
    assert len(results(sweep)) == stubs
    for folder in results(sweep):
        with (folder / "raw_results.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len({row["sample_id"] for row in rows}) == len(rows) == samples
        assert json.loads((folder / "metrics.json").read_text())["score"] == 100
    given = len(answered(sweep))
    assert stubs * samples <= given <= stubs * samples + doubled
    wait_until(lambda: not list(execution_of(sweep).attempts.iterdir()))
    assert hpc_bench("collect", str(sweep.parent / "results")).returncode == 0

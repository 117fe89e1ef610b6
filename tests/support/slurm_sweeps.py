"""Sweeps on the real cluster of the tests: submitting them, waiting for them, and what must be true of them after."""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.submission import JobArray, read_submissions
from hpc_bench.files import write_whole
from tests.support import running
from tests.support.cluster import Cluster
from tests.support.running import execution_of, hpc_bench, results, wait_until

STEP = 32


def write_cluster_sweep(
    folder: Path, *, bundles: int = 4, samples: int = 8, seconds: float = 0.1, **changes: Any
) -> Path:
    """A sweep of a scripted model: as many needle lengths as `bundles`, each under two attention configs."""
    subsets = [256 + STEP * number for number in range(bundles)]
    script = changes.pop("script", {})
    slurm = {"time": "10m", "signal_delay": "10s", **changes.pop("slurm", {})}
    return running.write_scripted_sweep(
        folder,
        script={"seconds": seconds, **script},
        slurm=slurm,
        **{"benchmark_configs": {"needle": {"subsets": subsets, "samples": samples}}, **changes},
    )


def submit(sweep: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`hpc-bench submit --backend slurm`, which must succeed."""
    done = try_submit(sweep, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def try_submit(sweep: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`hpc-bench submit --backend slurm`."""
    return hpc_bench("submit", "--backend", "slurm", *options, str(sweep))


def start_waiting(sweep: Path) -> subprocess.Popen[str]:
    """`hpc-bench submit --backend slurm --wait` in the background, in a process group of its own as under a shell."""
    # A background job of a script, as tests may be one, ignores Ctrl-C, and hands that on.
    command = ["env", "--default-signal=INT", *running.HPC_BENCH, "submit", "--backend", "slurm", "--wait", str(sweep)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0)


def arrays_of(sweep: Path) -> list[JobArray]:
    """Every array that was submitted, the oldest first."""
    return [array for submission in read_submissions(execution_of(sweep)) for array in submission.arrays]


def wait_complete(sweep: Path, stubs: int) -> None:
    """Until so many results are there."""
    wait_until(lambda: len(results(sweep)) == stubs)


def answering(sweep: Path) -> bool:
    """Whether an answer is on disk already."""
    return any(file.stat().st_size > 200 for file in execution_of(sweep).attempts.glob("*/samples.jsonl"))


def age_queue(execution: ExecutionDir, seconds: float) -> None:
    """As if so much time had passed since squeue was last asked."""
    with suppress(FileNotFoundError):  # nobody has asked yet
        last = json.loads(execution.queue.read_text())
        last["absent"] = {job: since - seconds for job, since in last["absent"].items()}
        write_whole(execution.queue, json.dumps(last))
        os.utime(execution.queue, (time.time() - seconds,) * 2)


def running_tasks(cluster: Cluster) -> list[str]:
    """The ids of the tasks that run now."""
    return cluster.run("squeue", "--noheader", "--states=RUNNING", "--format=%i").split()


def most_at_once(sweep: Path) -> int:
    """The largest number of workers that were alive at the same time, by the files' own times."""
    spans = []
    for heartbeat in execution_of(sweep).workers.glob("slurm-*.json"):
        started = json.loads(heartbeat.read_text())["process"]["started_ticks"]
        spans.append((started, heartbeat.stat().st_mtime))
    return max(_overlaps(spans), default=0)


def _overlaps(spans: list[tuple[float, float]]) -> list[int]:
    boot = next(float(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if line[:5] == "btime")
    times = [(boot + ticks / 100, ended) for ticks, ended in spans]
    return [sum(start <= moment < end for start, end in times) for moment, _ in times]

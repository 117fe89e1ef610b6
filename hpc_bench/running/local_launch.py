"""Starts local workers through submitit, away from the terminal: `python -m hpc_bench.running.local_launch SUBMISSION`.

Workers must outlive the shell that submitted them. They inherit this process's session and files: no terminal, so
that Ctrl-C and a closed window reach `submit` alone, and no pipe that a caller of `submit --detach` waits on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import submitit

from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.submission import Submission, write_submission
from hpc_bench.running.worker.worker import WorkerSpec, run_worker

YEAR_MIN = 365 * 24 * 60
"""submitit ends a local job after two minutes unless told otherwise; our limits are per stub."""


def launch(submission: Submission, specs: list[WorkerSpec]) -> Submission:
    """Starts one submitit job a worker, each in a folder of its own."""
    jobs = {}
    for spec in specs:
        executor = submitit.LocalExecutor(folder=ExecutionDir(Path(spec.execution)).job_folder(spec.slot))
        # gpus_per_node would give every worker the first GPUs; the device mask in the spec is the slot's own.
        executor.update_parameters(timeout_min=YEAR_MIN, gpus_per_node=0, tasks_per_node=1)
        jobs[spec.slot] = executor.submit(run_worker, spec).job_id
    return Submission(submission.name, submission.backend, submission.host, submission.slots, jobs)


def main() -> None:
    """Reads the workers from standard input, starts them, records their job ids."""
    data: Any = json.load(sys.stdin)
    specs = [WorkerSpec(**spec) for spec in data["specs"]]
    submission = Submission(**{**data["submission"], "slots": tuple(data["submission"]["slots"])})
    write_submission(ExecutionDir(Path(specs[0].execution)), launch(submission, specs))


if __name__ == "__main__":
    main()

"""Starts local workers through submitit, away from the terminal: `python -m hpc_bench.running.local_launch TURN`.

Workers must outlive the shell that submitted them. They inherit this process's session and files: no terminal, so
that Ctrl-C and a closed window reach `submit` alone, and no pipe that a caller of `submit --detach` waits on.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import submitit

from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.heartbeat import child_process
from hpc_bench.execution.schema import parse_as
from hpc_bench.execution.submission import Submission, write_submission
from hpc_bench.running.local import LocalLaunch
from hpc_bench.running.turn import keep_fresh
from hpc_bench.running.worker.worker import run_worker

YEAR_MIN = 365 * 24 * 60
"""submitit ends a local job after two minutes unless told otherwise; our limits are per stub."""


def launch(work: LocalLaunch) -> Submission:
    """Starts one submitit job a worker, each in a folder of its own."""
    jobs, processes = {}, {}
    for spec in work.specs:
        executor = submitit.LocalExecutor(folder=ExecutionDir(Path(spec.execution)).job_folder(str(spec.slot)))
        # gpus_per_node would give every worker the first GPUs; the device mask in the spec is the slot's own.
        executor.update_parameters(timeout_min=YEAR_MIN, gpus_per_node=0, tasks_per_node=1)
        job = str(executor.submit(run_worker, spec).job_id)
        jobs[spec.slot], processes[spec.slot] = job, child_process(int(job))  # a local job's id is its process id
    return dataclasses.replace(work.submission, jobs=jobs, processes=processes)


def main() -> None:
    """Reads the workers from standard input, starts them, records their job ids; its argument: the submit's turn."""
    work = parse_as(LocalLaunch, sys.stdin.read())
    with keep_fresh(Path(sys.argv[1])):
        write_submission(ExecutionDir(Path(work.specs[0].execution)), launch(work))


if __name__ == "__main__":
    main()

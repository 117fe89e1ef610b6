"""Submits job arrays through submitit, away from the terminal: `python -m hpc_bench.running.slurm.launch TURN`.

A shell that is closed amid a submission must leave no job that nobody knows of, so this runs in a session of its own,
and writes down each array before it submits the next.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from submitit.core.utils import FailedJobError, FailedSubmissionError

from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.schema import parse_as
from hpc_bench.execution.slot import Slot
from hpc_bench.execution.submission import JobArray, Submission, write_submission
from hpc_bench.files import escape_unencodable_output
from hpc_bench.running.slurm.backend import ArraysLaunch
from hpc_bench.running.slurm.commands import slurm_message
from hpc_bench.running.slurm.environment import inherited
from hpc_bench.running.slurm.job import SlurmJob
from hpc_bench.running.slurm.sbatch import ArrayRequest, make_executor
from hpc_bench.running.turn import keep_fresh
from hpc_bench.running.worker.worker import WorkerSpec

__all__ = ["submit_array"]

HEARTBEAT_S = 5.0


def submit_array(
    execution: ExecutionDir, submission: Submission, request: ArrayRequest, *, exact_gpus: bool
) -> Submission:
    """Submits one array and records it; FailedJobError holds Slurm's message."""
    array, first = request.array, sum(earlier.tasks for earlier in submission.arrays)
    slots = tuple(Slot(submission.name, first + task) for task in range(array.tasks))
    folder = execution.job_folder(submission.name)
    executor = make_executor(request, folder)
    spec = WorkerSpec(
        execution=str(execution.path.resolve()),
        slot=slots[0],
        backend=submission.backend,
        index=0,
        slots=array.throttle,
        device_mask=None,
        gpus=array.gpus,
        exact_gpus=exact_gpus,
        heartbeat_s=HEARTBEAT_S,
    )
    jobs = executor.submit_array(
        [SlurmJob(dataclasses.replace(spec, slot=slot, index=task % array.throttle)) for task, slot in enumerate(slots)]
    )
    job = jobs[0].job_id.partition("_")[0]
    variables = inherited(request.settings)
    record = JobArray(
        job=job,
        first=first,
        tasks=array.tasks,
        gpus=array.gpus,
        throttle=array.throttle,
        partition=request.settings.partition or variables.get("SBATCH_PARTITION", ""),
        time_min=request.settings.time_min,
        cluster=executor.given_cluster,
        environment=variables,
        script=str(jobs[0].paths.submission_file.relative_to(execution.path.resolve())),
    )
    submission = dataclasses.replace(submission, slots=(*submission.slots, *slots), arrays=(*submission.arrays, record))
    write_submission(execution, submission)
    return submission


def main() -> None:
    """Reads the arrays from standard input and submits one after the other; its argument: the submit's turn."""
    escape_unencodable_output()
    work = parse_as(ArraysLaunch, sys.stdin.read())
    with keep_fresh(Path(sys.argv[1])):
        _submit_all(work)


def _submit_all(work: ArraysLaunch) -> None:
    """The last line printed says why not all."""
    submission = work.submission
    for array in work.arrays:
        before = (*work.living, *(earlier.job for earlier in submission.arrays)) if array.waits else ()
        request = ArrayRequest(array, work.settings, work.name, before)
        try:
            execution = ExecutionDir(Path(work.execution))
            submission = submit_array(execution, submission, request, exact_gpus=work.exact_gpus)
        except (FailedJobError, FailedSubmissionError) as error:
            print(slurm_message(str(error)) or type(error).__name__)  # noqa: T201
            sys.exit(1)


if __name__ == "__main__":
    main()

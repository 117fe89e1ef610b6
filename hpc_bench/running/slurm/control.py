"""Changes arrays that are in Slurm's queue: how many of their tasks may run, and that none shall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpc_bench.errors import BackendError
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.heartbeat import Worker
from hpc_bench.execution.submission import Submission
from hpc_bench.files import filesystem_now
from hpc_bench.running.slurm.commands import on_cluster, run_slurm
from hpc_bench.running.slurm.queue import living_jobs, read_queue

__all__ = ["cancel_arrays", "throttle_array"]


def throttle_array(key: str, throttle: int) -> None:
    """Lets so many tasks of an array run at once; 0 cancels those that wait."""
    job, _, cluster = key.partition(";")
    where = on_cluster(cluster)
    change = ["scontrol", *where, "update", f"JobId={job}", f"ArrayTaskThrottle={throttle}"]
    try:
        run_slurm(*(change if throttle else ["scancel", *where, "--state=PENDING", job]))
    except BackendError as error:
        # Tasks that are over are complaints; those that are left were updated, or there is nothing to throttle.
        if not any(text in str(error) for text in ("No error", "already finished", "Invalid job id")):
            raise


def cancel_arrays(execution: ExecutionDir, submissions: Sequence[Submission], workers: Mapping[str, Worker]) -> None:
    """By one scancel a cluster; BackendError where Slurm cannot be told."""
    arrays = [array for submission in submissions for array in submission.arrays]
    queue = read_queue(
        execution,
        arrays,
        filesystem_now(execution.state),
        living=living_jobs(workers.values()),
    )
    for cluster in dict.fromkeys(array.cluster for array in arrays):
        left = [array.job for array in arrays if array.cluster == cluster and array.key not in queue.over]
        if left:
            _cancel(left, cluster)


def _cancel(jobs: Sequence[str], cluster: str) -> None:
    try:
        run_slurm("scancel", *on_cluster(cluster), *jobs)
    except BackendError as error:
        if "Invalid job id" not in str(error):
            raise BackendError(
                f"scancel: {error}; workers were asked to end by a file, jobs that still wait "
                "will end as soon as they start"
            ) from error

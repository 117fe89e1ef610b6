"""Which job arrays of an execution are in the queue, and which of their tasks still take work."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Sequence

from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.heartbeat import Worker, read_workers
from hpc_bench.execution.slot import Slot
from hpc_bench.execution.submission import JobArray, Submission
from hpc_bench.files import filesystem_now, list_names
from hpc_bench.running.slurm.arrays import LivingArray
from hpc_bench.running.slurm.queue import Queue, read_queue

__all__ = ["clusters_of", "living_arrays", "slot_of"]


def living_arrays(execution: ExecutionDir, submissions: Sequence[Submission], lease_s: float) -> list[LivingArray]:
    """The arrays that are in the queue; which of their tasks will take no more work is in the workers' own words."""
    arrays = [(submission, array) for submission in submissions for array in submission.arrays]
    if not arrays:
        return []
    queue = read_queue(
        execution,
        [array.job for _, array in arrays],
        filesystem_now(execution.state),
        clusters=clusters_of(submissions),
        fresh=True,
    )
    latest: dict[Slot, Worker] = {}
    for worker in sorted(read_workers(execution, lease_s).values(), key=lambda worker: -worker.silent_s):
        latest[worker.heartbeat.slot] = worker
    ended = {slot for slot, worker in latest.items() if worker.heartbeat.state in ("ended", "broken")}
    told = {name.removesuffix(".stop") for name in list_names(execution.workers) if name.endswith(".stop")}
    living = []
    for submission, array in arrays:
        if any(tasks.job == array.job for tasks in queue.tasks):
            slots = submission.jobs_of(array)
            ending = {job for job, slot in slots.items() if slot in ended or str(slot) in told}
            living.append(_as_living(array, queue, ending, stopped=submission.name in told))
    return living


def _as_living(array: JobArray, queue: Queue, ending: set[str], *, stopped: bool) -> LivingArray:
    """`ending`: tasks whose workers end; `stopped`: whether all of its submission were told to."""
    waiting = [tasks for tasks in queue.pending if tasks.job == array.job]
    running = set(queue.running(array.job))
    leaving = running if stopped else running & (ending | set(queue.completing))
    return LivingArray(
        job=array.job,
        gpus=array.gpus,
        running=tuple(sorted(running, key=_task_number)),
        pending=0 if stopped else sum(len(tasks) for tasks in waiting),
        throttle=next((tasks.throttle for tasks in waiting if tasks.throttle), array.throttle),
        ending=len(leaving),
        cancelled=stopped and bool(waiting),
        waits=not stopped and any(tasks.reason.startswith("Dependency") for tasks in waiting),
    )


def _task_number(name: str) -> int:
    return int(name.partition("_")[2] or 0)


def clusters_of(submissions: Sequence[Submission]) -> tuple[str, ...]:
    """Those that the arrays were submitted to by name."""
    return tuple(sorted({array.cluster for item in submissions for array in item.arrays if array.cluster}))


def slot_of(submissions: Sequence[Submission], task: str) -> Slot:
    """The slot that a task of these submissions holds, by Slurm's id of the task; KeyError if it is of none."""
    slots = (submission.jobs_of(array) for submission in submissions for array in submission.arrays)
    return ChainMap(*slots)[task]

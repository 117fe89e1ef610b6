"""Which job arrays of an execution are in the queue, and which of their tasks still take work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.heartbeat import Worker, read_workers
from hpc_bench.execution.slot import Slot
from hpc_bench.execution.submission import JobArray, Submission
from hpc_bench.files import filesystem_now, list_names
from hpc_bench.running.slurm.arrays import LivingArray
from hpc_bench.running.slurm.queue import QueuedTasks, read_queue

__all__ = ["living_arrays"]


def living_arrays(execution: ExecutionDir, submissions: Sequence[Submission], lease_s: float) -> list[LivingArray]:
    """The arrays that are in the queue; which of their tasks will take no more work is in the workers' own words."""
    arrays = [(submission, array) for submission in submissions for array in submission.arrays]
    if not arrays:
        return []
    asked = [array for _, array in arrays]
    queue = read_queue(execution, asked, filesystem_now(execution.state), fresh=True)
    latest: dict[Slot, Worker] = {}
    for worker in sorted(read_workers(execution, lease_s).values(), key=lambda worker: -worker.silent_s):
        latest[worker.heartbeat.slot] = worker
    ended = {slot for slot, worker in latest.items() if worker.heartbeat.state in ("ended", "broken")}
    told = {name.removesuffix(".stop") for name in list_names(execution.workers) if name.endswith(".stop")}
    living = []
    for submission, array in arrays:
        if queue.of(array):
            slots = submission.jobs_of(array)
            ending = {slot for slot in slots.values() if slot in ended or str(slot) in told}
            living.append(_as_living(array, queue.of(array), slots, ending, stopped=submission.name in told))
    return living


def _as_living(
    array: JobArray, queued: Sequence[QueuedTasks], slots: Mapping[str, Slot], ending: set[Slot], *, stopped: bool
) -> LivingArray:
    """`ending`: slots whose workers end; `stopped`: whether all of its submission were told to."""
    waiting = [tasks for tasks in queued if tasks.is_pending]
    held = {slots[name]: tasks for tasks in queued for name in tasks.names if name in slots and not tasks.is_pending}
    running, completing = held.keys(), {slot for slot, tasks in held.items() if tasks.state == "COMPLETING"}
    leaving = running if stopped else running & (ending | completing)
    return LivingArray(
        key=array.key,
        gpus=array.gpus,
        running=tuple(sorted(running)),
        pending=0 if stopped else sum(len(tasks) for tasks in waiting),
        throttle=next((tasks.throttle for tasks in waiting if tasks.throttle), array.throttle),
        ending=len(leaving),
        cancelled=stopped and bool(waiting),
        waits=not stopped and any(tasks.reason.startswith("Dependency") for tasks in waiting),
    )

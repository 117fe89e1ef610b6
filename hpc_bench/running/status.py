"""How an execution stands right now: counts, workers, rate, time left; from the disk alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.heartbeat import Worker, damaged_heartbeats
from hpc_bench.execution.slot import Slot
from hpc_bench.execution.stub import Stub
from hpc_bench.execution.submission import Submission, damaged_submissions, read_submissions
from hpc_bench.execution.view import ExecutionView
from hpc_bench.running.slurm.queue import Queue, living_jobs, read_queue

__all__ = ["Status", "StatusReader", "is_recent", "silent_jobs"]

_RATE_FROM_LAST_S = 3600.0
START_GRACE_S = 60.0
"""A worker that has not written its first heartbeat by then did not start."""


@dataclass(frozen=True)
class Status:
    """One look at an execution."""

    total: int
    counts: dict[str, int]
    """complete, failed, running, pending -> stubs"""
    workers: tuple[Worker, ...]
    """Those alive, and those of the newest submission that broke."""
    starting: frozenset[Slot]
    """The slots of workers that were started a moment ago and have not said anything yet."""
    queue: Queue
    """What Slurm's queue holds for this execution"""
    stubs_per_s: float | None
    eta_s: float | None
    damaged: tuple[str, ...] = ()
    """What is wrong with files of submissions and workers, a line each."""

    @property
    def is_over(self) -> bool:
        """Whether nothing is left that a worker could do."""
        return self.counts["running"] == self.counts["pending"] == 0

    @property
    def waiting(self) -> int:
        """Workers that wait in Slurm's queue."""
        return sum(len(tasks) for tasks in self.queue.pending)

    @property
    def is_busy(self) -> bool:
        """Whether a worker is there, or may yet come: one that Slurm does not tell about is not given up."""
        on_their_way = self.starting or self.queue.may_hold_work or not self.queue.answered
        return bool(on_their_way) or any(worker.alive for worker in self.workers)


class StatusReader:
    """Looks at an execution's workers, queue and progress again and again, on top of its general view."""

    def __init__(self, execution: ExecutionDir) -> None:
        self.view = ExecutionView(execution)
        self._finished: dict[str, float] = {}

    def read(self) -> Status:
        """The present status; `view` is as fresh as it."""
        view = self.view
        view.refresh()
        stubs = view.by_state()
        counts: dict[str, int] = {state: len(members) for state, members in stubs.items()}
        left = counts["running"] + counts["pending"]
        submissions = read_submissions(view.execution)
        # What was cancelled brings no worker any more, also while Slurm still has it in its books.
        going_on = [item for item in submissions if not view.execution.stop_request(item.name).exists()]
        arrays = [array for submission in going_on for array in submission.arrays]
        living = living_jobs(view.board.workers.values())
        queue = read_queue(view.execution, arrays, view.board.now, living=living) if left else Queue()
        workers = _shown_workers(view.board.workers.values())
        rate = self._rate(stubs["complete"])
        eta = left / rate if rate and left and any(worker.alive for worker in workers) else None
        starting = self._starting_slots(going_on, queue)
        damaged = (*damaged_submissions(view.execution), *damaged_heartbeats(view.execution, view.board.workers))
        return Status(len(view.manifest.stubs), counts, workers, starting, queue, rate, eta, damaged)

    def _starting_slots(self, submissions: Sequence[Submission], queue: Queue) -> frozenset[Slot]:
        seen = {worker.heartbeat.slot for worker in self.view.board.workers.values()}
        slots: set[Slot] = set()
        for submission in submissions:
            held: set[Slot] = set()
            for array in submission.arrays:  # its tasks may wait for days before they start
                jobs, running = submission.jobs_of(array), queue.running(array)
                held |= set(jobs.values())
                slots |= {jobs[job] for job in running if job in jobs}
            if is_recent(self.view.execution, submission, self.view.board.now):
                silent = set(submission.slots) - held - seen
                slots |= {slot for slot in silent if not submission.has_ended(slot)}
        return frozenset(slots - seen)

    def _rate(self, done: list[Stub]) -> float | None:
        """Stubs a second since the newest submission, within the last hour; each result's time is read once."""
        execution, now = self.view.execution, self.view.board.now
        try:
            started = max(path.stat().st_mtime for path in execution.jobs.glob("*.json"))
        except (ValueError, OSError):
            return None
        since = max(started, now - _RATE_FROM_LAST_S)
        for stub in done:
            if stub.result_path not in self._finished:
                with suppress(OSError):
                    self._finished[stub.result_path] = execution.result(stub.result_path).stat().st_mtime
        recent = sum(moment >= since for moment in self._finished.values())
        return recent / (now - since) if recent and now > since else None


def is_recent(execution: ExecutionDir, submission: Submission, now: float) -> bool:
    """Whether its workers may still be about to say their first word; `now`: by the filesystem's clock."""
    try:
        return now - execution.submission(submission.name).stat().st_mtime < START_GRACE_S
    except OSError:
        return False


def _shown_workers(workers: Iterable[Worker]) -> tuple[Worker, ...]:
    """Those alive, and those of the newest submission that broke."""
    known = sorted(workers, key=lambda worker: worker.heartbeat.worker)
    newest = max((_moment(worker) for worker in known), default="")
    return tuple(
        worker for worker in known if worker.alive or (worker.heartbeat.state == "broken" and _moment(worker) == newest)
    )


def _moment(worker: Worker) -> str:
    """When its submission was made, in a form that sorts; without the name of the backend."""
    return worker.heartbeat.slot.submission.partition("-")[2]


def silent_jobs(view: ExecutionView, status: Status) -> list[tuple[str, Path]]:
    """The Slurm jobs that started and ended without a word of their worker, with their logs: setup may have failed."""
    if status.is_over or not status.queue.answered:
        return []
    known = {worker.heartbeat.slot for worker in view.board.workers.values()}
    silent = []
    for submission in read_submissions(view.execution):
        for array in submission.arrays:
            queued = {name for tasks in status.queue.of(array) for name in tasks.names}
            silent_here = {job for job, slot in submission.jobs_of(array).items() if slot not in known}
            for job in sorted(silent_here - queued):
                log = view.execution.job_log(submission.name, job)
                if log.exists():
                    silent.append((job, log))
    return silent

"""How an execution stands right now: counts, workers, rate, time left; from the disk alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpc_bench.execution.board import Board, StubState
from hpc_bench.execution.claims import Outcome
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.heartbeat import Worker
from hpc_bench.execution.manifest import Manifest, read_manifest
from hpc_bench.execution.stub import Stub
from hpc_bench.execution.submission import JobArray, Submission, read_submissions
from hpc_bench.execution.view import Failure
from hpc_bench.files import filesystem_now
from hpc_bench.running.slurm.queue import Queue, read_queue

__all__ = ["Status", "StatusReader", "find_failures", "silent_jobs"]

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
    starting: int
    """Workers that were started a moment ago and have not said anything yet"""
    queue: Queue
    """What Slurm's queue holds for this execution"""
    stubs_per_s: float | None
    eta_s: float | None

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
    """Looks at an execution again and again, reading only what can have changed."""

    def __init__(self, execution: ExecutionDir) -> None:
        self.execution = execution
        self.manifest: Manifest = read_manifest(execution)
        self.board = Board(execution, self.manifest.header, float(self.manifest.header.limits["lease_s"]))
        self._titles = {stub.key: stub for stub in self.manifest.stubs}
        self.starting: set[str] = set()
        """Slots of workers that were started a moment ago and have not said anything yet"""
        self._finished: dict[str, float] = {}

    def read(self) -> Status:
        """The present status."""
        self.board.refresh()
        counts: Counter[str] = Counter(complete=0, failed=0, running=0, pending=0)
        done = []
        for stub in self.manifest.stubs:
            state = self.board.state(stub).state
            counts[state] += 1
            if state == "complete":
                done.append(stub)
        submissions = read_submissions(self.execution)
        over = counts["running"] == counts["pending"] == 0
        # What was cancelled brings no worker any more, also while Slurm still has it in its books.
        going_on = [item for item in submissions if not self.execution.stop_request(item.name).exists()]
        jobs = [array.job for submission in going_on for array in submission.arrays]
        queue = Queue() if over else read_queue(self.execution, jobs)
        self.starting = self._starting_slots(going_on, queue)
        rate = self._rate(done)
        left = counts["running"] + counts["pending"]
        newest = max((w.heartbeat.submission.partition("-")[2] for w in self.board.workers.values()), default="")
        workers = [
            worker
            for worker in self.board.workers.values()
            if worker.alive
            or (worker.heartbeat.state == "broken" and worker.heartbeat.submission.endswith(f"-{newest}"))
        ]
        workers.sort(key=lambda worker: worker.heartbeat.worker)
        eta = left / rate if rate and left and any(worker.alive for worker in workers) else None
        return Status(len(self.manifest.stubs), dict(counts), tuple(workers), len(self.starting), queue, rate, eta)

    def stub(self, key: str) -> Stub | None:
        """The stub with a key."""
        return self._titles.get(key)

    def state(self, stub: Stub) -> StubState:
        """Where a stub stood at the last reading."""
        return self.board.state(stub)

    def last_outcome(self, stub: Stub) -> Outcome | None:
        """How the stub's last attempt ended, if it ended without a result."""
        state = self.board.state(stub)
        if state.state not in ("failed", "pending") or not state.attempt:
            return None
        return self.board.outcome(stub.key, state.attempt)

    def _starting_slots(self, submissions: Sequence[Submission], queue: Queue) -> set[str]:
        now = filesystem_now(self.execution.workers)
        seen = {worker.heartbeat.slot for worker in self.board.workers.values()}
        slots: set[str] = set()
        for submission in submissions:
            if submission.backend == "slurm":  # a task may wait for days before it starts
                slots |= {slot for array in submission.arrays for slot in _given_a_node(submission, array, queue)}
                continue
            with suppress(OSError):
                age_s = now - self.execution.submission(submission.name).stat().st_mtime
                slots |= set(submission.slots) if age_s < START_GRACE_S else set()
        return slots - seen

    def _rate(self, done: list[Stub]) -> float | None:
        """Stubs a second since the newest submission, within the last hour; each result's time is read once."""
        now = filesystem_now(self.execution.workers)
        try:
            started = max(path.stat().st_mtime for path in self.execution.jobs.glob("*.json"))
        except (ValueError, OSError):
            return None
        since = max(started, now - _RATE_FROM_LAST_S)
        for stub in done:
            if stub.result_path not in self._finished:
                with suppress(OSError):
                    self._finished[stub.result_path] = self.execution.result(stub.result_path).stat().st_mtime
        recent = sum(moment >= since for moment in self._finished.values())
        return recent / (now - since) if recent and now > since else None


def _given_a_node(submission: Submission, array: JobArray, queue: Queue) -> Iterator[str]:
    running = set(queue.running(array.job))
    for index in range(array.first, array.first + array.tasks) if running else ():
        if array.job_of(index) in running:
            yield f"{submission.name}-{index}"


def find_failures(reader: StatusReader) -> list[Failure]:
    """What the stubs that failed failed of, as last read."""
    alike: dict[str, list[str]] = {}
    for stub in reader.manifest.stubs:
        if reader.state(stub).state == "failed":
            outcome = reader.last_outcome(stub)
            alike.setdefault(f"{outcome.error}: {outcome.message}" if outcome else ": ", []).append(stub.title)
    return [Failure(reason, tuple(titles)) for reason, titles in alike.items()]


def silent_jobs(reader: StatusReader, status: Status) -> list[tuple[str, Path]]:
    """The Slurm jobs that started and ended without a word of their worker, with their logs: setup may have failed."""
    if status.is_over or not status.queue.answered:
        return []
    known = {worker.heartbeat.job for worker in reader.board.workers.values()}
    queued = {name for tasks in status.queue.tasks for name in tasks.names}
    silent = []
    for submission in read_submissions(reader.execution):
        for array in submission.arrays:
            jobs = {array.job_of(index) for index in range(array.first, array.first + array.tasks)}
            for job in sorted(jobs - known - queued):
                log = reader.execution.job_log(submission.name, job)
                if log.exists():
                    silent.append((job, log))
    return silent

"""The workers that one call of `submit` looks after: starts them, replaces those that die, ends them on Ctrl-C."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hpc_bench.execution.claims import Outcome, write_outcome
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.heartbeat import Worker, read_workers
from hpc_bench.execution.submission import Submission
from hpc_bench.execution.view import ExecutionView
from hpc_bench.running.backend import Backend, GuardedBackend
from hpc_bench.running.status import Status, StatusReader, silent_jobs

__all__ = ["Crew", "follow", "run_crew"]

POLL_S, READING_SHARE = 0.5, 0.1
STOP_GRACE_S = 10.0
MOST_RESTARTS = 2


def run_crew(crew: Crew, bundles: int, show: Callable[[ExecutionView, Status], None]) -> bool:
    """Works until nothing is left to do; True if the user interrupted, and then none of the crew is left."""
    with _terminate_as_interrupt():
        try:
            crew.start(bundles)
            crew.wait(show)
        except KeyboardInterrupt:
            crew.stop()
            return True
    return False


def follow(
    execution: ExecutionDir,
    backend: Backend,
    show: Callable[[ExecutionView, Status], None],
    say: Callable[[str], None],
) -> bool:
    """Shows the status until all stubs ended, or no worker is left or to come; where all are gone, says so and starts
    new ones twice at most, unless jobs never came to work. True if the user interrupted, which leaves workers alone.
    """
    with _terminate_as_interrupt():
        try:
            _follow(execution, backend, show, say)
        except KeyboardInterrupt:
            return True
    return False


def _follow(
    execution: ExecutionDir,
    backend: Backend,
    show: Callable[[ExecutionView, Status], None],
    say: Callable[[str], None],
) -> None:
    reader, spare = StatusReader(execution), MOST_RESTARTS
    while True:
        started = time.monotonic()
        status = reader.read()
        show(reader.view, status)
        if status.is_over:
            return
        if not status.is_busy:
            if not spare or silent_jobs(reader.view, status):
                return
            broken = {worker.heartbeat.reason for worker in status.workers if worker.heartbeat.state == "broken"}
            say(f"no worker is left{': ' * bool(broken)}{'; '.join(sorted(broken))}; submitting again")
            spare -= 1
            header, pending = reader.view.manifest.header, reader.view.stubs_in("pending")
            for line in backend.start(execution, header, pending):
                say(line)
        _pause(started)


def _pause(started: float) -> None:
    time.sleep(max(POLL_S, (time.monotonic() - started) / READING_SHARE))


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a waiting submit as Ctrl-C does; signals can be set in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


class Crew:
    """Some workers of one backend on one execution."""

    def __init__(self, execution: ExecutionDir, backend: GuardedBackend) -> None:
        self.execution = execution
        self._backend = backend
        self._reader = StatusReader(execution)
        self._view = self._reader.view
        self._submissions: list[Submission] = []
        self._slots: dict[int, str] = {}
        """Slot index -> the name of the slot's latest worker of ours"""
        self._spare = 0

    def start(self, bundles: int) -> None:
        """Starts workers in free slots, at most one a bundle; each may be replaced twice."""
        self._reader.read()
        indices = self._backend.free_slots(self._view.board.workers)[:bundles]
        self._spare = MOST_RESTARTS * len(indices)
        if indices:
            self._launch(indices)

    def _launch(self, indices: list[int]) -> None:
        submission = self._backend.prepare(self.execution, indices)
        self._submissions.append(submission)  # before the launch, so that an interrupt in it reaches all
        self._slots.update(zip(indices, submission.slots, strict=True))
        self._backend.launch(self.execution, submission)

    def wait(self, show: Callable[[ExecutionView, Status], None]) -> None:
        """Shows the status until all stubs ended, or nobody is left who could end them."""
        while True:
            started = time.monotonic()
            status = self._reader.read()
            show(self._view, status)
            if not status.is_busy and status.is_over:
                return
            if not self._replenish(status) and not status.is_busy:
                return
            _pause(started)

    def _replenish(self, status: Status) -> bool:
        """Starts a worker for each that died, or, when all ended but stubs were given back, for one that did not."""
        if not status.counts["pending"] or not self._spare:
            return False
        seen = {worker.heartbeat.slot: worker for worker in self._view.board.workers.values()}
        mine = {
            index: seen.get(slot)
            for index, slot in self._slots.items()
            if slot not in status.starting and not _was_told_to_stop(self.execution, slot)
        }
        due = [index for index, worker in mine.items() if _vanished(worker)]
        if not due and not any(worker.alive for worker in status.workers):
            due = [index for index, worker in mine.items() if worker and worker.heartbeat.state == "ended"][:1]
        due = due[: self._spare]
        self._spare -= len(due)
        if due:
            self._launch(due)
        return bool(due)

    def stop(self) -> None:
        """Asks the workers to release their claims and end; kills what is left after a grace or a second interrupt."""
        try:
            workers = self._workers()
            self._backend.cancel(self.execution, self._submissions, workers)
            deadline = time.monotonic() + STOP_GRACE_S
            while self._alive() and time.monotonic() < deadline:
                time.sleep(POLL_S / 5)
        except KeyboardInterrupt:
            pass
        while self._alive():
            for submission in self._submissions:
                self._backend.kill(self.execution, submission)
            time.sleep(POLL_S / 5)
        self._release_claims()

    def _workers(self) -> dict[str, Worker]:
        return read_workers(self.execution, self._view.manifest.header.limits.lease_s)

    def _alive(self) -> bool:
        return any(self._backend.alive(self.execution, submission) for submission in self._submissions)

    def _release_claims(self) -> None:
        """Speaks for the workers that were killed, whose stubs would count the attempt."""
        self._reader.read()
        ours = {submission.name for submission in self._submissions}
        workers = {w.heartbeat.worker for w in self._view.board.workers.values() if w.heartbeat.submission in ours}
        for claim, worker in self._view.board.open_claims(self._view.manifest.stubs):
            if worker in workers:
                write_outcome(self.execution, claim, Outcome("released", "Interrupted", "Ctrl-C", worker=worker))


def _was_told_to_stop(execution: ExecutionDir, slot: str) -> bool:
    return any(execution.stop_request(name).exists() for name in (slot, slot.rpartition("-")[0]))


def _vanished(worker: Worker | None) -> bool:
    return worker is None or (not worker.alive and worker.heartbeat.state not in ("ended", "broken"))

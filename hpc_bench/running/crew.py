"""The workers that one call of `submit` looks after: starts them, replaces those that die, ends them on Ctrl-C."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice, takewhile

from hpc_bench.errors import BackendError
from hpc_bench.execution.attempts.claims import Outcome, write_outcome
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.header import Header
from hpc_bench.execution.heartbeat import Worker, read_workers
from hpc_bench.execution.slot import Slot
from hpc_bench.execution.stub import Stub
from hpc_bench.execution.submission import Submission, is_told_to_stop
from hpc_bench.running.backend import Backend, Say, Show
from hpc_bench.running.bundles import bundle_stubs
from hpc_bench.running.follow import MOST_RESTARTS, POLL_S, pause, terminate_as_interrupt
from hpc_bench.running.looking import PatientLook
from hpc_bench.running.status import Status, StatusReader
from hpc_bench.running.turn import HeldTurn, submitting_alone

__all__ = ["Crew", "GuardedBackend"]

STOP_GRACE_S = 10.0
RETRY_S = 5.0


class GuardedBackend(Backend):
    """A backend whose workers `submit` looks after, and takes with it on Ctrl-C. A slot is known by its index."""

    waits = True

    def attend(self, execution: ExecutionDir, header: Header, stubs: Sequence[Stub], show: Show, say: Say) -> str:
        """Replaces workers that die; after an interrupt none is left."""
        crew = Crew(execution, self)
        with terminate_as_interrupt():
            try:
                crew.start(len(bundle_stubs(header, stubs, self.size)))
                crew.wait(show, say)
            except KeyboardInterrupt:
                crew.stop()
                return "every finished sample is kept: submit again to go on"
        return ""

    @abstractmethod
    def free_slots(self, execution: ExecutionDir, workers: Mapping[str, Worker]) -> Iterator[int]:
        """The indices of the slots, in order, that none of the living `workers`, of whatever submission, sits on, nor
        one that was started and has not spoken yet. There may be far more of them than stubs.
        """

    @abstractmethod
    def prepare(self, execution: ExecutionDir, indices: list[int]) -> Submission:
        """Records a submission of workers for these slots, before the first of them starts."""

    @abstractmethod
    def launch(self, execution: ExecutionDir, submission: Submission, turn: HeldTurn) -> None:
        """Starts its workers; an interrupt is raised when all are on their way. BackendError if they cannot be."""

    @abstractmethod
    def alive(self, execution: ExecutionDir, submission: Submission) -> bool:
        """Whether a job of the submission still runs, as far as can be told from here."""

    @abstractmethod
    def kill(self, execution: ExecutionDir, submission: Submission) -> None:
        """Ends all jobs of a submission at once, with all their processes."""


class Crew:
    """Some workers of one backend on one execution."""

    def __init__(self, execution: ExecutionDir, backend: GuardedBackend) -> None:
        self.execution = execution
        self._backend = backend
        self._reader = StatusReader(execution)
        self._view = self._reader.view
        self._look = PatientLook(self._view.manifest.header.limits.lease_s / 2)
        self._submissions: list[Submission] = []
        self._slots: dict[int, Slot] = {}
        """Index -> the slot of our latest worker there."""
        self._spare = 0
        self._failures, self._next_launch = 0, 0.0

    def start(self, bundles: int) -> None:
        """Starts workers in free slots, at most one a bundle; each may be replaced twice."""
        with submitting_alone(self.execution) as turn:
            self._reader.read()
            indices = list(islice(self._free(), bundles))
            self._spare = MOST_RESTARTS * len(indices)
            if indices:
                self._launch(indices, turn)

    def _free(self) -> Iterator[int]:
        return self._backend.free_slots(self.execution, self._view.board.workers)

    def _launch(self, indices: list[int], turn: HeldTurn) -> None:
        submission = self._backend.prepare(self.execution, indices)
        self._submissions.append(submission)  # before the launch, so that an interrupt in it reaches all
        self._backend.launch(self.execution, submission, turn)
        self._slots.update(zip(indices, submission.slots, strict=True))

    def wait(self, show: Show, say: Say) -> None:
        """Shows the status until all stubs ended, or nobody is left who could end them."""
        while True:
            started = time.monotonic()
            status = self._look.at(self._reader.read)
            show(self._view, status)
            if not status.is_busy and status.is_over:
                return
            if not self._replenish(status, say) and not status.is_busy:
                return
            pause(started)

    def _replenish(self, status: Status, say: Say) -> bool:
        """Whether workers were started in the slots that are due, or will be, since it may go better in a while."""
        if not self._look.at(lambda: self._due(status)):
            return False
        if time.monotonic() < self._next_launch:
            return True
        try:
            started = self._replace(say)
            self._failures = 0
        except BackendError as error:
            self._failures += 1
            if self._failures > MOST_RESTARTS:
                raise
            say(f"{error}; trying again in {RETRY_S:g} s")
            self._next_launch = time.monotonic() + RETRY_S
            return True
        return started

    def _due(self, status: Status) -> list[int]:
        """The slots whose worker died, also before its first word, or, when all ended but stubs were given back, one
        whose worker did not.
        """
        if not status.counts["pending"]:
            return []
        mine = {
            index: worker
            for index, worker in self._latest().items()
            if self._slots[index] not in status.starting and not is_told_to_stop(self.execution, self._slots[index])
        }
        due = [index for index, worker in mine.items() if _vanished(worker)]
        if not due and not any(worker.alive for worker in status.workers):
            due = [index for index, worker in mine.items() if worker and worker.heartbeat.state == "ended"][:1]
        return due[: self._spare]

    def _latest(self) -> dict[int, Worker | None]:
        """Index -> our latest worker there; None: not a word of it."""
        seen = {worker.heartbeat.slot: worker for worker in self._view.board.workers.values()}
        return {index: seen.get(slot) for index, slot in self._slots.items()}

    def _replace(self, say: Say) -> bool:
        with submitting_alone(self.execution) as turn:
            due = self._look.at(lambda: self._due(self._reader.read()))  # they may have spoken a moment ago
            free = self._look.at(lambda: set(takewhile(lambda index: index <= max(due, default=-1), self._free())))
            due = [index for index in due if index in free]  # somebody else's submit may have been faster
            for index in due:
                if self._latest()[index] is None:
                    log = self.execution.job_folder(str(self._slots[index]))
                    say(f"a worker ended before its first word (its log is in {log}); starting another")
            if due:
                self._launch(due, turn)
                self._spare -= len(due)
        return bool(due)

    def stop(self) -> None:
        """Asks the workers to release their claims and end; kills what is left after a grace or a second interrupt."""
        try:
            self._backend.cancel(self.execution, self._submissions, self._workers())
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
        beats = [worker.heartbeat for worker in self._view.board.workers.values()]
        workers = {beat.worker for beat in beats if beat.slot.submission in ours}
        for claim, worker in self._view.board.open_claims(self._view.manifest.stubs):
            if worker in workers:
                with suppress(OSError):  # a full disk must not hide the interrupt
                    write_outcome(self.execution, claim, Outcome("released", "Interrupted", "Ctrl-C", worker=worker))


def _vanished(worker: Worker | None) -> bool:
    return worker is None or (not worker.alive and worker.heartbeat.state not in ("ended", "broken"))

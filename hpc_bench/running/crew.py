"""The workers that one call of `submit` looks after: starts them, replaces those that die, ends them on Ctrl-C."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice, takewhile

from hpc_bench.execution.claims import Outcome, write_outcome
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.header import Header
from hpc_bench.execution.heartbeat import Worker, read_workers
from hpc_bench.execution.slot import Slot
from hpc_bench.execution.stub import Stub
from hpc_bench.execution.submission import Submission, is_told_to_stop
from hpc_bench.running.backend import Backend, Say, Show
from hpc_bench.running.bundles import bundle_stubs
from hpc_bench.running.follow import MOST_RESTARTS, POLL_S, pause, terminate_as_interrupt
from hpc_bench.running.status import Status, StatusReader
from hpc_bench.running.turn import HeldTurn, submitting_alone

__all__ = ["Crew", "GuardedBackend"]

STOP_GRACE_S = 10.0


class GuardedBackend(Backend):
    """A backend whose workers `submit` looks after, and takes with it on Ctrl-C. A slot is known by its index."""

    waits = True

    def attend(self, execution: ExecutionDir, header: Header, stubs: Sequence[Stub], show: Show, say: Say) -> str:  # noqa: ARG002
        """Replaces workers that die; after an interrupt none is left."""
        crew = Crew(execution, self)
        with terminate_as_interrupt():
            try:
                crew.start(len(bundle_stubs(header, stubs, self.size)))
                crew.wait(show)
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
        self._submissions: list[Submission] = []
        self._slots: dict[int, Slot] = {}
        """Index -> the slot of our latest worker there."""
        self._spare = 0

    def start(self, bundles: int) -> None:
        """Starts workers in free slots, at most one a bundle; each may be replaced twice."""
        with submitting_alone(self.execution) as turn:
            indices = list(islice(self._free(), bundles))
            self._spare = MOST_RESTARTS * len(indices)
            if indices:
                self._launch(indices, turn)

    def _free(self) -> Iterator[int]:
        self._reader.read()
        return self._backend.free_slots(self.execution, self._view.board.workers)

    def _launch(self, indices: list[int], turn: HeldTurn) -> None:
        submission = self._backend.prepare(self.execution, indices)
        self._submissions.append(submission)  # before the launch, so that an interrupt in it reaches all
        self._slots.update(zip(indices, submission.slots, strict=True))
        self._backend.launch(self.execution, submission, turn)

    def wait(self, show: Show) -> None:
        """Shows the status until all stubs ended, or nobody is left who could end them."""
        while True:
            started = time.monotonic()
            status = self._reader.read()
            show(self._view, status)
            if not status.is_busy and status.is_over:
                return
            if not self._replenish(status) and not status.is_busy:
                return
            pause(started)

    def _replenish(self, status: Status) -> bool:
        """Starts a worker for each that died, or, when all ended but stubs were given back, for one that did not."""
        if not status.counts["pending"] or not self._spare:
            return False
        seen = {worker.heartbeat.slot: worker for worker in self._view.board.workers.values()}
        mine = {
            index: seen.get(slot)
            for index, slot in self._slots.items()
            if slot not in status.starting and not is_told_to_stop(self.execution, slot)
        }
        due = [index for index, worker in mine.items() if _vanished(worker)]
        if not due and not any(worker.alive for worker in status.workers):
            due = [index for index, worker in mine.items() if worker and worker.heartbeat.state == "ended"][:1]
        due = due[: self._spare]
        if not due:
            return False
        with submitting_alone(self.execution) as turn:
            free = set(takewhile(lambda index: index <= max(due), self._free()))
            due = [index for index in due if index in free]  # somebody else's submit may have been faster
            self._spare -= len(due)
            if due:
                self._launch(due, turn)
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

"""Which stubs are complete, running, failed or free, read off the disk; and how the next attempt at one is claimed."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from hpc_bench.errors import ExecutionError
from hpc_bench.execution.attempts.charging import judge_death
from hpc_bench.execution.attempts.claims import Claim, ClaimFile, Outcome, read_outcome, write_outcome
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.header import Header
from hpc_bench.execution.heartbeat import Silence, Worker, read_workers
from hpc_bench.execution.schema import dump_as, read_as
from hpc_bench.execution.stub import Stub
from hpc_bench.files import create_exclusive, filesystem_now, list_names

__all__ = ["Board", "State", "StubState", "claim_attempt"]

_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
UNSEEN_SHARE = 1 / 2
"""For this share of the lease, files of another machine may not be seen here yet."""
State = Literal["complete", "running", "failed", "pending"]


@dataclass(frozen=True)
class StubState:
    """Where a stub stands."""

    state: State
    attempt: int
    """The latest claimed attempt; 0: none yet."""
    worker: str = ""
    """Who holds it, where the stub is running."""


def _complete_paths(execution: ExecutionDir) -> set[str]:
    """The result paths that are published, read by listing folders, not by a look-up a stub."""
    found: set[str] = set()
    for model in list_names(execution.path):
        for attention in list_names(execution.path / model):
            folder = f"{model}/{attention}"
            found.update(f"{folder}/{leaf}" for leaf in list_names(execution.path / folder))
    return found


class Board:
    """What is claimed, complete and failed, as last read from the disk; `refresh` reads again what can have changed."""

    def __init__(self, execution: ExecutionDir, header: Header, me: str = "") -> None:
        """`me`: the worker that reads it, if one does."""
        self._me = me
        self.execution = execution
        self.workers: dict[str, Worker] = {}
        self.follow(header)
        self._lease_s = header.limits.lease_s
        self.now = 0.0
        """When it was last read, by the filesystem's clock."""
        self._complete: set[str] = set()
        self._latest: dict[str, int] = {}
        self._ended: dict[str, set[int]] = {}
        self._outcomes: dict[tuple[str, int], Outcome] = {}
        self._silence = Silence()
        self._holders: dict[tuple[str, int], str] = {}

    def follow(self, header: Header) -> None:
        """Judges by the limits of another manifest from now on."""
        self._max_attempts = header.limits.max_attempts
        self._forgiven = header.forgiven

    def refresh(self) -> None:
        """Reads results last: a stub that is published meanwhile must not look like one whose claim is free."""
        self.now = filesystem_now(self.execution.workers)
        self.workers = read_workers(self.execution, self._lease_s, self.now, self._silence)
        self._ended = {}
        for key, number in _numbered(self.execution.outcomes, ".json"):
            self._ended.setdefault(key, set()).add(number)
        claimed: dict[str, set[int]] = {}
        for key, number in _numbered(self.execution.claims, ""):
            claimed.setdefault(key, set()).add(number)
        self._latest = {key: _last_in_turn(numbers) for key, numbers in claimed.items()}
        self._complete = _complete_paths(self.execution)

    def state(self, stub: Stub) -> StubState:
        """Where a stub stands."""
        attempt = self._latest.get(stub.key, 0)
        if stub.result_path in self._complete:
            return StubState("complete", attempt)
        if attempt == 0:
            return StubState("pending", 0)
        if attempt not in self._ended.get(stub.key, ()):
            worker = self.holder(stub.key, attempt)
            if self._may_live(stub.key, attempt, worker):
                return StubState("running", attempt, worker)
        used_up = self.charged(stub) >= self._max_attempts
        return StubState("failed" if used_up else "pending", attempt)

    def outcome(self, key: str, attempt: int) -> Outcome:
        """How an attempt ended; WorkerLost where its worker died without a word."""
        if (key, attempt) in self._outcomes:
            return self._outcomes[key, attempt]
        is_said = attempt in self._ended.get(key, ())
        found = read_outcome(self.execution.outcome(key, attempt)) if is_said else self._unsaid_outcome(key, attempt)
        if is_said or attempt < self._latest.get(key, 0):  # nothing more will be said of what others went on with
            self._outcomes[key, attempt] = found
        return found

    def earlier_outcomes(self, key: str, attempt: int) -> list[Outcome]:
        """How the attempts before one ended, from the first that may be charged."""
        return [self.outcome(key, number) for number in range(self._forgiven.get(key, 0) + 1, attempt)]

    def charged(self, stub: Stub) -> int:
        """How many attempts at a stub count towards max_attempts."""
        ended = self.earlier_outcomes(stub.key, self._latest.get(stub.key, 0) + 1)
        return sum(outcome.state == "failed" for outcome in ended)

    def settle(self, stub: Stub) -> None:
        """Writes down how the latest attempt ended where its worker died without a word; for who claims the next one.

        OSError if that cannot be written.
        """
        attempt = self._latest.get(stub.key, 0)
        if attempt and attempt not in self._ended.get(stub.key, ()):
            write_outcome(self.execution, Claim(stub, attempt), self._unsaid_outcome(stub.key, attempt))
            self._ended.setdefault(stub.key, set()).add(attempt)  # and read back: another's word may stand

    def _unsaid_outcome(self, key: str, attempt: int) -> Outcome:
        worker = self.holder(key, attempt)
        seen = self.workers.get(worker)
        if seen and seen.heartbeat.state == "ended":
            # A worker that ended in order left no outcome, so there was a result, and somebody moved it away.
            return Outcome("released", "ResultGone", "the result was moved away", attempt=attempt, worker=worker)
        lost = Outcome(
            "released", "WorkerLost", f"worker {worker} vanished without a word", attempt=attempt, worker=worker
        )
        if seen:
            beat = seen.heartbeat
            phase = beat.phase_of(key)
            lost = replace(lost, host=beat.process.host, log=beat.log, phase=phase, gained=beat.gained)
        return judge_death(lost, self.earlier_outcomes(key, attempt))

    def holder(self, key: str, attempt: int) -> str:
        """The worker that claimed an attempt; ExecutionError if the claim cannot be read."""
        if (key, attempt) not in self._holders:
            path = self.execution.claim(key, attempt)
            try:
                self._holders[key, attempt] = read_as(ClaimFile, path).worker
            except (OSError, ValueError) as error:
                raise ExecutionError(
                    f"{path}: is corrupt ({error}); delete it if no worker is running, and the stub will run again"
                ) from error
        return self._holders[key, attempt]

    def open_claims(self, stubs: Iterable[Stub]) -> Iterator[tuple[Claim, str]]:
        """The latest attempts that have neither a result nor an outcome, with the workers that claimed them."""
        for stub in stubs:
            attempt = self._latest.get(stub.key, 0)
            if attempt and stub.result_path not in self._complete and attempt not in self._ended.get(stub.key, ()):
                yield Claim(stub, attempt), self.holder(stub.key, attempt)

    def is_unsettled(self, stubs: Iterable[Stub]) -> bool:
        """Whether some stub may turn out to be free as soon as another machine's files are seen here."""
        holders = {state.worker for state in map(self.state, stubs) if state.state == "running"} - {self._me}
        return any(worker in self.workers and not self.workers[worker].alive for worker in holders)

    def _may_live(self, key: str, attempt: int, worker: str) -> bool:
        if worker == self._me:  # what it has no outcome for it is at, or has published, seen here or not yet
            return True
        seen = self.workers.get(worker)
        if seen is not None:
            return seen.alive or self._may_have_left_word(seen)
        # A new worker's heartbeat may be invisible here for a while: then its claim's age decides.
        try:
            return self._silence.of(self.execution.claim(key, attempt), self.now) <= self._lease_s
        except OSError:
            return False

    def _may_have_left_word(self, seen: Worker) -> bool:
        """Whether a worker of another machine ended so lately that its outcomes and results may not be seen here yet.

        Network filesystems cache names and attributes, mostly for up to 60 s; half the lease is longer.
        """
        ended = seen.heartbeat.state in ("ended", "broken")
        return ended and not seen.heartbeat.process.is_here and seen.silent_s <= self._lease_s * UNSEEN_SHARE


def claim_attempt(board: Board, stub: Stub, worker: str, bundle: str = "") -> Claim | None:
    """Claims the next attempt at a stub that `board` shows as pending; None if somebody else was faster. Where the
    worker of the attempt before died without a word, its outcome is written first.

    `bundle`: names what it is claimed together with.
    """
    attempt = board.state(stub).attempt + 1
    path = board.execution.claim(stub.key, attempt)
    if path.exists():  # a look is far cheaper than the link that would fail, and most of a board is soon out of date
        won = _is_unanswered_claim_of(board, stub.key, attempt, worker)
    else:
        board.settle(stub)
        won = create_exclusive(path, dump_as(ClaimFile, ClaimFile(worker, time.time(), stub.title, bundle)))
    # The stub may have been published between the reading of the board and the claim.
    return Claim(stub, attempt, bundle) if won and not board.execution.result(stub.result_path).exists() else None


def _is_unanswered_claim_of(board: Board, key: str, attempt: int, worker: str) -> bool:
    """Whether a link that the filesystem reported as failed was made all the same."""
    try:
        return board.holder(key, attempt) == worker and not board.execution.outcome(key, attempt).exists()
    except ExecutionError:
        return False


def _numbered(folder: Path, suffix: str) -> Iterable[tuple[str, int]]:
    for name in list_names(folder):
        key, _, number = name.removesuffix(suffix).rpartition(".")
        if _NUMBER.fullmatch(number):
            yield key, int(number)


def _last_in_turn(numbers: set[int]) -> int:
    """The last of 1, 2, 3 and so on: attempts are claimed in turn, so no worker made a number behind a gap."""
    return next(number for number in itertools.count() if number + 1 not in numbers)

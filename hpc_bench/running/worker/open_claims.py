"""The claims that a worker holds right now: whose work is going on, how long it took, how each claim ended."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from hpc_bench.execution.claims import Claim, Outcome, write_outcome
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.running.engine.events import Cause

__all__ = ["LOADING", "SHARED", "OpenClaims", "Phase"]

_TRIES = 5


@dataclass(frozen=True)
class Phase:
    """What an engine is at, and for whom."""

    kind: Literal["loading", "shared", "answering", "scoring"]
    stubs: frozenset[str] = frozenset()
    """The keys of the stubs that the work is for; empty: for all that are open."""


LOADING, SHARED = Phase("loading"), Phase("shared")


class OpenClaims:
    """Every claim put in leaves with a result or an outcome."""

    def __init__(self, execution: ExecutionDir, worker: str, host: str) -> None:
        self.phase = SHARED
        self.log = ""
        """The log of the engine at work, relative to the execution folder."""
        self._execution = execution
        self._worker = worker
        self._host = host
        self._claims: dict[str, Claim] = {}
        self._spent_s: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._claims)

    def put(self, claims: Iterable[Claim]) -> None:
        """Takes claims on; their time starts at zero."""
        for claim in claims:
            self._claims[claim.stub.key] = claim
            self._spent_s[claim.stub.key] = 0.0

    @property
    def any(self) -> Claim:
        """One of the open claims; all are of one bundle as long as no shared cause was found."""
        return next(iter(self._claims.values()))

    @property
    def attempt(self) -> int:
        """The highest attempt."""
        return max(claim.attempt for claim in self._claims.values())

    @property
    def busy(self) -> list[str]:
        """The keys of the open stubs that the present work is for."""
        return [key for key in self._claims if key in self.phase.stubs] or list(self._claims)

    def add_time(self, seconds: float, limit_s: float) -> list[str]:
        """Charges time to the busy stubs; returns the keys of those that are over the limit now."""
        busy = self.busy
        for key in busy:
            self._spent_s[key] += seconds
        return [key for key in busy if self._spent_s[key] > limit_s]

    def complete(self, key: str) -> None:
        """A result was published."""
        self._claims.pop(key, None)

    def fail(self, keys: Iterable[str], cause: Cause) -> None:
        """Records a failure."""
        for key in list(keys):
            self._end(key, Outcome("failed", cause.error, cause.message, cause.traceback))

    def fail_all(self, cause: Cause) -> None:
        """Records one failure for all open claims."""
        self.fail(self._claims, cause)

    def release(self, reason: str) -> None:
        """Gives all open claims back; that charges no attempt."""
        for key in list(self._claims):
            self._end(key, Outcome("released", "Released", reason))

    def _end(self, key: str, how: Outcome) -> None:
        claim = self._claims.get(key)
        if claim is not None:
            seconds = round(self._spent_s[key], 3)
            outcome = replace(how, worker=self._worker, host=self._host, log=self.log, seconds=seconds)
            _write_patiently(self._execution, claim, outcome)
            del self._claims[key]


def _write_patiently(execution: ExecutionDir, claim: Claim, outcome: Outcome) -> None:
    """A filesystem may fail or be full for a moment, and an outcome that is not written charges the stub."""
    for _ in range(_TRIES - 1):
        try:
            return write_outcome(execution, claim, outcome)
        except OSError:
            time.sleep(1)
    return write_outcome(execution, claim, outcome)

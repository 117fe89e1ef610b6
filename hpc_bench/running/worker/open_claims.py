"""The claims that a worker holds right now: whose work is going on, how long it took, how each claim ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from hpc_bench.execution.attempts.charging import judge_death
from hpc_bench.execution.attempts.claims import Claim, Outcome, PhaseName, write_outcome
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.heartbeat import Heartbeat
from hpc_bench.running.engine.events import Cause
from hpc_bench.running.looking import PatientLook

__all__ = ["LOADING", "SHARED", "OpenClaims", "Phase"]


@dataclass(frozen=True)
class Phase:
    """What an engine is at, and for whom."""

    kind: Literal["loading", "shared", "answering", "scoring"]
    stubs: frozenset[str] = frozenset()
    """The keys of the stubs that the work is for; empty: for all that are open."""


LOADING, SHARED = Phase("loading"), Phase("shared")


class OpenClaims:
    """Every claim put in leaves with a result or an outcome."""

    def __init__(
        self, execution: ExecutionDir, me: Heartbeat, look: PatientLook, earlier: Callable[[Claim], list[Outcome]]
    ) -> None:
        """`me`: who holds them; `earlier`: how the attempts before a claim's ended."""
        self.phase = SHARED
        self.log = ""
        """The log of the engine at work, relative to the execution folder."""
        self.gained = 0
        """The new samples of the bundle."""
        self._execution = execution
        self._me = me
        self._look = look
        self._earlier = earlier
        self._claims: dict[str, Claim] = {}
        self._spent_s: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._claims)

    def put(self, claims: Iterable[Claim]) -> None:
        """Takes on the claims of a bundle; their time and its new samples start at zero."""
        self.gained = 0
        for claim in claims:
            self._claims[claim.stub.key] = claim
            self._spent_s[claim.stub.key] = 0.0

    @property
    def any(self) -> Claim:
        """One of the open claims; all are of one bundle as long as no shared cause was found."""
        return next(iter(self._claims.values()))

    @property
    def all(self) -> list[Claim]:
        """The open claims."""
        return list(self._claims.values())

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

    def hinder(self, stub: str, cause: Cause) -> None:
        """Gives a claim back, or all (""), for an error that passes and is not the stub's."""
        for key in [stub] if stub else list(self._claims):
            self._end(key, Outcome("released", cause.error, cause.message, cause.traceback))

    def die(self, cause: Cause) -> None:
        """Records for all open claims that the engine died: charged or released, as `judge_death` says."""
        busy = self.busy
        for key, claim in list(self._claims.items()):
            phase: PhaseName = "waiting" if key not in busy else "answering"
            phase = "loading" if self.phase == LOADING else phase
            death = Outcome("released", cause.error, cause.message, cause.traceback, phase=phase)
            self._end(key, judge_death(self._filled(key, death), self._earlier(claim)))

    def _end(self, key: str, how: Outcome) -> None:
        claim = self._claims.get(key)
        if claim is not None:
            outcome = self._filled(key, how)
            self._look.at(partial(write_outcome, self._execution, claim, outcome))
            del self._claims[key]

    def _filled(self, key: str, how: Outcome) -> Outcome:
        seconds = round(self._spent_s[key], 3)
        me = self._me
        return replace(how, worker=me.worker, host=me.process.host, log=self.log, seconds=seconds, gained=self.gained)

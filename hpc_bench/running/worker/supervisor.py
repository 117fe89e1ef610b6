"""One worker's engine at work: bundles are handed to it, its events become results, outcomes and progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import singledispatchmethod

from hpc_bench.execution.attempts.claims import Claim
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.running.engine.events import (
    Answered,
    Answering,
    Broken,
    Cause,
    Complete,
    DataFailed,
    DataUnavailable,
    Event,
    Failed,
    Hindered,
    Loaded,
    LoadFailed,
    Outdated,
    Prefilling,
    Progress,
    Retired,
    Scoring,
    Work,
)
from hpc_bench.running.engine.process import EngineProcess
from hpc_bench.running.looking import PatientLook
from hpc_bench.running.worker.blame import Blame
from hpc_bench.running.worker.open_claims import LOADING, SHARED, OpenClaims, Phase
from hpc_bench.running.worker.pulse import BadDeviceError, BrokenSlotError, Pulse
from hpc_bench.running.worker.schedule import Schedule
from hpc_bench.running.worker.setbacks import Setbacks

__all__ = ["Supervisor"]

TICK_S = 0.1
"""Between two looks at the engine's pipe."""


class Supervisor:
    """Starts engines, one at a time, and sees to it that every claim handed to them ends."""

    def __init__(
        self,
        execution: ExecutionDir,
        schedule: Schedule,
        pulse: Pulse,
        environment: Callable[[], Mapping[str, str]],
        stop_reason: Callable[[], str],
        look: PatientLook,
    ) -> None:
        """`environment`: what each new engine gets beside this process's own; `stop_reason`: empty to go on."""
        self._execution = execution
        self._schedule = schedule
        self._pulse = pulse
        self._environment = environment
        self._stop_reason = stop_reason
        self._look = look
        self._open = OpenClaims(execution, pulse.beat, look, schedule.earlier_outcomes)
        self._setbacks = Setbacks(pulse, stop_reason)
        self._blame = Blame(self._open, schedule, pulse, self._setbacks, stop_reason)
        self._hindrance: Cause | None = None
        self._is_careful = False
        self._engine: EngineProcess | None = None
        self._engines = 0
        self._started = 0.0
        self.load_s = 0.0
        """What the last loading took."""
        pulse.engine_memory_gb = lambda: self._engine.memory_gb() if self._engine else None

    @property
    def model(self) -> str | None:
        """What the present engine holds."""
        return self._engine.model if self._engine else None

    def close(self, reason: str) -> None:
        """Ends the engine and gives back what is open."""
        self.end_engine()
        self._open.release(reason)

    def answer(self, claims: Sequence[Claim]) -> None:
        """Has a bundle answered; returns when each of its stubs has a result or an outcome, and after a pause where
        errors that should pass are why.
        """
        self._open.put(claims)
        self._open.phase = SHARED
        self._is_careful = any(end.death for claim in claims for end in self._schedule.earlier_outcomes(claim))
        self._pulse.note(stub="", samples={claim.stub.key: (0, 0) for claim in claims}, gained=0)
        engine = self._engine_for(claims[0].stub.model)
        engine.send(Work(tuple(claims), self._open.log))
        self._pulse.say(force=True)  # whoever finds this worker dead learns here what it was at
        self._watch(engine)
        if self._hindrance:
            cause, self._hindrance = self._hindrance, None
            self._setbacks.hindered(cause)

    def _watch(self, engine: EngineProcess) -> None:
        last = time.monotonic()
        while self._open and self._engine:
            for event in engine.events(TICK_S):
                self._take(event)
            now = time.monotonic()
            self._add_time(now - last)
            last = now
            self._pulse.say()
            if self._stop_reason():
                self.end_engine()
                self._open.release(self._stop_reason())
            elif self._engine and engine.is_dead:
                for event in engine.events(0):
                    self._take(event)
                self._bury(engine)

    def _engine_for(self, model: str) -> EngineProcess:
        if self._engine and (self._engine.model != model or self._engine.is_dead):
            self.end_engine()
        if self._engine is None:
            self._engines += 1
            self._started = time.monotonic()
            log = self._execution.engine_log(self._pulse.beat.worker, self._engines)
            environment = self._environment()
            self._engine = self._look.at(lambda: EngineProcess(self._execution.path, model, environment, log))
            self._open.phase, self._open.log = LOADING, str(log.relative_to(self._execution.path))
            self._pulse.say(force=True, state="loading", log=self._open.log)
        return self._engine

    @singledispatchmethod
    def _take(self, event: Event) -> None:
        """Turns an event into results, outcomes and progress; what needs no answer is passed over."""

    @_take.register
    def _(self, _event: Loaded) -> None:
        self._open.phase = SHARED
        self._setbacks.loaded(self._open.any.stub.model)
        self.load_s = time.monotonic() - self._started
        self._pulse.say(force=True, state="running")

    @_take.register
    def _(self, event: LoadFailed) -> None:
        self.end_engine()
        self._blame.model_failed(event.cause)

    @_take.register
    def _(self, event: Broken) -> None:
        raise BadDeviceError(f"{event.cause.error}: {event.cause.message}")

    @_take.register
    def _(self, _event: Prefilling) -> None:
        self._enter(SHARED)

    @_take.register
    def _(self, event: Answering) -> None:
        self._enter(Phase("answering", frozenset({event.stub})))

    @_take.register
    def _(self, event: Scoring) -> None:
        self._enter(Phase("scoring", frozenset({event.stub})))

    def _enter(self, phase: Phase) -> None:
        is_another = phase != self._open.phase
        self._open.phase = phase
        self._pulse.note(stub=next(iter(phase.stubs), ""))
        if is_another and self._is_careful:  # who died of one of these must be heard to name the right one
            self._pulse.say(force=True)

    @_take.register
    def _(self, event: Progress) -> None:
        self._note_progress(event.stub, event.done, event.total)

    @_take.register
    def _(self, event: Answered) -> None:
        self._open.gained += 1
        self._setbacks.got_on()
        self._pulse.note(answered=self._pulse.beat.answered + 1, gained=self._open.gained)
        self._note_progress(event.stub, event.done, self._pulse.beat.samples.get(event.stub, (0, 0))[1])
        if self._open.gained == 1:  # from now on a death is not one of those that come at once
            self._pulse.say(force=True)

    def _note_progress(self, stub: str, done: int, total: int) -> None:
        self._pulse.note(samples={**self._pulse.beat.samples, stub: (done, total)})

    @_take.register
    def _(self, event: Complete) -> None:
        self._setbacks.got_on()
        self._open.complete(event.stub)

    @_take.register
    def _(self, event: Failed) -> None:
        self._open.fail([event.stub], event.cause)

    @_take.register
    def _(self, event: Hindered) -> None:
        if self._open.phase == LOADING:
            self.end_engine()
        self._open.hinder(event.stub, event.cause)
        self._hindrance = event.cause
        self._schedule.forget()

    @_take.register
    def _(self, event: DataFailed) -> None:
        self._blame.data_failed(event.cause)

    @_take.register
    def _(self, event: DataUnavailable) -> None:
        self._blame.data_unavailable(event.cause, whole=event.whole)

    @_take.register
    def _(self, _event: Outdated) -> None:
        is_resubmitted = self._schedule.is_outdated
        self._give_up("the manifest asks for another configuration now")
        if not is_resubmitted:
            raise BrokenSlotError("hpc-bench or a plug-in was changed after these stubs were submitted; submit again")

    @_take.register
    def _(self, event: Retired) -> None:
        self._give_up(event.reason)

    def _give_up(self, reason: str) -> None:
        """The engine cannot go on with these claims, for no fault of theirs."""
        self.end_engine()
        self._open.release(reason)
        self._schedule.forget()

    def _add_time(self, seconds: float) -> None:
        """Enforces the time limit of a stub, of all where the work is shared."""
        limit_s = self._schedule.manifest.header.limits.stub_timeout_s
        late = self._open.add_time(seconds, limit_s)
        if late:
            doing = "loading the model" if self._open.phase == LOADING else "answering"
            self.end_engine()
            message = f"{doing} took longer than limits.stub_timeout ({limit_s:g} s)"
            self._blame.timed_out(late, Cause("StubTimeout", message))

    def _bury(self, engine: EngineProcess) -> None:
        self.end_engine()
        if self._open:
            self._blame.engine_died(Cause("EngineDied", f"the engine {engine.death}", engine.log_tail()))

    def end_engine(self) -> None:
        """Ends the present engine at once; the next bundle gets a new one."""
        if self._engine:
            self._engine.kill()
            self._engine = None

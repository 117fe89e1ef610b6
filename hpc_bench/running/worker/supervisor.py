"""One worker's engine at work: bundles are handed to it, its events become results, outcomes and progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import singledispatchmethod

from hpc_bench.execution.claims import Claim
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.stub import Stub
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
from hpc_bench.running.worker.open_claims import LOADING, SHARED, OpenClaims, Phase
from hpc_bench.running.worker.pulse import BadDeviceError, BrokenSlotError, Pulse
from hpc_bench.running.worker.schedule import Schedule

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
    ) -> None:
        """`environment`: what each new engine gets beside this process's own; `stop_reason`: empty to go on."""
        self._execution = execution
        self._schedule = schedule
        self._pulse = pulse
        self._environment = environment
        self._stop_reason = stop_reason
        self._open = OpenClaims(execution, pulse.beat.worker, pulse.beat.process.host)
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
        """Has a bundle answered; returns when each of its stubs has a result or an outcome."""
        self._open.put(claims)
        self._pulse.note(samples={claim.stub.key: (0, 0) for claim in claims})
        engine = self._engine_for(claims[0].stub.model)
        engine.send(Work(tuple(claims), self._open.log))
        self._pulse.say()
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
            self._engine = EngineProcess(self._execution.path, model, self._environment(), log)
            self._open.phase, self._open.log = LOADING, str(log.relative_to(self._execution.path))
            self._pulse.say(force=True, state="loading", log=self._open.log)
        return self._engine

    @singledispatchmethod
    def _take(self, event: Event) -> None:
        """Turns an event into results, outcomes and progress; what needs no answer is passed over."""

    @_take.register
    def _(self, _event: Loaded) -> None:
        self._open.phase = SHARED
        self.load_s = time.monotonic() - self._started
        self._pulse.say(force=True, state="running")

    @_take.register
    def _(self, event: LoadFailed) -> None:
        self.end_engine()
        self._share_model_failure(event.cause)

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
        self._open.phase = phase
        self._pulse.note(stub=next(iter(phase.stubs), ""))

    @_take.register
    def _(self, event: Progress) -> None:
        self._note_progress(event.stub, event.done, event.total)

    @_take.register
    def _(self, event: Answered) -> None:
        self._pulse.note(answered=self._pulse.beat.answered + 1)
        self._note_progress(event.stub, event.done, self._pulse.beat.samples.get(event.stub, (0, 0))[1])

    def _note_progress(self, stub: str, done: int, total: int) -> None:
        self._pulse.note(samples={**self._pulse.beat.samples, stub: (done, total)})

    @_take.register
    def _(self, event: Complete) -> None:
        self._open.complete(event.stub)

    @_take.register
    def _(self, event: Failed) -> None:
        self._open.fail([event.stub], event.cause)

    @_take.register
    def _(self, event: DataFailed) -> None:
        """Samples may be made with the model's tokenizer: another model may have them."""
        bundle = self._open.any.stub.bundle
        self._share_failure(event.cause, lambda stub: stub.bundle == bundle)

    @_take.register
    def _(self, event: DataUnavailable) -> None:
        """The data is the same for all models; of a data set that is missing altogether, for all subsets, too."""
        mine, whole = self._open.any.stub, event.whole
        self._share_failure(
            event.cause, lambda stub: stub.benchmark == mine.benchmark and (whole or stub.subset == mine.subset)
        )

    @_take.register
    def _(self, _event: Outdated) -> None:
        is_resubmitted = self._schedule.is_outdated
        self._give_up("the manifest asks for another configuration now")
        if not is_resubmitted:
            raise BrokenSlotError("hpc-bench or a plug-in was changed after these stubs were submitted; submit again")

    @_take.register
    def _(self, event: Retired) -> None:
        self._give_up(event.reason)

    def _share_model_failure(self, cause: Cause) -> None:
        model = self._open.any.stub.model
        self._share_failure(cause, lambda stub: stub.model == model)

    def _give_up(self, reason: str) -> None:
        """The engine cannot go on with these claims, for no fault of theirs."""
        self.end_engine()
        self._open.release(reason)
        self._schedule.forget()

    def _share_failure(self, cause: Cause, shares: Callable[[Stub], bool]) -> None:
        """Records a cause that would fail other stubs as well for all of them, so that it is not tried a stub."""
        attempt = self._open.attempt
        self._open.fail_all(cause)
        for claim in self._schedule.claim_all(attempt, shares):
            self._open.put([claim])
            self._open.fail_all(cause)
            self._pulse.say()
            if self._stop_reason():
                break

    def _add_time(self, seconds: float) -> None:
        """Enforces the time limit of a stub, of all where the work is shared."""
        limit_s = self._schedule.manifest.header.limits.stub_timeout_s
        late = self._open.add_time(seconds, limit_s)
        if late:
            doing = "loading the model" if self._open.phase == LOADING else "answering"
            self.end_engine()
            message = f"{doing} took longer than limits.stub_timeout ({limit_s:g} s)"
            self._blame(late, Cause("StubTimeout", message))

    def _bury(self, engine: EngineProcess) -> None:
        """An engine died: the stub that it was answering pays, all do where the work was shared."""
        self.end_engine()
        if self._open:
            self._blame(self._open.busy, Cause("EngineDied", f"the engine {engine.death}", engine.log_tail()))

    def _blame(self, guilty: Sequence[str], cause: Cause) -> None:
        """Charges the stubs that brought the engine down, all of the model if it was being loaded."""
        if self._open.phase == LOADING:
            self._share_model_failure(cause)
        else:
            self._open.fail(guilty, cause)
            self._open.release(f"another stub of the bundle ended the engine: {cause.message}")

    def end_engine(self) -> None:
        """Ends the present engine at once; the next bundle gets a new one."""
        if self._engine:
            self._engine.kill()
            self._engine = None

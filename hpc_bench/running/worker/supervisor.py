"""One worker's engine at work: bundles are handed to it, its events become results, outcomes and progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpc_bench.execution.claims import Claim
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.stub import Stub
from hpc_bench.running.engine.process import EngineProcess
from hpc_bench.running.worker.open_claims import LOADING, SHARED, OpenClaims
from hpc_bench.running.worker.pulse import BadDeviceError, Pulse
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
        engine.send({"claims": [_as_message(claim) for claim in claims], "log": self._open.log})
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

    def _take(self, event: dict[str, Any]) -> None:
        handlers: dict[str, Callable[[dict[str, Any]], None]] = {
            "answering": self._on_phase,
            "scoring": self._on_phase,
            "prefill": self._on_phase,
            "loaded": self._on_loaded,
            "progress": self._on_progress,
            "answered": self._on_answered,
            "complete": lambda event: self._open.complete(event["stub"]),
            "failed": lambda event: self._open.fail([event["stub"]], event),
            "data_failed": self._on_data_failed,
            "data_unavailable": self._on_data_unavailable,
            "load_failed": self._on_load_failed,
            "broken": self._on_broken,
            "outdated": lambda _: self._give_up("the manifest asks for another configuration now"),
            "retired": lambda event: self._give_up(event["reason"]),
        }
        if event["event"] in handlers:
            handlers[event["event"]](event)

    def _on_phase(self, event: dict[str, Any]) -> None:
        self._open.phase = event.get("stub", SHARED)
        self._pulse.note(stub=self._open.phase)

    def _on_loaded(self, _event: dict[str, Any]) -> None:
        self._open.phase = SHARED
        self.load_s = time.monotonic() - self._started
        self._pulse.say(force=True, state="running")

    def _on_answered(self, event: dict[str, Any]) -> None:
        self._pulse.note(answered=self._pulse.beat.answered + 1)
        self._on_progress(event)

    def _on_progress(self, event: dict[str, Any]) -> None:
        samples = self._pulse.beat.samples
        total = samples.get(event["stub"], (0, 0))[1]
        self._pulse.note(samples={**samples, event["stub"]: (event["done"], event.get("total", total))})

    def _on_data_failed(self, event: dict[str, Any]) -> None:
        """Samples may be made with the model's tokenizer: another model may have them."""
        bundle = self._open.any.stub.bundle
        self._share_failure(event, lambda stub: stub.bundle == bundle)

    def _on_data_unavailable(self, event: dict[str, Any]) -> None:
        """The data is the same for all models; of a data set that cannot be had at all, for all subsets, too."""
        mine, whole = self._open.any.stub, event["whole"]
        self._share_failure(
            event, lambda stub: stub.benchmark == mine.benchmark and (whole or stub.subset == mine.subset)
        )

    def _on_load_failed(self, event: dict[str, Any]) -> None:
        self.end_engine()
        self._share_model_failure(event)

    def _share_model_failure(self, event: dict[str, Any]) -> None:
        model = self._open.any.stub.model
        self._share_failure(event, lambda stub: stub.model == model)

    def _give_up(self, reason: str) -> None:
        """The engine cannot go on with these claims, for no fault of theirs."""
        self.end_engine()
        self._open.release(reason)
        self._schedule.forget()

    def _on_broken(self, event: dict[str, Any]) -> None:
        raise BadDeviceError(f"{event['error']}: {event['message']}")

    def _share_failure(self, event: dict[str, Any], shares: Callable[[Stub], bool]) -> None:
        """Records a cause that would fail other stubs as well for all of them, so that it is not tried a stub."""
        attempt = self._open.attempt
        self._open.fail_all(event)
        for claim in self._schedule.claim_all(attempt, shares):
            self._open.put([claim])
            self._open.fail_all(event)
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
            self._blame(late, {"error": "StubTimeout", "message": message})

    def _bury(self, engine: EngineProcess) -> None:
        """An engine died: the stub that it was answering pays, all do where the work was shared."""
        self.end_engine()
        if self._open:
            event = {"error": "EngineDied", "message": f"the engine {engine.death}", "traceback": engine.log_tail()}
            self._blame(self._open.busy, event)

    def _blame(self, guilty: Sequence[str], event: dict[str, Any]) -> None:
        """Charges the stubs that brought the engine down, all of the model if it was being loaded."""
        if self._open.phase == LOADING:
            self._share_model_failure(event)
        else:
            self._open.fail(guilty, event)
            self._open.release(f"another stub of the bundle ended the engine: {event['message']}")

    def end_engine(self) -> None:
        """Ends the present engine at once; the next bundle gets a new one."""
        if self._engine:
            self._engine.kill()
            self._engine = None


def _as_message(claim: Claim) -> dict[str, Any]:
    stub = claim.stub
    return {
        "stub": [stub.model, stub.attention, stub.benchmark, stub.subset, stub.fingerprint],
        "attempt": claim.attempt,
    }

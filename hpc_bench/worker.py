"""The worker: claims bundles, has an engine answer them, and records how every attempt ended. No torch here."""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from hpc_bench import gpus
from hpc_bench.claims import Board, Claim
from hpc_bench.engine_process import EngineProcess
from hpc_bench.execution_dir import ExecutionDir
from hpc_bench.heartbeat import Heartbeat, read_workers, this_process, write_heartbeat
from hpc_bench.manifest import read_manifest
from hpc_bench.open_claims import LOADING, SHARED, OpenClaims
from hpc_bench.schedule import Schedule

__all__ = ["WorkerEnd", "WorkerSpec", "run_worker"]

TICK_S, LOOK_S = 0.1, 1.0
"""Between two looks at the engine's pipe, and at the filesystem for a request to stop."""
MOST_IDLE_RESTARTS = 5
"""A slot whose workers ended so often in a row without a finished sample is given up."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerSpec:
    """What a backend tells a worker."""

    execution: str
    slot: str
    submission: str
    backend: str
    index: int
    slots: int
    device_mask: str | None
    """CUDA_VISIBLE_DEVICES for the engine; "" is the CPU; None leaves it as the scheduler set it."""
    gpus: int
    exact_gpus: bool = False
    """Whether it leaves models that need fewer GPUs to others."""
    threads: int | None = None
    """CPU threads of the engine; None leaves them as they are."""
    heartbeat_s: float = 1.0


@dataclass(frozen=True)
class WorkerEnd:
    """How a worker ended."""

    kind: Literal["drained", "stopped", "broken"]
    """Nothing left to claim; told to stop; its slot does not work."""
    reason: str
    signal: int = 0
    """That told it to stop; 0: none."""


def run_worker(spec: WorkerSpec, on_drained: Callable[[], None] = lambda: None) -> WorkerEnd:
    """Works until nothing is left to claim or a stop is asked for. `on_drained` is called when nothing is left, before
    a last look at what a submission may have added meanwhile.
    """
    return Worker(spec, on_drained).run()


class Worker:
    """One worker and its present engine."""

    def __init__(self, spec: WorkerSpec, on_drained: Callable[[], None]) -> None:
        self._spec = spec
        self._on_drained = on_drained
        self._execution = ExecutionDir(Path(spec.execution))
        self._manifest = read_manifest(self._execution)
        self._name = f"{spec.slot}.{secrets.token_hex(3)}"
        board = Board(self._execution, self._manifest.header, float(self._manifest.header.limits["lease_s"]))
        self._schedule = Schedule(
            self._manifest, board, self._name, spec.index, spec.slots, spec.gpus, exact=spec.exact_gpus
        )
        self._beat = Heartbeat(
            self._name,
            spec.slot,
            spec.submission,
            spec.backend,
            this_process(),
            job=_job_id(),
            gpus=spec.device_mask if spec.device_mask is not None else os.environ.get("CUDA_VISIBLE_DEVICES", ""),
            node=os.environ.get("SLURMD_NODENAME", ""),
        )
        self._next_beat = 0.0
        self._written = time.monotonic()
        self._engine: EngineProcess | None = None
        self._engines = 0
        self._load_s = self._started = 0.0
        self._stop, self._signal = "", 0
        self._next_look = 0.0
        self._open = OpenClaims(self._execution, self._name, self._beat.process.host)

    def run(self) -> WorkerEnd:
        """Claims and supervises until done; leaves no claim without an outcome."""
        self._listen()
        self._say(force=True)
        end = WorkerEnd("drained", "nothing left to claim")
        try:
            self._refuse_endless_restarts()
            self._drain()
            if self._stop:
                end = WorkerEnd("stopped", self._stop, self._signal)
        except _BrokenSlotError as error:
            end = WorkerEnd("broken", str(error))
        except Exception as error:
            end = WorkerEnd("broken", f"{type(error).__name__}: {error}")
            raise
        finally:
            self._end_engine()
            self._open.release(end.reason)
            state = "broken" if end.kind == "broken" else "ended"
            self._say(force=True, state=state, reason=end.reason, stub="", samples={})
        _log.info("%s: %s (%s)", self._name, end.kind, end.reason)
        return end

    def _refuse_endless_restarts(self) -> None:
        """Whatever restarts a slot's worker (walltime, preemption, dying nodes), it must get something done."""
        workers = read_workers(self._execution, float(self._manifest.header.limits["lease_s"])).values()
        earlier = [w for w in workers if w.heartbeat.slot == self._spec.slot and w.heartbeat.worker != self._name]
        earlier.sort(key=lambda worker: worker.silent_s)
        idle = list(itertools.takewhile(lambda worker: not worker.heartbeat.answered, earlier))
        if len(idle) >= MOST_IDLE_RESTARTS:
            raise _BrokenSlotError(
                f"started {len(idle)} times without finishing a sample; give it more time or another partition"
            )

    def _drain(self) -> None:
        """Answers bundles until none is left or a stop is asked for."""
        while not self._should_stop():
            self._leave_to_others()
            claims = self._schedule.claim_next(self._engine.model if self._engine else None)
            if claims:
                self._follow_manifest()
                self._supervise(claims)
            elif self._schedule.is_unsettled:
                self._say()
                time.sleep(LOOK_S)
            elif not self._is_called_back():
                return

    def _is_called_back(self) -> bool:
        """Whether a submission replaced the manifest while this worker was on its way out.

        A submission counts the workers that have not said that they end, and relies on those: so first say so, then
        look once more.
        """
        self._say(force=True, state="ended", reason="nothing left to claim")
        self._on_drained()
        if not self._schedule.is_outdated:
            return False
        self._say(force=True, state="running" if self._engine else "starting", reason="")
        return True

    def _follow_manifest(self) -> None:
        if self._manifest is not self._schedule.manifest:  # the engine knows the earlier one alone
            self._manifest = self._schedule.manifest
            self._end_engine()

    def _leave_to_others(self) -> None:
        """Waits as long as loading took before another model is loaded: those that have it may be done by then."""
        until = time.monotonic() + self._load_s
        while self._engine and time.monotonic() < until and not self._should_stop():
            looked = time.monotonic()
            if not self._schedule.is_in_good_hands(self._engine.model):
                return
            self._say()
            time.sleep(max(TICK_S, 10 * (time.monotonic() - looked)))

    def _listen(self) -> None:
        def stop(number: int, _frame: FrameType | None) -> None:
            self._stop, self._signal = f"stopped by {signal.Signals(number).name}", number

        for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
            signal.signal(number, stop)

    def _should_stop(self) -> bool:
        if not self._stop and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_S
            names = (self._spec.slot, self._spec.submission)
            if any(self._execution.stop_request(name).exists() for name in names):
                self._stop = "stopped on request"
        return bool(self._stop)

    def _supervise(self, claims: Sequence[Claim]) -> None:
        """Has a bundle answered; returns when each of its stubs has a result or an outcome."""
        self._open.put(claims)
        self._say(force=True, samples={claim.stub.key: (0, 0) for claim in claims})
        engine = self._engine_for(claims[0].stub.model)
        engine.send({"claims": [_as_message(claim) for claim in claims], "log": self._open.log})
        last = time.monotonic()
        while self._open and self._engine:
            for event in engine.events(TICK_S):
                self._take(event)
            now = time.monotonic()
            self._add_time(now - last)
            last = now
            self._say()
            if self._should_stop():
                self._end_engine()
                self._open.release(self._stop)
            elif self._engine and engine.is_dead:
                for event in engine.events(0):
                    self._take(event)
                self._bury(engine)

    def _engine_for(self, model: str) -> EngineProcess:
        if self._engine and (self._engine.model != model or self._engine.is_dead):
            self._end_engine()
        if self._engine is None:
            self._engines += 1
            self._started = time.monotonic()
            log = self._execution.engine_log(self._name, self._engines)
            self._engine = EngineProcess(self._execution.path, model, self._environment(), log)
            self._open.phase, self._open.log = LOADING, str(log.relative_to(self._execution.path))
            self._say(force=True, state="loading", log=self._open.log)
        return self._engine

    def _environment(self) -> dict[str, str]:
        environment = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        if self._spec.device_mask is not None:
            environment["CUDA_VISIBLE_DEVICES"] = self._spec.device_mask
        if self._spec.threads and "OMP_NUM_THREADS" not in os.environ:
            environment["OMP_NUM_THREADS"] = str(self._spec.threads)
        return environment

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
            "load_failed": self._on_load_failed,
            "broken": self._on_broken,
            "outdated": lambda _: self._give_up("the manifest asks for another configuration now"),
            "retired": lambda event: self._give_up(event["reason"]),
        }
        if event["event"] in handlers:
            handlers[event["event"]](event)

    def _on_phase(self, event: dict[str, Any]) -> None:
        self._open.phase = event.get("stub", SHARED)
        self._beat = replace(self._beat, stub=self._open.phase)

    def _on_loaded(self, _event: dict[str, Any]) -> None:
        self._open.phase = SHARED
        self._load_s = time.monotonic() - self._started
        self._say(force=True, state="running")

    def _on_answered(self, event: dict[str, Any]) -> None:
        self._beat = replace(self._beat, answered=self._beat.answered + 1)
        self._on_progress(event)

    def _on_progress(self, event: dict[str, Any]) -> None:
        total = self._beat.samples.get(event["stub"], (0, 0))[1]
        samples = {**self._beat.samples, event["stub"]: (event["done"], event.get("total", total))}
        self._beat = replace(self._beat, samples=samples)

    def _on_data_failed(self, event: dict[str, Any]) -> None:
        stub = self._open.any.stub
        self._share_failure(event, model=stub.model, data=(stub.benchmark, stub.subset))

    def _on_load_failed(self, event: dict[str, Any]) -> None:
        self._end_engine()
        self._share_failure(event, model=self._open.any.stub.model)

    def _give_up(self, reason: str) -> None:
        """The engine cannot go on with these claims, for no fault of theirs."""
        self._end_engine()
        self._open.release(reason)
        self._schedule.forget()

    def _on_broken(self, event: dict[str, Any]) -> None:
        raise _BrokenSlotError(f"{event['error']}: {event['message']}")

    def _share_failure(self, event: dict[str, Any], **shared: Any) -> None:
        """Records a cause that would fail other stubs as well for all of them, so that it is not tried a stub."""
        attempt = self._open.attempt
        self._open.fail_all(event)
        for claim in self._schedule.claim_all(attempt, **shared):
            self._open.put([claim])
            self._open.fail_all(event)
            self._say()
            if self._should_stop():
                break

    def _add_time(self, seconds: float) -> None:
        """Enforces the time limit of a stub, of all where the work is shared."""
        limit_s = float(self._manifest.header.limits["stub_timeout_s"])
        late = self._open.add_time(seconds, limit_s)
        if late:
            doing = "loading the model" if self._open.phase == LOADING else "answering"
            self._end_engine()
            message = f"{doing} took longer than limits.stub_timeout ({limit_s:g} s)"
            self._blame(late, {"error": "StubTimeout", "message": message})

    def _bury(self, engine: EngineProcess) -> None:
        """An engine died: the stub that it was answering pays, all do where the work was shared."""
        self._end_engine()
        if self._open:
            event = {"error": "EngineDied", "message": f"the engine {engine.death}", "traceback": engine.log_tail()}
            self._blame(self._open.busy, event)

    def _blame(self, guilty: Sequence[str], event: dict[str, Any]) -> None:
        """Charges the stubs that brought the engine down, all of the model if it was being loaded."""
        if self._open.phase == LOADING:
            self._share_failure(event, model=self._open.any.stub.model)
        else:
            self._open.fail(guilty, event)
            self._open.release(f"another stub of the bundle ended the engine: {event['message']}")

    def _end_engine(self) -> None:
        if self._engine:
            self._engine.kill()
            self._engine = None

    def _say(self, *, force: bool = False, **changes: Any) -> None:
        """Rewrites the heartbeat, at most every `heartbeat_s` seconds unless forced."""
        self._beat = replace(self._beat, **changes)
        now = time.monotonic()
        if force or now >= self._next_beat:
            memory = gpus.used_memory_gb(self._beat.gpus) if self._beat.gpus else None
            if memory is None and self._engine:
                memory = self._engine.memory_gb()
            self._beat = replace(self._beat, memory_gb=memory and round(memory, 2))
            self._next_beat = now + self._spec.heartbeat_s
            self._beat_once(now)

    def _beat_once(self, now: float) -> None:
        """Writes the heartbeat; a filesystem that fails for a while is borne until others may take us for dead."""
        try:
            write_heartbeat(self._execution, self._beat)
            self._written = now
        except OSError as error:
            lease_s = float(self._manifest.header.limits["lease_s"])
            if now - self._written > lease_s / 2:
                raise _BrokenSlotError(f"no heartbeat could be written for {lease_s / 2:g} s: {error}") from error


class _BrokenSlotError(Exception):
    """The slot itself does not work."""


def _job_id() -> str:
    """The scheduler's name for this job."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    if array:
        return f"{array}_{task}"
    return os.environ.get("SLURM_JOB_ID", os.environ.get("SUBMITIT_LOCAL_JOB_ID", ""))


def _as_message(claim: Claim) -> dict[str, Any]:
    stub = claim.stub
    return {
        "stub": [stub.model, stub.attention, stub.benchmark, stub.subset, stub.fingerprint],
        "attempt": claim.attempt,
    }

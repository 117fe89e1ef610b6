"""The worker: claims bundles and has them answered until none is left or it must stop. No torch here."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from hpc_bench.execution.attempts.board import Board
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.header import FORMAT_VERSION
from hpc_bench.execution.heartbeat import Heartbeat, WorkerState, read_workers, this_process, worker_name
from hpc_bench.execution.manifest import read_manifest
from hpc_bench.execution.slot import SlotName
from hpc_bench.execution.submission import is_told_to_stop
from hpc_bench.files import escape_unencodable_output, may_pass
from hpc_bench.running.looking import PatientLook
from hpc_bench.running.worker.pulse import BadDeviceError, BrokenSlotError, Pulse
from hpc_bench.running.worker.schedule import Schedule, Share
from hpc_bench.running.worker.supervisor import Supervisor

__all__ = ["WorkerEnd", "WorkerSpec", "run_worker"]

LOOK_S = 1.0
"""Between two looks at the filesystem for a request to stop."""
MOST_IDLE_RESTARTS = 5
"""A slot whose workers ended so often in a row without a finished sample is given up."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerSpec:
    """What a backend tells a worker."""

    execution: str
    slot: SlotName
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
    bad_device: bool = False
    """Whether it is broken because this node's device does not work."""


def run_worker(spec: WorkerSpec, on_drained: Callable[[], None] = lambda: None) -> WorkerEnd:
    """Works until nothing is left to claim or a stop is asked for. `on_drained` is called when nothing is left, before
    a last look at what a submission may have added meanwhile.
    """
    escape_unencodable_output()
    return Worker(spec, on_drained).run()


class Worker:
    """One worker and its present engine."""

    def __init__(self, spec: WorkerSpec, on_drained: Callable[[], None]) -> None:
        self._spec = spec
        self._on_drained = on_drained
        self._execution = ExecutionDir(Path(spec.execution))
        self._look = PatientLook()
        self._manifest = self._look.at(lambda: read_manifest(self._execution))
        self._name = worker_name(spec.slot)
        lease_s = self._manifest.header.limits.lease_s
        self._look.patience_s = lease_s / 2
        board = Board(self._execution, self._manifest.header, me=self._name)
        slots = max(1, min(spec.slots, len(self._manifest.stubs)))  # a cap may be far above what there is to do
        share = Share(spec.index, slots, spec.gpus, spec.exact_gpus)
        self._schedule = Schedule(self._manifest, board, self._name, share, self._look)
        beat = Heartbeat(
            self._name,
            spec.slot,
            spec.backend,
            this_process(),
            job=_job_id(),
            gpus=spec.device_mask if spec.device_mask is not None else os.environ.get("CUDA_VISIBLE_DEVICES", ""),
            node=os.environ.get("SLURMD_NODENAME", ""),
        )
        self._pulse = Pulse(self._execution, beat, spec.heartbeat_s, lease_s)
        self._look.meanwhile = self._pulse.say
        self._supervisor = Supervisor(
            self._execution, self._schedule, self._pulse, self._environment, self._stop_reason, self._look
        )
        self._stop, self._signal = "", 0
        self._look.is_stopped = lambda: bool(self._stop)
        self._next_look = 0.0

    def run(self) -> WorkerEnd:
        """Claims and supervises until done; leaves no claim without an outcome."""
        self._listen()
        self._pulse.say(force=True)
        end = WorkerEnd("drained", "nothing left to claim")
        try:
            self._refuse_earlier_manifest()
            self._refuse_endless_restarts()
            self._drain()
            if self._stop:
                end = WorkerEnd("stopped", self._stop, self._signal)
        except BadDeviceError as error:
            end = WorkerEnd("broken", str(error), bad_device=True)
        except BrokenSlotError as error:
            end = WorkerEnd("broken", str(error))
        except Exception as error:
            if not self._stop:
                end = WorkerEnd("broken", f"{type(error).__name__}: {error}")
                if not may_pass(error):
                    raise
            else:
                end = WorkerEnd("stopped", self._stop, self._signal)
        finally:
            self._leave(end)
        _log.info("%s: %s (%s)", self._name, end.kind, end.reason)
        return end

    def _leave(self, end: WorkerEnd) -> None:
        """Last words; where the filesystem takes none, others find out what became of the claims."""
        with self._tolerance():
            self._supervisor.close(end.reason)
        with self._tolerance():
            state: WorkerState = "broken" if end.kind == "broken" else "ended"
            self._pulse.say(force=True, state=state, reason=end.reason, bad_device=end.bad_device, stub="", samples={})

    @contextmanager
    def _tolerance(self) -> Iterator[None]:
        try:
            yield
        except (OSError, BrokenSlotError) as error:
            _log.warning("%s: %s", self._name, error)

    def _refuse_earlier_manifest(self) -> None:
        """Results for it would have other fingerprints than it asks for."""
        version = self._manifest.header.format_version
        if version != FORMAT_VERSION:
            raise BrokenSlotError(
                f"the manifest has format {version}, and this version of hpc-bench works on format {FORMAT_VERSION}; "
                "submit the sweep again"
            )

    def _refuse_endless_restarts(self) -> None:
        """Whatever restarts a slot's worker (walltime, preemption, dying nodes), it must get something done."""
        lease_s = self._manifest.header.limits.lease_s
        workers = self._look.at(lambda: read_workers(self._execution, lease_s)).values()
        earlier = [w for w in workers if w.heartbeat.slot == self._spec.slot and w.heartbeat.worker != self._name]
        earlier.sort(key=lambda worker: worker.silent_s)
        idle = list(itertools.takewhile(lambda worker: not worker.heartbeat.answered, earlier))
        if len(idle) >= MOST_IDLE_RESTARTS:
            raise BrokenSlotError(
                f"started {len(idle)} times without finishing a sample; give it more time or another partition"
            )

    def _drain(self) -> None:
        """Answers bundles until none is left or a stop is asked for."""
        while not self._stop_reason():
            self._leave_to_others()
            claims = self._schedule.claim_next(self._supervisor.model)
            if claims:
                self._follow_manifest()
                self._supervisor.answer(claims)
            elif self._schedule.is_unsettled:
                self._pulse.say()
                time.sleep(LOOK_S)
            elif not self._is_called_back():
                return

    def _is_called_back(self) -> bool:
        """Whether something turned up while this worker was on its way out.

        A submission counts the workers that have not said that they end, and relies on those; and a task that is
        cancelled here may have been about to take up what its earlier incarnation releases. So first say and do
        all that, then look once more.
        """
        self._pulse.say(force=True, state="ended", reason="nothing left to claim")
        self._on_drained()
        if not self._schedule.has_work():
            return False
        self._pulse.say(force=True, state="running" if self._supervisor.model else "starting", reason="")
        return True

    def _follow_manifest(self) -> None:
        if self._manifest is not self._schedule.manifest:  # the engine knows the earlier one alone
            self._manifest = self._schedule.manifest
            self._supervisor.end_engine()

    def _leave_to_others(self) -> None:
        """Waits as long as loading took before another model is loaded: those that have it may be done by then."""
        until = time.monotonic() + self._supervisor.load_s
        while self._supervisor.model and time.monotonic() < until and not self._stop_reason():
            looked = time.monotonic()
            if not self._schedule.is_in_good_hands(self._supervisor.model):
                return
            self._pulse.say()
            time.sleep(max(LOOK_S / 10, 10 * (time.monotonic() - looked)))

    def _listen(self) -> None:
        def stop(number: int, _frame: FrameType | None) -> None:
            self._stop, self._signal = f"stopped by {signal.Signals(number).name}", number

        for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
            signal.signal(number, stop)

    def _stop_reason(self) -> str:
        """Why this worker must end; empty as long as it may go on."""
        if not self._stop and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_S
            if self._look.at(lambda: is_told_to_stop(self._execution, self._spec.slot)):
                self._stop = "stopped on request"
        return self._stop

    def _environment(self) -> dict[str, str]:
        """What engines get beside this process's own environment."""
        environment = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        if self._manifest.header.offline:
            # Remote code is copied before it is imported; the hub's cache, its usual place, may be read-only.
            environment |= {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(self._execution.remote_code(self._name))}
        if self._spec.device_mask is not None:
            environment["CUDA_VISIBLE_DEVICES"] = self._spec.device_mask
        if self._spec.threads and "OMP_NUM_THREADS" not in os.environ:
            environment["OMP_NUM_THREADS"] = str(self._spec.threads)
        return environment


def _job_id() -> str:
    """The scheduler's name for this job."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    if array:
        return f"{array}_{task}"
    return os.environ.get("SLURM_JOB_ID", os.environ.get("SUBMITIT_LOCAL_JOB_ID", ""))

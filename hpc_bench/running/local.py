"""The GPUs of this machine: one submitit job a slot, each with GPUs of its own."""

from __future__ import annotations

import os
import platform
import signal
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

import psutil

from hpc_bench.errors import BackendError
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.header import Header
from hpc_bench.execution.heartbeat import Worker, read_workers
from hpc_bench.execution.schema import dump_as
from hpc_bench.execution.slot import Slot
from hpc_bench.execution.stub import Stub
from hpc_bench.execution.submission import Submission, new_submission, read_submissions, write_submission
from hpc_bench.files import filesystem_now, leave_mark
from hpc_bench.running.bundles import bundle_stubs
from hpc_bench.running.crew import GuardedBackend
from hpc_bench.running.gpus import device_mask, visible_gpus
from hpc_bench.running.launcher import run_launcher
from hpc_bench.running.status import is_recent
from hpc_bench.running.turn import HeldTurn, submitting_alone
from hpc_bench.running.worker.worker import WorkerSpec
from hpc_bench.sweep.sweep import Sweep

__all__ = ["LocalBackend", "LocalLaunch", "parse_gpus"]

GpuChoice = list[int] | Literal["all", "none"] | None


def parse_gpus(text: str) -> GpuChoice:
    """The value of --gpus: ids such as 0,1, all, or none; BackendError says what is allowed."""
    if text in ("all", "none"):
        return text  # type: ignore[return-value]
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts) or len(set(parts)) != len(parts):
        raise BackendError(f"--gpus: {text!r} is neither different ids such as 0,1 nor all nor none")
    return [int(part) for part in parts]


@dataclass(frozen=True)
class LocalLaunch:
    """What the launcher is told: the workers of a submission."""

    submission: Submission
    specs: tuple[WorkerSpec, ...]


class LocalBackend(GuardedBackend):
    """Workers on this machine, spread evenly over the GPUs; on the CPU where there are none."""

    name = "local"

    @classmethod
    def of_sweep(cls, sweep: Sweep, gpus: str | None) -> LocalBackend:
        """--gpus stands over the sweep's `local` section."""
        choice = parse_gpus(gpus) if gpus is not None else sweep.local.gpus
        most_gpus = max(model.gpus for model in sweep.models)
        return cls(choice, sweep.max_concurrent_runs, most_gpus, device=sweep.adapter.device)

    def __init__(
        self, choice: GpuChoice, max_concurrent_runs: int | None, gpus_per_slot: int, *, device: str = "auto"
    ) -> None:
        """`gpus_per_slot`: the most that a model of the sweep needs; `device`: the sweep's adapter_config.device."""
        visible = visible_gpus() if choice != "none" else []
        if choice == "all" and not visible:
            raise BackendError("--gpus all: there is no GPU here; --gpus none runs on the CPU")
        masks = device_mask(choice, visible) if isinstance(choice, list) else [gpu.mask for gpu in visible]
        if 0 < len(masks) < gpus_per_slot:
            raise BackendError(f"a model of the sweep needs {gpus_per_slot} GPUs, but only {len(masks)} are listed")
        if device == "cuda" and not masks:
            raise BackendError("adapter_config.device is cuda, but there is no GPU to use here; set it to auto or cpu")
        self._chosen = choice is not None
        self._groups = _grouped(masks, gpus_per_slot)
        self._gpus_per_slot = gpus_per_slot if masks else 0
        self.size = max_concurrent_runs or max(1, len(self._groups))

    def describe(self, header: Header, stubs: Sequence[Stub]) -> str:
        """The workers and their GPUs."""
        workers = min(self.size, len(bundle_stubs(header, stubs, self.size)))
        if not self._groups:
            why = "" if self._chosen else "no GPU found; "
            return f"{why}{workers} worker{'s' * (workers > 1)} on the CPU"
        places = ", ".join("+".join(group) for group in self._groups[:workers])
        return f"{workers} worker{'s' * (workers > 1)} on {min(len(self._groups), workers)} slot(s) of GPUs: {places}"

    def check(self, base: Path, header: Header, stubs: Sequence[Stub]) -> None:
        """Nothing that the making of the backend has not checked."""

    def start(self, execution: ExecutionDir, header: Header, stubs: Sequence[Stub]) -> list[str]:
        """Starts workers in free slots, at most one a bundle."""
        with submitting_alone(execution) as turn:
            workers = read_workers(execution, header.limits.lease_s)
            bundles = len(bundle_stubs(header, stubs, self.size))
            indices = list(islice(self.free_slots(execution, workers), bundles))
            if not indices:
                return []
            self.launch(execution, self.prepare(execution, indices), turn)
        return [f"started {len(indices)} worker(s)"]

    def free_slots(self, execution: ExecutionDir, workers: Mapping[str, Worker]) -> Iterator[int]:
        """Slots with the same GPUs are filled one by one; workers of other machines are in nobody's way."""
        spoken = {worker.heartbeat.slot for worker in workers.values()}
        taken = Counter(
            worker.heartbeat.gpus
            for worker in workers.values()
            if worker.alive and worker.heartbeat.backend == self.name and worker.heartbeat.process.is_here
        )
        taken.update(_unheard(execution, spoken))
        for index in range(self.size):
            mask = self._mask(index)
            if taken[mask]:
                taken[mask] -= 1
            else:
                yield index

    def prepare(self, execution: ExecutionDir, indices: list[int]) -> Submission:
        """The slots' names are what stop requests go by, also before a worker has said its first word."""
        submission = new_submission(self.name, platform.node(), indices)
        masks = {slot: self._mask(slot.index) for slot in submission.slots}
        submission = replace(submission, gpus=masks)
        try:
            write_submission(execution, submission)
        except OSError as error:
            raise BackendError(f"workers cannot be started: {execution.jobs}: {error.strerror}") from error
        return submission

    def launch(self, execution: ExecutionDir, submission: Submission, turn: HeldTurn) -> None:
        """Starts them in a session of their own; the job ids are on disk when this returns."""
        specs = tuple(self._spec(execution, slot) for slot in submission.slots)
        work = dump_as(LocalLaunch, LocalLaunch(submission, specs))
        complaint = run_launcher("hpc_bench.running.local_launch", work, execution.launch_log(submission.name), turn)
        if complaint:
            with suppress(OSError):  # none of its slots is taken for one whose worker is about to speak
                leave_mark(execution.stop_request(submission.name))
            raise BackendError(f"workers cannot be started: {complaint}")

    def _mask(self, index: int) -> str:
        return ",".join(self._groups[index % len(self._groups)]) if self._groups else ""

    def _spec(self, execution: ExecutionDir, slot: Slot) -> WorkerSpec:
        return WorkerSpec(
            execution=str(execution.path.resolve()),
            slot=slot,
            backend=self.name,
            index=slot.index,
            slots=self.size,
            device_mask=self._mask(slot.index),
            gpus=self._gpus_per_slot,
            threads=None if self._groups else max(1, len(os.sched_getaffinity(0)) // self.size),
        )

    @classmethod
    def cancel(cls, execution: ExecutionDir, submissions: Sequence[Submission], workers: Mapping[str, Worker]) -> None:
        """By a file that the workers look for, and, on this machine, by a signal."""
        try:
            for submission in submissions:
                leave_mark(execution.stop_request(submission.name))
        except OSError as error:
            raise BackendError(f"{execution.workers}: workers cannot be asked to end: {error.strerror}") from error
        names = {submission.name for submission in submissions}
        for worker in workers.values():
            if worker.alive and worker.heartbeat.process.is_here and worker.heartbeat.slot.submission in names:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(worker.heartbeat.process.pid, signal.SIGTERM)

    def alive(self, execution: ExecutionDir, submission: Submission) -> bool:
        """Whether one of its controllers, which outlive their workers, runs on this machine."""
        return bool(_controllers(execution, submission))

    def kill(self, execution: ExecutionDir, submission: Submission) -> None:
        """Controllers first, so that they start nothing anew."""
        for controller in _controllers(execution, submission):
            with suppress(psutil.Error):
                family = [controller, *controller.children(recursive=True)]
                for process in family:
                    with suppress(psutil.Error):
                        process.kill()


def _controllers(execution: ExecutionDir, submission: Submission) -> list[psutil.Process]:
    """Those of a submission that run on this machine."""
    recorded = next((item for item in read_submissions(execution) if item.name == submission.name), None)
    if recorded is None or recorded.host != platform.node():
        return []
    found = (_controller(execution, slot, job) for slot, job in recorded.jobs.items())
    return [process for process in found if process]


def _controller(execution: ExecutionDir, slot: Slot, job: str) -> psutil.Process | None:
    """submitit's local job ids are its controllers' pids; their command line names the slot's folder."""
    with suppress(psutil.Error, ValueError):
        process = psutil.Process(int(job))
        folder = str(execution.job_folder(str(slot)).resolve())
        if process.status() != psutil.STATUS_ZOMBIE and folder in process.cmdline():
            return process
    return None


def _unheard(execution: ExecutionDir, spoken: Collection[Slot]) -> Iterator[str]:
    """The device masks of this machine's slots whose workers were started, and have not said a word yet."""
    now = filesystem_now(execution.state)
    for submission in read_submissions(execution):
        stopped = execution.stop_request(submission.name).exists()
        if stopped or submission.backend != LocalBackend.name or submission.host != platform.node():
            continue
        recent = is_recent(execution, submission, now)
        for slot in submission.slots:
            job = submission.jobs.get(slot)  # none until they are all on their way
            if slot not in spoken and (_controller(execution, slot, job) if job else recent):
                yield submission.gpus.get(slot, "")


def _grouped(masks: Sequence[str], size: int) -> list[Sequence[str]]:
    """GPUs dealt to slots of `size`; what is left over serves no slot."""
    return [masks[start : start + size] for start in range(0, len(masks) - size + 1, size)]

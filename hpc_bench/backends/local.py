"""The GPUs of this machine: one submitit job a slot, each with GPUs of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Literal

from hpc_bench.backends.base import Backend, Submission, new_submission_name, this_host, write_submission
from hpc_bench.errors import BackendError
from hpc_bench.execution_dir import ExecutionDir
from hpc_bench.gpus import device_mask, visible_gpus
from hpc_bench.heartbeat import Worker, this_process
from hpc_bench.worker import WorkerSpec

__all__ = ["LocalBackend", "parse_gpus"]

GpuChoice = list[int] | Literal["all", "none"] | None


def parse_gpus(text: str) -> GpuChoice:
    """The value of --gpus: ids such as 0,1, all, or none; BackendError says what is allowed."""
    if text in ("all", "none"):
        return text  # type: ignore[return-value]
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts) or len(set(parts)) != len(parts):
        raise BackendError(f"--gpus: {text!r} is neither different ids such as 0,1 nor all nor none")
    return [int(part) for part in parts]


class LocalBackend(Backend):
    """Workers on this machine, spread evenly over the GPUs; on the CPU where there are none."""

    name = "local"

    def __init__(self, choice: GpuChoice, max_concurrent_runs: int | None, gpus_per_slot: int) -> None:
        """`gpus_per_slot`: the most that a model of the sweep needs."""
        visible = visible_gpus() if choice != "none" else []
        if choice == "all" and not visible:
            raise BackendError("--gpus all: there is no GPU here; --gpus none runs on the CPU")
        masks = device_mask(choice, visible) if isinstance(choice, list) else [gpu.mask for gpu in visible]
        if 0 < len(masks) < gpus_per_slot:
            raise BackendError(f"a model of the sweep needs {gpus_per_slot} GPUs, but only {len(masks)} are listed")
        self._chosen = choice is not None
        self._groups = _grouped(masks, gpus_per_slot)
        self._gpus_per_slot = gpus_per_slot if masks else 0
        self._max = max_concurrent_runs or max(1, len(self._groups))

    def slots(self, bundles: int) -> int:
        """One worker a slot, but no more than there are bundles."""
        return max(1, min(self._max, bundles))

    def describe(self, workers: int) -> str:
        """The workers and their GPUs."""
        if not self._groups:
            why = "" if self._chosen else "no GPU found; "
            return f"{why}{workers} worker{'s' * (workers > 1)} on the CPU"
        places = ", ".join("+".join(group) for group in self._groups[:workers])
        return f"{workers} worker{'s' * (workers > 1)} on {min(len(self._groups), workers)} slot(s) of GPUs: {places}"

    def start(self, execution: ExecutionDir, workers: int, already: int = 0) -> Submission:
        """Starts them in a session of their own; the job ids are on disk when this returns."""
        name = new_submission_name(self.name)
        slots = tuple(f"{name}-{already + index}" for index in range(workers))
        submission = Submission(name, self.name, this_host(), slots)
        try:
            write_submission(execution, submission)
        except OSError as error:
            raise BackendError(f"workers cannot be started: {execution.jobs}: {error.strerror}") from error
        specs = [self._spec(execution, submission, slot, already + index) for index, slot in enumerate(slots)]
        work = {"submission": dataclasses.asdict(submission), "specs": [dataclasses.asdict(spec) for spec in specs]}
        with execution.launch_log(name).open("ab") as log:
            done = subprocess.run(
                [sys.executable, "-m", "hpc_bench.backends.launch"],
                input=json.dumps(work).encode(),
                stdout=log,
                stderr=log,
                start_new_session=True,
                check=False,
            )
        if done.returncode:
            tail = execution.launch_log(name).read_text(errors="replace").strip().splitlines()[-1:]
            raise BackendError(f"workers cannot be started: {' '.join(tail)} (log: {execution.launch_log(name)})")
        return submission

    def _spec(self, execution: ExecutionDir, submission: Submission, slot: str, index: int) -> WorkerSpec:
        group: Sequence[str] = self._groups[index % len(self._groups)] if self._groups else ()
        return WorkerSpec(
            execution=str(execution.path.resolve()),
            slot=slot,
            submission=submission.name,
            backend=self.name,
            index=index % self._max,
            slots=self._max,
            device_mask=",".join(group),
            gpus=self._gpus_per_slot,
            threads=None if self._groups else max(1, len(os.sched_getaffinity(0)) // self._max),
        )

    def cancel(self, execution: ExecutionDir, submission: Submission, workers: Mapping[str, Worker]) -> None:
        """By a file that the workers look for, and, on this machine, by a signal."""
        for slot in submission.slots:
            execution.stop_request(slot).touch()
        signal_workers(submission, workers, signal.SIGTERM)


def signal_workers(submission: Submission, workers: Mapping[str, Worker], number: signal.Signals) -> None:
    """Sends a signal to the living workers of a submission that run on this machine."""
    here = this_process()
    for worker in workers.values():
        process = worker.heartbeat.process
        is_here = (process.host, process.boot, process.pid_space) == (here.host, here.boot, here.pid_space)
        if worker.alive and is_here and worker.heartbeat.submission == submission.name:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, number)


def _grouped(masks: Sequence[str], size: int) -> list[Sequence[str]]:
    """GPUs dealt to slots of `size`; what is left over serves no slot."""
    return [masks[start : start + size] for start in range(0, len(masks) - size + 1, size)]

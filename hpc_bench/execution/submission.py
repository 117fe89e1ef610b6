"""What calls of `submit` started, kept on disk so that any shell on any machine can follow and cancel it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

import pydantic

from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.heartbeat import Process
from hpc_bench.execution.schema import FileName, InnerPath, Name, dump_as, read_as
from hpc_bench.execution.slot import Slot, SlotName
from hpc_bench.files import list_names, write_whole

__all__ = [
    "JobArray",
    "Submission",
    "damaged_submissions",
    "is_closed",
    "is_told_to_stop",
    "new_submission",
    "new_submission_name",
    "read_submissions",
    "write_submission",
]


MOST_TASKS = 4_000_001
"""Of one array: the most that Slurm can be configured for."""


@dataclass(frozen=True)
class JobArray:
    """A Slurm job array, or a single job, that holds some slots of a submission."""

    job: FileName
    first: Annotated[int, pydantic.Field(ge=0, le=10**8)]
    """The index of the slot of its first task."""
    tasks: Annotated[int, pydantic.Field(ge=1, le=MOST_TASKS)]
    gpus: int
    """Of each task."""
    throttle: int
    """How many of its tasks may run at once."""
    partition: str
    time_min: int
    script: InnerPath
    """Relative to the execution folder."""
    cluster: str = ""
    """Where sbatch named one."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """The SBATCH_* variables that were in force."""

    @property
    def key(self) -> str:
        """Tells it from an array of another cluster with the same id, where sbatch named the cluster: 12;name."""
        return f"{self.job};{self.cluster}" if self.cluster else self.job

    def job_of(self, index: int) -> str:
        """Slurm's id for the task in the slot of that index."""
        return f"{self.job}_{index - self.first}" if self.tasks > 1 else self.job


@dataclass(frozen=True)
class Submission:
    """The slots for which one call started workers."""

    name: FileName
    backend: Name
    host: str
    slots: tuple[SlotName, ...]
    jobs: Mapping[SlotName, str] = field(default_factory=dict)
    """Of the local backend: slot -> submitit's job id."""
    processes: Mapping[SlotName, Process] = field(default_factory=dict)
    """Of the local backend: slot -> the process of its job, which outlives its worker; none in earlier versions."""
    gpus: Mapping[SlotName, str] = field(default_factory=dict)
    """Of the local backend: slot -> its device mask."""
    arrays: tuple[JobArray, ...] = ()
    """Of the Slurm backend."""

    def has_ended(self, slot: Slot) -> bool:
        """Whether the job of a slot is surely over, as far as can be told from here."""
        process = self.processes.get(slot)
        return process is not None and process.is_gone()

    def jobs_of(self, array: JobArray) -> dict[str, Slot]:
        """Slurm's ids of an array's tasks, with the slot that each holds."""
        indices = range(array.first, array.first + array.tasks)
        return {array.job_of(index): Slot(self.name, index) for index in indices}


def new_submission_name(backend: str) -> str:
    """A name that no other submission has."""
    return f"{backend}-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 1_000_000_000 // 1000:06d}"


def new_submission(backend: str, host: str, indices: list[int]) -> Submission:
    """A submission of workers for the backend's slots of these indices, under a name that no other one has."""
    name = new_submission_name(backend)
    return Submission(name, backend, host, tuple(Slot(name, index) for index in indices))


def write_submission(execution: ExecutionDir, submission: Submission) -> None:
    """Records a submission."""
    write_whole(execution.submission(submission.name), dump_as(Submission, submission))


def read_submissions(execution: ExecutionDir) -> list[Submission]:
    """All submissions to an execution, the oldest first; one that cannot be read is left out, as are all of somebody
    else's.
    """
    return [item for item in _read_all(execution) if isinstance(item, Submission)]


def damaged_submissions(execution: ExecutionDir) -> list[str]:
    """What is wrong with the submissions that cannot be read, a line each, with the file and what to do."""
    return [item for item in _read_all(execution) if isinstance(item, str)]


def _read_all(execution: ExecutionDir) -> Iterator[Submission | str]:
    """The submissions, and for one that cannot be read what is wrong with it."""
    if is_closed(execution):
        yield f"{execution.jobs}: only its owner can look into it, so what waits in Slurm's queue is not known here"
        return
    for name in sorted(list_names(execution.jobs)):
        if name.endswith(".json"):
            path = execution.jobs / name
            try:
                submission = read_as(Submission, path)
                if submission.name != path.stem:
                    raise ValueError(f"name: is {submission.name!r}, not the file's")
                yield submission
            except FileNotFoundError:  # it was listed a moment ago
                continue
            except (OSError, ValueError) as error:
                yield (
                    f"{path}: is corrupt ({error}); its workers can only be followed by their heartbeats; move the "
                    "file away once they have ended"
                )


def is_closed(execution: ExecutionDir) -> bool:
    """Whether somebody else submitted, whose folder of jobs is closed to this user."""
    return execution.jobs.exists() and not os.access(execution.jobs, os.R_OK | os.X_OK, effective_ids=True)


def is_told_to_stop(execution: ExecutionDir, slot: Slot) -> bool:
    """Whether the worker of a slot, or all of its submission, were asked to end."""
    return any(execution.stop_request(name).exists() for name in (str(slot), slot.submission))

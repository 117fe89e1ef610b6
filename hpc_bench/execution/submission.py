"""What calls of `submit` started, kept on disk so that any shell on any machine can follow and cancel it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.files import list_names, read_json, to_json, write_whole

__all__ = [
    "JobArray",
    "Submission",
    "array_of",
    "new_submission",
    "new_submission_name",
    "read_submissions",
    "slot_index",
    "write_submission",
]


@dataclass(frozen=True)
class JobArray:
    """A Slurm job array, or a single job, that holds some slots of a submission."""

    job: str
    first: int
    """The index of the slot of its first task."""
    tasks: int
    gpus: int
    """Of each task."""
    throttle: int
    """How many of its tasks may run at once."""
    partition: str
    time_min: int
    script: str
    """Relative to the execution folder."""

    def job_of(self, index: int) -> str:
        """Slurm's id for the task in the slot of that index."""
        return f"{self.job}_{index - self.first}" if self.tasks > 1 else self.job


@dataclass(frozen=True)
class Submission:
    """The slots for which one call started workers."""

    name: str
    backend: str
    host: str
    slots: tuple[str, ...]
    jobs: Mapping[str, str] = field(default_factory=dict)
    """Of the local backend: slot -> submitit's job id."""
    arrays: tuple[JobArray, ...] = ()
    """Of the Slurm backend."""


def new_submission_name(backend: str) -> str:
    """A name that no other submission has."""
    return f"{backend}-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 1_000_000_000 // 1000:06d}"


def new_submission(backend: str, host: str, indices: list[int]) -> Submission:
    """A submission of workers for the backend's slots of these indices, under a name that no other one has."""
    name = new_submission_name(backend)
    return Submission(name, backend, host, tuple(f"{name}-{index}" for index in indices))


def array_of(submission: Submission, slot: str) -> JobArray | None:
    """The array that holds a slot; None if it was not submitted, or not to Slurm."""
    index = slot_index(slot)
    return next((a for a in submission.arrays if a.first <= index < a.first + a.tasks), None)


def slot_index(slot: str) -> int:
    """The backend's index of a slot."""
    return int(slot.rpartition("-")[2])


def write_submission(execution: ExecutionDir, submission: Submission) -> None:
    """Records a submission."""
    write_whole(execution.submission(submission.name), to_json(dataclasses.asdict(submission)))


def read_submissions(execution: ExecutionDir) -> list[Submission]:
    """All submissions to an execution, the oldest first; one that cannot be read is left out."""
    found = []
    for name in sorted(list_names(execution.jobs)):
        if name.endswith(".json"):
            try:
                data: Any = read_json(execution.jobs / name)
                arrays = tuple(JobArray(**array) for array in data.get("arrays", ()))
                found.append(Submission(**{**data, "slots": tuple(data["slots"]), "arrays": arrays}))
            except (OSError, ValueError, TypeError, KeyError):
                continue
    return found

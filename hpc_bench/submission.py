"""What calls of `submit` started, kept on disk so that any shell on any machine can follow and cancel it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hpc_bench.execution_dir import ExecutionDir
from hpc_bench.files import list_names, read_json, to_json, write_whole

__all__ = ["Submission", "new_submission", "read_submissions", "slot_index", "write_submission"]


@dataclass(frozen=True)
class Submission:
    """The slots for which one call started workers."""

    name: str
    backend: str
    host: str
    slots: tuple[str, ...]
    jobs: Mapping[str, str] = field(default_factory=dict)
    """slot -> the scheduler's job id"""


def new_submission(backend: str, host: str, indices: list[int]) -> Submission:
    """A submission of workers for the backend's slots of these indices, under a name that no other one has."""
    name = f"{backend}-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 1_000_000_000 // 1000:06d}"
    return Submission(name, backend, host, tuple(f"{name}-{index}" for index in indices))


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
                found.append(Submission(**{**data, "slots": tuple(data["slots"])}))
            except (OSError, ValueError, TypeError, KeyError):
                continue
    return found

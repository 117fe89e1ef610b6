"""What a backend is: it starts workers and stops them; all else is read off the disk."""

from __future__ import annotations

import dataclasses
import platform
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hpc_bench.execution_dir import ExecutionDir
from hpc_bench.files import list_names, read_json, to_json, write_whole
from hpc_bench.heartbeat import Worker

__all__ = ["Backend", "Submission", "new_submission_name", "read_submissions", "write_submission"]


@dataclass(frozen=True)
class Submission:
    """What one call of `submit` started; kept on disk so that any shell on any machine can follow and cancel it."""

    name: str
    backend: str
    host: str
    slots: tuple[str, ...]
    jobs: Mapping[str, str] = field(default_factory=dict)
    """slot -> the scheduler's job id"""


class Backend(ABC):
    """Starts workers for an execution."""

    name: str

    @abstractmethod
    def slots(self, bundles: int) -> int:
        """How many workers to start for that many bundles; at least 1."""

    @abstractmethod
    def describe(self, workers: int) -> str:
        """One line for the user: how many workers, and on what."""

    @abstractmethod
    def start(self, execution: ExecutionDir, workers: int, already: int = 0) -> Submission:
        """Starts workers and returns when each is on its way; BackendError if they cannot be started.

        `already`: how many this submission replaces or joins, so that the new ones get the slots after those.
        """

    @abstractmethod
    def cancel(self, execution: ExecutionDir, submission: Submission, workers: Mapping[str, Worker]) -> None:
        """Asks the workers of a submission to release their claims and end; returns at once."""


def new_submission_name(backend: str) -> str:
    """A name that no other submission has."""
    return f"{backend}-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 1_000_000_000 // 1000:06d}"


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


def this_host() -> str:
    """The name under which submissions and heartbeats know this machine."""
    return platform.node()

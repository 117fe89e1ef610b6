"""What a backend is: it starts workers and stops them; all else is read off the disk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from hpc_bench.execution_dir import ExecutionDir
from hpc_bench.heartbeat import Worker
from hpc_bench.submission import Submission

__all__ = ["Backend"]


class Backend(ABC):
    """Starts workers for an execution, each in a slot of its own; a slot is known by its index."""

    name: str
    size: int
    """How many slots there are."""

    @abstractmethod
    def describe(self, workers: int) -> str:
        """One line for the user: how many workers, and on what."""

    @abstractmethod
    def free_slots(self, workers: Mapping[str, Worker]) -> list[int]:
        """The indices of the slots that none of the living `workers`, of whatever submission, sits on."""

    @abstractmethod
    def prepare(self, execution: ExecutionDir, indices: list[int]) -> Submission:
        """Records a submission of workers for these slots, before the first of them starts."""

    @abstractmethod
    def launch(self, execution: ExecutionDir, submission: Submission) -> None:
        """Starts its workers; an interrupt is raised when all are on their way. BackendError if they cannot be."""

    @abstractmethod
    def cancel(self, execution: ExecutionDir, submission: Submission, workers: Mapping[str, Worker]) -> None:
        """Asks the workers of a submission to release their claims and end; returns at once."""

    @abstractmethod
    def alive(self, execution: ExecutionDir, submission: Submission) -> bool:
        """Whether a job of the submission still runs, as far as can be told from here."""

    @abstractmethod
    def kill(self, execution: ExecutionDir, submission: Submission) -> None:
        """Ends all jobs of a submission at once, with all their processes."""

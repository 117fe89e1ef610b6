"""What a backend is: it starts workers and stops them; all else is read off the disk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.header import Header
from hpc_bench.execution.heartbeat import Worker
from hpc_bench.execution.stub import Stub
from hpc_bench.execution.submission import Submission

__all__ = ["Backend", "GuardedBackend"]


class Backend(ABC):
    """Starts workers for an execution, each in a slot of its own; they outlive the process that starts them."""

    name: str
    size: int
    """How many slots there are."""

    @abstractmethod
    def describe(self, header: Header, stubs: Sequence[Stub]) -> str:
        """One line for the user: how many workers would run these stubs, and on what."""

    @abstractmethod
    def check(self, base: Path, header: Header, stubs: Sequence[Stub]) -> None:
        """BackendError if workers for these stubs, with results below `base`, cannot be started; writes nothing."""

    def scripts(self, folder: Path, header: Header, stubs: Sequence[Stub]) -> list[tuple[str, str]]:  # noqa: ARG002
        """(title, text) of what a scheduler would be given for these stubs of the execution in `folder`."""
        return []

    @abstractmethod
    def start(self, execution: ExecutionDir, header: Header, stubs: Sequence[Stub]) -> list[str]:
        """Starts the workers that these stubs can use beside those that live; returns a line for each thing done.

        The submission is on disk when a worker starts. BackendError if they cannot be started.
        """

    @abstractmethod
    def cancel(self, execution: ExecutionDir, submissions: Sequence[Submission], workers: Mapping[str, Worker]) -> None:
        """Asks the workers of submissions to release their claims and end; returns at once."""


class GuardedBackend(Backend):
    """A backend whose workers `submit` looks after, unless told otherwise: replaces those that die, and takes all with
    it on Ctrl-C. A slot is known by its index.
    """

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
    def alive(self, execution: ExecutionDir, submission: Submission) -> bool:
        """Whether a job of the submission still runs, as far as can be told from here."""

    @abstractmethod
    def kill(self, execution: ExecutionDir, submission: Submission) -> None:
        """Ends all jobs of a submission at once, with all their processes."""

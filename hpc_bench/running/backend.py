"""What a backend is: it starts workers and stops them; all else is read off the disk."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from hpc_bench.errors import BackendError, unknown_name
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.header import Header
from hpc_bench.execution.heartbeat import Worker
from hpc_bench.execution.stub import Stub
from hpc_bench.execution.submission import Submission
from hpc_bench.execution.view import ExecutionView
from hpc_bench.running import BACKENDS
from hpc_bench.running.status import Status
from hpc_bench.sweep.sweep import Sweep

__all__ = ["Backend", "Say", "Show", "backend_class"]

Show = Callable[[ExecutionView, Status], None]
"""Shows a user where an execution stands."""
Say = Callable[[str], None]
"""Shows a user a line."""


class Backend(ABC):
    """Starts workers for an execution, each in a slot of its own; they outlive the process that starts them."""

    name: ClassVar[str]
    """In `BACKENDS`."""
    waits: ClassVar[bool]
    """Whether `submit` stays until the work is done, unless it is told otherwise."""
    size: int
    """How many slots there are."""

    @classmethod
    @abstractmethod
    def of_sweep(cls, sweep: Sweep, gpus: str | None) -> Backend:
        """The backend with a sweep's settings; `gpus`: the value of --gpus. BackendError if they cannot be used."""

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
    def attend(self, execution: ExecutionDir, header: Header, stubs: Sequence[Stub], show: Show, say: Say) -> str:
        """Starts workers and stays with them until every stub ended, or nobody is left who could end it; returns what
        an interrupt of the user (Ctrl-C, SIGTERM) has left, in words, and nothing if there was none.
        """

    @classmethod
    @abstractmethod
    def cancel(cls, execution: ExecutionDir, submissions: Sequence[Submission], workers: Mapping[str, Worker]) -> None:
        """Asks the workers of submissions to release their claims and end; returns at once."""


def backend_class(name: str) -> type[Backend]:
    """The backend of a name; BackendError lists the valid ones."""
    if name not in BACKENDS:
        raise BackendError(unknown_name("backend", name, BACKENDS))
    module, _, attribute = BACKENDS[name].partition(":")
    found: Any = getattr(importlib.import_module(module), attribute)
    return found  # type: ignore[no-any-return]

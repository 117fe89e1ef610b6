"""The one place through which workers and engines read the shared filesystem: errors that pass are waited out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from hpc_bench.errors import ExecutionError
from hpc_bench.files import may_pass

__all__ = ["PatientLook"]

T = TypeVar("T")
PAUSE_S = 0.5


class PatientLook:
    """Reads again for up to `patience_s` where a network filesystem fails in a way that passes."""

    def __init__(self, patience_s: float = 60.0) -> None:
        self.patience_s = patience_s
        self.meanwhile: Callable[[], None] = lambda: None
        """Called between two readings; a worker says there that it lives."""
        self.is_stopped: Callable[[], bool] = lambda: False
        """Whether nobody waits for the next reading any more."""

    def at(self, read: Callable[[], T]) -> T:
        """What `read` returns; its last error where it has failed for too long, or in a way that does not pass."""
        deadline = time.monotonic() + self.patience_s
        while True:
            try:
                return read()
            except (OSError, ExecutionError) as error:
                if not _may_pass(error) or time.monotonic() > deadline or self.is_stopped():
                    raise
            self.meanwhile()
            time.sleep(PAUSE_S)


def _may_pass(error: BaseException | None) -> bool:
    if isinstance(error, ExecutionError):
        return may_pass(error.__cause__)
    return may_pass(error)

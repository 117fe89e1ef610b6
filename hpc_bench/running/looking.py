"""The one place through which workers and engines use the shared filesystem: errors that pass are waited out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from hpc_bench.errors import ExecutionError
from hpc_bench.files import may_pass

__all__ = ["PatientLook"]

T = TypeVar("T")
PAUSE_S = 0.5
LAST_WORDS_S = 5.0
"""Whoever is told to stop is killed a little later."""


class PatientLook:
    """Tries again for up to `patience_s` where a network filesystem or a full disk fails in a way that passes."""

    def __init__(self, patience_s: float = 60.0) -> None:
        self.patience_s = patience_s
        self.meanwhile: Callable[[], None] = lambda: None
        """Called between two tries; a worker says there that it lives."""
        self.is_stopped: Callable[[], bool] = lambda: False
        """Whether this process must end; then only a few seconds are left for all that follows."""
        self._latest = float("inf")

    def at(self, read: Callable[[], T]) -> T:
        """What `read` returns; its last error where it has failed for too long, or in a way that does not pass."""
        deadline = time.monotonic() + self.patience_s
        while True:
            try:
                return read()
            except (OSError, ExecutionError) as error:
                if not may_pass(error) or min(deadline, self._end_of_time()) <= time.monotonic():
                    raise
            self.meanwhile()
            time.sleep(PAUSE_S)

    def _end_of_time(self) -> float:
        if self.is_stopped():
            self._latest = min(self._latest, time.monotonic() + LAST_WORDS_S)
        return self._latest

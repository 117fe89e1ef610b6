"""A worker's heartbeat: written again and again, and a filesystem that fails for a while is borne."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.heartbeat import Heartbeat, write_heartbeat
from hpc_bench.running import gpus

__all__ = ["BadDeviceError", "BrokenSlotError", "Pulse"]


class BrokenSlotError(Exception):
    """The slot itself does not work: no stub is to blame, and no other would fare better in it."""


class BadDeviceError(BrokenSlotError):
    """The device of this node does not work."""


class Pulse:
    """Says what a worker is at, as often as its readers need and its filesystem bears."""

    def __init__(self, execution: ExecutionDir, beat: Heartbeat, every_s: float, lease_s: float) -> None:
        self.beat = beat
        self.engine_memory_gb: Callable[[], float | None] = lambda: None
        """Asked for where the device does not tell."""
        self._execution = execution
        self._every_s = every_s
        self._lease_s = lease_s
        self._next = 0.0
        self._written = time.monotonic()

    def note(self, **changes: Any) -> None:
        """Changes what will be said next time."""
        self.beat = replace(self.beat, **changes)

    def say(self, *, force: bool = False, **changes: Any) -> None:
        """Rewrites the heartbeat, unless that was done a moment ago and is not forced."""
        self.note(**changes)
        now = time.monotonic()
        if force or now >= self._next:
            memory = gpus.used_memory_gb(self.beat.gpus) if self.beat.gpus else None
            if memory is None:
                memory = self.engine_memory_gb()
            self.note(memory_gb=memory and round(memory, 2))
            self._next = now + self._every_s
            self._write(now)

    def _write(self, now: float) -> None:
        """BrokenSlotError before others may take this worker for dead."""
        try:
            write_heartbeat(self._execution, self.beat)
            self._written = now
        except OSError as error:
            if now - self._written > self._lease_s / 2:
                raise BrokenSlotError(f"no heartbeat could be written for {self._lease_s / 2:g} s: {error}") from error

"""Stays with workers that look after themselves: shows how it goes, and submits again where all are gone."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.view import ExecutionView
from hpc_bench.running.backend import Say, Show
from hpc_bench.running.looking import PatientLook
from hpc_bench.running.status import StatusReader, silent_jobs

__all__ = ["MOST_RESTARTS", "POLL_S", "follow", "pause", "terminate_as_interrupt"]

POLL_S, READING_SHARE = 0.5, 0.1
MOST_RESTARTS = 2


def follow(execution: ExecutionDir, restart: Callable[[ExecutionView], list[str]], show: Show, say: Say) -> None:
    """Shows the status until all stubs ended, or no worker is left or to come; where all are gone, says so and starts
    new ones twice at most, unless jobs never came to work. `restart`: does so, and returns a line for each thing done.
    """
    reader, spare = StatusReader(execution), MOST_RESTARTS
    look = PatientLook(reader.view.manifest.header.limits.lease_s / 2)
    while True:
        started = time.monotonic()
        status = look.at(reader.read)
        show(reader.view, status)
        if status.is_over:
            return
        if not status.is_busy:
            if not spare or silent_jobs(reader.view, status):
                return
            broken = {worker.heartbeat.reason for worker in status.workers if worker.heartbeat.state == "broken"}
            say(f"no worker is left{': ' * bool(broken)}{'; '.join(sorted(broken))}; submitting again")
            spare -= 1
            for line in restart(reader.view):
                say(line)
        pause(started)


def pause(started: float) -> None:
    """Waits before the next look, longer where the last one, begun at `started`, took long."""
    time.sleep(max(POLL_S, (time.monotonic() - started) / READING_SHARE))


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a waiting submit as Ctrl-C does; signals can be set in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)

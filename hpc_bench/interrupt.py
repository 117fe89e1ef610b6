"""Ctrl-C while waiting: once has the workers release their claims and end, twice ends them at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from hpc_bench.backends.local import signal_workers
from hpc_bench.status import Status, StatusReader
from hpc_bench.submit import POLL_S, Started, wait_for_end

__all__ = ["interruptible_wait"]

GRACE_S = 10.0


def interruptible_wait(started: Started, show: Callable[[StatusReader, Status], None]) -> bool:
    """Waits for the end; True if the user interrupted, and then no worker of this submission is left."""
    previous = signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        wait_for_end(started, show)
    except KeyboardInterrupt:
        _stop(started)
        return True
    finally:
        signal.signal(signal.SIGTERM, previous)
    return False


def _as_interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _stop(started: Started) -> None:
    reader = StatusReader(started.execution)
    try:
        reader.read()
        for submission in started.submissions:
            started.backend.cancel(started.execution, submission, reader.board.workers)
        deadline = time.monotonic() + GRACE_S
        while _ours_alive(started, reader) and time.monotonic() < deadline:
            time.sleep(POLL_S / 5)
    except KeyboardInterrupt:
        pass
    while _ours_alive(started, reader):
        for submission in started.submissions:
            signal_workers(submission, reader.board.workers, signal.SIGKILL)
        time.sleep(POLL_S / 5)


def _ours_alive(started: Started, reader: StatusReader) -> bool:
    reader.board.refresh()
    ours = {submission.name for submission in started.submissions}
    return any(worker.alive and worker.heartbeat.submission in ours for worker in reader.board.workers.values())

"""The engine's ends of its two pipes, and how it is tied to its worker: it ends when its worker does."""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import sys
import threading
import time
import traceback

from hpc_bench.execution.credentials import redact
from hpc_bench.files import encodable, escape_unencodable_output
from hpc_bench.running.engine.events import Answered, Answering, Cause, Event, Prefilling, Progress, write_event
from hpc_bench.running.engine.process import FOR_WORKERS

__all__ = ["Events", "cause_of", "die_with_parent", "ignore_signals_for_workers", "read_messages"]

_PR_SET_PDEATHSIG = 1
_FREQUENT = (Answering, Answered, Prefilling, Progress)


class Events:
    """The pipe to the worker, safe from whatever libraries print to standard output, which goes to the engine's log."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
        os.dup2(2, 1)
        escape_unencodable_output()

    def send(self, event: Event) -> None:
        """One event; the worker may be gone, and then this process ends as well."""
        self._file.write(write_event(event) + "\n")
        if not isinstance(event, _FREQUENT):
            said = " ".join(str(value) for value in vars(event).values())
            print(time.strftime("%H:%M:%S"), type(event).__name__, said, flush=True)  # noqa: T201 - the engine's log


def cause_of(error: BaseException, kind: str = "") -> Cause:
    """An error as a failure records it; `kind`: in the place of its class."""
    message, trace = str(error).strip() or repr(error), "".join(traceback.format_exception(error))
    return Cause(kind or type(error).__name__, redact(encodable(message)), redact(encodable(trace)))


def die_with_parent(parent: int) -> None:
    """Has the kernel kill this process when its worker dies, so that its GPU is free before anyone reuses the slot."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def ignore_signals_for_workers() -> None:
    """The worker ends this process when it has released its work; its starter blocked these signals until here."""
    for number in FOR_WORKERS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FOR_WORKERS)


def read_messages() -> queue.SimpleQueue[str]:
    """Bundles from the worker; a thread reads them, so that the end of the pipe ends the engine amid a sample."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return lines

"""The two pipes between an engine and its worker, bundles in and events out; an engine ends when its worker does."""

from __future__ import annotations

import ctypes
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback

from hpc_bench.running.engine.process import FOR_WORKERS
from hpc_bench.values import Json

__all__ = ["Events", "die_with_parent", "ignore_signals_for_workers", "read_messages"]

_PR_SET_PDEATHSIG = 1
_FREQUENT = ("answering", "answered", "prefill", "progress")


class Events:
    """The pipe to the worker, safe from whatever libraries print to standard output."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
        os.dup2(2, 1)

    def send(self, event: str, **fields: Json) -> None:
        """One event; the worker may be gone, and then this process ends as well."""
        self._file.write(json.dumps({"event": event, **fields}) + "\n")
        if event not in _FREQUENT:
            said = " ".join(str(value) for value in fields.values())
            print(time.strftime("%H:%M:%S"), event, said, flush=True)  # noqa: T201 - the engine's log

    def fail(self, event: str, failure: BaseException, **fields: Json) -> None:
        """An event with the error's class, unless `fields` name another kind of failure, its message and traceback."""
        said: dict[str, Json] = {
            "error": type(failure).__name__,
            "message": str(failure).strip() or repr(failure),
            "traceback": "".join(traceback.format_exception(failure)),
        }
        self.send(event, **{**said, **fields})


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

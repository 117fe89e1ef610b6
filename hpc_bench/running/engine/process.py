"""The worker's end of an engine: starts it, talks to it, and tells how it died."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from hpc_bench.execution.schema import dump_as
from hpc_bench.files import own_opener
from hpc_bench.running.engine.events import Event, Work, read_event

__all__ = ["FOR_WORKERS", "EngineProcess"]

FOR_WORKERS = (signal.SIGTERM, signal.SIGUSR2)
"""What Slurm sends to every process of a job, and workers act upon; an engine must outlive its worker's decision."""

_TAIL_BYTES, _TAIL_LINES = 8192, 15


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """A process started in here has them blocked from its first instruction on, until it ignores them itself."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_WORKERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class EngineProcess:
    """A running engine; must be started by the worker's main thread, whose death the kernel makes the engine's."""

    def __init__(self, execution: Path, model: str, environment: Mapping[str, str], log: Path) -> None:
        self.model = model
        self.log = log
        with open(log, "ab", opener=own_opener) as output, _signals_held_back():
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "hpc_bench.running.engine", str(execution), model, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for; tells mypy
        assert self._process.stdout is not None  # noqa: S101
        self._input, self._output = self._process.stdin, self._process.stdout
        os.set_blocking(self._output.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)
        self._rest = b""
        self._closed = False

    def send(self, work: Work) -> None:
        """Hands the engine a bundle; a dead engine is noticed by `is_dead`."""
        with suppress(BrokenPipeError):
            self._input.write(dump_as(Work, work).encode() + b"\n")
            self._input.flush()

    def events(self, timeout_s: float) -> list[Event]:
        """What the engine said, after waiting for at most `timeout_s`."""
        if self._closed:
            return []
        self._selector.select(timeout_s)
        chunk = self._output.read()
        if chunk == b"":
            self._closed = True
        *lines, self._rest = (self._rest + (chunk or b"")).split(b"\n")
        return [read_event(line) for line in lines]

    @property
    def is_dead(self) -> bool:
        """Whether it ended; what it said last may still be in the pipe, which its own children may hold open."""
        return self._process.poll() is not None

    @property
    def death(self) -> str:
        """How it ended, with the signal's name."""
        code = self._process.poll()
        if code is None:
            return "is running"
        if code >= 0:
            return f"exited with code {code}"
        name = signal.Signals(-code).name
        hint = " (the kernel's out-of-memory killer, or kill -9)" if name == "SIGKILL" else ""
        return f"was killed by {name}{hint}"

    def log_tail(self) -> str:
        """The last lines that it printed."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError as error:
            return f"{self.log.name}: cannot be read: {error}"
        return "\n".join(lines[-_TAIL_LINES:])

    def memory_gb(self) -> float | None:
        """Its resident memory; None if it is gone."""
        try:
            return psutil.Process(self._process.pid).memory_info().rss / 2**30
        except psutil.Error:
            return None

    def kill(self) -> None:
        """Ends it and all that it started at once, and waits until its memory and GPU are free."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._selector.close()
        self._output.close()
        with suppress(BrokenPipeError):
            self._input.close()

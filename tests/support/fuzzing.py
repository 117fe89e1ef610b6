"""What fuzz tests share: how many cases there are, how long one may take, and what a command may end in."""

from __future__ import annotations

import os
import resource
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import psutil
from click.testing import Result

__all__ = ["CASES", "CASE_LIMIT_S", "HangError", "limited", "problem_of", "seed_chunks"]

CASES = int(os.environ.get("HPC_BENCH_FUZZ_CASES", "300"))
"""Of each kind; `make fuzz` asks for more."""
CASE_LIMIT_S = 60.0
"""What takes longer hangs: a hundred times of what it takes on a busy machine."""
_MEMORY_BYTES = 2**30
_CHUNK = 75


class HangError(BaseException):
    """A command took too long; no Exception, since commands catch these."""


def seed_chunks() -> list[range]:
    """The seeds of all cases, so that chunks of them can run side by side."""
    return [range(first, min(first + _CHUNK, CASES)) for first in range(0, CASES, _CHUNK)]


@contextmanager
def limited(seconds: float = CASE_LIMIT_S) -> Iterator[None]:
    """HangError if the block takes longer, MemoryError if it takes much memory; for the main thread."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise HangError(f"it takes longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    memory = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + _MEMORY_BYTES, memory[1]))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, memory)
        signal.signal(signal.SIGALRM, before)


def problem_of(result: Result) -> str:
    """What is wrong with what a command ended in; empty if it is a success, or one line with what is wrong."""
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return "".join(traceback.format_exception(result.exception))
    if result.exit_code not in (0, 1, 2):
        return f"exit code {result.exit_code}"
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    if (result.exit_code == 2) != (len(errors) == 1) or len(errors) > 1:
        return f"exit code {result.exit_code} with {len(errors)} lines of errors: {result.stderr}"
    if result.exit_code == 2 and result.stderr.count("\n") != 1:
        return f"more than one line: {result.stderr}"
    return ""

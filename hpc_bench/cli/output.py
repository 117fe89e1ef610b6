"""Standard output that cannot be written, on a full disk or into a closed pipe, ends a command with one line."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from hpc_bench.cli.console import echo_problem

__all__ = ["OutputError", "checked_output"]

_EXIT_CODE = 2


class OutputError(Exception):
    """Standard output cannot be written; no OSError, which a command would take for one of its own files."""


class _Output(io.FileIO):
    """A file that says of its first error that it is that of standard output, and drops what comes behind it: what
    stays in buffers is written at exit, and would fail again.
    """

    _failed = False

    def write(self, data: Any, /) -> int:
        if self._failed:
            return memoryview(data).nbytes
        try:
            return self._written(data)
        except OutputError:
            self._failed = True
            raise

    def _written(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError as error:
            raise OutputError("the reader of the output ended before all of it was written") from error
        except OSError as error:
            raise OutputError(f"standard output cannot be written: {error.strerror}") from error


@contextmanager
def checked_output() -> Iterator[None]:
    """Ends the process with one line and an exit code where what is printed within cannot be written."""
    output = _replaced_output()
    try:
        try:
            yield
        finally:
            if output:
                sys.stdout.flush()
    except OutputError as error:
        with suppress(OSError):
            echo_problem("Error", error)
        sys.exit(_EXIT_CODE)


def _replaced_output() -> bool:
    """Puts the checked file under sys.stdout; False if that is not a file, as in tests and embedded use."""
    try:
        raw = _Output(sys.stdout.fileno(), "wb", closefd=False)
    except (AttributeError, OSError, ValueError):
        return False
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(raw), sys.stdout.encoding, sys.stdout.errors, line_buffering=raw.isatty()
    )
    return True

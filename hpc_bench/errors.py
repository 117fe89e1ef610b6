"""The errors that a user can fix; each is one line that says what is wrong, where, and what to do.

- HpcBenchError
  - SweepError: the sweep file or the arguments are wrong
  - PlanError: the sweep is right, but does not fit what is on disk
  - ExecutionError: an execution folder cannot be read or written
  - BackendError: workers cannot be started or reached
  - PluginError: a benchmark, masker or adapter cannot be used
  - HubError: the hub, or its local cache, does not give what a sweep names
  - DatasetError: the data of a benchmark is missing, or not of its schema
  - TemporaryFolderError: temporary files cannot be written
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

__all__ = [
    "BackendError",
    "DatasetError",
    "ExecutionError",
    "HpcBenchError",
    "HubError",
    "PlanError",
    "PluginError",
    "SweepError",
    "TemporaryFolderError",
    "in_file",
    "unknown_name",
    "within",
]


class HpcBenchError(Exception):
    """A mistake or a circumstance that the user can fix; shown as one line, exit code 2."""


class SweepError(HpcBenchError):
    """The sweep file or the arguments are wrong; `path` leads to the key, `file` is the sweep's, if there is one."""

    def __init__(self, message: str, *path: str) -> None:
        super().__init__(message)
        self.path = path
        self.file = ""

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.file, ".".join(self.path), str(self.args[0]))))


class PlanError(HpcBenchError):
    """The sweep is right, but does not fit what is on disk."""


class ExecutionError(HpcBenchError):
    """An execution folder cannot be read or written."""


class BackendError(HpcBenchError):
    """Workers cannot be started or reached."""


class PluginError(HpcBenchError):
    """A benchmark, masker or adapter cannot be used."""


class HubError(HpcBenchError):
    """The hub, or its local cache, does not give what a sweep names."""


class DatasetError(HpcBenchError):
    """The data of a benchmark is missing, or not of its schema, whatever the model; `whole`: no subset's can."""

    def __init__(self, message: str, *, whole: bool = False) -> None:
        super().__init__(message)
        self.whole = whole


class TemporaryFolderError(HpcBenchError, OSError):
    """Temporary files cannot be written; an OSError too, since trying again a moment later may do."""

    def __init__(self, error: OSError, where: str) -> None:
        super().__init__(error.errno, f"{where}: {error.strerror}; set TMPDIR to a folder that has room")

    def __str__(self) -> str:
        return str(self.strerror)


@contextmanager
def within(*keys: str) -> Iterator[None]:
    """Puts `keys` in front of the path of a SweepError, and turns a ValueError into one."""
    try:
        yield
    except SweepError as error:
        error.path = (*keys, *error.path)
        raise
    except ValueError as error:
        raise SweepError(str(error), *keys) from error


@contextmanager
def in_file(file: str) -> Iterator[None]:
    """Names the file in a SweepError."""
    try:
        yield
    except SweepError as error:
        error.file = file
        raise


def unknown_name(what: str, name: object, valid: Iterable[str]) -> str:
    """The clause of an error that names a wrong name, the nearest valid one, and all valid ones."""
    names = list(dict.fromkeys(valid))
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {str(name)!r}{hint} (valid: {', '.join(names)})"

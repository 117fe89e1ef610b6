"""A claim is the right to one attempt at one stub; an outcome says how an attempt ended that gave no result."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hpc_bench.errors import ExecutionError
from hpc_bench.execution.credentials import redact
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.schema import InnerPath, dump_as, read_as
from hpc_bench.execution.stub import Stub
from hpc_bench.files import create_exclusive, may_pass

__all__ = ["Claim", "ClaimFile", "Outcome", "PhaseName", "read_outcome", "write_outcome"]

PhaseName = Literal["", "loading", "waiting", "answering"]


@dataclass(frozen=True)
class Claim:
    """The right to one attempt at one stub."""

    stub: Stub
    attempt: int
    bundle: str = ""
    """Names the bundle that it was claimed with; empty in claims of earlier versions."""


@dataclass(frozen=True)
class ClaimFile:
    """What stands in a claim's file."""

    worker: str
    time: float = 0.0
    """By its worker's clock."""
    stub: str = ""
    """The stub's title."""
    bundle: str = ""


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended that gave no result."""

    state: Literal["failed", "released"]
    """failed: charged to the stub, and counted towards max_attempts; released: given back, and not counted"""
    error: str
    """The class of the error, such as OutOfMemoryError; WorkerLost where nobody was left to say."""
    message: str
    traceback: str = ""
    attempt: int = 0
    worker: str = ""
    host: str = ""
    log: InnerPath = ""
    seconds: float = 0.0
    phase: PhaseName = ""
    """What its engine was at: loading the model, answering this stub, or others of the bundle while this one waited;
    empty where that is not known, as in outcomes of earlier versions.
    """
    gained: int = 0
    """New samples that the whole bundle had by then."""
    death: bool = False
    """Whether the death of the engine or the worker ended it."""


def write_outcome(execution: ExecutionDir, claim: Claim, outcome: Outcome) -> None:
    """Records how an attempt ended, without the secrets that an error may quote; the first word stands."""
    path = execution.outcome(claim.stub.key, claim.attempt)
    said, traceback = redact(outcome.message), redact(outcome.traceback)
    recorded = dataclasses.replace(outcome, attempt=claim.attempt, message=said, traceback=traceback)
    create_exclusive(path, dump_as(Outcome, recorded))


def read_outcome(path: Path) -> Outcome:
    """An outcome; one that cannot be read is a failure that says so, but for errors of a filesystem that pass:
    ExecutionError.
    """
    try:
        return read_as(Outcome, path)
    except (OSError, ValueError) as error:
        if may_pass(error):
            raise ExecutionError(f"{path}: cannot be read: {error}; try again") from error
        return Outcome("failed", "CorruptOutcome", f"{path}: {error}")

"""The general reader of an execution: its manifest, and where each of its stubs stands; from the disk alone."""

from __future__ import annotations

from dataclasses import dataclass

from hpc_bench.errors import ExecutionError
from hpc_bench.execution.attempts.board import Board, State, StubState
from hpc_bench.execution.attempts.claims import Outcome
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.manifest import read_manifest
from hpc_bench.execution.stub import Stub
from hpc_bench.files import may_pass

__all__ = ["ExecutionView", "Failure"]


@dataclass(frozen=True)
class Failure:
    """Why stubs failed, once for all that failed alike."""

    reason: str
    """The kind of failure and its message."""
    titles: tuple[str, ...]

    @property
    def summary(self) -> str:
        """On one line."""
        more = f" and {len(self.titles) - 1} more" if len(self.titles) > 1 else ""
        return f"{self.titles[0]}{more}: {self.reason}"


class ExecutionView:
    """Looks at an execution again and again, reading only what can have changed."""

    def __init__(self, execution: ExecutionDir) -> None:
        self.execution = execution
        self.manifest = read_manifest(execution)
        self.board = Board(execution, self.manifest.header)
        self._stubs = {stub.key: stub for stub in self.manifest.stubs}

    def refresh(self) -> None:
        """Looks again; the questions below are answered from the last look."""
        self.board.refresh()

    def stub(self, key: str) -> Stub | None:
        """The stub with a key."""
        return self._stubs.get(key)

    def state(self, stub: Stub) -> StubState:
        """Where a stub stands."""
        return self.board.state(stub)

    def by_state(self) -> dict[State, list[Stub]]:
        """The stubs in each state; those whose claims are corrupt have failed, until somebody deletes the claims."""
        found: dict[State, list[Stub]] = {"complete": [], "failed": [], "running": [], "pending": []}
        for stub in self.manifest.stubs:
            found["failed" if self._damage(stub) else self.board.state(stub).state].append(stub)
        return found

    def stubs_in(self, state: State) -> list[Stub]:
        """The stubs in one state."""
        return self.by_state()[state]

    def last_outcome(self, stub: Stub) -> Outcome | None:
        """How the stub's last attempt ended, if it ended without a result."""
        if damage := self._damage(stub):
            return Outcome("failed", "CorruptClaim", damage)
        state = self.board.state(stub)
        if state.state not in ("failed", "pending") or not state.attempt:
            return None
        return self.board.outcome(stub.key, state.attempt)

    def _damage(self, stub: Stub) -> str:
        """What is wrong with the stub's claims; empty if nothing is."""
        try:
            self.board.state(stub)
        except ExecutionError as error:
            if may_pass(error):
                raise
            return str(error)
        return ""

    def failures(self) -> list[Failure]:
        """What the failed stubs failed of."""
        alike: dict[str, list[str]] = {}
        for stub in self.stubs_in("failed"):
            outcome = self.last_outcome(stub)
            alike.setdefault(f"{outcome.error}: {outcome.message}" if outcome else ": ", []).append(stub.title)
        return [Failure(reason, tuple(titles)) for reason, titles in alike.items()]

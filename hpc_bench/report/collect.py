"""From a results folder to a summary: every stub's score or state, checked against its manifest. Disk only."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hpc_bench.errors import ExecutionError
from hpc_bench.execution.attempts.claims import Outcome
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.header import Header
from hpc_bench.execution.results.environment import environment_of, find_differences
from hpc_bench.execution.results.facts import Facts
from hpc_bench.execution.results.result import InvalidResultError, StaleResultError, verify_result
from hpc_bench.execution.results.scoring_versions import advise_rescoring, present_versions
from hpc_bench.execution.stub import Stub
from hpc_bench.execution.view import ExecutionView
from hpc_bench.report.averages import Average, Group, average_cells, find_groups
from hpc_bench.report.cell import Cell
from hpc_bench.report.comparison import Comparison, choose_baseline, compare_cells

__all__ = ["Summary", "collect_execution", "read_cell"]


@dataclass(frozen=True)
class Summary:
    """Everything that an execution has come to."""

    execution: ExecutionDir
    header: Header
    cells: tuple[Cell, ...]
    groups: tuple[Group, ...]
    averages: tuple[Average, ...]
    comparison: Comparison
    notes: tuple[str, ...] = ()
    """What to say of the scores, the averages and the comparison."""

    @property
    def counts(self) -> dict[str, int]:
        """State -> stubs, for the states that occur, complete ones first."""
        counts = Counter(cell.state for cell in self.cells)
        order = ("complete", "running", "pending", "failed", "stale", "invalid")
        return {state: counts[state] for state in order if counts[state] or state == "complete"}

    @property
    def is_complete(self) -> bool:
        """Whether every stub has a valid result."""
        return all(cell.state == "complete" for cell in self.cells)


def collect_execution(execution: ExecutionDir, baseline: str | None = None) -> Summary:
    """Reads and checks every result, and compares with those of a config, which is the sweep's or `dense` unless named.

    A bad result makes its own cell invalid, nothing else; ExecutionError if there is no config of that name.
    """
    view = ExecutionView(execution)
    header = view.manifest.header
    compared_with = choose_baseline(header, baseline)
    view.refresh()
    cells = tuple(read_cell(view, stub) for stub in view.manifest.stubs)
    groups, notes = find_groups(header)
    if not compared_with:
        notes = (*notes, "no config is called dense, so nothing is compared; --baseline CONFIG names one")
    if advice := advise_rescoring(_scored_otherwise(header, cells), execution.path):
        notes = (advice, *notes)
    notes = (*_environment_notes(cells, compared_with), *notes)
    comparison = compare_cells(cells, groups, compared_with)
    return Summary(execution, header, cells, groups, average_cells(cells, groups), comparison, notes)


def _environment_notes(cells: Sequence[Cell], baseline: str) -> list[str]:
    """Where results were made in another environment than the baseline's beside them, or than the first one's."""
    beside: dict[tuple[str, str, str | None], Facts] = {}
    for cell in cells:
        if cell.facts and (cell.stub.attention == baseline or cell.stub.bundle not in beside):
            beside[cell.stub.bundle] = cell.facts
    pairs = (
        (cell.stub.title, environment_of(cell.facts), environment_of(beside[cell.stub.bundle]))
        for cell in cells
        if cell.facts
    )
    return [f"made in another environment than what it is compared with: {d.summary}" for d in find_differences(pairs)]


def _scored_otherwise(header: Header, cells: Sequence[Cell]) -> int:
    """How many results have scores of another version than the installed one, or where none is, than the newest."""
    versions = [(cell.stub.benchmark, cell.facts.scoring_version) for cell in cells if cell.facts]
    newest: dict[str, int] = {}
    for benchmark, version in versions:
        newest[benchmark] = max(newest.get(benchmark, 1), version)
    present = {**newest, **present_versions(header)}
    return sum(version != present[benchmark] for benchmark, version in versions)


def read_cell(view: ExecutionView, stub: Stub) -> Cell:
    """Where a stub stands, its result read and checked; `view` must have been refreshed before."""
    try:
        state = view.state(stub)
    except ExecutionError as error:
        return Cell(stub, "invalid", 0, failure=Outcome("failed", "CorruptClaim", str(error)))
    if state.state == "complete":
        return _read_cell_of(view, stub, state.attempt)
    return Cell(stub, state.state, state.attempt, failure=view.last_outcome(stub))


def _read_cell_of(view: ExecutionView, stub: Stub, attempt: int) -> Cell:
    try:
        result = verify_result(
            view.execution.result(stub.result_path), stub.fingerprint, view.manifest.header.request.asked
        )
    except StaleResultError as error:
        return Cell(stub, "stale", attempt, failure=Outcome("failed", "StaleResult", str(error)))
    except InvalidResultError as error:
        return Cell(stub, "invalid", attempt, failure=Outcome("failed", "InvalidResult", str(error)))
    # The manifest has the identity, and a copy a stub would take most of the memory.
    facts = dataclasses.replace(result.facts, identity={})
    return Cell(
        stub,
        "complete",
        facts.attempt,
        result.metrics.score,
        {name: metric.value for name, metric in result.metrics.metrics.items()},
        result.metrics.by,
        facts,
        samples=result.scores,
    )

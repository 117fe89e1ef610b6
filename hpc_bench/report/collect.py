"""From a results folder to a summary: every stub's score or state, checked against its manifest. Disk only."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc_bench.errors import ExecutionError
from hpc_bench.execution.claims import Outcome
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.header import Header
from hpc_bench.execution.results.replacement import current, version_of
from hpc_bench.execution.results.result import METRICS, RAW_RESULTS, STUB
from hpc_bench.execution.results.sample_scores import read_sample_scores
from hpc_bench.execution.results.scoring_versions import SCORING_VERSION, advise_rescoring, present_versions, scored_by
from hpc_bench.execution.stub import Stub
from hpc_bench.files import file_digest, read_json
from hpc_bench.report.averages import Average, Group, average_cells, find_groups
from hpc_bench.report.cell import Cell
from hpc_bench.report.comparison import Comparison, choose_baseline, compare_cells
from hpc_bench.running.status import StatusReader

__all__ = ["Summary", "collect_execution", "read_cell"]

_READINGS = 5


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
    reader = StatusReader(execution)
    header = reader.manifest.header
    compared_with = choose_baseline(header, baseline)
    reader.board.refresh()
    cells = tuple(read_cell(reader, stub) for stub in reader.manifest.stubs)
    groups, notes = find_groups(header)
    if not compared_with:
        notes = (*notes, "no config is called dense, so nothing is compared; --baseline CONFIG names one")
    if advice := advise_rescoring(_scored_otherwise(header, cells), execution.path):
        notes = (advice, *notes)
    comparison = compare_cells(cells, groups, compared_with)
    return Summary(execution, header, cells, groups, average_cells(cells, groups), comparison, notes)


def _scored_otherwise(header: Header, cells: Sequence[Cell]) -> int:
    """How many results have scores of another version than the installed one, or where none is, than the newest."""
    complete = [cell for cell in cells if cell.state == "complete"]
    newest: dict[str, int] = {}
    for cell in complete:
        newest[cell.stub.benchmark] = max(newest.get(cell.stub.benchmark, 1), scored_by(cell.facts))
    present = {**newest, **present_versions(header)}
    return sum(scored_by(cell.facts) != present[cell.stub.benchmark] for cell in complete)


def read_cell(reader: StatusReader, stub: Stub) -> Cell:
    """Where a stub stands, its result read and checked; `reader.board` must have been read before."""
    try:
        state = reader.state(stub)
    except ExecutionError as error:
        return Cell(stub, "invalid", 0, failure=Outcome("failed", "CorruptClaim", str(error)))
    if state.state == "complete":
        return _read_result(reader.execution, stub, state.attempt)
    return Cell(stub, state.state, state.attempt, failure=reader.last_outcome(stub))


def _read_result(execution: ExecutionDir, stub: Stub, attempt: int) -> Cell:
    """Reads once more what looks bad and was being scored again at that moment."""
    folder = execution.result(stub.result_path)
    for _ in range(_READINGS):
        before = version_of(folder)
        cell = _read_files(folder, stub, attempt)
        if cell.state != "invalid" or version_of(folder) == before:
            break
    return cell


def _read_files(folder: Path, stub: Stub, attempt: int) -> Cell:
    """What stub.json says comes first: once it is a new one, so are all other files."""
    try:
        facts: Any = read_json(current(folder, STUB))
        metrics: Any = read_json(current(folder, METRICS))
        if facts["fingerprint"] != stub.fingerprint:
            reason = f"{folder} was made by another configuration than the manifest's; `plan` names the difference"
            return Cell(stub, "stale", attempt, failure=Outcome("failed", "StaleResult", reason))
        problem = _problem(facts, metrics)
        if not problem:
            samples = read_sample_scores(current(folder, RAW_RESULTS), metrics.get("headline", ""))
            rows = len(samples.ids)
            problem = "" if rows == metrics["samples"] else f"{RAW_RESULTS} has {rows} rows, not {metrics['samples']}"
        if not problem:
            values = {name: _number(metric["value"]) for name, metric in metrics["metrics"].items()}
            by = {name: {part: _number(value) for part, value in of.items()} for name, of in metrics["by"].items()}
            _number(facts["seconds"]), facts["provenance"].items()
            facts.pop("identity", None)  # the manifest has it, and a copy a stub would take most of the memory
            facts[SCORING_VERSION] = int(scored_by(facts))
            problem = _altered(folder, facts["sha256"])
        if not problem:
            return Cell(stub, "complete", facts["attempt"], metrics["score"], values, by, facts, samples=samples)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError, csv.Error) as error:
        problem = f"cannot be read: {type(error).__name__}: {error}"
    advice = f"{folder}: {problem}; move the folder away and submit again"
    return Cell(stub, "invalid", attempt, failure=Outcome("failed", "InvalidResult", advice))


def _altered(folder: Path, digests: Mapping[str, str]) -> str:
    """Which file is not as it was published; empty if none."""
    changed = [name for name, digest in digests.items() if file_digest(current(folder, name)) != digest]
    return f"{changed[0]} is not as it was published" if changed else ""


def _problem(facts: Any, metrics: Any) -> str:
    """What makes a result untrustworthy; empty if nothing does."""
    if metrics["samples"] != facts["samples"]:
        return f"{METRICS} counts {metrics['samples']} samples, {STUB} {facts['samples']}"
    score = metrics["score"]
    if score is not None and (
        isinstance(score, bool) or not isinstance(score, (int, float)) or not math.isfinite(score)
    ):
        return f"{METRICS} holds no number as score: {score!r}"
    if score is not None and not 0 <= score <= 100:
        return f"{METRICS} holds a score outside 0-100: {score!r}"
    return ""


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)

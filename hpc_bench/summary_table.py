"""The summary table: model x attention against benchmark, with what was measured of the attention."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hpc_bench.averages import Group
from hpc_bench.cells import Cell
from hpc_bench.collector import Summary
from hpc_bench.delta_table import print_deltas
from hpc_bench.status import Failure

__all__ = ["print_summary"]

_MOST_COLUMNS = 8
_MOST_FAILURES = 10


def print_summary(console: Console, summary: Summary) -> None:
    """Model x attention against benchmark; a cell without a score shows its state."""
    counts = ", ".join(f"{count} {state}" for state, count in summary.counts.items())
    console.print(f"{summary.execution.path}: {len(summary.cells)} stubs: {counts}")
    cells: dict[tuple[str, str], dict[str, list[Cell]]] = {}
    for cell in summary.cells:
        row = cells.setdefault((cell.stub.model, cell.stub.attention), {})
        row.setdefault(cell.stub.benchmark, []).append(cell)
    columns, incomplete = _columns(summary), False
    measured = _measured_columns(summary)
    table = Table("model", "attention", *measured, *(group.title for group in columns))
    for (model, attention), row in cells.items():
        mine = [cell for group in row.values() for cell in group]
        facts = [_mean_fact(mine, key) for key in measured.values()]
        values = [_value(row.get(group.benchmark, []), group) for group in columns]
        incomplete = incomplete or any("*" in value for value in values)
        table.add_row(Text(model), Text(attention), *(Text(value) for value in (*facts, *values)))
    console.print(table)
    if incomplete:
        console.print("* mean over an incomplete set: n/m says how many of its subsets have a score")
    print_deltas(console, summary)
    for note in summary.notes:
        console.print(note, soft_wrap=True)
    _print_failures(console, summary)


def _print_failures(console: Console, summary: Summary) -> None:
    """Once for all that failed alike."""
    alike: dict[tuple[str, str], list[Cell]] = {}
    for cell in summary.cells:
        if cell.failure and cell.state in ("failed", "stale", "invalid"):
            alike.setdefault((cell.state, cell.reason), []).append(cell)
    for (state, reason), cells in list(alike.items())[:_MOST_FAILURES]:
        log = cells[0].failure.log if cells[0].failure else ""
        said = Failure(reason, tuple(cell.stub.title for cell in cells)).summary
        console.print(f"{state}: {said}" + (f" (log: {summary.execution.path / log})" if log else ""))


def _measured_columns(summary: Summary) -> dict[str, str]:
    """heading -> key of what was measured of the attention; nothing where all of it was dense."""
    wanted = {"density": "density", "error": "attention_error"}
    known = {key: {cell.facts.get(key) for cell in summary.cells} - {None} for key in wanted.values()}
    return {heading: key for heading, key in wanted.items() if known[key] - {1.0}}


def _mean_fact(cells: list[Cell], key: str) -> str:
    values = [cell.facts[key] for cell in cells if cell.facts.get(key) is not None]
    return f"{sum(values) / len(values):.3f}" if values else "-"


def _columns(summary: Summary) -> list[Group]:
    """The averages, and before a benchmark's own its single subsets, where these are few."""
    subsets: dict[str, dict[str, None]] = {}
    for cell in summary.cells:
        subsets.setdefault(cell.stub.benchmark, {})[cell.stub.subset or ""] = None
    few = sum(len(names) for names in subsets.values()) <= _MOST_COLUMNS
    columns: list[Group] = []
    for benchmark, names in subsets.items():
        averages = [group for group in summary.groups if group.benchmark == benchmark]
        if few:
            columns += [Group(benchmark, name, {name: 1.0}) for name in names]
            averages = [group for group in averages if len(group.weights) > 1]
        columns += averages
    return columns


def _value(cells: list[Cell], group: Group) -> str:
    """A score, or the states of the stubs that have none."""
    chosen = {cell.stub.subset or "": cell for cell in cells if (cell.stub.subset or "") in group.weights}
    scores = {subset: cell.score for subset, cell in chosen.items() if cell.score is not None}
    if not chosen:
        return "-"
    if (average := group.average(scores)) is None:
        states = (cell.state if cell.state != "complete" else "not scored" for cell in chosen.values())
        return "/".join(dict.fromkeys(states))
    return f"{average:.2f}" + (f"* {len(scores)}/{group.total}" if len(scores) < group.total else "")

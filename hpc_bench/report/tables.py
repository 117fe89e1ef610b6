"""The summary table: model x attention against benchmark, with what was measured of the attention."""

from __future__ import annotations

from rich.console import Console

from hpc_bench.report.averages import Group
from hpc_bench.report.cell import Cell
from hpc_bench.report.collect import Summary
from hpc_bench.report.delta_table import print_deltas
from hpc_bench.report.summary_columns import choose_columns, print_parts
from hpc_bench.running.status import Failure

__all__ = ["print_summary"]

_MOST_FAILURES = 10


def print_summary(console: Console, summary: Summary) -> None:
    """Model x attention against benchmark; a cell without a score shows its state."""
    counts = ", ".join(f"{count} {state}" for state, count in summary.counts.items())
    console.print(f"{summary.execution.path}: {len(summary.cells)} stubs: {counts}")
    cells: dict[tuple[str, str], dict[str, list[Cell]]] = {}
    for cell in summary.cells:
        row = cells.setdefault((cell.stub.model, cell.stub.attention), {})
        row.setdefault(cell.stub.benchmark, []).append(cell)
    columns, few = choose_columns(summary)
    measured = _measured_columns(summary)
    rows: dict[tuple[str, str], list[str]] = {}
    for key, row in cells.items():
        mine = [cell for group in row.values() for cell in group]
        rows[key] = [_mean_fact(mine, fact) for fact in measured.values()]
        rows[key] += [_value(row.get(group.benchmark, []), group) for group in columns]
    print_parts(console, rows, [*measured, *(group.title for group in columns)])
    if any("*" in value for values in rows.values() for value in values):
        console.print("* mean over an incomplete set: n/m says how many of its subsets have a score")
    if not few:
        console.print(f"single subsets: {summary.execution.summary_csv}", soft_wrap=True)
    print_deltas(console, summary, columns)
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

"""The summary table: model x attention against benchmark, with what was measured of the attention."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hpc_bench.collector import Cell, Summary

__all__ = ["print_summary"]

_MOST_COLUMNS = 8


def print_summary(console: Console, summary: Summary) -> None:
    """Model x attention against benchmark; a cell without a score shows its state."""
    counts = ", ".join(f"{count} {state}" for state, count in summary.counts.items())
    console.print(f"{summary.execution.path}: {len(summary.cells)} stubs: {counts}")
    cells: dict[tuple[str, str], dict[str, list[Cell]]] = {}
    for cell in summary.cells:
        row = cells.setdefault((cell.stub.model, cell.stub.attention), {})
        row.setdefault(cell.stub.benchmark, []).append(cell)
    columns, incomplete = _columns(summary), False
    sizes = {name: len(entry["identities"]) for name, entry in summary.header.benchmarks.items()}
    measured = _measured_columns(summary)
    table = Table("model", "attention", *measured, *(heading for heading, _, _ in columns))
    for (model, attention), row in cells.items():
        mine = [cell for group in row.values() for cell in group]
        facts = [_mean_fact(mine, key) for key in measured.values()]
        values = [_value(row.get(benchmark, []), subset, sizes[benchmark]) for _, benchmark, subset in columns]
        incomplete = incomplete or any("*" in value for value in values)
        table.add_row(Text(model), Text(attention), *(Text(value) for value in (*facts, *values)))
    console.print(table)
    if incomplete:
        console.print("* mean over an incomplete set: n/m says how many of its subsets have a score")
    for cell in [cell for cell in summary.cells if cell.failure and cell.state in ("failed", "stale", "invalid")][:10]:
        log = f" (log: {summary.execution.path / cell.failure.log})" if cell.failure and cell.failure.log else ""
        console.print(f"{cell.state}: {cell.stub.title}: {cell.reason}{log}")


def _measured_columns(summary: Summary) -> dict[str, str]:
    """heading -> key of what was measured of the attention; nothing where all of it was dense."""
    wanted = {"density": "density", "error": "attention_error"}
    known = {key: {cell.facts.get(key) for cell in summary.cells} - {None} for key in wanted.values()}
    return {heading: key for heading, key in wanted.items() if known[key] - {1.0}}


def _mean_fact(cells: list[Cell], key: str) -> str:
    values = [cell.facts[key] for cell in cells if cell.facts.get(key) is not None]
    return f"{sum(values) / len(values):.3f}" if values else "-"


def _columns(summary: Summary) -> list[tuple[str, str, str | None]]:
    """(heading, benchmark, subset); the mean of a benchmark has the subset "*"."""
    subsets: dict[str, dict[str | None, None]] = {}
    for cell in summary.cells:
        subsets.setdefault(cell.stub.benchmark, {})[cell.stub.subset] = None
    few = sum(len(names) for names in subsets.values()) <= _MOST_COLUMNS
    columns: list[tuple[str, str, str | None]] = []
    for benchmark, names in subsets.items():
        if few:
            columns += [(" ".join(filter(None, (benchmark, name))), benchmark, name) for name in names]
        if not few or len(names) > 1:
            columns.append((f"{benchmark} mean" if len(names) > 1 else benchmark, benchmark, "*"))
    return columns


def _value(cells: list[Cell], subset: str | None, size: int) -> str:
    """A score, or the states of the stubs that have none; `size`: how many subsets the benchmark has in the sweep."""
    chosen = [cell for cell in cells if subset in ("*", cell.stub.subset)]
    scores = [cell.score for cell in chosen if cell.score is not None]
    if not chosen:
        return "-"
    total = size if subset == "*" else len(chosen)
    if len(scores) == total:
        return f"{sum(scores) / len(scores):.2f}"
    states = "/".join(
        dict.fromkeys(cell.state if cell.state != "complete" else "not scored" for cell in chosen if cell.score is None)
    )
    return f"{sum(scores) / len(scores):.2f}* {len(scores)}/{total}" if scores else states

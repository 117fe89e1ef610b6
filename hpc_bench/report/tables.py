"""The tables of a summary: model x attention against benchmark, and how far each config is from the baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from hpc_bench.execution.view import Failure
from hpc_bench.report.averages import Group
from hpc_bench.report.cell import Cell
from hpc_bench.report.collect import Summary
from hpc_bench.report.comparison import Delta

__all__ = ["print_summary"]

_MOST_FAILURES = 10
_MOST_COLUMNS = 8
_MOST_NOTES = 5
_HOW_MANY = "n/m says how many of its subsets have a score, of density and error how many of the row's stubs have one"
_BORDERS = 3
"""Characters beside a column's text."""


def print_summary(console: Console, summary: Summary) -> None:
    """Model x attention against benchmark; a cell without a score shows its state."""
    counts = ", ".join(f"{count} {state}" for state, count in summary.counts.items())
    console.print(f"{summary.execution.path}: {len(summary.cells)} stubs: {counts}")
    cells: dict[tuple[str, str], dict[str, list[Cell]]] = {}
    for cell in summary.cells:
        row = cells.setdefault((cell.stub.model, cell.stub.attention), {})
        row.setdefault(cell.stub.benchmark, []).append(cell)
    columns, few = _choose_columns(summary)
    measured = _measured_columns(summary)
    rows: dict[tuple[str, str], list[str]] = {}
    for key, row in cells.items():
        mine = [cell for group in row.values() for cell in group]
        rows[key] = [_mean_fact(mine, fact) for fact in measured.values()]
        rows[key] += [_value(row.get(group.benchmark, []), group) for group in columns]
    _print_parts(console, rows, [*measured, *(group.title for group in columns)])
    if any("*" in value for values in rows.values() for value in values):
        console.print(f"* mean over an incomplete set: {_HOW_MANY}", soft_wrap=True)
    if not few:
        console.print(f"single subsets: {summary.execution.summary_csv}", soft_wrap=True)
    _print_deltas(console, summary, columns)
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
    known = {key: {cell.fact(key) for cell in summary.cells} - {None} for key in wanted.values()}
    return {heading: key for heading, key in wanted.items() if known[key] - {1.0}}


def _mean_fact(cells: list[Cell], key: str) -> str:
    values = [cell.fact(key) for cell in cells if cell.fact(key) is not None]
    return f"{sum(values) / len(values):.3f}{_incomplete(len(values), len(cells))}" if values else "-"


def _incomplete(known: int, total: int) -> str:
    """The mark of a mean over fewer than all."""
    return f"* {known}/{total}" if known < total else ""


def _value(cells: list[Cell], group: Group) -> str:
    """A score, or the states of the stubs that have none."""
    chosen = {cell.stub.subset or "": cell for cell in cells if (cell.stub.subset or "") in group.weights}
    scores = {subset: cell.score for subset, cell in chosen.items() if cell.score is not None}
    if not chosen:
        return "-"
    if (average := group.average(scores)) is None:
        states = (cell.state if cell.state != "complete" else "not scored" for cell in chosen.values())
        return "/".join(dict.fromkeys(states))
    return f"{average:.2f}{_incomplete(len(scores), group.total)}"


def _choose_columns(summary: Summary) -> tuple[list[Group], bool]:
    """The averages, and before a benchmark's own its single subsets, where these are few; whether they are."""
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
    return columns, few


def _print_parts(
    console: Console, rows: Mapping[tuple[str, str], Sequence[str]], headings: Sequence[str], title: str = ""
) -> None:
    """Model x attention config against `headings`, in so many tables that none is wider than the console."""
    names = [max(map(cell_len, column)) for column in zip(("model", "attention"), *rows, strict=True)]
    widths = [max(map(cell_len, column)) for column in zip(headings, *rows.values(), strict=True)]
    room = console.width - sum(names) - _BORDERS * len(names) - 1
    for part in _parts([width + _BORDERS for width in widths], room):
        table = Table(title=title or None, title_justify="left")
        for heading in ("model", "attention", *headings[part]):
            table.add_column(heading, overflow="fold")
        for row, values in rows.items():
            table.add_row(*row, *values[part])
        console.print(table)


def _parts(widths: Sequence[int], room: int) -> Iterator[slice]:
    """Runs of columns that fit into the room together; a column that does not fit at all is one of its own."""
    start = 0
    for place in range(1, len(widths) + 1):
        if place == len(widths) or sum(widths[start : place + 1]) > room:
            yield slice(start, place)
            start = place


def _print_deltas(console: Console, summary: Summary, columns: Sequence[Group]) -> None:
    """The differences of what the columns are, and what to know of them; nothing without differences."""
    known = _known(summary)
    found = {row: [known.get((*row, _column(group))) for group in columns] for row in _rows(summary)}
    deltas = [delta for row in found.values() for delta in row if delta]
    if not deltas:
        return
    rows = {
        row: [_difference(delta, group) for delta, group in zip(mine, columns, strict=True)]
        for row, mine in found.items()
    }
    title = f"difference to {summary.comparison.baseline}, with its 95 % interval"
    _print_parts(console, rows, [group.title for group in columns], title)
    if any(delta.is_significant for delta in deltas):
        console.print("* the interval excludes 0 (paired bootstrap over samples)")
    _print_notes(console, [(group, mine[place]) for mine in found.values() for place, group in enumerate(columns)])


def _rows(summary: Summary) -> dict[tuple[str, str], None]:
    """The models under the configs that are compared."""
    stubs = (cell.stub for cell in summary.cells)
    return {(stub.model, stub.attention): None for stub in stubs if stub.attention != summary.comparison.baseline}


def _column(group: Group) -> tuple[str, str, bool]:
    """What tells columns apart, an average and a subset of its name included."""
    return (group.benchmark, next(iter(group.weights)) if group.total == 1 else group.name, group.total == 1)


def _known(summary: Summary) -> dict[tuple[str, str, tuple[str, str, bool]], Delta]:
    """Model, attention config and column -> its difference."""
    comparison = summary.comparison
    stubs = (cell.stub for cell in summary.cells if cell.stub.key in comparison.stubs)
    known = {
        (stub.model, stub.attention, (stub.benchmark, stub.subset or "", True)): comparison.stubs[stub.key]
        for stub in stubs
    }
    for (model, attention, benchmark, name), delta in comparison.averages.items():
        known[model, attention, (benchmark, name, False)] = delta
    return known


def _difference(delta: Delta | None, group: Group) -> str:
    """The difference, its interval, a mark where that excludes 0, and how many subsets it is of where not of all."""
    if delta is None or delta.value is None:
        return "-"
    parts = [f"{delta.value:+.2f}"]
    parts += [f"[{delta.low:.2f}, {delta.high:.2f}]"] if delta.low is not None else ["[no interval]"]
    parts += ["*"] if delta.is_significant else []
    parts += [f"{delta.subsets}/{group.total}"] if delta.subsets < group.total else []
    return " ".join(parts)


def _print_notes(console: Console, columns: Sequence[tuple[Group, Delta | None]]) -> None:
    """The reasons, each once with how many differences it is about."""
    notes = Counter(f"{group.title}: {delta.note}" for group, delta in columns if delta and delta.note)
    for note, count in notes.most_common(_MOST_NOTES):
        console.print(f"{note} ({count} difference{'s' * (count > 1)})", soft_wrap=True)
    if len(notes) > _MOST_NOTES:
        console.print(f"... and {len(notes) - _MOST_NOTES} more; summary.csv has all as delta_note")

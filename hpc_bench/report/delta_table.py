"""How far each model x attention config is from the baseline, as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console

from hpc_bench.report.averages import Group
from hpc_bench.report.collect import Summary
from hpc_bench.report.comparison import Delta
from hpc_bench.report.summary_columns import print_parts

__all__ = ["print_deltas"]

_MOST_NOTES = 5


def print_deltas(console: Console, summary: Summary, columns: Sequence[Group]) -> None:
    """The differences of what the columns are, and what to know of them; nothing without differences."""
    known = _known(summary)
    found = {row: [known.get((*row, _column(group))) for group in columns] for row in _rows(summary)}
    deltas = [delta for row in found.values() for delta in row if delta]
    if not deltas:
        return
    rows = {
        row: [_value(delta, group) for delta, group in zip(mine, columns, strict=True)] for row, mine in found.items()
    }
    title = f"difference to {summary.comparison.baseline}, with its 95 % interval"
    print_parts(console, rows, [group.title for group in columns], title)
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


def _value(delta: Delta | None, group: Group) -> str:
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

"""How far each model x attention config is from the baseline, average by average, as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hpc_bench.averages import Group
from hpc_bench.collector import Summary
from hpc_bench.comparison import Delta

__all__ = ["print_deltas"]

_WIDTH = len("-100.00 [-100.00, -100.00] * 10/13 | ")
_MOST_NOTES = 5


def print_deltas(console: Console, summary: Summary) -> None:
    """Tables of as many averages as fit beside each other, and what to know of them; nothing without differences."""
    deltas = summary.comparison.averages
    if not deltas:
        return
    groups = [group for group in summary.groups if any(key[2:] == (group.benchmark, group.name) for key in deltas)]
    rows = list(dict.fromkeys(key[:2] for key in deltas))
    names = max(len(model) + len(attention) for model, attention in rows) + 8
    each = max(1, (console.width - names) // _WIDTH)
    title = f"difference to {summary.comparison.baseline}, with its 95 % interval"
    for start in range(0, len(groups), each):
        console.print(_table(title, summary, rows, groups[start : start + each]))
    if any(delta.is_significant for delta in deltas.values()):
        console.print("* the interval excludes 0 (paired bootstrap over samples)")
    _print_notes(console, summary)


def _table(title: str, summary: Summary, rows: Sequence[tuple[str, str]], groups: Sequence[Group]) -> Table:
    table = Table("model", "attention", title=Text(title), title_justify="left")
    for group in groups:
        table.add_column(Text(group.title), no_wrap=True)
    for model, attention in rows:
        found = (summary.comparison.averages.get((model, attention, group.benchmark, group.name)) for group in groups)
        values = (_value(delta, group) for delta, group in zip(found, groups, strict=True))
        table.add_row(Text(model), Text(attention), *(Text(value) for value in values))
    return table


def _value(delta: Delta | None, group: Group) -> str:
    """The difference, its interval, a mark where that excludes 0, and how many subsets it is of where not of all."""
    if delta is None or delta.value is None:
        return "-"
    parts = [f"{delta.value:+.2f}"]
    parts += [f"[{delta.low:.2f}, {delta.high:.2f}]"] if delta.low is not None else ["[no interval]"]
    parts += ["*"] if delta.is_significant else []
    parts += [f"{delta.subsets}/{group.total}"] if delta.subsets < group.total else []
    return " ".join(parts)


def _print_notes(console: Console, summary: Summary) -> None:
    """The reasons, each once with how many differences it is about."""
    notes = Counter(_notes(summary))
    for note, count in notes.most_common(_MOST_NOTES):
        console.print(f"{note} ({count} difference{'s' * (count > 1)})", soft_wrap=True)
    if len(notes) > _MOST_NOTES:
        console.print(f"... and {len(notes) - _MOST_NOTES} more; summary.csv has all as delta_note")


def _notes(summary: Summary) -> Iterator[str]:
    titles = {(group.benchmark, group.name): group.title for group in summary.groups}
    for (_, _, benchmark, name), delta in summary.comparison.averages.items():
        if delta.note:
            yield f"{titles[benchmark, name]}: {delta.note}"

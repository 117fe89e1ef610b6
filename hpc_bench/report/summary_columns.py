"""What the tables of a summary have in common: their columns, and as many of them beside each other as fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hpc_bench.report.averages import Group
from hpc_bench.report.collect import Summary

__all__ = ["choose_columns", "print_parts"]

_MOST_COLUMNS = 8
_BORDERS = 3
"""Characters beside a column's text."""


def choose_columns(summary: Summary) -> tuple[list[Group], bool]:
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


def print_parts(
    console: Console, rows: Mapping[tuple[str, str], Sequence[str]], headings: Sequence[str], title: str = ""
) -> None:
    """Model x attention config against `headings`, in so many tables that none is wider than the console."""
    names = [max(map(cell_len, column)) for column in zip(("model", "attention"), *rows, strict=True)]
    widths = [max(map(cell_len, column)) for column in zip(headings, *rows.values(), strict=True)]
    room = console.width - sum(names) - _BORDERS * len(names) - 1
    for part in _parts([width + _BORDERS for width in widths], room):
        table = Table(title=Text(title) if title else None, title_justify="left")
        for heading in ("model", "attention", *headings[part]):
            table.add_column(Text(heading), overflow="fold")
        for row, values in rows.items():
            table.add_row(*map(Text, (*row, *values[part])))
        console.print(table)


def _parts(widths: Sequence[int], room: int) -> Iterator[slice]:
    """Runs of columns that fit into the room together; a column that does not fit at all is one of its own."""
    start = 0
    for place in range(1, len(widths) + 1):
        if place == len(widths) or sum(widths[start : place + 1]) > room:
            yield slice(start, place)
            start = place

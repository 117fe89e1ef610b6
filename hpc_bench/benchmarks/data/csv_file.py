"""The rows of a .csv file, as text alone: nothing in them becomes a number, a date or an index."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["read_csv"]

_LISTS = ("answer", "answers", "all_classes")
"""Columns that may hold lists; a .csv has them as JSON."""
_PYTHON = re.compile(r"\s*(\[['\"]|\{'text')")
"""How a list or SQuAD's mapping begins that pandas wrote without making JSON of it."""
csv.field_size_limit(2**31 - 1)


def read_csv(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row with the line that it begins on, the file's first being 1; ValueError names the line that is wrong."""
    with file.open(encoding="utf-8-sig", newline="") as text:
        records = _records(csv.reader(text, strict=True))
        line, heading = next(records, (1, []))
        for column in heading:
            if heading.count(column) > 1:
                raise ValueError(f"line {line} names the column {column!r} twice")
        for line, fields in records:
            if len(fields) != len(heading):
                raise ValueError(
                    f"line {line} has {len(fields)} fields, and the heading {len(heading)}: "
                    "a text with a comma or a line break in it must stand in double quotes"
                )
            row = dict(zip(heading, fields, strict=True))
            yield line, {column: _value(column, cell, line) for column, cell in row.items()}


def _records(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """The fields of each record that is not blank, with its first line; `reader`: one of `csv.reader`."""
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            said = "a quoted text that never ends" if "end of data" in str(error) else str(error)
            raise ValueError(f"line {line} is no row: {said}; see to its double quotes") from None
        if len(fields) > 1 or "".join(fields).strip():
            yield line, fields


def _value(column: str, cell: str, line: int) -> Any:
    """A text, or the list that it stands for where the column may hold one; None where such a column has nothing."""
    if column not in _LISTS:
        return cell
    if cell.lstrip()[:1] in ("[", "{"):
        with suppress(ValueError, RecursionError):  # a text may begin so, too
            value = json.loads(cell)
            return value if isinstance(value, list) or "answer_start" in value else cell
    if _PYTHON.match(cell):
        raise ValueError(f"line {line}: {column} is {cell[:50]!r}, as Python shows a list; write it as JSON")
    return cell or None

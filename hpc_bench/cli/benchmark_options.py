"""What a benchmark can be told in a sweep: its options, and what local data of its own must look like."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, Field, fields
from itertools import pairwise
from typing import Any

from hpc_bench.benchmarks.base import Benchmark
from hpc_bench.benchmarks.data.local_files import FORMATS
from hpc_bench.benchmarks.data.table import TableBenchmark
from hpc_bench.hub_files import DEFAULT

__all__ = ["data_lines", "option_lines"]

_MOST_NAMES = 4


def option_lines(cls: type[Benchmark]) -> Iterator[str]:
    """A line for each option: its default, and what its class says of it."""
    meanings = _meanings(cls)
    for field in fields(cls):
        yield f"{field.name} ({_default(field)}){': ' if field.name in meanings else ''}{meanings.get(field.name, '')}"


def _default(field: Field[Any]) -> str:
    """As a sweep would have it."""
    if field.default is field.default_factory is MISSING:
        return "needed"
    value = field.default if field.default_factory is MISSING else field.default_factory()
    return f"default {value if isinstance(value, str) else json.dumps(value, default=str)}"


def _meanings(cls: type[Benchmark]) -> Mapping[str, str]:
    """The text under each field, in the class or in one that it derives from, where their source is at hand."""
    meanings: dict[str, str] = {}
    for part in reversed(cls.__mro__):
        with suppress(OSError, SyntaxError, TypeError):
            (made,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
            for pair in pairwise(getattr(made, "body", ())):
                match pair:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                        meanings[name] = " ".join(text.split())
    return meanings


def data_lines(benchmark: Benchmark) -> Iterator[str]:
    """Of a benchmark that reads a data set: the columns, names and formats that `data` must have."""
    if not isinstance(benchmark, TableBenchmark):
        return
    subsets = benchmark.subsets or (None,)
    tables = list(dict.fromkeys(benchmark.configuration(subset) for subset in subsets))
    shared = benchmark.task(subsets[0]) is not None
    columns = [*benchmark.columns, *([benchmark.task_column] if shared else [])]
    yield f"data must have the columns {', '.join(columns)}{', which names the task of a row' if shared else ''}"
    yield _names_line(benchmark, tables, shared=shared)
    formats = ", ".join(FORMATS)
    yield f"a table is a {formats} file, a folder of such files, or one made by save_to_disk ({benchmark.split} split)"


def _names_line(benchmark: TableBenchmark, tables: list[str], *, shared: bool) -> str:
    if tables == [DEFAULT]:
        return f"data is one table, of any name, or a folder with {DEFAULT}.jsonl"
    more = f", ... ({len(tables)} in all)" if len(tables) > _MOST_NAMES else ""
    names = ", ".join(f"{table}.jsonl" for table in tables[:_MOST_NAMES]) + more
    if shared:
        return f"data is a folder of tables that several subsets share each: {names}"
    return f"data is a folder with {names}, or one table whose column {benchmark.task_column} names the subset of a row"

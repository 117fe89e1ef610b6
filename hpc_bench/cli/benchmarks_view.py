"""What `hpc-bench benchmarks list` shows: the benchmarks of the catalog; or the subsets, options and data of one."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

from rich.console import Console
from rich.table import Table

from hpc_bench import catalog
from hpc_bench.benchmarks.base import Benchmark
from hpc_bench.benchmarks.data.local_files import FORMATS
from hpc_bench.benchmarks.data.table import TableBenchmark
from hpc_bench.cli.console import echo_problem
from hpc_bench.cli.options_view import option_lines, print_list
from hpc_bench.errors import HpcBenchError, HubError, PluginError
from hpc_bench.hub import find_cached
from hpc_bench.hub_files import DEFAULT
from hpc_bench.values import HubRepo

__all__ = ["print_benchmark", "print_benchmarks"]

_NO_HUB = "none on a hub"
_MOST_NAMES = 4


def print_benchmarks(console: Console) -> None:
    """One row a benchmark, those of installed packages too; one that is broken is named in a warning."""
    table = Table("benchmark", "subsets", "headline", "data", "answer prefix", "meaning")
    for name in catalog.names("benchmark"):
        try:
            table.add_row(*_benchmark_row(name))
        except HpcBenchError as error:  # a broken plug-in hides no other benchmark
            echo_problem("Warning", error)
    console.print(table)


def print_benchmark(console: Console, name: str) -> None:
    """One row a subset, the benchmark's whole description, its options, and the local data that it takes."""
    cls = _find(name)
    about_data: list[str] = []
    if needed := _needed_options(cls):
        console.print(f"{name} needs the options {', '.join(needed)}, and all else follows from them.")
    else:
        with _blamed(name):
            benchmark: Benchmark = catalog.build("benchmark", name, {})
            console.print(_subsets_table(benchmark))
            about_data = list(_data_lines(benchmark))
    console.print(f"\n{name}: {inspect.cleandoc(cls.__doc__ or '')}")
    print_list(console, "options beside `subsets`", option_lines(cls))
    print_list(console, "local data, in place of the hub's", about_data)


def _find(name: str) -> type[Benchmark]:
    cls = catalog.resolve("benchmark", name)
    if not (isinstance(cls, type) and issubclass(cls, Benchmark) and dataclasses.is_dataclass(cls)):
        raise PluginError(f"benchmark {name!r} is no dataclass that derives from Benchmark: {cls!r}")
    return cls


def _needed_options(cls: type[Benchmark]) -> list[str]:
    """Those without which there is no such benchmark."""
    missing = dataclasses.MISSING
    return [field.name for field in dataclasses.fields(cls) if field.default is field.default_factory is missing]


def _benchmark_row(name: str) -> Sequence[str]:
    cls = _find(name)
    meaning = " ".join((cls.__doc__ or "").strip().split("\n\n")[0].split())
    if needed := _needed_options(cls):
        options = ", ".join(needed)
        return name, "none", f"by its options {options}", "of your own", cls.answer_prefix, meaning
    with _blamed(name):
        benchmark: Benchmark = catalog.build("benchmark", name, {})
        subsets = benchmark.subsets or (None,)
        headlines = dict.fromkeys(benchmark.headline(subset) or "none" for subset in subsets)
        repo = benchmark.hub_data(subsets[0])
        count = str(len(benchmark.subsets) or "none")
        return name, count, ", ".join(headlines), repo.name if repo else _NO_HUB, cls.answer_prefix, meaning


def _subsets_table(benchmark: Benchmark) -> Table:
    table = Table(
        "subset", "headline", "new tokens", "samples, about", "context tokens, about", "data", "revision", "cached"
    )
    for subset in benchmark.subsets or (None,):
        size, repo = benchmark.size(subset), benchmark.hub_data(subset)
        numbers = (f"{number:,}" for number in (size.new_tokens, size.samples, size.context_tokens))
        table.add_row(subset or "(it has none)", benchmark.headline(subset) or "none", *numbers, *_data(repo))
    return table


def _data(repo: HubRepo | None) -> tuple[str, str, str]:
    """Where it is, at which revision, and what of it is here."""
    return (_NO_HUB, "", "") if repo is None else (repo.name, repo.revision, _cached(repo))


@cache
def _cached(repo: HubRepo) -> str:
    """Subsets may share a table, and one that cannot be read is told once."""
    try:
        commit, missing = find_cached(repo)
    except HubError as error:
        echo_problem("Warning", error)
        return "unknown"
    if not commit:
        return "no"
    return f"{commit[:12]}, incomplete" if missing else commit[:12]


@contextmanager
def _blamed(name: str) -> Iterator[None]:
    """Whatever a benchmark from a package raises is its mistake, and none of this command's."""
    try:
        yield
    except HpcBenchError:
        raise
    except Exception as error:
        raise PluginError(f"benchmark {name!r} cannot be shown: {type(error).__name__}: {error}") from error


def _data_lines(benchmark: Benchmark) -> Iterator[str]:
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

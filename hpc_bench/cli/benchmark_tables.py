"""What `hpc-bench benchmarks list` shows: the benchmarks of the catalog, or the subsets of one."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hpc_bench import catalog
from hpc_bench.benchmarks.base import Benchmark
from hpc_bench.cli.benchmark_options import data_lines, option_lines
from hpc_bench.errors import HpcBenchError, HubError, PluginError
from hpc_bench.hub import HubRepo, find_cached

__all__ = ["print_benchmark", "print_benchmarks"]

_NO_HUB = "none on a hub"


def print_benchmarks(console: Console) -> None:
    """One row a benchmark, those of installed packages too; one that is broken is named in a warning."""
    table = Table("benchmark", "subsets", "headline", "data", "meaning")
    for name in catalog.names("benchmark"):
        try:
            _add_row(table, _benchmark_row(name))
        except HpcBenchError as error:  # a broken plug-in hides no other benchmark
            _warn(error)
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
            about_data = list(data_lines(benchmark))
    console.print(f"\n{name}: {inspect.cleandoc(cls.__doc__ or '')}")
    _print_list(console, "options beside `subsets`", list(option_lines(cls)))
    _print_list(console, "local data, in place of the hub's", about_data)


def _print_list(console: Console, heading: str, lines: Sequence[str]) -> None:
    if lines:
        console.print(f"\n{heading}:", *(f"  {line}" for line in lines), sep="\n", soft_wrap=True)


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
        return name, "none", f"by its options {options}", "of your own", meaning
    with _blamed(name):
        benchmark: Benchmark = catalog.build("benchmark", name, {})
        subsets = benchmark.subsets or (None,)
        headlines = dict.fromkeys(benchmark.headline(subset) or "none" for subset in subsets)
        repo = benchmark.hub_data(subsets[0])
        count = str(len(benchmark.subsets) or "none")
        return name, count, ", ".join(headlines), repo.name if repo else _NO_HUB, meaning


def _subsets_table(benchmark: Benchmark) -> Table:
    table = Table(
        "subset", "headline", "new tokens", "samples, about", "context tokens, about", "data", "revision", "cached"
    )
    for subset in benchmark.subsets or (None,):
        size, repo = benchmark.size(subset), benchmark.hub_data(subset)
        numbers = (f"{number:,}" for number in (size.new_tokens, size.samples, size.context_tokens))
        _add_row(table, (subset or "(it has none)", benchmark.headline(subset) or "none", *numbers, *_data(repo)))
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
        _warn(error)
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


def _add_row(table: Table, cells: Sequence[str]) -> None:
    """As it is: texts may hold what rich takes for markup."""
    table.add_row(*map(Text, cells))


def _warn(error: HpcBenchError) -> None:
    click.echo(f"Warning: {' '.join(str(error).split())}", err=True)

"""Commands about benchmarks: what there is, and what of their data is on this machine."""

from __future__ import annotations

import click

from hpc_bench.cli.console import make_console

__all__ = ["benchmarks"]


@click.group()
def benchmarks() -> None:
    """Show benchmarks, their subsets and where their data is."""


@benchmarks.command("list")
@click.argument("name", required=False)
def list_benchmarks(name: str | None) -> None:
    """Show every benchmark, and for what it is scored; with NAME, its subsets.

    Of a subset: its metric, its limit of new tokens, its size, and what of its data is in the local cache. Below them:
    the benchmark's options with their defaults, and the columns and file names of local data. Asks no hub.
    """
    from hpc_bench.cli.benchmarks_view import print_benchmark, print_benchmarks

    if name is None:
        print_benchmarks(make_console())
    else:
        print_benchmark(make_console(), name)

"""Commands that take a results folder: follow it, look into it, end its workers, sum it up, score it again."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from hpc_bench.cli.arguments import EXECUTION, RESULTS
from hpc_bench.cli.console import echo, echo_json, echo_problem, make_console

__all__ = ["cancel", "collect", "collect_all", "logs", "rescore", "status"]


@click.command()
@RESULTS
@EXECUTION
@click.option("--all", "every", is_flag=True, help="Every execution in the folder.")
@click.option(
    "--baseline", metavar="CONFIG", help="Attention config to compare with.  [default: the sweep's, else dense]"
)
def collect(results: Path, execution: str | None, every: bool, baseline: str | None) -> None:
    """Check all results, write execution_summary.json and summary.csv, print the table."""
    from hpc_bench.execution.folder import ExecutionDir

    found = [ExecutionDir.locate(results, execution)]
    if every and found[0].path != results:
        found = [item for item in reversed(ExecutionDir.all_in(results)) if item.manifest.exists()]
    sys.exit(collect_all(found, baseline))


@click.command()
@RESULTS
@EXECUTION
@click.option("--watch", is_flag=True, help="Until nothing is left to do, or Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(results: Path, execution: str | None, watch: bool, as_json: bool) -> None:
    """Show counts, workers, rate and time left; from any machine that sees the folder."""
    from hpc_bench.cli.status_view import live_view, print_status, status_as_json
    from hpc_bench.execution.folder import ExecutionDir
    from hpc_bench.running.status import StatusReader

    reader = StatusReader(ExecutionDir.locate(results, execution))
    now = reader.read()
    if as_json:
        echo_json(status_as_json(reader.view, now))
        return
    console = make_console()
    if watch:
        try:
            with live_view(console) as show:
                while not now.is_over and now.is_busy:
                    show(reader.view, now)
                    time.sleep(1)
                    now = reader.read()
        except KeyboardInterrupt:
            pass
    print_status(console, reader.view, now)


@click.command()
@click.argument("names", metavar="[RESULTS] STUB", nargs=-1, required=True)
@EXECUTION
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
def logs(names: tuple[str, ...], execution: str | None, follow: bool) -> None:
    """Print the log of the engine that last ran STUB (model/attention/benchmark/subset, or a part of it).

    STUB may also be a Slurm job such as 123_4: its setup lines and its worker.
    """
    if len(names) > 2:
        raise click.UsageError("name a results folder and one stub, or a stub alone")
    results, stub = Path(names[0] if len(names) == 2 else "results"), names[-1]
    from hpc_bench.execution.folder import ExecutionDir
    from hpc_bench.running.logs import find_log, follow_file

    log = find_log(ExecutionDir.locate(results, execution), stub)
    echo(f"==> {log}", err=True)
    try:
        for text in follow_file(log, forever=follow):
            echo(text, nl=False)
    except KeyboardInterrupt:
        pass


@click.command()
@RESULTS
@EXECUTION
@click.option("--wait", "wait_s", default=40.0, show_default=True, help="Seconds to wait for the workers to end.")
def cancel(results: Path, execution: str | None, wait_s: float) -> None:
    """Have all workers release their claims and end; finished samples are kept."""
    from hpc_bench.execution.folder import ExecutionDir
    from hpc_bench.running.status import StatusReader
    from hpc_bench.running.submit import stop_workers

    found = ExecutionDir.locate(results, execution)
    asked = stop_workers(found)
    if not asked:
        echo("no worker is running")
        return
    deadline = time.monotonic() + wait_s
    while (left := _at_work(found, StatusReader)) and time.monotonic() < deadline:
        time.sleep(0.2)
    echo(f"asked {asked} worker(s) to end; {left} still running" + (", see hpc-bench status" if left else ""))
    sys.exit(1 if left else 0)


def _at_work(execution: Any, reader: Any) -> int:
    status = reader(execution).read()
    return int(len(status.starting) + sum(worker.alive for worker in status.workers))


@click.command()
@RESULTS
@EXECUTION
@click.option("--benchmark", "benchmarks", metavar="NAME", multiple=True, help="Only results of this one; repeatable.")
def rescore(results: Path, execution: str | None, benchmarks: tuple[str, ...]) -> None:
    """Compute all scores again from the answers on disk, without a model, and say which changed.

    Earlier files are kept in each result's earlier/. Stale and invalid results are named and left as they are.
    A result that a new scoring version scores as before is confirmed: its stub.json says so from then on.
    """
    from hpc_bench.execution.folder import ExecutionDir
    from hpc_bench.report.rescore import rescore_execution

    found = ExecutionDir.locate(results, execution)
    counts = {"changed": 0, "unchanged": 0, "left": 0, "confirmed": 0, "unfinished": 0}
    for item in rescore_execution(found, benchmarks):
        counts[item.state] += 1
        if item.state not in ("unchanged", "confirmed"):
            echo(_what_became_of(item))
    shown = (f"{count} {state}" for state, count in counts.items() if count or state not in ("confirmed", "unfinished"))
    echo(f"{found.path}: {', '.join(shown)}")
    if counts["changed"] or counts["confirmed"] or counts["unfinished"]:
        echo(f"the summary is out of date; `hpc-bench collect {found.path}` makes a new one")
    sys.exit(1 if counts["left"] or counts["unfinished"] else 0)


def _what_became_of(item: Any) -> str:
    reason = " ".join(item.reason.split())
    if item.state == "left":
        return f"left as it is: {item.stub.title}: {reason}"
    old, new = ("not scored" if score is None else f"{score:.6g}" for score in (item.old, item.new))
    line = f"{item.stub.title}: {old} -> {new} ({', '.join(item.differing) or 'confirmed'})"
    if item.scoring_versions:
        before, now = item.scoring_versions
        line += f"; scored by scoring version {now} of {item.stub.benchmark}, before by {before}"
    if item.versions:
        asked, now = item.versions
        line += f"; asked by version {asked} of {item.stub.benchmark}, whose prompts or samples version {now} changed"
    return f"{line}; {reason}: run rescore again" if reason else line


def collect_all(executions: list[Any], baseline: str | None = None) -> int:
    """Writes and prints the summary of each; the exit code: 0 if all is complete."""
    from hpc_bench.report.collect import collect_execution
    from hpc_bench.report.files import write_summary
    from hpc_bench.report.tables import print_summary

    code = 0
    for execution in executions:
        summary = collect_execution(execution, baseline)
        try:
            write_summary(summary)
        except OSError as error:
            echo_problem("Error", f"{execution.path}: the summary cannot be written: {error.strerror}")
            code = 2
        print_summary(make_console(), summary)
        code = max(code, 0 if summary.is_complete else 1)
    return code

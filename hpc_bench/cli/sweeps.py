"""Commands that take a sweep: write one, say what it means, run it."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from hpc_bench.cli.arguments import BACKEND, GPUS, NEW, RETRY, SET, SWEEP, load_sweep_file
from hpc_bench.cli.backend_choice import backend_names, make_backends, only_backend, submit_commands
from hpc_bench.cli.console import echo, echo_json, echo_problem, make_console
from hpc_bench.cli.output import OutputError
from hpc_bench.cli.results import collect_all
from hpc_bench.errors import ExecutionError, SweepError

__all__ = ["init", "plan", "prefetch", "submit"]


@click.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False), default=Path("sweep.yaml"))
def init(path: Path) -> None:
    """Write a commented sweep of the demo models to PATH (sweep.yaml)."""
    from importlib.resources import files

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write((files("hpc_bench") / "quickstart.yaml").read_text(encoding="utf-8"))
    except FileExistsError as error:
        raise SweepError("exists already, and is left as it is; name another file", str(path)) from error
    except OSError as error:
        raise SweepError(f"cannot be written: {error.strerror}", str(path)) from error
    echo(f"wrote {path}; run it with: hpc-bench submit --backend local {path}")


@click.command()
@SWEEP
@BACKEND
@GPUS
@SET
@NEW
@RETRY
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def plan(
    context: click.Context,
    sweep_file: Path | None,
    backend: str | None,
    gpus: str | None,
    changes: tuple[str, ...],
    new: bool,
    retry_failed: bool,
    as_json: bool,
) -> None:
    """Show what a sweep means, given what is on disk; writes nothing."""
    from hpc_bench.cli.plan_view import plan_as_json, print_plan
    from hpc_bench.sweep.plan import make_plan

    sweep = load_sweep_file(sweep_file, changes)
    backends = make_backends(backend_names(backend, gpus, sweep), sweep, gpus)
    made = make_plan(sweep, new=new, retry_failed=retry_failed)
    if as_json:
        echo_json(plan_as_json(made, backends))
        return
    print_plan(make_console(), made, backends)
    if len(backends) > 1 and made.to_run:
        echo("the sweep has a slurm section, so `submit` must be told where to run it:")
        for command in submit_commands(context):
            echo(f"  {command}")


@click.command()
@SWEEP
@SET
def prefetch(sweep_file: Path | None, changes: tuple[str, ...]) -> None:
    """Download what a sweep (./sweep.yaml) names into HF_HOME, for jobs without internet (`offline: true`)."""
    from hpc_bench.sweep.prefetch import downloads_table, fetch, find_downloads, find_space, refuse_too_little

    if not sys.stderr.isatty():  # lines of text tell enough in a log; read when huggingface_hub is imported
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    downloads = find_downloads(load_sweep_file(sweep_file, changes))
    if not downloads:
        echo("nothing to fetch: the sweep names no model or data set on the hub")
        return
    make_console().print(downloads_table(downloads))
    space = find_space(downloads)
    refuse_too_little(space)
    echo(space.summary)
    if space.exceeds_quota:
        echo_problem("Warning", "the quota is too small; free some space, or set HF_HOME to another filesystem")
    for item in downloads:
        echo(f"fetching {item.repo.title}: {item.to_load_shown}")
        fetch(item)
    echo("complete; with `offline: true` in the sweep, jobs use exactly these commits and ask no hub")


@click.command()
@SWEEP
@BACKEND
@GPUS
@SET
@NEW
@RETRY
@click.option("--discard-stale", is_flag=True, help="Move results of another configuration aside (never deleted).")
@click.option("--accept-code", is_flag=True, help="Keep results whose plug-ins' code alone has changed since.")
@click.option(
    "--wait/--detach", default=None, help="Stay until all is done, or return at once. [default: slurm returns]"
)
@click.option("--dry-run", is_flag=True, help="Print the plan, for slurm also the sbatch scripts; write nothing.")
@click.pass_context
def submit(
    context: click.Context,
    sweep_file: Path | None,
    backend: str | None,
    gpus: str | None,
    changes: tuple[str, ...],
    new: bool,
    retry_failed: bool,
    discard_stale: bool,
    accept_code: bool,
    wait: bool | None,
    dry_run: bool,
) -> None:
    """Run what is missing of a sweep (./sweep.yaml); finished work is never run twice."""
    from hpc_bench.cli.plan_view import print_plan
    from hpc_bench.sweep import plan as planner
    from hpc_bench.sweep import stale

    sweep = load_sweep_file(sweep_file, changes)
    chosen = only_backend(context, sweep, backend, gpus)
    made = planner.make_plan(sweep, new=new, retry_failed=retry_failed)
    if dry_run:
        _print_dry_run(made, chosen)
        return
    chosen.check(sweep.base_result_dir, made.manifest.header, made.to_run)
    planner.refuse_conflict(made)
    if made.execution and made.stale and (accept_code or discard_stale):
        if accept_code:
            left = () if discard_stale else tuple(item for item in made.stale if not item.by_code_alone)
            planner.refuse_stale(dataclasses.replace(made, stale=left))  # before anything is written
            kept = stale.accept_code(made.execution, made.manifest.header, made.stale)
            echo(f"kept {kept} results whose plug-ins' code alone has changed")
            made = planner.make_plan(sweep, retry_failed=retry_failed)
        if discard_stale and made.execution and made.stale:
            echo(f"moved {len(made.stale)} stale results to {stale.discard_stale(made.execution, made.stale)}")
            made = planner.make_plan(sweep, retry_failed=retry_failed)
    planner.refuse_stale(made)
    console = make_console()
    print_plan(console, made, {chosen.name: chosen})
    sys.exit(_run(made, chosen, wait=wait))


def _print_dry_run(made: Any, chosen: Any) -> None:
    from hpc_bench.cli.plan_view import print_plan

    print_plan(make_console(), made, {chosen.name: chosen})
    folder = made.execution.path if made.execution else made.sweep.base_result_dir / "execution_of_this_submission"
    for title, script in chosen.scripts(folder, made.manifest.header, made.to_run):
        echo(f"\n==> {title}\n{script}")


def _run(made: Any, chosen: Any, *, wait: bool | None) -> int:
    from hpc_bench.cli.status_view import live_view, print_broken
    from hpc_bench.running.submit import prepare_execution

    console, header = make_console(), made.manifest.header
    execution = prepare_execution(made)
    if not (chosen.waits if wait is None else wait):
        started = chosen.start(execution, header, made.to_run)
        with _failures_explained(execution):
            _print_started(execution, started)
        return 0
    console.print(f"results in {execution.path}; from another shell: hpc-bench status {execution.path} --watch")
    with live_view(console) as show, _failures_explained(execution):
        left = chosen.attend(execution, header, made.to_run, show, console.print)
    if left:
        console.print(f"interrupted; {left} ({execution.path})")
        return 130
    print_broken(console, execution)
    return collect_all([execution])


@contextmanager
def _failures_explained(execution: Any) -> Iterator[None]:
    """Says of a disk or an output that fails while workers run that they do not end with this process."""
    try:
        yield
    except (OSError, OutputError) as error:
        raise ExecutionError(f"{execution.path}: {error}; workers go on: `hpc-bench status` follows them") from error


def _print_started(execution: Any, done: list[str]) -> None:
    for line in done or ["no worker was needed"]:
        echo(line)
    echo(f"follow:  hpc-bench status {execution.path} --watch")
    echo(f"stop:    hpc-bench cancel {execution.path}")
    echo(f"sum up:  hpc-bench collect {execution.path}")

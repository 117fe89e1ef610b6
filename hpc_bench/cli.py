"""The command line. Light: no command imports torch, transformers, datasets or pandas before it must."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from hpc_bench.errors import ExecutionError, HpcBenchError, SweepError

__all__ = ["main"]


class _Group(click.Group):
    """Shows a user's mistake as one line with exit code 2; anything else is a bug and shows its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HpcBenchError as error:
            click.echo(f"Error: {' '.join(str(error).split())}", err=True)
            ctx.exit(2)
        except BrokenPipeError:  # `hpc-bench status | head`
            sys.stderr.close()
            ctx.exit(0)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hpc-bench")
def main() -> None:
    """Runs models x sparse attention configs x long-context benchmarks, and sums up what came out.

    \b
    hpc-bench init                                  write a sweep file to start from
    hpc-bench plan sweep.yaml                       what it means; writes nothing
    hpc-bench submit --backend local --gpus 0,1     run what is missing
    hpc-bench status results/ --watch               follow it from any shell
    hpc-bench collect results/                      the summary
    """


_SWEEP = click.argument("sweep_file", type=click.Path(path_type=Path), required=False)
_RESULTS = click.argument("results", type=click.Path(path_type=Path), default=Path("results"))
_EXECUTION = click.option("--execution", metavar="NAME", help="Another execution than the newest one.")
_BACKEND = click.option(
    "--backend", type=click.Choice(["local", "slurm"]), default="local", show_default=True, help="Where to run."
)
_GPUS = click.option("--gpus", metavar="IDS", help="For the local backend: ids such as 0,1, all, or none (the CPU).")
_SET = click.option(
    "--set",
    "changes",
    metavar="KEY=VALUE",
    multiple=True,
    help="Put a key over the sweep's, e.g. slurm.partition=long.",
)
_NEW = click.option("--new", is_flag=True, help="Start a fresh execution instead of resuming the newest one.")
_RETRY = click.option("--retry-failed", is_flag=True, help="Give stubs that used up their attempts new ones.")


@main.command()
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
    click.echo(f"wrote {path}; run it with: hpc-bench submit --backend local {path}")


@main.command()
@_SWEEP
@_BACKEND
@_GPUS
@_SET
@_NEW
@_RETRY
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def plan(
    sweep_file: Path | None,
    backend: str,
    gpus: str | None,
    changes: tuple[str, ...],
    new: bool,
    retry_failed: bool,
    as_json: bool,
) -> None:
    """Show what a sweep means, given what is on disk; writes nothing."""
    from hpc_bench.display import make_console, plan_as_json, print_plan
    from hpc_bench.planner import make_plan

    sweep = _load(sweep_file, changes)
    chosen = _backend(backend, sweep, gpus)
    made = make_plan(sweep, new=new, retry_failed=retry_failed)
    if as_json:
        click.echo(json.dumps(plan_as_json(made, chosen.size)))
    else:
        print_plan(make_console(), made, chosen)


@main.command()
@_SWEEP
@_BACKEND
@_GPUS
@_SET
@_NEW
@_RETRY
@click.option("--discard-stale", is_flag=True, help="Move results of another configuration aside (never deleted).")
@click.option(
    "--wait/--detach", default=None, help="Stay until all is done, or return at once. [default: slurm returns]"
)
@click.option("--dry-run", is_flag=True, help="Print the plan, for slurm also the sbatch scripts; write nothing.")
def submit(
    sweep_file: Path | None,
    backend: str,
    gpus: str | None,
    changes: tuple[str, ...],
    new: bool,
    retry_failed: bool,
    discard_stale: bool,
    wait: bool | None,
    dry_run: bool,
) -> None:
    """Run what is missing of a sweep (./sweep.yaml); finished work is never run twice."""
    from hpc_bench import planner
    from hpc_bench.display import make_console, print_plan

    sweep = _load(sweep_file, changes)
    chosen = _backend(backend, sweep, gpus)
    made = planner.make_plan(sweep, new=new, retry_failed=retry_failed)
    if dry_run:
        _print_dry_run(made, chosen)
        return
    chosen.check(sweep.base_result_dir, made.manifest.header, made.to_run)
    if discard_stale and made.stale:
        click.echo(f"moved {len(made.stale)} stale results to {planner.discard_stale(made)}")
        made = planner.make_plan(sweep, retry_failed=retry_failed)
    planner.refuse_stale(made)
    planner.refuse_conflict(made)
    console = make_console()
    print_plan(console, made, chosen)
    sys.exit(_run(made, chosen, wait=wait))


def _print_dry_run(made: Any, chosen: Any) -> None:
    from hpc_bench.display import make_console, print_plan

    print_plan(make_console(), made, chosen)
    folder = made.execution.path if made.execution else made.sweep.base_result_dir / "execution_of_this_submission"
    for title, script in chosen.scripts(folder, made.manifest.header, made.to_run):
        click.echo(f"\n==> {title}\n{script}")


def _run(made: Any, chosen: Any, *, wait: bool | None) -> int:
    from hpc_bench.backends.base import GuardedBackend
    from hpc_bench.bundles import bundle_stubs
    from hpc_bench.crew import Crew, follow, run_crew
    from hpc_bench.display import live_view, make_console, print_broken
    from hpc_bench.submit import prepare_execution

    console, header = make_console(), made.manifest.header
    execution = prepare_execution(made)
    bundles = len(bundle_stubs(header, made.to_run, chosen.size))
    guarded = isinstance(chosen, GuardedBackend)
    if not (wait or (wait is None and guarded)):
        _print_started(execution, chosen.start(execution, header, made.to_run) if made.to_run else [])
        return 0
    console.print(f"results in {execution.path}; from another shell: hpc-bench status {execution.path} --watch")
    interrupted = False
    with live_view(console) as show, _disk_failures_explained(execution):
        if guarded:
            interrupted = run_crew(Crew(execution, chosen), bundles, show)
        else:
            for line in chosen.start(execution, header, made.to_run) if made.to_run else ():
                console.print(line)
            interrupted = follow(execution, chosen, show)
    if interrupted:
        kept = "every finished sample is kept: submit again to go on" if guarded else "the jobs go on without this"
        console.print(f"interrupted; {kept} ({execution.path})")
        return 130
    print_broken(console, execution)
    return _collect([execution])


@contextmanager
def _disk_failures_explained(execution: Any) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExecutionError(f"{execution.path}: {error}; workers go on: `hpc-bench status` follows them") from error


def _print_started(execution: Any, done: list[str]) -> None:
    for line in done or ["no worker was needed"]:
        click.echo(line)
    click.echo(f"follow:  hpc-bench status {execution.path} --watch")
    click.echo(f"stop:    hpc-bench cancel {execution.path}")
    click.echo(f"sum up:  hpc-bench collect {execution.path}")


def _collect(executions: list[Any]) -> int:
    from hpc_bench.collector import collect_execution, write_summary
    from hpc_bench.display import make_console, print_summary

    code = 0
    for execution in executions:
        summary = collect_execution(execution)
        try:
            write_summary(summary)
        except OSError as error:
            click.echo(f"Error: {execution.path}: the summary cannot be written: {error.strerror}", err=True)
            code = 2
        print_summary(make_console(), summary)
        code = max(code, 0 if summary.is_complete else 1)
    return code


@main.command()
@_RESULTS
@_EXECUTION
@click.option("--all", "every", is_flag=True, help="Every execution in the folder.")
def collect(results: Path, execution: str | None, every: bool) -> None:
    """Check all results, write execution_summary.json and summary.csv, print the table."""
    from hpc_bench.execution_dir import ExecutionDir

    found = [ExecutionDir.locate(results, execution)]
    if every and found[0].path != results:
        found = [item for item in reversed(ExecutionDir.all_in(results)) if item.manifest.exists()]
    sys.exit(_collect(found))


@main.command()
@_RESULTS
@_EXECUTION
@click.option("--watch", is_flag=True, help="Until nothing is left to do, or Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(results: Path, execution: str | None, watch: bool, as_json: bool) -> None:
    """Show counts, workers, rate and time left; from any machine that sees the folder."""
    from hpc_bench import status as reading
    from hpc_bench.display import live_view, make_console, print_status
    from hpc_bench.execution_dir import ExecutionDir

    reader = reading.StatusReader(ExecutionDir.locate(results, execution))
    now = reader.read()
    if as_json:
        click.echo(json.dumps(reading.as_json(reader, now)))
        return
    console = make_console()
    if watch:
        try:
            with live_view(console) as show:
                while not now.is_over and now.is_busy:
                    show(reader, now)
                    time.sleep(1)
                    now = reader.read()
        except KeyboardInterrupt:
            pass
    print_status(console, reader, now)


@main.command()
@click.argument("names", metavar="[RESULTS] STUB", nargs=-1, required=True)
@_EXECUTION
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
def logs(names: tuple[str, ...], execution: str | None, follow: bool) -> None:
    """Print the log of the engine that last ran STUB (model/attention/benchmark/subset, or a part of it).

    STUB may also be a Slurm job such as 123_4: its setup lines and its worker.
    """
    if len(names) > 2:
        raise click.UsageError("name a results folder and one stub, or a stub alone")
    results, stub = Path(names[0] if len(names) == 2 else "results"), names[-1]
    from hpc_bench.execution_dir import ExecutionDir
    from hpc_bench.logs import find_log, follow_file

    log = find_log(ExecutionDir.locate(results, execution), stub)
    click.echo(f"==> {log}", err=True)
    try:
        for text in follow_file(log, forever=follow):
            click.echo(text, nl=False)
    except KeyboardInterrupt:
        pass


@main.command()
@_RESULTS
@_EXECUTION
@click.option("--wait", "wait_s", default=40.0, show_default=True, help="Seconds to wait for the workers to end.")
def cancel(results: Path, execution: str | None, wait_s: float) -> None:
    """Have all workers release their claims and end; finished samples are kept."""
    from hpc_bench.backends.local import LocalBackend
    from hpc_bench.backends.slurm import SlurmBackend
    from hpc_bench.execution_dir import ExecutionDir
    from hpc_bench.slurm_section import SlurmSection
    from hpc_bench.status import StatusReader
    from hpc_bench.submit import stop_workers

    found = ExecutionDir.locate(results, execution)
    backends = {"local": LocalBackend("none", None, 1), "slurm": SlurmBackend(SlurmSection(), None, "")}
    asked = stop_workers(found, backends)
    if not asked:
        click.echo("no worker is running")
        return
    deadline = time.monotonic() + wait_s
    while (left := _at_work(found, StatusReader)) and time.monotonic() < deadline:
        time.sleep(0.2)
    click.echo(f"asked {asked} worker(s) to end; {left} still running" + (", see hpc-bench status" if left else ""))
    sys.exit(1 if left else 0)


def _at_work(execution: Any, reader: Any) -> int:
    status = reader(execution).read()
    return int(status.starting + sum(worker.alive for worker in status.workers))


def _load(path: Path | None, changes: tuple[str, ...]) -> Any:
    from hpc_bench.sweep import load_sweep

    default = Path("sweep.yaml")
    if path is None and not default.exists():
        raise SweepError("no sweep file was named and there is no ./sweep.yaml; `hpc-bench init` writes one")
    return load_sweep(path or default, changes)


def _backend(name: str, sweep: Any, gpus: str | None) -> Any:
    from hpc_bench.backends.local import LocalBackend, parse_gpus
    from hpc_bench.backends.slurm import SlurmBackend
    from hpc_bench.errors import BackendError

    if name == "slurm":
        if gpus is not None:
            raise BackendError("--gpus is for --backend local; Slurm gives each worker GPUs of its own")
        return SlurmBackend(sweep.slurm, sweep.max_concurrent_runs, sweep.name)
    choice = parse_gpus(gpus) if gpus is not None else sweep.local.gpus
    most_gpus = max(model.gpus for model in sweep.models)
    return LocalBackend(choice, sweep.max_concurrent_runs, most_gpus, device=sweep.adapter.device)


if __name__ == "__main__":
    main()

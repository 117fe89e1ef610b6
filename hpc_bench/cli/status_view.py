"""What the terminal shows: the plan, the live view, the summary table. Everything from users is escaped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.heartbeat import Worker
from hpc_bench.execution.results.scoring_versions import advise_rescoring
from hpc_bench.running.backend import Backend
from hpc_bench.running.bundles import bundle_stubs
from hpc_bench.running.slurm.queue import QueuedTasks
from hpc_bench.running.status import Status, StatusReader, current_stub, find_failures, progress, silent_jobs
from hpc_bench.sweep.attention_config import describe_attention
from hpc_bench.sweep.plan import Plan

__all__ = ["live_view", "make_console", "plan_as_json", "print_broken", "print_plan", "print_status"]

_WIDE = 160
_REASONS = {"None": "Slurm has not said why yet", "JobArrayTaskLimit": "JobArrayTaskLimit (the cap)"}
_MOST_FAILURES = 5


def make_console() -> Console:
    """Standard output; wide where it is no terminal, so that a log keeps whole lines."""
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=False)
    if not console.is_terminal:
        console.width = max(console.width, _WIDE)
    return console


def plan_as_json(plan: Plan, workers: int) -> dict[str, object]:
    """The plan for programs."""
    bundles = bundle_stubs(plan.manifest.header, plan.to_run, workers)
    return {
        "name": plan.sweep.name,
        "execution": str(plan.execution.path) if plan.execution else None,
        "stubs": len(plan.manifest.stubs),
        "complete": len(plan.with_state("complete")),
        "scored_otherwise": plan.scored_otherwise,
        "stale": len(plan.stale),
        "failed": len(plan.with_state("failed")),
        "running": len(plan.with_state("running")),
        "to_run": len(plan.to_run),
        "bundles": len(bundles),
        "workers": min(workers, len(bundles)),
        "estimated_gpu_hours": round(sum(bundle.cost_s * max(1, bundle.gpus) for bundle in bundles) / 3600, 3),
    }


def print_plan(console: Console, plan: Plan, backend: Backend) -> None:
    """Counts, a table of stubs to run by model and attention, bundles, workers, the estimate."""
    facts = plan_as_json(plan, backend.size)
    where = f"resumes {facts['execution']}" if plan.execution else f"a new execution in {plan.sweep.base_result_dir}"
    console.print(f"{plan.sweep.name}: {facts['stubs']} stubs, {where}")
    states = ("complete", "stale", "failed", "running", "to_run")
    console.print("  " + ", ".join(f"{facts[state]} {state.replace('_', ' ')}" for state in states))
    table = Table("model", *plan.manifest.header.attentions, title="stubs to run / all", title_justify="left")
    to_run = {stub.key for stub in plan.to_run}
    cells: dict[tuple[str, str], list[int]] = {}
    for stub in plan.manifest.stubs:
        cell = cells.setdefault((stub.model, stub.attention), [0, 0])
        cell[0] += stub.key in to_run
        cell[1] += 1
    for model in plan.manifest.header.models:
        row = (cells.get((model, attention)) for attention in plan.manifest.header.attentions)
        table.add_row(model, *(f"{cell[0]} / {cell[1]}" if cell else "-" for cell in row))
    console.print(table)
    for name, attention in plan.sweep.attentions.items():
        console.print(f"{name}: {describe_attention(attention)}", soft_wrap=True)
    for name, count in plan.unmeasured.items():
        console.print(
            f"{name}: {count} complete stubs were run with another measure_error and stay as they are; "
            "--new, or another name for the config, measures"
        )
    if plan.execution and plan.scored_otherwise:
        console.print(advise_rescoring(plan.scored_otherwise, plan.execution.path), soft_wrap=True)
    for item in plan.stale[:5]:
        console.print(f"stale: {item.stub.title}: {item.reason}")
    if plan.stale:
        console.print("submit will refuse, unless --discard-stale moves stale results aside or --new starts afresh")
    if facts["failed"]:
        console.print(f"{facts['failed']} stubs used up their attempts; --retry-failed gives them new ones")
    if not plan.to_run:
        console.print("nothing to run")
        return
    where = backend.describe(plan.manifest.header, plan.to_run)
    console.print(
        f"{facts['bundles']} bundles; {where}; "
        f"about {facts['estimated_gpu_hours']} GPU hours, a rough guess until results of the same kind exist"
    )


def counts_line(status: Status) -> str:
    """Counts, rate and time left on one line."""
    line = ", ".join(f"{count} {state}" for state, count in status.counts.items())
    if status.stubs_per_s:
        line += f"; {status.stubs_per_s * 60:.1f} stubs/min"
    if status.eta_s is not None:
        line += f"; about {timedelta(seconds=round(status.eta_s))} left"
    return f"{status.total} stubs: {line}"


def _worker_row(reader: StatusReader, worker: Worker) -> tuple[str, ...]:
    beat = worker.heartbeat
    stub = current_stub(reader, worker)
    done, total = progress(worker)
    return (
        beat.job if beat.backend == "slurm" else beat.slot.rpartition("-")[2],
        beat.node or beat.process.host,
        beat.gpus or "CPU",
        beat.state,
        stub.model if stub else "",
        stub.attention if stub and beat.stub else "",
        " ".join(filter(None, (stub.benchmark, stub.subset))) if stub else beat.reason,
        f"{done}/{total}" if total else "",
        f"{beat.memory_gb:.1f}" if beat.memory_gb is not None else "",
    )


def _worker_table(reader: StatusReader, status: Status) -> Table:
    headings = ("slot/job", "host", "GPU", "state", "model", "attention", "benchmark", "samples", "GB")
    table = Table(*headings, box=None, pad_edge=False)
    for worker in status.workers:
        table.add_row(*(Text(value) for value in _worker_row(reader, worker)))
    return table


def _screen(reader: StatusReader, status: Status) -> RenderableType:
    ended = status.counts["complete"] + status.counts["failed"]
    bar = Table.grid()  # a bar alone does not end its line
    bar.add_row(ProgressBar(total=max(1, status.total), completed=ended, width=60))
    return Group(counts_line(status), bar, _worker_table(reader, status), *queue_lines(status))


def queue_lines(status: Status) -> list[Text]:
    """What waits in Slurm's queue, why, and until when."""
    waiting: dict[tuple[str, str], list[QueuedTasks]] = {}
    for tasks in status.queue.pending:
        waiting.setdefault((tasks.job, tasks.reason), []).append(tasks)
    lines = []
    for (job, reason), group in waiting.items():
        count = sum(len(tasks) for tasks in group)
        start = min((tasks.start for tasks in group if tasks.start), default="")
        expected = f", the first expected to start {start}" if start else ""
        lines.append(
            Text(f"waiting: {count} worker{'s' * (count > 1)} of job {job}: {_REASONS.get(reason, reason)}{expected}")
        )
    if not status.queue.answered:
        lines.append(Text("squeue gives no answer now; what waits is as last seen"))
    return lines


@contextmanager
def live_view(console: Console) -> Iterator[Callable[[StatusReader, Status], None]]:
    """One display that is drawn again; plain lines, one a change of the counts, where the output is no terminal."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            yield lambda reader, status: live.update(_screen(reader, status))
        return
    last: list[str] = []

    def show_line(_reader: StatusReader, status: Status) -> None:
        key = str(status.counts)
        if last != [key]:
            last[:] = [key]
            console.print(counts_line(status))

    yield show_line


def print_status(console: Console, reader: StatusReader, status: Status) -> None:
    """The status once."""
    console.print(f"{reader.execution.path} ({reader.manifest.header.name})")
    console.print(counts_line(status))
    if status.workers:
        console.print(_worker_table(reader, status))
    for line in queue_lines(status):
        console.print(line)
    _print_silent(console, reader, status)
    failures = find_failures(reader) if status.counts["failed"] else []
    for failure in failures[:_MOST_FAILURES]:
        console.print(f"failed: {failure.summary}", soft_wrap=True)
    if more := sum(len(failure.titles) for failure in failures[_MOST_FAILURES:]):
        console.print(f"... and {more} more; `hpc-bench collect` lists them in summary.csv")


def _print_silent(console: Console, reader: StatusReader, status: Status) -> None:
    """Jobs whose worker never spoke, one line for all that said the same last."""
    jobs: dict[str, list[str]] = {}
    for job, log in silent_jobs(reader, status):
        lines = log.read_text(errors="replace").strip().splitlines()
        said = next((line for line in lines if line.startswith("hpc-bench:")), lines[-1] if lines else "nothing")
        jobs.setdefault(said, []).append(job)
    for said, names in list(jobs.items())[:_MOST_FAILURES]:
        count = f"{len(names)} jobs" if len(names) > 1 else f"job {names[0]}"
        hint = f"hpc-bench logs {reader.execution.path} {names[0]}"
        console.print(f"ended before a worker started: {count}: {said} ({hint})", soft_wrap=True)


def print_broken(console: Console, execution: ExecutionDir) -> None:
    """The workers whose slot does not work, and jobs that never came to work: their stubs are left for others."""
    reader = StatusReader(execution)
    status = reader.read()
    _print_silent(console, reader, status)
    for worker in status.workers:
        beat = worker.heartbeat
        if beat.state == "broken":
            where = f"GPU {beat.gpus}" if beat.gpus else "the CPU"
            log = f" (log: {execution.path / beat.log})" if beat.log else ""
            console.print(f"broken: worker {beat.slot} on {where} of {beat.process.host}: {beat.reason}{log}")

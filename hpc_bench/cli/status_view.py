"""How the status of an execution is shown: once, live, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.heartbeat import Worker
from hpc_bench.execution.stub import Stub
from hpc_bench.execution.view import ExecutionView
from hpc_bench.running.slurm.queue import QueuedTasks
from hpc_bench.running.status import Status, StatusReader, silent_jobs

__all__ = ["live_view", "print_broken", "print_status", "status_as_json"]

_REASONS = {"None": "Slurm has not said why yet", "JobArrayTaskLimit": "JobArrayTaskLimit (the cap)"}
_MOST_FAILURES = 5


def counts_line(status: Status) -> str:
    """Counts, rate and time left on one line."""
    line = ", ".join(f"{count} {state}" for state, count in status.counts.items())
    if status.stubs_per_s:
        line += f"; {status.stubs_per_s * 60:.1f} stubs/min"
    if status.eta_s is not None:
        line += f"; about {timedelta(seconds=round(status.eta_s))} left"
    return f"{status.total} stubs: {line}"


def _worker_row(view: ExecutionView, worker: Worker) -> tuple[str, ...]:
    beat = worker.heartbeat
    stub = current_stub(view, worker)
    done, total = progress(worker)
    return (
        beat.job if beat.backend == "slurm" else str(beat.slot.index),
        beat.node or beat.process.host,
        beat.gpus or "CPU",
        beat.state,
        stub.model if stub else "",
        stub.attention if stub and beat.stub else "",
        " ".join(filter(None, (stub.benchmark, stub.subset))) if stub else beat.reason,
        f"{done}/{total}" if total else "",
        f"{beat.memory_gb:.1f}" if beat.memory_gb is not None else "",
    )


def _worker_table(view: ExecutionView, status: Status) -> Table:
    headings = ("slot/job", "host", "GPU", "state", "model", "attention", "benchmark", "samples", "GB")
    table = Table(*headings, box=None, pad_edge=False)
    for worker in status.workers:
        table.add_row(*_worker_row(view, worker))
    return table


def _screen(view: ExecutionView, status: Status) -> RenderableType:
    ended = status.counts["complete"] + status.counts["failed"]
    bar = Table.grid()  # a bar alone does not end its line
    bar.add_row(ProgressBar(total=max(1, status.total), completed=ended, width=60))
    return Group(counts_line(status), bar, _worker_table(view, status), *queue_lines(status))


def queue_lines(status: Status) -> list[Text]:
    """What waits in Slurm's queue, why, and until when."""
    waiting: dict[tuple[str, str], list[QueuedTasks]] = {}
    for tasks in status.queue.pending:
        waiting.setdefault((tasks.key, tasks.reason), []).append(tasks)
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
def live_view(console: Console) -> Iterator[Callable[[ExecutionView, Status], None]]:
    """One display that is drawn again; plain lines, one a change of the counts, where the output is no terminal."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            yield lambda view, status: live.update(_screen(view, status))
        return
    last: list[str] = []

    def show_line(_view: ExecutionView, status: Status) -> None:
        key = str(status.counts)
        if last != [key]:
            last[:] = [key]
            console.print(counts_line(status))

    yield show_line


def print_status(console: Console, view: ExecutionView, status: Status) -> None:
    """The status once."""
    console.print(f"{view.execution.path} ({view.manifest.header.name})")
    console.print(counts_line(status))
    if status.workers:
        console.print(_worker_table(view, status))
    for line in queue_lines(status):
        console.print(line)
    _print_silent(console, view, status)
    for problem in status.damaged[:_MOST_FAILURES]:
        console.print(problem, soft_wrap=True, markup=False)
    failures = view.failures() if status.counts["failed"] else []
    for failure in failures[:_MOST_FAILURES]:
        console.print(f"failed: {failure.summary}", soft_wrap=True)
    if more := sum(len(failure.titles) for failure in failures[_MOST_FAILURES:]):
        console.print(f"... and {more} more; `hpc-bench collect` lists them in summary.csv")


def _print_silent(console: Console, view: ExecutionView, status: Status) -> None:
    """Jobs whose worker never spoke, one line for all that said the same last."""
    jobs: dict[str, list[str]] = {}
    for job, log in silent_jobs(view, status):
        lines = log.read_text(errors="replace").strip().splitlines()
        said = next((line for line in lines if line.startswith("hpc-bench:")), lines[-1] if lines else "nothing")
        jobs.setdefault(said, []).append(job)
    for said, names in list(jobs.items())[:_MOST_FAILURES]:
        count = f"{len(names)} jobs" if len(names) > 1 else f"job {names[0]}"
        hint = f"hpc-bench logs {view.execution.path} {names[0]}"
        console.print(f"ended before a worker started: {count}: {said} ({hint})", soft_wrap=True)


def print_broken(console: Console, execution: ExecutionDir) -> None:
    """The workers whose slot does not work, and jobs that never came to work: their stubs are left for others."""
    reader = StatusReader(execution)
    status = reader.read()
    _print_silent(console, reader.view, status)
    for worker in status.workers:
        beat = worker.heartbeat
        if beat.state == "broken":
            where = f"GPU {beat.gpus}" if beat.gpus else "the CPU"
            log = f" (log: {execution.path / beat.log})" if beat.log else ""
            console.print(f"broken: worker {beat.slot} on {where} of {beat.process.host}: {beat.reason}{log}")


def status_as_json(view: ExecutionView, status: Status) -> dict[str, Any]:
    """The status for programs."""
    return {
        "execution": str(view.execution.path),
        "name": view.manifest.header.name,
        "stubs": status.total,
        **status.counts,
        "stubs_per_s": status.stubs_per_s,
        "eta_s": status.eta_s,
        "queue": [
            {
                "job": tasks.job,
                "cluster": tasks.cluster or None,
                "tasks": len(tasks),
                "state": tasks.state,
                "reason": tasks.reason,
                "expected_start": tasks.start or None,
            }
            for tasks in status.queue.tasks
        ],
        "queue_answered": status.queue.answered,
        "damaged": list(status.damaged),
        "workers": [
            {
                "worker": beat.worker,
                "alive": worker.alive,
                "silent_s": round(worker.silent_s, 1),
                "state": beat.state,
                "reason": beat.reason,
                "host": beat.node or beat.process.host,
                "job": beat.job,
                "gpus": beat.gpus,
                "memory_gb": beat.memory_gb,
                "stub": stub.title if stub else None,
                "samples": list(progress(worker)),
            }
            for worker in status.workers
            for beat in [worker.heartbeat]
            for stub in [current_stub(view, worker)]
        ],
    }


def current_stub(view: ExecutionView, worker: Worker) -> Stub | None:
    """What a worker is at; None while it has no bundle."""
    beat = worker.heartbeat
    return view.stub(beat.stub or next(iter(beat.samples), ""))


def progress(worker: Worker) -> tuple[int, int]:
    """Samples done and in total, over the stubs of the worker's bundle."""
    samples = worker.heartbeat.samples.values()
    return sum(done for done, _ in samples), sum(total for _, total in samples)

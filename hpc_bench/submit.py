"""Carries a plan out: writes the manifest, has a backend start workers, replaces those that die, waits."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpc_bench.backends.base import Backend, Submission, read_submissions
from hpc_bench.bundles import bundle_stubs
from hpc_bench.errors import ExecutionError
from hpc_bench.execution_dir import ExecutionDir
from hpc_bench.heartbeat import Worker
from hpc_bench.manifest import write_manifest
from hpc_bench.planner import Plan
from hpc_bench.status import Status, StatusReader

__all__ = ["Started", "prepare_execution", "start_workers", "wait_for_end"]

POLL_S = 0.5
START_GRACE_S = 60.0
"""A worker that has not written its first heartbeat by then did not start."""


@dataclass
class Started:
    """What a submission has running."""

    execution: ExecutionDir
    backend: Backend
    submissions: list[Submission]
    workers: int


def prepare_execution(plan: Plan) -> ExecutionDir:
    """The execution folder with the plan's manifest in it; ExecutionError if the disk does not let us."""
    base: Path = plan.sweep.base_result_dir
    execution = plan.execution
    missing = [path for path in (base, *base.parents) if not path.exists()]
    try:
        if execution is None:
            execution = ExecutionDir.create(base)
        execution.make_folders()
        write_manifest(execution, plan.manifest)
    except OSError as error:
        if plan.execution is None and execution is not None:
            execution.remove_empty()
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
        raise ExecutionError(_disk_problem(base, error)) from error
    return execution


def _disk_problem(base: Path, error: OSError) -> str:
    remedy = {
        errno.ENOSPC: "free some space",
        errno.EDQUOT: "free some of your quota",
        errno.EACCES: "choose a folder that you may write to",
        errno.EROFS: "choose a folder that can be written",
        errno.EEXIST: "choose a folder, not a file",
        errno.ENOTDIR: "choose a folder, not a file",
    }.get(error.errno or 0, "choose another folder")
    return f"base_result_dir: {base} cannot be written: {error.strerror}; {remedy}"


def start_workers(plan: Plan, backend: Backend, execution: ExecutionDir) -> Started:
    """Starts as many workers as there is work for, less those that are at it already."""
    reader = StatusReader(execution)
    alive = sum(worker.alive for worker in reader.read().workers)
    bundles = len(bundle_stubs(plan.manifest.header, plan.to_run, backend.slots(len(plan.to_run))))
    wanted = max(0, backend.slots(bundles) - alive)
    submissions = [backend.start(execution, wanted)] if wanted else []
    return Started(execution, backend, submissions, wanted)


def wait_for_end(started: Started, show: Callable[[StatusReader, Status], None]) -> Status:
    """Shows the status until all stubs ended; starts a worker for each that died, at most twice as many as at first.

    Returns earlier when nobody is left to work: every worker ended or broke, and no replacement is due.
    """
    reader = StatusReader(started.execution)
    spare = 2 * started.workers
    began = time.monotonic()
    replaced: set[str] = set()
    while True:
        status = reader.read()
        show(reader, status)
        if status.is_over and not any(worker.alive for worker in status.workers):
            return status
        dead, waiting = _dead_slots(started, reader, replaced, time.monotonic() - began)
        if dead and status.counts["pending"] and spare:
            count = min(len(dead), spare)
            spare -= count
            replaced.update(dead)
            started.submissions.append(started.backend.start(started.execution, count, already=started.workers))
            began = time.monotonic()
        elif not waiting and not any(worker.alive for worker in status.workers):
            return reader.read()
        time.sleep(POLL_S)


def _dead_slots(started: Started, reader: StatusReader, replaced: set[str], elapsed_s: float) -> tuple[list[str], bool]:
    """The slots of this submission whose worker died without ending in order, and whether some are still starting."""
    seen = {worker.heartbeat.slot: worker for worker in reader.board.workers.values()}
    dead, waiting = [], False
    for submission in started.submissions:
        for slot in submission.slots:
            worker = seen.get(slot)
            if worker is None and elapsed_s < START_GRACE_S:
                waiting = True
            elif slot not in replaced and _vanished(worker):
                dead.append(slot)
    return dead, waiting


def _vanished(worker: Worker | None) -> bool:
    return worker is None or (not worker.alive and worker.heartbeat.state not in ("ended", "broken"))


def stop_workers(execution: ExecutionDir, backends: dict[str, Backend]) -> int:
    """Asks every living worker of an execution to release its claims and end; returns how many were asked."""
    reader = StatusReader(execution)
    workers = {worker.heartbeat.worker: worker for worker in reader.read().workers if worker.alive}
    for submission in read_submissions(execution):
        if submission.backend in backends:
            backends[submission.backend].cancel(execution, submission, workers)
    return len(workers)

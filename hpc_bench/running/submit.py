"""Puts a plan on disk as an execution, new or resumed; and asks the workers of one to end."""

from __future__ import annotations

import dataclasses
import errno
import time
from contextlib import suppress
from pathlib import Path

from hpc_bench.errors import BackendError, ExecutionError
from hpc_bench.execution.folder import ExecutionDir, new_execution_marker, read_execution_marker
from hpc_bench.execution.header import parse_header
from hpc_bench.execution.manifest import Manifest, read_header, read_manifest, write_manifest
from hpc_bench.execution.submission import is_closed, read_submissions
from hpc_bench.files import create_exclusive, link_problem
from hpc_bench.running.backend import backend_class
from hpc_bench.running.status import StatusReader
from hpc_bench.sweep.plan import Plan

__all__ = ["prepare_execution", "stop_workers"]

NEW_EXECUTION_GRACE_S = 10.0


def prepare_execution(plan: Plan) -> ExecutionDir:
    """The execution folder with the plan's manifest in it; ExecutionError if the disk does not let us."""
    base = plan.sweep.base_result_dir
    _refuse_other_encodings(base)
    missing = [path for path in (base, *base.parents) if not path.exists()]
    try:
        if plan.execution is not None:
            plan.execution.make_folders()
            _refuse_without_links(base, plan.execution)
            _replace_manifest(plan.execution, plan.manifest)
            return plan.execution
        return _new_execution(base, plan)
    except (OSError, ExecutionError) as error:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError):
            raise ExecutionError(_disk_problem(base, error)) from error
        raise


def _refuse_without_links(base: Path, execution: ExecutionDir) -> None:
    """Workers could claim nothing, or twice the same."""
    if problem := link_problem(execution.claims):
        raise ExecutionError(
            f"base_result_dir: {base}: {problem}, so claims cannot work here; choose a base_result_dir on another "
            "filesystem"
        )


def _refuse_other_encodings(base: Path) -> None:
    """Workers are told where the results are in JSON, which is UTF-8."""
    try:
        str(base.resolve()).encode()
    except UnicodeEncodeError as error:
        raise ExecutionError(f"base_result_dir: the path {base.resolve()} is not UTF-8; rename the folder") from error


def _replace_manifest(execution: ExecutionDir, manifest: Manifest) -> None:
    """Leaves a manifest that asks for the same as it is."""
    with suppress(ExecutionError):
        if _asks(read_manifest(execution)) == _asks(manifest):
            return
    write_manifest(execution, manifest)


def _asks(manifest: Manifest) -> Manifest:
    header = dataclasses.replace(manifest.header, created="", provenance={}, measured={})
    return Manifest(parse_header(header.as_json()), manifest.stubs)  # as read from disk, where a tuple becomes a list


def _new_execution(base: Path, plan: Plan) -> ExecutionDir:
    """A new execution; where somebody else starts one of this name at the same time, both get that one."""
    execution = ExecutionDir.create(base)
    marker = new_execution_marker(base, plan.sweep.name, plan.previous)
    won = False
    try:
        _refuse_without_links(base, execution)
        won = create_exclusive(marker, execution.path.name)
        if won:
            write_manifest(execution, plan.manifest)
            return execution
    except OSError:
        if won:
            marker.unlink(missing_ok=True)
        raise
    finally:
        if not execution.manifest.exists():
            execution.remove_empty()
    name = read_execution_marker(marker)
    other = ExecutionDir(base / name)
    deadline = time.monotonic() + NEW_EXECUTION_GRACE_S
    while name and other.path.is_dir() and time.monotonic() < deadline:
        if other.manifest.exists() and read_header(other).name == plan.sweep.name:
            _replace_manifest(other, plan.manifest)
            return other
        time.sleep(0.1)
    marker.unlink(missing_ok=True)  # who made it never got to the manifest, or the execution was deleted since
    return _new_execution(base, plan)


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


def stop_workers(execution: ExecutionDir) -> int:
    """Asks every worker of an execution, also those still starting, to end; returns how many were asked."""
    if is_closed(execution):
        raise ExecutionError(f"{execution.jobs}: belongs to somebody else, who alone can end the workers")
    status = StatusReader(execution).read()
    workers = {worker.heartbeat.worker: worker for worker in status.workers if worker.alive}
    submissions = read_submissions(execution)
    problems = []
    for name in dict.fromkeys(submission.backend for submission in submissions):
        mine = [submission for submission in submissions if submission.backend == name]
        try:
            backend = backend_class(name)
        except BackendError as error:
            problems.append(f"{execution.submission(mine[0].name)}: {error}")
            continue
        try:
            backend.cancel(execution, mine, workers)
        except BackendError as error:  # the workers of other backends are asked all the same
            problems.append(str(error))
    if problems:
        raise BackendError("; ".join(problems))
    return len(workers) + len(status.starting) + status.waiting

"""Finds and follows the log of a stub."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from hpc_bench.errors import ExecutionError, unknown_name
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.results.result import STUB, standing_facts
from hpc_bench.execution.stub import Stub
from hpc_bench.execution.submission import JobArray, Submission, damaged_submissions, is_closed, read_submissions
from hpc_bench.execution.view import ExecutionView

_JOB = re.compile(r"(\d+)(_\d+)?(;\S+)?")
__all__ = ["find_log", "find_stub", "follow_file"]


def find_stub(stubs: tuple[Stub, ...], name: str) -> Stub:
    """The one stub that `name` means: its title or result path, a part or a glob of it; ExecutionError if not one."""
    wanted = name.strip("/")
    exact = [stub for stub in stubs if wanted in (stub.title, stub.result_path, stub.key)]
    near = exact or [s for s in stubs if wanted in s.title or wanted in s.result_path or fnmatchcase(s.title, wanted)]
    if len(near) == 1:
        return near[0]
    if near:
        some = ", ".join(stub.title for stub in near[:5])
        raise ExecutionError(f"{name!r} matches {len(near)} stubs ({some}{', ...' * (len(near) > 5)}); name one")
    raise ExecutionError(unknown_name("stub", name, [stub.title for stub in stubs[:50]]))


def find_log(execution: ExecutionDir, name: str) -> Path:
    """The log of the engine that last ran a stub, or of a Slurm job; ExecutionError if there is none yet."""
    if is_closed(execution):
        raise ExecutionError(f"{execution.jobs}: belongs to somebody else, who alone can read the logs in it")
    if job := _JOB.fullmatch(name):
        return _job_log(execution, job)
    view = ExecutionView(execution)
    view.refresh()
    stub = find_stub(view.manifest.stubs, name)
    attempt = view.state(stub).attempt
    if not attempt:
        raise ExecutionError(f"{stub.title} has not been started yet, so there is no log")
    log = execution.path / _log_name(view, stub, attempt)
    if not log.is_file():
        raise ExecutionError(f"the log of {stub.title} is gone: {log}")
    return log


def _job_log(execution: ExecutionDir, name: re.Match[str]) -> Path:
    job = f"{name[1]}{name[2] or ''}"
    submission, array = _array_of(execution, name[1], name[3] or "")
    log = execution.job_log(submission.name, job)
    if log.is_file():
        return log
    tasks = list(submission.jobs_of(array))
    started = [task for task in tasks if execution.job_log(submission.name, task).is_file()]
    if job == array.job and started:
        some = ", ".join(started[:10]) + ", ..." * (len(started) > 10)
        raise ExecutionError(f"job {job} is an array; name one of its tasks that have started: {some}")
    raise ExecutionError(f"job {job} has not started yet, so there is no log")


def _array_of(execution: ExecutionDir, job: str, cluster: str) -> tuple[Submission, JobArray]:
    """`cluster`: such as ;name, or nothing where the id is enough."""
    arrays = {array.key: (item, array) for item in read_submissions(execution) for array in item.arrays}
    same = [key for key in arrays if key == job + cluster] or [
        key for key, (_, array) in arrays.items() if array.job == job and not cluster
    ]
    if len(same) > 1:
        raise ExecutionError(f"job {job} is on several clusters; name one of them: {', '.join(same)}")
    if not same:
        raise ExecutionError("; ".join((unknown_name("job", job + cluster, arrays), *damaged_submissions(execution))))
    return arrays[same[0]]


def _log_name(view: ExecutionView, stub: Stub, attempt: int) -> str:
    """Relative to the execution folder; ExecutionError names the file that does not say it."""
    outcome = view.last_outcome(stub)
    if outcome and outcome.log:
        return outcome.log
    if view.state(stub).state == "complete":
        folder = view.execution.result(stub.result_path)
        facts = standing_facts(folder)
        log, source = (facts.log if facts else ""), folder / STUB
    elif outcome and outcome.error == "CorruptOutcome":
        log, source = "", view.execution.outcome(stub.key, attempt)
    else:
        holder = view.board.holder(stub.key, attempt)
        worker = view.board.workers.get(holder)
        log, source = (worker.heartbeat.log if worker else ""), view.execution.heartbeat(holder)
    if not log:
        raise ExecutionError(f"the log of {stub.title} is not known: {source} does not say it, or cannot be read")
    return log


def follow_file(path: Path, *, forever: bool) -> Iterator[str]:
    """A file's text, and with `forever` what is added to it."""
    with path.open(encoding="utf-8", errors="replace") as file:
        while True:
            text = file.read()
            if text:
                yield text
            if not forever:
                return
            time.sleep(0.3)

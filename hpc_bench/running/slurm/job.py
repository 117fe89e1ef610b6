"""What runs in a task of the job array: one worker, and what Slurm must hear of how it ended."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from submitit.helpers import Checkpointable

from hpc_bench.errors import BackendError, TemporaryFolderError
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.heartbeat import broken_nodes
from hpc_bench.execution.submission import is_told_to_stop
from hpc_bench.execution.view import ExecutionView
from hpc_bench.files import list_names
from hpc_bench.running.slurm.commands import run_slurm
from hpc_bench.running.worker.worker import WorkerEnd, WorkerSpec, run_worker

__all__ = ["SlurmJob"]

UNSEEN_S = 60.0
"""For so long a compute node may not see what the login node has just written."""
_log = logging.getLogger("submitit")


class SlurmJob(Checkpointable):  # type: ignore[misc]  # submitit has no types here
    """One task's worker. submitit requeues it with the same spec: all that it must know again lies on the disk."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec

    def __call__(self) -> str:
        """Drains what it can within its walltime; returns why it ended, or ends in a requeue."""
        requeue: Any = signal.getsignal(signal.SIGUSR2)  # submitit's, which the worker's own handlers replace
        _wait_until_seen(Path(self._spec.execution))
        cpus = os.environ.get("SLURM_CPUS_ON_NODE", "")
        spec = replace(self._spec, threads=int(cpus)) if cpus.isascii() and cpus.isdigit() else self._spec
        execution = ExecutionDir(Path(self._spec.execution))
        if is_told_to_stop(execution, self._spec.slot):  # Slurm may start again what was cancelled
            return "told to stop before it started"
        with _node_local_folders():
            end = run_worker(spec, _cancel_pending)
        if end.bad_device:
            _exclude_nodes(broken_nodes(ExecutionDir(Path(self._spec.execution))))
        if end.kind == "broken":
            _log.error("broken: %s", end.reason)
            sys.exit(1)  # so that Slurm's own records do not call the job completed
        if end.signal == signal.SIGUSR2 and self._has_work():
            return _requeue(requeue, end)
        return end.reason

    def _has_work(self) -> bool:
        view = ExecutionView(ExecutionDir(Path(self._spec.execution)))
        view.refresh()
        stubs = view.by_state()
        return bool(stubs["pending"] or stubs["running"])


def _wait_until_seen(execution: Path) -> None:
    """Network filesystems show a new folder late; listing its parents makes them look again."""
    deadline = time.monotonic() + UNSEEN_S
    while not ExecutionDir(execution).manifest.exists() and time.monotonic() < deadline:
        for folder in (execution.parent, execution):
            list(list_names(folder))
        time.sleep(1)


@contextmanager
def _node_local_folders() -> Iterator[None]:
    """TMPDIR and Triton's cache on this node's own disk, for this job alone: shared ones are slow and full of locks."""
    folder = _new_folder(f"hpc-bench-{os.environ.get('SLURM_JOB_ID', '')}-")
    os.environ.update(TMPDIR=folder, TRITON_CACHE_DIR=str(Path(folder) / "triton"))
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _new_folder(prefix: str) -> str:
    """In the first place that takes it: TMPDIR may be the login node's, and not be there on this one."""
    places = [place for name in ("SLURM_TMPDIR", "TMPDIR") if (place := os.environ.get(name))]
    for place in places:
        with suppress(OSError):
            return tempfile.mkdtemp(prefix=prefix, dir=place)
    try:
        return tempfile.mkdtemp(prefix=prefix, dir="/tmp")
    except OSError as error:
        raise TemporaryFolderError(error, f"no temporary folder in {', '.join([*places, '/tmp'])}") from error  # noqa: S108


def _cancel_pending() -> None:
    """The tasks of this array that have not started would find nothing to do."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array:
        _tell("scancel", "--state=PENDING", array)


def _exclude_nodes(nodes: list[str]) -> None:
    """Keeps the tasks of this array that have not started away from nodes that do not work."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    partition = os.environ.get("SLURM_JOB_PARTITION", "")
    others = set(_tell("sinfo", "--noheader", "-N", f"--partition={partition}", "--format=%N").split()) - set(nodes)
    if array and nodes and others:  # with no node left they would wait for ever, and nobody would be told why
        # This job's own list is from before others broke, but it holds what the sweep excludes.
        shown = _tell("scontrol", "--oneliner", "show", "job", os.environ["SLURM_JOB_ID"])
        match = re.search(r"ExcNodeList=(\S+)", shown)
        already = match.group(1) if match and match.group(1) != "(null)" else ""
        _tell("scontrol", "update", f"JobId={array}", f"ExcNodeList={','.join(filter(None, (already, *nodes)))}")


def _tell(*command: str) -> str:
    """Runs a command whose failure harms nothing; a container may not have it, and running tasks cannot be updated."""
    try:
        return run_slurm(*command)
    except BackendError as error:
        _log.info("%s: %s", " ".join(command), error)
        return ""


def _requeue(requeue: Any, end: WorkerEnd) -> str:
    """Has submitit checkpoint and requeue this job, which ends this process; returns only if that is refused."""
    try:
        requeue(signal.SIGUSR2, None)
    except (subprocess.SubprocessError, OSError) as error:
        _log.warning("not requeued (%s); pending tasks of the array, or the next submit, go on", error)
    return f"{end.reason}, not requeued"

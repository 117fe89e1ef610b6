"""Who is working on an execution, and who is dead, judged by the filesystem's clock."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

import psutil
import pydantic

from hpc_bench.execution_dir import ExecutionDir
from hpc_bench.files import filesystem_now, list_names, to_json, write_whole

__all__ = ["Heartbeat", "Process", "Worker", "read_workers", "this_process", "write_heartbeat"]

WorkerState = Literal["starting", "loading", "running", "ended", "broken"]


@dataclass(frozen=True)
class Process:
    """A process, so described that no other one on any machine is taken for it."""

    host: str
    boot: str
    pid_space: str
    """Containers on one host have the host's boot id, but their own process ids."""
    pid: int
    started: float
    """Seconds since the epoch by the host's clock; tells a reused pid."""

    def is_gone(self) -> bool:
        """True if it surely runs no more; False if it runs, or if that cannot be told from here."""
        here = this_process()
        if (self.host, self.boot, self.pid_space) != (here.host, here.boot, here.pid_space):
            return False
        if not psutil.pid_exists(self.pid):
            return True
        try:
            process = psutil.Process(self.pid)
            return process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - self.started) > 5
        except psutil.Error:
            return False


@cache
def _this_process(pid: int) -> Process:
    return Process(
        host=socket.gethostname(),
        boot=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        pid_space=str(Path("/proc/self/ns/pid").readlink()),
        pid=pid,
        started=psutil.Process(pid).create_time(),
    )


def this_process() -> Process:
    """The calling process."""
    return _this_process(os.getpid())


@dataclass(frozen=True)
class Heartbeat:
    """What a worker says of itself; rewritten as long as it lives."""

    worker: str
    slot: str
    submission: str
    backend: str
    process: Process
    state: WorkerState = "starting"
    reason: str = ""
    """Why it ended, or what is broken."""
    job: str = ""
    """The scheduler's id."""
    gpus: str = ""
    """The slot's device mask; empty: the CPU."""
    log: str = ""
    """The log of its engine, relative to the execution folder."""
    stub: str = ""
    """Key of the stub that is being answered."""
    samples: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Stub key -> samples done and in total, for the stubs of its bundle."""
    memory_gb: float | None = None
    """The device's memory in use, or the engine's own on the CPU."""


@dataclass(frozen=True)
class Worker:
    """A worker as seen from outside."""

    heartbeat: Heartbeat
    silent_s: float
    """Since its last heartbeat, by the filesystem's clock."""
    alive: bool


def write_heartbeat(execution: ExecutionDir, heartbeat: Heartbeat) -> None:
    """Replaces a worker's heartbeat."""
    write_whole(execution.heartbeat(heartbeat.worker), to_json(dataclasses.asdict(heartbeat)))


def read_workers(execution: ExecutionDir, lease_s: float) -> dict[str, Worker]:
    """Every worker that ever wrote a heartbeat. One that ended, or is silent for longer than the lease, is dead;
    so is one whose process is surely gone.
    """
    now = filesystem_now(execution.workers)
    workers = {}
    for name in list_names(execution.workers):
        if name.endswith(".json"):
            path = execution.workers / name
            try:
                silent_s = now - path.stat().st_mtime
                heartbeat = _validator().validate_json(path.read_bytes())
            except (OSError, ValueError):
                continue
            ended = heartbeat.state in ("ended", "broken")
            alive = not ended and silent_s <= lease_s and not heartbeat.process.is_gone()
            workers[heartbeat.worker] = Worker(heartbeat, silent_s, alive)
    return workers


@cache
def _validator() -> pydantic.TypeAdapter[Heartbeat]:
    return pydantic.TypeAdapter(Heartbeat)

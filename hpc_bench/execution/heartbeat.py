"""Who is working on an execution, and who is dead, judged by the filesystem's clock."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import psutil
import pydantic

from hpc_bench.execution.attempts.claims import PhaseName
from hpc_bench.execution.credentials import redact
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.schema import InnerPath, dump_as, read_as
from hpc_bench.execution.slot import Slot, SlotName
from hpc_bench.files import encodable, filesystem_now, list_names, write_whole

__all__ = [
    "Heartbeat",
    "Process",
    "Silence",
    "Worker",
    "WorkerState",
    "broken_nodes",
    "child_process",
    "damaged_heartbeats",
    "read_workers",
    "this_process",
    "worker_name",
    "write_heartbeat",
]

_UNREADABLE = "unreadable"
BAD_DEVICE_S = 12 * 3600.0
WorkerState = Literal["starting", "loading", "running", "ended", "broken"]


@dataclass(frozen=True)
class Process:
    """A process, so described that no other one on any machine is taken for it."""

    host: str
    boot: str
    pid_space: str
    """Containers on one host have the host's boot id, but their own process ids."""
    pid: Annotated[int, pydantic.Field(gt=0, lt=2**31)]
    started_ticks: int
    """Clock ticks from the boot to its start; tells a reused pid, and no clock change moves it."""
    time_space: str = ""
    """Each time namespace counts from a boot of its own; empty in heartbeats of the first versions."""

    @property
    def is_here(self) -> bool:
        """Whether its process id means something to this process, and its files are seen here as soon as they are."""
        here = this_process()
        mine = (here.host, here.boot, here.pid_space, here.time_space)
        return (self.host, self.boot, self.pid_space, self.time_space) == mine

    def is_gone(self) -> bool:
        """True if it surely runs no more; False if it runs, or if that cannot be told from here."""
        if not self.is_here or not _proc_shows_our_ids():
            return False
        if not psutil.pid_exists(self.pid):
            return True
        try:
            state, ticks = _stat(self.pid)
        except OSError:  # /proc hides other users' processes
            return False
        return state == "Z" or ticks != self.started_ticks


def _proc_shows_our_ids() -> bool:
    """Whether /proc was mounted in this process's own pid namespace; elsewhere a number in it is another process."""
    try:
        return Path("/proc/self").readlink().name == str(os.getpid())
    except OSError:
        return False


def _stat(pid: int | str) -> tuple[str, int]:
    """State and start of a process (proc(5), fields 3 and 22); psutil tells the start by a clock that can be set."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _namespace(kind: str) -> str:
    try:
        return str(Path(f"/proc/self/ns/{kind}").readlink())
    except OSError:  # a kernel without time namespaces
        return ""


@cache
def _this_process(pid: int) -> Process:
    return Process(
        host=socket.gethostname(),
        boot=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        pid_space=_namespace("pid"),
        pid=pid,
        started_ticks=_stat("self")[1],
        time_space=_namespace("time"),
    )


def this_process() -> Process:
    """The calling process."""
    return _this_process(os.getpid())


def child_process(pid: int) -> Process:
    """A process that this one has started; also one that has ended since."""
    try:
        ticks = _stat(pid)[1]
    except OSError:
        ticks = 0  # no process that comes to have this id later is taken for it
    return replace(this_process(), pid=pid, started_ticks=ticks)


@dataclass(frozen=True)
class Heartbeat:
    """What a worker says of itself; rewritten as long as it lives."""

    worker: str
    slot: SlotName
    backend: str
    process: Process
    state: WorkerState = "starting"
    reason: str = ""
    """Why it ended, or what is broken."""
    job: str = ""
    """The scheduler's id."""
    gpus: str = ""
    """The slot's device mask; empty: the CPU."""
    log: InnerPath = ""
    """Of its engine."""
    stub: str = ""
    """Key of the stub that is being answered."""
    node: str = ""
    """Slurm's name for the machine, where Slurm runs it."""
    bad_device: bool = False
    """Whether it is broken because the node's device does not work."""
    answered: int = 0
    """Samples that it has had answered so far."""
    gained: int = 0
    """How many of those are of its present bundle."""
    samples: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Stub key -> samples done and in total, for the stubs of its bundle."""
    memory_gb: float | None = None
    """The device's memory in use, or the engine's own on the CPU."""

    def phase_of(self, stub: str) -> PhaseName:
        """What its engine was at, for the stub of a key, when this was written."""
        if stub not in self.samples:
            return ""
        if self.state == "loading":
            return "loading"
        return "answering" if self.stub in ("", stub) else "waiting"


@dataclass(frozen=True)
class Worker:
    """A worker as seen from outside."""

    heartbeat: Heartbeat
    silent_s: float
    """Since its last heartbeat, by the filesystem's clock."""
    alive: bool


def write_heartbeat(execution: ExecutionDir, heartbeat: Heartbeat) -> None:
    """Replaces a worker's heartbeat."""
    heartbeat = replace(heartbeat, reason=redact(encodable(heartbeat.reason)))  # an error may quote anything
    write_whole(execution.heartbeat(heartbeat.worker), dump_as(Heartbeat, heartbeat))


class Silence:
    """How long files have not changed, by the filesystem's clock. Since that clock, too, may be set back, whoever looks
    again and again also counts for how long he has seen no change.
    """

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[float, float]] = {}
        """File -> when it was changed, and since when that has been seen here, by this process's own clock."""

    def of(self, path: Path, now: float) -> float:
        """Seconds; `now`: by the filesystem's clock. OSError if the file cannot be looked at."""
        changed, here = path.stat().st_mtime, time.monotonic()
        if path not in self._seen or self._seen[path][0] != changed:
            self._seen[path] = changed, here
        return max(now - changed, here - self._seen[path][1])


def read_workers(
    execution: ExecutionDir, lease_s: float, now: float | None = None, silence: Silence | None = None
) -> dict[str, Worker]:
    """Every worker that ever wrote a heartbeat. One that ended, or is silent for longer than the lease, is dead;
    so is one whose process is surely gone. `now`: by the filesystem's clock, where the caller has asked it; `silence`:
    of a caller who looks again and again.
    """
    silence = silence or Silence()
    now = filesystem_now(execution.workers) if now is None else now
    workers = {}
    for name in list_names(execution.workers):
        if name.endswith(".json"):
            try:
                silent_s = silence.of(execution.workers / name, now)
            except OSError:
                continue
            heartbeat = _read(execution, name.removesuffix(".json"))
            ended = heartbeat.state in ("ended", "broken")
            alive = not ended and silent_s <= lease_s and not heartbeat.process.is_gone()
            workers[heartbeat.worker] = Worker(heartbeat, silent_s, alive)
    return workers


def broken_nodes(execution: ExecutionDir) -> list[str]:
    """The Slurm nodes whose device did not work in the last hours; who repairs one may wait, or start afresh."""
    now = filesystem_now(execution.workers)
    nodes = set()
    for name in list_names(execution.workers):
        with suppress(OSError):
            if name.endswith(".json") and now - (execution.workers / name).stat().st_mtime < BAD_DEVICE_S:
                beat = _read(execution, name.removesuffix(".json"))
                nodes |= {beat.node} if beat.bad_device and beat.node else set()
    return sorted(nodes)


def _read(execution: ExecutionDir, worker: str) -> Heartbeat:
    """A heartbeat; where it cannot be read (a network filesystem's stale handle), its age alone will have to do."""
    for _ in range(2):
        with suppress(OSError, ValueError):
            heartbeat = read_as(Heartbeat, execution.heartbeat(worker))
            if heartbeat.worker != worker:
                raise ValueError("another worker's heartbeat")
            return heartbeat
    nowhere = Process("?", "", "", 0, 0)
    return Heartbeat(worker, _slot_of(worker), worker.partition("-")[0], nowhere, reason=_UNREADABLE)


def damaged_heartbeats(execution: ExecutionDir, workers: Mapping[str, Worker]) -> list[str]:
    """What is wrong with the heartbeats that could not be read, a line each, with the file and what to do."""
    return [
        f"{execution.heartbeat(name)}: is corrupt; its worker is alive as long as the file is young, so move it away "
        "if the worker has ended"
        for name, worker in workers.items()
        if worker.heartbeat.reason == _UNREADABLE
    ]


def worker_name(slot: Slot) -> str:
    """A name for a new worker of a slot, which no other worker has."""
    return f"{slot}.{secrets.token_hex(8)}"


def _slot_of(worker: str) -> Slot:
    try:
        return Slot.parse(worker.rpartition(".")[0])
    except ValueError:
        return Slot(worker, 0)

"""How an execution stands right now: counts, workers, rate, time left; from the disk alone."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hpc_bench.claims import Board, Outcome, StubState
from hpc_bench.execution_dir import ExecutionDir
from hpc_bench.files import filesystem_now
from hpc_bench.heartbeat import Worker
from hpc_bench.manifest import Manifest, Stub, read_manifest
from hpc_bench.submission import read_submissions

__all__ = ["Status", "StatusReader"]

_RATE_FROM_LAST_S = 3600.0
START_GRACE_S = 60.0
"""A worker that has not written its first heartbeat by then did not start."""


@dataclass(frozen=True)
class Status:
    """One look at an execution."""

    total: int
    counts: dict[str, int]
    """complete, failed, running, pending -> stubs"""
    workers: tuple[Worker, ...]
    """Those alive, and those of the newest submission that broke."""
    starting: int
    """Workers that were started a moment ago and have not said anything yet"""
    stubs_per_s: float | None
    eta_s: float | None

    @property
    def is_over(self) -> bool:
        """Whether nothing is left that a worker could do."""
        return self.counts["running"] == self.counts["pending"] == 0


class StatusReader:
    """Looks at an execution again and again, reading only what can have changed."""

    def __init__(self, execution: ExecutionDir) -> None:
        self.execution = execution
        self.manifest: Manifest = read_manifest(execution)
        self.board = Board(execution, self.manifest.header, float(self.manifest.header.limits["lease_s"]))
        self._titles = {stub.key: stub for stub in self.manifest.stubs}
        self.starting: set[str] = set()
        """Slots of workers that were started a moment ago and have not said anything yet"""
        self._finished: dict[str, float] = {}

    def read(self) -> Status:
        """The present status."""
        self.board.refresh()
        counts: Counter[str] = Counter(complete=0, failed=0, running=0, pending=0)
        done = []
        for stub in self.manifest.stubs:
            state = self.board.state(stub).state
            counts[state] += 1
            if state == "complete":
                done.append(stub)
        self.starting = self._starting_slots()
        rate = self._rate(done)
        left = counts["running"] + counts["pending"]
        newest = max((w.heartbeat.submission.partition("-")[2] for w in self.board.workers.values()), default="")
        workers = [
            worker
            for worker in self.board.workers.values()
            if worker.alive
            or (worker.heartbeat.state == "broken" and worker.heartbeat.submission.endswith(f"-{newest}"))
        ]
        workers.sort(key=lambda worker: worker.heartbeat.worker)
        eta = left / rate if rate and left and any(worker.alive for worker in workers) else None
        return Status(len(self.manifest.stubs), dict(counts), tuple(workers), len(self.starting), rate, eta)

    def stub(self, key: str) -> Stub | None:
        """The stub with a key."""
        return self._titles.get(key)

    def state(self, stub: Stub) -> StubState:
        """Where a stub stood at the last reading."""
        return self.board.state(stub)

    def last_outcome(self, stub: Stub) -> Outcome | None:
        """How the stub's last attempt ended, if it ended without a result."""
        state = self.board.state(stub)
        if state.state not in ("failed", "pending") or not state.attempt:
            return None
        return self.board.outcome(stub.key, state.attempt)

    def _starting_slots(self) -> set[str]:
        now = filesystem_now(self.execution.workers)
        seen = {worker.heartbeat.slot for worker in self.board.workers.values()}
        slots: set[str] = set()
        for submission in read_submissions(self.execution):
            with suppress(OSError):
                age_s = now - self.execution.submission(submission.name).stat().st_mtime
                slots |= set(submission.slots) if age_s < START_GRACE_S else set()
        return slots - seen

    def _rate(self, done: list[Stub]) -> float | None:
        """Stubs a second since the newest submission, within the last hour; each result's time is read once."""
        now = filesystem_now(self.execution.workers)
        try:
            started = max(path.stat().st_mtime for path in self.execution.jobs.glob("*.json"))
        except (ValueError, OSError):
            return None
        since = max(started, now - _RATE_FROM_LAST_S)
        for stub in done:
            if stub.result_path not in self._finished:
                with suppress(OSError):
                    self._finished[stub.result_path] = self.execution.result(stub.result_path).stat().st_mtime
        recent = sum(moment >= since for moment in self._finished.values())
        return recent / (now - since) if recent and now > since else None


def as_json(reader: StatusReader, status: Status) -> dict[str, Any]:
    """The status for programs."""
    return {
        "execution": str(reader.execution.path),
        "name": reader.manifest.header.name,
        "stubs": status.total,
        **status.counts,
        "stubs_per_s": status.stubs_per_s,
        "eta_s": status.eta_s,
        "workers": [
            {
                "worker": beat.worker,
                "alive": worker.alive,
                "silent_s": round(worker.silent_s, 1),
                "state": beat.state,
                "reason": beat.reason,
                "host": beat.process.host,
                "job": beat.job,
                "gpus": beat.gpus,
                "memory_gb": beat.memory_gb,
                "stub": stub.title if stub else None,
                "samples": list(progress(worker)),
            }
            for worker in status.workers
            for beat in [worker.heartbeat]
            for stub in [current_stub(reader, worker)]
        ],
    }


def current_stub(reader: StatusReader, worker: Worker) -> Stub | None:
    """What a worker is at; None while it has no bundle."""
    beat = worker.heartbeat
    return reader.stub(beat.stub or next(iter(beat.samples), ""))


def progress(worker: Worker) -> tuple[int, int]:
    """Samples done and in total, over the stubs of the worker's bundle."""
    samples = worker.heartbeat.samples.values()
    return sum(done for done, _ in samples), sum(total for _, total in samples)

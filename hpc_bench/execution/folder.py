"""Where everything lies on disk: every path below a base result dir is a property of `ExecutionDir`."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from hpc_bench.errors import ExecutionError
from hpc_bench.execution.private_folder import make_private
from hpc_bench.files import list_names, open_regular

__all__ = ["RESERVED", "ExecutionDir", "new_execution_marker", "read_execution_marker", "sanitize"]

_NAME = re.compile(r"execution_[0-9]{8}_[0-9]{6}")
_LONGEST_NAME = 100
RESERVED = re.compile(r"manifest(\.\d+)?\.jsonl|execution_summary\.json|summary\.csv")
"""Names at the level of the model folders that no model folder may take."""


def sanitize(name: str) -> str:
    """The folder name for a model, config, benchmark or subset: only letters, digits, dot and underscore.

    >>> sanitize("meta-llama/Llama-3.1-8B-Instruct")
    'meta_llama_Llama_3.1_8B_Instruct'
    """
    clean = re.sub(r"[^A-Za-z0-9._]", "_", name)
    dots = len(clean) - len(clean.lstrip("."))
    return "_" * dots + clean[dots:]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def new_execution_marker(base: Path, name: str, previous: str) -> Path:
    """The file whose maker may start the execution that follows `previous` for a sweep of this name."""
    # Several names have one sanitized form.
    exact = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:12]
    return base / f".new-{sanitize(name)}-{exact}-after-{previous or 'none'}"


def read_execution_marker(marker: Path) -> str:
    """The name of the execution that the maker of such a file started; empty where it holds no such name."""
    try:
        with open_regular(marker) as file:
            name = file.read(_LONGEST_NAME + 1).decode()
    except (OSError, ValueError):
        return ""
    return name if _NAME.fullmatch(name) else ""


@dataclass(frozen=True)
class ExecutionDir:
    """One `execution_YYYYMMDD_HHMMSS` folder."""

    path: Path

    @classmethod
    def create(cls, base: Path) -> ExecutionDir:
        """A new folder named after the time; two that start in one second get two names."""
        moment = datetime.now()
        while True:
            execution = cls(base / moment.strftime("execution_%Y%m%d_%H%M%S"))
            try:
                execution.path.mkdir(parents=True)
            except FileExistsError:
                moment += timedelta(seconds=1)
                continue
            try:
                execution.make_folders()
            except (OSError, ExecutionError):
                execution.remove_empty()
                raise
            return execution

    @classmethod
    def all_in(cls, base: Path) -> list[ExecutionDir]:
        """The executions in a base result dir, the newest first."""
        return [cls(base / name) for name in sorted(list_names(base), reverse=True) if _NAME.fullmatch(name)]

    @classmethod
    def locate(cls, folder: Path, name: str | None = None) -> ExecutionDir:
        """The execution that `folder` is, or the newest one in it, or the one called `name`."""
        if not _is_folder(folder):
            what = "is a file" if _is_file(folder) else "no such folder"
            raise ExecutionError(f"{folder}: {what}; name a base result dir or an execution folder")
        if name is None and (folder / "manifest.jsonl").exists():
            return cls(folder)
        every = cls.all_in(folder)
        found = [item for item in every if item.manifest.exists()]
        for item in found:
            if name is None or item.path.name in (name, f"execution_{name}"):
                return item
        for above in folder.absolute().parents if not found else ():
            if (above / "manifest.jsonl").exists():
                raise ExecutionError(f"{folder}: is a part of an execution; name the whole, {above}")
        if every and not found:
            raise ExecutionError(
                f"{every[0].manifest}: is missing; put back the newest manifest.<k>.jsonl beside it, or submit again"
            )
        known = ", ".join(item.path.name for item in found) or "none"
        raise ExecutionError(f"{folder}: no execution {name or ''} here (found: {known}); `hpc-bench submit` makes one")

    def make_folders(self) -> None:
        """Creates the folders that workers write to; ExecutionError where others may have put jobs there."""
        for folder in (self.attempts, self.claims, self.outcomes, self.workers):
            folder.mkdir(parents=True, exist_ok=True)
        make_private(self.jobs)

    def remove_empty(self) -> None:
        """Takes back the folders of an execution that got no manifest; one that holds something stays."""
        inner = (self.attempts, self.claims, self.outcomes, self.workers, self.jobs)
        for folder in (*inner, self.state, self.path):
            with suppress(OSError):
                folder.rmdir()

    @property
    def manifest(self) -> Path:
        """The list of stubs, replaced whole by every submission."""
        return self.path / "manifest.jsonl"

    def earlier_manifest(self, number: int) -> Path:
        """The manifest of the `number`-th submission, kept when a later one replaced it."""
        return self.path / f"manifest.{number}.jsonl"

    @property
    def summary_json(self) -> Path:
        """The collector's summary."""
        return self.path / "execution_summary.json"

    @property
    def summary_csv(self) -> Path:
        """The collector's table, one row a stub."""
        return self.path / "summary.csv"

    def result(self, result_path: str) -> Path:
        """The published result of a stub; `result_path` is `Stub.result_path`."""
        return self.path / result_path

    @property
    def state(self) -> Path:
        """Everything that a user need not read."""
        return self.path / ".state"

    @property
    def attempts(self) -> Path:
        """Where attempts write until they are published."""
        return self.state / "attempts"

    def attempt(self, key: str, number: int) -> Path:
        """The folder of one attempt at a stub."""
        return self.attempts / f"{key}.{number}"

    @property
    def claims(self) -> Path:
        """One file a claimed attempt."""
        return self.state / "claims"

    def claim(self, key: str, number: int) -> Path:
        """Who holds an attempt."""
        return self.claims / f"{key}.{number}"

    @property
    def outcomes(self) -> Path:
        """One file an attempt that ended without a result."""
        return self.state / "outcomes"

    def outcome(self, key: str, number: int) -> Path:
        """How an attempt ended that gave no result."""
        return self.outcomes / f"{key}.{number}.json"

    @property
    def workers(self) -> Path:
        """One heartbeat file a worker."""
        return self.state / "workers"

    def heartbeat(self, worker: str) -> Path:
        """A worker's heartbeat."""
        return self.workers / f"{worker}.json"

    def stop_request(self, name: str) -> Path:
        """Exists when the workers of a slot, or of a whole submission, shall release their claims and end."""
        return self.workers / f"{name}.stop"

    @property
    def queue(self) -> Path:
        """What the scheduler's queue said last, for all that look."""
        return self.state / "queue.json"

    @property
    def turns(self) -> Path:
        """Who submitted workers, one after the other."""
        return self.state / "turns"

    def turn(self, number: int) -> Path:
        """Who submits workers at present, if it is the last one."""
        return self.turns / str(number)

    @property
    def jobs(self) -> Path:
        """Submissions, the scheduler's folders, logs; its owner's alone, since pickles in it are executed."""
        return self.state / "jobs"

    def submission(self, name: str) -> Path:
        """What a submission started: backend, slots, job ids."""
        return self.jobs / f"{name}.json"

    def launch_log(self, submission: str) -> Path:
        """What starting the workers printed."""
        return self.jobs / f"{submission}.log"

    def job_folder(self, name: str) -> Path:
        """submitit's folder for the worker of one slot, or for those of a whole submission."""
        return self.jobs / name

    def job_log(self, submission: str, job: str) -> Path:
        """What a Slurm job of a submission printed, its setup lines and its worker."""
        return self.job_folder(submission) / f"{job}_0_log.out"

    def engine_log(self, worker: str, number: int) -> Path:
        """What a worker's `number`-th engine printed."""
        return self.jobs / f"{worker}.engine{number}.log"

    def remote_code(self, worker: str) -> Path:
        """Where a worker's engines keep the code that models without a class in transformers bring along."""
        return self.jobs / f"{worker}.modules"

    @property
    def rescoring(self) -> Path:
        """Where new scores are written before they are put in the place of earlier ones; else it is not there."""
        return self.state / "rescoring"

    def discarded(self, moment: str) -> Path:
        """Where stale results were moved at `moment`."""
        return self.state / "discarded" / moment

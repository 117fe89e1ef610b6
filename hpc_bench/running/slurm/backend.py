"""A Slurm cluster: job arrays of GPU workers, throttled together to the sweep's cap."""

from __future__ import annotations

import dataclasses
import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from hpc_bench.errors import BackendError
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.header import Header
from hpc_bench.execution.heartbeat import Worker, broken_nodes, read_workers
from hpc_bench.execution.stub import Stub
from hpc_bench.execution.submission import JobArray, Submission, new_submission_name, read_submissions
from hpc_bench.execution.view import ExecutionView
from hpc_bench.files import filesystem_now, list_names
from hpc_bench.running.backend import Backend
from hpc_bench.running.slurm.arrays import ArrayChanges, LivingArray, NewArray, change_arrays, find_needs
from hpc_bench.running.slurm.commands import clean_environment, has_slurm, max_array_size, run_slurm
from hpc_bench.running.slurm.queue import Queue, read_queue
from hpc_bench.running.slurm.turn import submitting_alone
from hpc_bench.sweep.slurm_section import SlurmSection

__all__ = ["SlurmBackend"]

DEFAULT_CAP = 8
LAUNCH_TIMEOUT_S = 600


class SlurmBackend(Backend):
    """Workers as tasks of job arrays; what of them runs when is Slurm's to say."""

    name = "slurm"

    def __init__(
        self, settings: SlurmSection, max_concurrent_runs: int | None, sweep_name: str, gpus_per_model: int = 0
    ) -> None:
        """`gpus_per_model`: the most that a model of the sweep needs."""
        given = settings.gpus_per_node
        if given and given < gpus_per_model:
            raise BackendError(
                f"slurm.gpus_per_node is {given}, but a model of the sweep needs {gpus_per_model} GPUs; raise it, or "
                "leave it out to give each model what it needs"
            )
        self.size = max_concurrent_runs or DEFAULT_CAP
        self._capped = max_concurrent_runs is not None
        self._settings = settings
        self._name = sweep_name

    def describe(self, header: Header, stubs: Sequence[Stub]) -> str:
        """The arrays as they would be if none were in the queue yet."""
        arrays = ", ".join(_words(array) for array in self._arrays(header, stubs))
        cap = "max_concurrent_runs" if self._capped else "the default of max_concurrent_runs"
        where = f"partition {self._settings.partition}" if self._settings.partition else "the default partition"
        return f"Slurm, {where}, {self._settings.time_min} min a job: {arrays} (cap {self.size}: {cap})"

    def check(self, base: Path, header: Header, stubs: Sequence[Stub]) -> None:
        """Asks Slurm whether it would take the arrays; BackendError holds its message."""
        if not has_slurm():
            raise BackendError(
                "there is no sbatch here, so this is no login node of a Slurm cluster; log in to one, or use "
                "--backend local"
            )
        if set(str(base.resolve())) & set("%\\"):
            raise BackendError(f"base_result_dir: {base.resolve()}: Slurm cannot write to a path with % or \\ in it")
        for array in self._arrays(header, stubs):
            run_slurm("sbatch", "--test-only", text=self._script(base, array))

    def scripts(self, folder: Path, header: Header, stubs: Sequence[Stub]) -> list[tuple[str, str]]:
        """What each array is, and its sbatch script, as if none were in the queue yet; `folder`: the execution's."""
        return [(_words(array), self._script(folder, array)) for array in self._arrays(header, stubs)]

    def _script(self, folder: Path, array: NewArray, settings: SlurmSection | None = None) -> str:
        from hpc_bench.running.slurm.sbatch import ArrayRequest, sbatch_script

        request = ArrayRequest(array, settings or self._settings, self._name)
        return sbatch_script(request, ExecutionDir(folder.absolute()).job_folder("slurm-submission"))

    def _arrays(self, header: Header, stubs: Sequence[Stub]) -> list[NewArray]:
        return self._changes(header, stubs, (), ()).new

    def _changes(
        self, header: Header, stubs: Sequence[Stub], living: Sequence[LivingArray], busy: Sequence[Stub]
    ) -> ArrayChanges:
        needs = find_needs(header, stubs, self.size, self._settings.gpus_per_node, busy)
        return change_arrays(needs, living, self.size, self._max_array_size)

    @cached_property
    def _max_array_size(self) -> int:
        size, limit = max_array_size(), self._settings.max_array_size
        return max(1, min(size, limit) if limit else size)  # 0: arrays are turned off, so each is a single job

    def start(self, execution: ExecutionDir, header: Header, stubs: Sequence[Stub]) -> list[str]:
        """Fits the arrays in the queue to the cap and submits what is missing; returns a line for each thing done."""
        with submitting_alone(execution):  # what another one submits at the same time counts towards the cap
            return self._start(execution, header, stubs)

    def _start(self, execution: ExecutionDir, header: Header, stubs: Sequence[Stub]) -> list[str]:
        submissions = [item for item in read_submissions(execution) if item.backend == self.name]
        living = _living(execution, submissions, header.limits.lease_s)
        changes = self._changes(header, stubs, living, _busy(execution) if living else ())
        done = []
        for job, throttle in changes.throttles.items():
            _throttle(job, throttle)
            done.append(f"job {job}: at most {throttle} at once" if throttle else f"job {job}: waiting tasks cancelled")
        for name in changes.stop:
            execution.stop_request(_slot_of(submissions, name)).touch()
            done.append(f"job {name}: asked to end, since the cap is lower now")
        if changes.new:
            on_gpus = any(header.models[stub.model].device != "cpu" for stub in stubs)
            settings, said = self._avoid(execution, changes.new, broken_nodes(execution) if on_gpus else [])
            done += said + self._submit(execution, changes.new, living, settings)
        if done:
            execution.queue.unlink(missing_ok=True)  # what it says is from before
        return done

    def _avoid(
        self, execution: ExecutionDir, new: Sequence[NewArray], nodes: Sequence[str]
    ) -> tuple[SlurmSection, list[str]]:
        """The settings without nodes whose GPUs did not work a while ago, unless Slurm has no others; and a word."""
        if not nodes:
            return self._settings, []
        names = ", ".join(nodes)
        exclude = ",".join(filter(None, (self._settings.exclude, *nodes)))
        settings = dataclasses.replace(self._settings, exclude=exclude)
        try:
            for array in new:
                run_slurm("sbatch", "--test-only", text=self._script(execution.path, array, settings))
        except BackendError:
            return self._settings, [f"trying {names} again, whose GPUs did not work, since there are no other nodes"]
        return settings, [f"keeping away from {names}, whose GPUs did not work (hpc-bench status shows why)"]

    def _submit(
        self,
        execution: ExecutionDir,
        new: Sequence[NewArray],
        living: Sequence[LivingArray],
        settings: SlurmSection,
    ) -> list[str]:
        name = new_submission_name(self.name)
        work = {
            "execution": str(execution.path.resolve()),
            "submission": name,
            "name": self._name,
            "host": platform.node(),
            "settings": dataclasses.asdict(settings),
            "exact_gpus": self._settings.gpus_per_node is None,
            "arrays": [dataclasses.asdict(array) for array in new],
            "living": [array.job for array in living],
        }
        complaint = _run_launcher(work, execution.launch_log(name))
        made = next((item for item in read_submissions(execution) if item.name == name), None)
        arrays = made.arrays if made else ()
        done = [f"job {array.job}: {_words(array)}" for array in arrays]
        if complaint:
            raise BackendError(
                f"Slurm refused an array: {complaint}; submitted before that: {'; '.join(done) or 'nothing'}; "
                f"{execution.path} stays as it is: mend the slurm settings and submit again"
            )
        return done

    def cancel(
        self,
        execution: ExecutionDir,
        submissions: Sequence[Submission],
        workers: Mapping[str, Worker],  # noqa: ARG002
    ) -> None:
        """By one scancel; files tell the workers as well, also those that Slurm cannot be told about from here."""
        jobs = [array.job for submission in submissions for array in submission.arrays]
        over = read_queue(execution, jobs, filesystem_now(execution.state)).over
        left = [job for job in jobs if job not in over]
        for submission in submissions:
            execution.stop_request(submission.name).touch()
        if left:
            try:
                run_slurm("scancel", *left)
            except BackendError as error:
                if "Invalid job id" not in str(error):
                    raise BackendError(
                        f"scancel: {error}; workers were asked to end by a file, jobs that still wait "
                        "will end as soon as they start"
                    ) from error


def _words(array: NewArray | JobArray) -> str:
    tasks = f"an array of {array.tasks} tasks, at most {array.throttle} at once" if array.tasks > 1 else "1 task"
    gpus = f"{array.gpus} GPU{'s' * (array.gpus > 1)}" if array.gpus else "no GPU"
    later = ", when those before it are over" if isinstance(array, NewArray) and array.waits else ""
    return f"{tasks}, {gpus} each{later}"


def _busy(execution: ExecutionDir) -> list[Stub]:
    view = ExecutionView(execution)
    view.refresh()
    return view.stubs_in("running")


def _living(execution: ExecutionDir, submissions: Sequence[Submission], lease_s: float) -> list[LivingArray]:
    """The arrays that are in the queue; which of their tasks will take no more work is in the workers' own words."""
    arrays = [(submission, array) for submission in submissions for array in submission.arrays]
    if not arrays:
        return []
    queue = read_queue(execution, [array.job for _, array in arrays], filesystem_now(execution.state), fresh=True)
    latest: dict[str, Worker] = {}
    for worker in sorted(read_workers(execution, lease_s).values(), key=lambda worker: -worker.silent_s):
        latest[worker.heartbeat.slot] = worker
    ended = {slot for slot, worker in latest.items() if worker.heartbeat.state in ("ended", "broken")}
    told = {name.removesuffix(".stop") for name in list_names(execution.workers) if name.endswith(".stop")}
    living = []
    for submission, array in arrays:
        if any(tasks.job == array.job for tasks in queue.tasks):
            slots = {array.job_of(index): f"{submission.name}-{index}" for index in _indices(array)}
            ending = {job for job, slot in slots.items() if slot in ended or slot in told}
            living.append(_as_living(array, queue, ending, stopped=submission.name in told))
    return living


def _as_living(array: JobArray, queue: Queue, ending: set[str], *, stopped: bool) -> LivingArray:
    """`ending`: tasks whose workers end; `stopped`: whether all of its submission were told to."""
    waiting = [tasks for tasks in queue.pending if tasks.job == array.job]
    running = set(queue.running(array.job))
    leaving = running if stopped else running & (ending | set(queue.completing))
    return LivingArray(
        job=array.job,
        gpus=array.gpus,
        running=tuple(sorted(running, key=_task_number)),
        pending=0 if stopped else sum(len(tasks) for tasks in waiting),
        throttle=next((tasks.throttle for tasks in waiting if tasks.throttle), array.throttle),
        ending=len(leaving),
        waits=not stopped and any(tasks.reason.startswith("Dependency") for tasks in waiting),
    )


def _indices(array: JobArray) -> range:
    return range(array.first, array.first + array.tasks)


def _task_number(name: str) -> int:
    return int(name.partition("_")[2] or 0)


def _slot_of(submissions: Sequence[Submission], task: str) -> str:
    for submission in submissions:
        for array in submission.arrays:
            if array.job == task.partition("_")[0]:
                return f"{submission.name}-{array.first + _task_number(task)}"
    raise KeyError(task)


def _throttle(job: str, throttle: int) -> None:
    command = ["scontrol", "update", f"JobId={job}", f"ArrayTaskThrottle={throttle}"]
    try:
        run_slurm(*(command if throttle else ["scancel", "--state=PENDING", job]))
    except BackendError as error:
        # Tasks that are over are complaints; those that are left were updated, or there is nothing to throttle.
        if not any(text in str(error) for text in ("No error", "already finished", "Invalid job id")):
            raise


def _run_launcher(work: Mapping[str, object], log_path: Path) -> str:
    """Submits the arrays in a process that outlives this one; returns what went wrong, or nothing."""
    try:
        with log_path.open("ab") as log:
            launcher = subprocess.Popen(
                [sys.executable, "-m", "hpc_bench.running.slurm.launch"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=clean_environment(),
            )
            launcher.communicate(json.dumps(work).encode(), timeout=LAUNCH_TIMEOUT_S)
    except OSError as error:
        raise BackendError(f"workers cannot be started: {log_path}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise BackendError(
            f"sbatch has not answered for {LAUNCH_TIMEOUT_S} s; the submission goes on in the background (log: "
            f"{log_path}), and `hpc-bench status` shows what comes of it"
        ) from error
    if not launcher.returncode:
        return ""
    lines = log_path.read_text(errors="replace").strip().splitlines()
    return f"{lines[-1] if lines else 'no reason given'} (log: {log_path})"

"""A Slurm cluster: job arrays of GPU workers, throttled together to the sweep's cap."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hpc_bench.errors import BackendError
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.header import Header
from hpc_bench.execution.heartbeat import Worker, broken_nodes
from hpc_bench.execution.schema import dump_as
from hpc_bench.execution.stub import Stub
from hpc_bench.execution.submission import JobArray, Submission, new_submission_name, read_submissions
from hpc_bench.execution.view import ExecutionView
from hpc_bench.files import leave_mark
from hpc_bench.running.backend import Backend, Say, Show
from hpc_bench.running.follow import follow, terminate_as_interrupt
from hpc_bench.running.launcher import run_launcher
from hpc_bench.running.slurm.arrays import ArrayChanges, LivingArray, NewArray, change_arrays, find_needs
from hpc_bench.running.slurm.commands import DEFAULT_MAX_ARRAY_SIZE, has_slurm, max_array_size, would_submit
from hpc_bench.running.slurm.control import cancel_arrays, throttle_array
from hpc_bench.running.slurm.environment import clean_environment, inherited_words
from hpc_bench.running.slurm.living import living_arrays
from hpc_bench.running.turn import HeldTurn, submitting_alone
from hpc_bench.sweep.slurm_section import SlurmSection
from hpc_bench.sweep.sweep import Sweep

__all__ = ["ArraysLaunch", "SlurmBackend"]

DEFAULT_CAP = 8
LAUNCH_TIMEOUT_S = 600
UNREACHABLE = "Slurm cannot be reached from this machine"


@dataclass(frozen=True)
class ArraysLaunch:
    """What the launcher is told: the arrays of a submission."""

    execution: str
    submission: Submission
    name: str
    """The sweep's."""
    settings: SlurmSection
    exact_gpus: bool
    arrays: tuple[NewArray, ...]
    living: tuple[str, ...]
    """The jobs that new arrays may have to wait for."""


class SlurmBackend(Backend):
    """Workers as tasks of job arrays; what of them runs when is Slurm's to say."""

    name = "slurm"
    waits = False

    @classmethod
    def of_sweep(cls, sweep: Sweep, gpus: str | None) -> SlurmBackend:
        """--gpus is refused."""
        if gpus is not None:
            raise BackendError("--gpus is for --backend local; Slurm gives each worker GPUs of its own")
        most_gpus = max(model.gpus for model in sweep.models)
        return cls(sweep.slurm, sweep.max_concurrent_runs, sweep.name, most_gpus)

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
        others = "".join(f", {word}" for word in inherited_words(self._settings))
        where = f"partition {self._settings.partition}" if self._settings.partition else "the default partition"
        where += others
        unchecked = f"; {UNREACHABLE}, so it has not checked them" if self._array_limit is None else ""
        return f"Slurm, {where}, {self._settings.time_min} min a job: {arrays} (cap {self.size}: {cap}){unchecked}"

    def check(self, base: Path, header: Header, stubs: Sequence[Stub]) -> None:
        """Asks Slurm whether it would take the arrays; BackendError holds its message."""
        if not has_slurm():
            raise BackendError(
                "sbatch and srun were not found, so this is not a login node of a Slurm cluster; log in to one, or "
                "use --backend local"
            )
        if self._array_limit is None:
            raise BackendError(f"{UNREACHABLE}; `hpc-bench doctor --backend slurm` says why")
        if set(str(base.resolve())) & set("%\\"):
            raise BackendError(f"base_result_dir: {base.resolve()}: Slurm cannot write to a path with % or \\ in it")
        for array in self._arrays(header, stubs):
            would_submit(self._script(base, array), self._settings)

    def scripts(self, folder: Path, header: Header, stubs: Sequence[Stub]) -> list[tuple[str, str]]:
        """What each array is, and its sbatch script, as if none were in the queue yet; `folder`: the execution's."""
        return [(self._title(array), self._script(folder, array)) for array in self._arrays(header, stubs)]

    def _title(self, array: NewArray) -> str:
        return "; ".join((_words(array), *inherited_words(self._settings)))

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

    @property
    def _max_array_size(self) -> int:
        size = DEFAULT_MAX_ARRAY_SIZE if self._array_limit is None else self._array_limit
        limit = self._settings.max_array_size
        return max(1, min(size, limit) if limit else size)  # 0: arrays are turned off, so each is a single job

    @cached_property
    def _array_limit(self) -> int | None:
        """The cluster's MaxArraySize; None where it cannot be asked."""
        try:
            return max_array_size(self._settings)
        except BackendError:
            return None

    def start(self, execution: ExecutionDir, header: Header, stubs: Sequence[Stub]) -> list[str]:
        """Fits the arrays in the queue to the cap and submits what is missing; returns a line for each thing done."""
        with submitting_alone(execution) as turn:  # what another one submits meanwhile counts towards the cap
            return self._start(execution, header, stubs, turn)

    def attend(self, execution: ExecutionDir, header: Header, stubs: Sequence[Stub], show: Show, say: Say) -> str:
        """An interrupt leaves the jobs alone."""
        with terminate_as_interrupt():
            try:
                for line in self.start(execution, header, stubs):
                    say(line)
                follow(execution, self._restart, show, say)
            except KeyboardInterrupt:
                return "the jobs go on without this"
        return ""

    def _restart(self, view: ExecutionView) -> list[str]:
        return self.start(view.execution, view.manifest.header, view.stubs_in("pending"))

    def _start(self, execution: ExecutionDir, header: Header, stubs: Sequence[Stub], turn: HeldTurn) -> list[str]:
        submissions = [item for item in read_submissions(execution) if item.backend == self.name]
        living = living_arrays(execution, submissions, header.limits.lease_s)
        changes = self._changes(header, stubs, living, _busy(execution) if living else ())
        done = []
        for array in living:
            if array.cancelled:
                throttle_array(array.key, 0)
        for key, throttle in changes.throttles.items():
            throttle_array(key, throttle)
            done.append(f"job {key}: at most {throttle} at once" if throttle else f"job {key}: waiting tasks cancelled")
        for slot in changes.stop:
            leave_mark(execution.stop_request(str(slot)))
            done.append(f"worker {slot}: asked to end, since the cap is lower now")
        if changes.new:
            on_gpus = any(header.models[stub.model].device != "cpu" for stub in stubs)
            settings, said = self._avoid(execution, changes.new, broken_nodes(execution) if on_gpus else [])
            done += said + self._submit(execution, changes.new, living, settings, turn)
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
                would_submit(self._script(execution.path, array, settings), settings)
        except BackendError:
            return self._settings, [f"trying {names} again, whose GPUs did not work, since there are no other nodes"]
        return settings, [f"keeping away from {names}, whose GPUs did not work (hpc-bench status shows why)"]

    def _submit(
        self,
        execution: ExecutionDir,
        new: Sequence[NewArray],
        living: Sequence[LivingArray],
        settings: SlurmSection,
        turn: HeldTurn,
    ) -> list[str]:
        submission = Submission(new_submission_name(self.name), self.name, platform.node(), ())
        work = ArraysLaunch(
            execution=str(execution.path.resolve()),
            submission=submission,
            name=self._name,
            settings=settings,
            exact_gpus=self._settings.gpus_per_node is None,
            arrays=tuple(new),
            living=tuple(array.key.partition(";")[0] for array in living),
        )
        complaint = run_launcher(
            "hpc_bench.running.slurm.launch",
            dump_as(ArraysLaunch, work),
            execution.launch_log(submission.name),
            turn,
            timeout_s=LAUNCH_TIMEOUT_S,
            environment=clean_environment(settings),
        )
        made = next((item for item in read_submissions(execution) if item.name == submission.name), None)
        arrays = made.arrays if made else ()
        done = [f"job {array.job}: {_words(array)}" for array in arrays]
        if complaint:
            raise BackendError(
                f"Slurm refused an array: {complaint}; submitted before that: {'; '.join(done) or 'nothing'}; "
                f"{execution.path} stays as it is: fix the slurm settings and submit again"
            )
        return done

    @classmethod
    def cancel(
        cls,
        execution: ExecutionDir,
        submissions: Sequence[Submission],
        workers: Mapping[str, Worker],
    ) -> None:
        """By one scancel; files tell the workers as well, also those that Slurm cannot be told about from here."""
        for submission in submissions:
            leave_mark(execution.stop_request(submission.name))
        cancel_arrays(execution, submissions, workers)


def _words(array: NewArray | JobArray) -> str:
    tasks = f"an array of {array.tasks} tasks, at most {array.throttle} at once" if array.tasks > 1 else "1 task"
    gpus = f"{array.gpus} GPU{'s' * (array.gpus > 1)}" if array.gpus else "no GPU"
    later = ", when those before it are over" if isinstance(array, NewArray) and array.waits else ""
    return f"{tasks}, {gpus} each{later}"


def _busy(execution: ExecutionDir) -> list[Stub]:
    view = ExecutionView(execution)
    view.refresh()
    return view.stubs_in("running")

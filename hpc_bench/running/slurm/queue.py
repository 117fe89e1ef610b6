"""What Slurm's queue says of an execution's jobs: one squeue at most every 30 s, whoever looks from wherever."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated

import pydantic

from hpc_bench.errors import BackendError
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.heartbeat import Worker
from hpc_bench.execution.schema import dump_as, read_as
from hpc_bench.execution.submission import JobArray
from hpc_bench.files import write_whole
from hpc_bench.running.slurm.commands import on_cluster, run_slurm

__all__ = ["Queue", "QueuedTasks", "living_jobs", "read_queue"]

ASK_EVERY_S = 30.0
ABSENT_S = 60.0
"""A job that squeue does not name may be between two states; after this long it is over."""
_FORMAT = "%i|%T|%r|%S|%N"
_ID = re.compile(r"(\d+)(?:_(?:(\d+)|\[([\d,-]+)(?:%(\d+))?\]))?")


@dataclass(frozen=True)
class QueuedTasks:
    """Tasks of one array, or one single job, in the same state."""

    job: Annotated[str, pydantic.Field(pattern="^[0-9]+$")]
    indices: tuple[int, ...]
    """Of the array; empty for a single job."""
    state: str
    reason: str
    start: str
    """When Slurm expects it to start; empty where it does not say."""
    nodes: str
    throttle: int | None = None
    """How many of the array may run at once, where squeue says it."""
    cluster: str = ""
    """Which was asked by name."""

    def __len__(self) -> int:
        return max(1, len(self.indices))

    @property
    def key(self) -> str:
        """As of the array that was submitted."""
        return f"{self.job};{self.cluster}" if self.cluster else self.job

    @property
    def names(self) -> list[str]:
        """Slurm's ids of the tasks."""
        return [f"{self.job}_{index}" for index in self.indices] or [self.job]

    @property
    def is_pending(self) -> bool:
        """Whether it waits, for whatever reason."""
        return self.state == "PENDING"


@dataclass(frozen=True)
class Queue:
    """The queue at the last asking."""

    tasks: tuple[QueuedTasks, ...] = ()
    jobs: tuple[str, ...] = ()
    """What was asked about: the keys of arrays."""
    answered: bool = True
    """False: Slurm gave no answer, and this is what it said before."""
    absent: Mapping[str, float] = field(default_factory=dict)
    """Key -> since when, by the filesystem's clock, squeue has not named it."""
    over: tuple[str, ...] = ()
    """The keys of those that are surely gone."""

    @property
    def may_hold_work(self) -> bool:
        """Whether a worker may yet come out of it."""
        return bool(self.tasks or self.absent)

    @property
    def pending(self) -> tuple[QueuedTasks, ...]:
        """The tasks that wait."""
        return tuple(tasks for tasks in self.tasks if tasks.is_pending)

    def of(self, array: JobArray) -> tuple[QueuedTasks, ...]:
        """The tasks of one array."""
        return tuple(tasks for tasks in self.tasks if tasks.key == array.key)

    def running(self, array: JobArray) -> list[str]:
        """The ids of an array's tasks that were given a node."""
        return [name for tasks in self.of(array) if not tasks.is_pending for name in tasks.names]


def read_queue(
    execution: ExecutionDir,
    arrays: Iterable[JobArray],
    moment: float,
    *,
    fresh: bool = False,
    living: Collection[str] = (),
) -> Queue:
    """The queue as far as it is about `arrays`, asked for where each was submitted to; at most 30 s old, or asked for
    `fresh` (and then BackendError if Slurm gives no answer). `moment`: the present time by the filesystem's clock;
    `living`: the ids of jobs whose workers are heard.
    """
    wanted = tuple(sorted({array.key for array in arrays}))
    last, age_s = _read_last(execution, moment)
    over = (
        () if fresh else tuple(key for key in last.over if _job_of(key) not in living)
    )  # an answer may have been wrong
    forgotten = set(last.over) - set(over)
    last = dataclasses.replace(last, over=over)
    left = [key for key in wanted if key not in last.over]
    if not left:
        return Queue(jobs=wanted, over=last.over)
    if shutil.which("squeue") is None:  # a machine that sees the folder, and no Slurm
        return dataclasses.replace(last, jobs=wanted, answered=False)
    if not fresh and age_s < ASK_EVERY_S and not forgotten & set(wanted) and set(wanted) <= set(last.jobs):
        return last
    try:
        queue = _updated(last, wanted, tuple(_ask(left)), moment)
        unseen = forgotten - {item.key for item in queue.tasks}
        gone = {key for key in unseen if _job_of(key) not in living}
        queue = _without(queue, gone)
    except BackendError:
        if fresh:
            raise
        queue = dataclasses.replace(last, answered=False, jobs=wanted)
    with suppress(OSError):  # somebody else's results
        write_whole(execution.queue, dump_as(Queue, queue))
    return queue


def _read_last(execution: ExecutionDir, moment: float) -> tuple[Queue, float]:
    """The last answer on disk, and how old it is."""
    try:
        return read_as(Queue, execution.queue), moment - execution.queue.stat().st_mtime
    except (OSError, ValueError):  # a copy of what Slurm knows better
        return Queue(), ABSENT_S


def _without(queue: Queue, gone: set[str]) -> Queue:
    """What was over before, and still is not seen, need not be waited for once more."""
    absent = {key: since for key, since in queue.absent.items() if key not in gone}
    over = tuple(sorted({*queue.over, *(gone & set(queue.jobs))}))
    return dataclasses.replace(queue, absent=absent, over=over)


def living_jobs(workers: Iterable[Worker]) -> set[str]:
    """The ids of the jobs whose workers are heard, who know no cluster."""
    return {worker.heartbeat.job.partition("_")[0] for worker in workers if worker.alive and worker.heartbeat.job}


def _updated(last: Queue, wanted: tuple[str, ...], tasks: tuple[QueuedTasks, ...], moment: float) -> Queue:
    present = {item.key for item in tasks}
    absent = {key: last.absent.get(key, moment) for key in wanted if key not in present and key not in last.over}
    over = {key for key, since in absent.items() if moment - since > ABSENT_S}
    absent = {key: since for key, since in absent.items() if key not in over}
    return Queue(tasks, wanted, True, absent, tuple(sorted({*last.over, *over})))


def _job_of(key: str) -> str:
    return key.partition(";")[0]


def _ask(keys: Iterable[str]) -> Iterator[QueuedTasks]:
    """One squeue a cluster, since squeue's lines do not name theirs."""
    clusters: dict[str, list[str]] = {}
    for key in keys:
        job, _, cluster = key.partition(";")
        clusters.setdefault(cluster, []).append(job)
    for cluster, jobs in clusters.items():
        yield from _ask_cluster(jobs, cluster)


def _ask_cluster(jobs: Sequence[str], cluster: str) -> Iterator[QueuedTasks]:
    try:
        output = run_slurm(
            "squeue", "--noheader", "--all", f"--jobs={','.join(jobs)}", f"--format={_FORMAT}", *on_cluster(cluster)
        )
    except BackendError as error:
        if "Invalid job id" in str(error):  # squeue's way to say that it knows none of them any more
            return
        raise
    for line in output.splitlines():
        name, *rest = (part.strip() for part in line.split("|"))
        match = _ID.fullmatch(name)
        if match and len(rest) == 4:
            state, reason, start, nodes = rest
            job, one, many, limit = match.groups()
            indices = tuple(_expand(one or many or ""))
            when = "" if start == "N/A" else start
            yield QueuedTasks(job, indices, state, reason, when, nodes, int(limit) if limit else None, cluster)


def _expand(text: str) -> Iterator[int]:
    """The numbers in a list such as 4,6-9."""
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)

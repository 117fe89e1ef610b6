"""A compute node seen from inside: one short job, submitted as workers are, reports through the shared folder."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpc_bench.cli.doctor.finding import Finding, ok, wrong
from hpc_bench.cli.doctor.node_comparison import compare
from hpc_bench.cli.doctor.probe import HELD, REPORT, NodeReport
from hpc_bench.errors import BackendError
from hpc_bench.execution.schema import read_as
from hpc_bench.running.slurm.commands import on_cluster, read_job, run_slurm, sbatch_command
from hpc_bench.running.slurm.sbatch import ArrayRequest, sbatch_script

__all__ = ["ProbeOrder", "probe_node"]

POLL_S = 1.0
GRACE_S = 60.0
"""How long a report may stay unseen: NFS clients believe for up to that long that a name is not there (nfs(5), ac)."""
NOT_SHARED = 77
"""The job's exit code when the folder is not seen on its node: no file of the job would be seen here either."""
BATCH_LOG = "batch.log"
ENDED = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "COMPLETING",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "TIMEOUT",
    }
)


@dataclass(frozen=True)
class ProbeOrder:
    """What is to be probed, and how."""

    request: ArrayRequest
    device: str
    """The sweep's adapter_config.device."""
    timeout_s: float
    say: Callable[[str], None]
    """Told what the job does meanwhile."""


@dataclass(frozen=True)
class Job:
    """The probe's job, as Slurm shows it; empty where Slurm does not say."""

    number: str
    state: str = ""
    reason: str = ""
    node: str = ""
    exit_code: int | None = None

    @property
    def ended(self) -> bool:
        """Whether it will do nothing more."""
        return self.state in ENDED

    @property
    def completed(self) -> bool:
        """Whether it ended well."""
        return self.state in ("COMPLETED", "COMPLETING") and self.exit_code == 0

    def __str__(self) -> str:
        where = f" on {self.node}" if self.node else ""
        why = f" ({self.reason})" if self.reason not in ("", "None") else ""
        return f"job {self.number}{where}: {self.state.lower() or 'unknown to Slurm'}{why}"


def probe_node(order: ProbeOrder, work: Path) -> Iterator[Finding]:
    """Runs the job and judges what it saw; `work` is a folder of this check alone, beside the results."""
    work = work.resolve()
    (work / HELD).write_text("login node")
    try:
        number, cluster = _submit(order.request, work)
    except BackendError as error:
        yield wrong("node", f"sbatch refuses the probe: {error}", "fix the slurm section of the sweep")
        return
    job = Job(number)
    try:
        job = _wait(number, cluster, work, order)
    finally:
        if not job.ended:  # also after Ctrl-C
            with suppress(BackendError):
                run_slurm("scancel", *on_cluster(cluster), number)
    report = _read_report(work, GRACE_S if job.completed else 0.0)
    if report is None:
        yield _explain(job, work, order.timeout_s)
        return
    where = f"{job.node or report.host}, which sees {work.parent}"
    yield ok("node", f"job {number} ran on {where}; TMPDIR there: {report.tmpdir or 'not set'}")
    yield from compare(report, order.request.array.gpus, order.device)


def _submit(request: ArrayRequest, work: Path) -> tuple[str, str]:
    """The job's number, and its cluster where sbatch names it. It gets the worker's options, set-up and Python, and a
    minute.
    """
    python = request.settings.python or shlex.quote(sys.executable)
    command = f"{python} -m hpc_bench.cli.doctor.probe {shlex.quote(str(work))}"
    shebang, options, rest = sbatch_script(request, work, command).split("\n\n", 2)
    script = "\n\n".join((shebang, options, _await_folder(work), rest))
    # Slurm may send the signal before the end up to a minute early, which would be at once: one that does no harm.
    limits = ("--time=1", "--signal=URG@1", "--no-requeue", "--mail-type=NONE")
    names = ("--job-name=hpc-bench-doctor", "--output=/dev/null")
    sbatch = sbatch_command(script, request.settings.clusters)
    try:
        said = run_slurm(*sbatch, *limits, *names, text=script, settings=request.settings)
        return read_job(said)
    except ValueError as error:
        raise BackendError(str(error)) from error


def _await_folder(work: Path) -> str:
    """The first line of the job's script; listing the folder above has a network filesystem ask its server anew."""
    above, held, log = (shlex.quote(str(path)) for path in (work.parent, work / HELD, work / BATCH_LOG))
    return (
        f"for second in 1 2 3 4 5 6 7 8 9 10; do ls -a {above} >/dev/null 2>&1; [ -e {held} ] && break; sleep 1; done; "
        f"[ -e {held} ] || exit {NOT_SHARED}; exec >{log} 2>&1"
    )


def _wait(number: str, cluster: str, work: Path, order: ProbeOrder) -> Job:
    """The job at its end, or as it is when the time is up."""
    deadline, shown = time.monotonic() + order.timeout_s, ""
    while True:
        job = _look(number, cluster)
        # Slurm forgets jobs that ended, on some clusters soon
        if job.ended or (not job.state and (work / REPORT).exists()) or time.monotonic() > deadline:
            return job
        if str(job) != shown:
            shown = str(job)
            order.say(shown)
        time.sleep(POLL_S)


def _look(number: str, cluster: str) -> Job:
    try:
        text = run_slurm("scontrol", *on_cluster(cluster), "show", "job", "--oneliner", number)
    except BackendError:
        return Job(number)
    shown = dict(re.findall(r"(?:^|\s)(JobState|Reason|BatchHost|ExitCode)=(\S*)", text))
    code = int(shown.get("ExitCode", "0:0").partition(":")[0])
    return Job(number, shown.get("JobState", ""), shown.get("Reason", ""), shown.get("BatchHost", ""), code)


def _read_report(work: Path, grace_s: float) -> NodeReport | None:
    deadline = time.monotonic() + grace_s
    while True:
        list(os.scandir(work))  # has a network filesystem ask its server anew
        with suppress(FileNotFoundError):
            return read_as(NodeReport, work / REPORT)
        if time.monotonic() > deadline:
            return None
        time.sleep(POLL_S)


def _explain(job: Job, work: Path, timeout_s: float) -> Finding:
    """Why there is no report."""
    if not job.ended:
        remedy = "wait longer (--probe-timeout), or choose another partition or account"
        return wrong("node", f"the probe has not ended after {timeout_s:g} s; {job}", remedy)
    logs = [path.read_text(errors="replace").strip() for path in work.iterdir() if path.suffix in (".log", ".out")]
    if job.exit_code == NOT_SHARED or (job.completed and not logs):
        remedy = "choose a base_result_dir on the shared filesystem; `df -hT` shows what there is on each node"
        message = f"{work.parent} is not shared: the compute node's files are not seen here, nor this node's there"
        return wrong("node", f"{message}; {job}", remedy)
    last = [text.splitlines()[-1] for text in logs if text]
    remedy = "have one Python environment on the shared filesystem, or set slurm.python and slurm.setup"
    return wrong("node", f"the probe failed: {'; '.join(last) or 'it printed nothing'}; {job}", remedy)

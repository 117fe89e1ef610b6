"""Whether Slurm is there and would take the sweep's jobs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from hpc_bench.cli.doctor.finding import Finding, ok, skipped, warning, wrong
from hpc_bench.errors import BackendError
from hpc_bench.places import check_temporary_folder
from hpc_bench.running.slurm.arrays import NewArray
from hpc_bench.running.slurm.commands import max_array_size, on_cluster, run_slurm, would_submit
from hpc_bench.running.slurm.environment import asked_clusters
from hpc_bench.running.slurm.sbatch import ArrayRequest, sbatch_script
from hpc_bench.sweep.slurm_section import SlurmSection
from hpc_bench.sweep.sweep import Sweep

__all__ = ["check_cluster", "job_requests"]

COMMANDS = ("sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
USABLE = re.compile(r"(idle|mixed|allocated|completing|planned)[~#%!@^-]?")
"""Node states in which a job can hope for the node, also one that is switched off to save power (sinfo(1))."""


def job_requests(sweep: Sweep | None) -> list[ArrayRequest]:
    """One job of each size that the sweep asks for; a plain one of the default partition without a sweep."""
    if sweep is None:
        return [ArrayRequest(NewArray(0, 1, 1, waits=False), SlurmSection(), "doctor")]
    given = sweep.slurm.gpus_per_node
    sizes = {given} if given is not None else {model.gpus for model in sweep.models}
    return [ArrayRequest(NewArray(gpus, 1, 1, waits=False), sweep.slurm, sweep.name) for gpus in sorted(sizes)]


def check_cluster(sweep: Sweep | None, results: Path) -> Iterator[Finding]:
    """Commands, controller, arrays, partition, and whether sbatch takes the jobs; stops where the rest cannot work."""
    missing = [name for name in COMMANDS if shutil.which(name) is None]
    if missing:
        yield wrong("Slurm", f"not on this machine: {', '.join(missing)}", "run this on a login node of the cluster")
        yield skipped("jobs", "Slurm's commands are not all here")
        return
    requests = job_requests(sweep)
    settings = requests[0].settings
    try:
        for cluster in asked_clusters(settings):
            yield ok("Slurm", run_slurm("scontrol", *on_cluster(cluster), "ping").strip().splitlines()[0])
    except BackendError as error:
        yield wrong("Slurm", f"slurmctld does not answer: {error}", "check SLURM_CONF, or tell the administrators")
        yield skipped("jobs", "slurmctld does not answer")
        return
    try:
        yield _arrays(sweep, settings)
        for cluster in asked_clusters(settings):
            yield _partition(settings.partition, cluster)
    except BackendError as error:
        yield wrong("Slurm", str(error), "ask again later, or tell the administrators")
    for request in requests:
        yield _jobs(request, results)


def _arrays(sweep: Sweep | None, settings: SlurmSection) -> Finding:
    most = max_array_size(settings)
    wanted = sweep.max_concurrent_runs if sweep else None
    if most < 1:
        return wrong("arrays", "MaxArraySize is 0: job arrays are turned off", "ask the administrators for job arrays")
    if wanted and wanted > most:
        message = f"MaxArraySize is {most}, fewer than max_concurrent_runs ({wanted})"
        return warning("arrays", message, "several arrays are submitted; lower max_concurrent_runs for one")
    return ok("arrays", f"MaxArraySize is {most}")


def _partition(named: str | None, cluster: str) -> Finding:
    """How many nodes can serve, by sinfo: a line for each state, `partition|availability|state|nodes|reason`."""
    said = run_slurm("sinfo", *on_cluster(cluster), "-h", "-o", "%P|%a|%T|%D|%E")
    rows = [row for line in said.splitlines() if len(row := line.split("|", 4)) == 5]  # not: CLUSTER: name
    wanted = named.split(",") if named else [row[0].rstrip("*") for row in rows if row[0].endswith("*")][:1]
    rows = [row for row in rows if row[0].rstrip("*") in wanted]
    title = f"partition {','.join(wanted)}" + f" of cluster {cluster}" * bool(cluster)
    if not rows:
        known = "no partition of this name is shown to you" if named else "the cluster has no default partition"
        return warning("partition", f"{named or 'none'}: {known}", "set slurm.partition; sinfo lists what there is")
    usable = sum(int(row[3]) for row in rows if row[1] == "up" and USABLE.fullmatch(row[2]))
    total = sum(int(row[3]) for row in rows)
    states = "; ".join(f"{row[3]} {row[2]} ({row[4]})" for row in rows if not USABLE.fullmatch(row[2]))
    message = f"{title}: {usable} of {total} nodes can serve" + (f"; {states}" if states else "")
    if usable:
        return ok("partition", message)
    down = "".join(sorted({f"; the partition is {row[1]}" for row in rows if row[1] != "up"}))
    return warning("partition", message + down, "jobs will wait: choose another partition, or ask the administrators")


def _jobs(request: ArrayRequest, results: Path) -> Finding:
    """Whether sbatch would take a worker's job, by Slurm's own word."""
    asked = request.settings
    named = [f"{key} {value}" for key in ("partition", "account", "qos") if (value := getattr(asked, key))]
    what = f"GPUs a job: {request.array.gpus or 'none'}, {', '.join(named) or 'default partition and account'}"
    if "%" in str(results.absolute()):
        remedy = "choose a base_result_dir without it"
        return wrong("jobs", f"{results.absolute()}: Slurm cannot write to a path with a % in it", remedy)
    try:
        said = would_submit(sbatch_script(request, check_temporary_folder()), request.settings)
    except BackendError as error:
        return wrong(
            "jobs",
            f"sbatch refuses them ({what}): {error}",
            "fix the slurm section of the sweep (see sinfo, sacctmgr show assoc)",
        )
    return ok("jobs", f"{what}: {re.sub(r'^sbatch: ', '', said.strip())}")

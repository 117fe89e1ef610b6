"""Which checks there are, in which order; each finding as soon as it is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc_bench.cli.doctor.cluster import check_cluster, job_requests
from hpc_bench.cli.doctor.filesystem import check_filesystem, filesystem_type, nearest_folder, scratch, space
from hpc_bench.cli.doctor.finding import Finding, ok, skipped, wrong
from hpc_bench.cli.doctor.inputs import check_inputs
from hpc_bench.cli.doctor.machine import check_gpus, check_hf_home, check_versions
from hpc_bench.cli.doctor.needs import Needs, as_needed
from hpc_bench.cli.doctor.node import ProbeOrder, probe_node
from hpc_bench.running.slurm.commands import has_slurm
from hpc_bench.sweep.sweep import Sweep

__all__ = ["Checkup", "Finding", "examine"]


@dataclass(frozen=True)
class Checkup:
    """What is to be examined."""

    sweep: Sweep | None
    results: Path
    needs: Needs
    commands: Sequence[str]
    """That submit the sweep, one for each backend."""
    probe_timeout_s: float | None
    """None: no probe."""
    say: Callable[[str], None]
    """Told what happens while a check takes long."""

    @property
    def on_slurm(self) -> bool:
        """Whether jobs of a cluster are expected to run the sweep."""
        return self.needs.slurm == "required"


def examine(checkup: Checkup) -> Iterator[Finding]:
    """The findings, each as soon as it is there."""
    yield check_versions()
    yield check_hf_home(cluster=checkup.on_slurm)
    if checkup.sweep and checkup.on_slurm and checkup.needs.local == "optional":
        yield ok("backend", f"the sweep has a slurm section; submit it with one of: {'; '.join(checkup.commands)}")
    sound = True
    for finding in _examine_slurm(checkup):
        sound = sound and finding.state != "wrong"
        yield finding
    if checkup.needs.local == "none":
        yield skipped("GPUs", "those of the compute nodes are asked by --probe")
    else:
        yield from as_needed(checkup.needs.local, [check_gpus(checkup.sweep)])
    if checkup.sweep:
        yield from check_inputs(checkup.sweep)
    yield from _examine_folder(checkup, sound)


def _examine_slurm(checkup: Checkup) -> Iterator[Finding]:
    if checkup.needs.slurm == "optional" and not has_slurm():
        yield skipped("Slurm", "sbatch and srun were not found; the sweep has no slurm section and does not need them")
    elif checkup.needs.slurm != "none":
        yield from as_needed(checkup.needs.slurm, check_cluster(checkup.sweep, checkup.results))


def _examine_folder(checkup: Checkup, sound: bool) -> Iterator[Finding]:
    try:
        folder = nearest_folder(checkup.results)
        with scratch(folder) as work:
            yield ok("results folder", f"{folder} can be written" + _note(folder, checkup.results))
            yield from _examine_scratch(checkup, folder, work, sound)
    except OSError as error:
        remedy = "choose a base_result_dir (or --results) that you can write to"
        yield wrong("results folder", f"{checkup.results}: {error}", remedy)


def _note(folder: Path, results: Path) -> str:
    return "" if folder == results.absolute() else f"; {results.name} will be made in it"


def _examine_scratch(checkup: Checkup, folder: Path, work: Path, sound: bool) -> Iterator[Finding]:
    probing = checkup.probe_timeout_s is not None
    yield filesystem_type(folder, must_be_shared=checkup.on_slurm and not probing)
    yield space("space", folder)
    yield from check_filesystem(work)
    if checkup.probe_timeout_s is None:
        return
    if not sound:
        yield skipped("node", "Slurm does not take the job")
        return
    device = checkup.sweep.adapter.device if checkup.sweep else "auto"
    request = job_requests(checkup.sweep)[-1]
    yield from probe_node(ProbeOrder(request, device, checkup.probe_timeout_s, checkup.say), work)

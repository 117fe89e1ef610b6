"""What a compute node's report means, beside this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator

from hpc_bench.cli.doctor.filesystem import clock, latency
from hpc_bench.cli.doctor.finding import Finding, ok, warning, wrong
from hpc_bench.cli.doctor.probe import NodeReport, hf_home, package_versions

__all__ = ["compare"]


def compare(report: NodeReport, gpus: int, device: str) -> Iterator[Finding]:
    """`gpus`: what the job asked for; `device`: the sweep's adapter_config.device."""
    yield _versions(report)
    yield _link(report)
    yield latency("node write latency", report.write_s)
    yield clock("node clock", report.clock_ahead_s)
    yield _gpus(report, gpus, device)
    yield _hf_home(report)


def _versions(report: NodeReport) -> Finding:
    here = package_versions()
    names = dict.fromkeys((*here, *report.versions))
    different = [
        f"{name} {here.get(name)} here, {report.versions.get(name)} there"
        for name in names
        if here.get(name) != report.versions.get(name)
    ]
    if not different:
        return ok("node versions", "Python and packages are the same as here")
    remedy = "use one environment on the shared filesystem, or slurm.python and slurm.setup to choose it"
    return wrong("node versions", f"{'; '.join(different)} ({report.host})", remedy)


def _link(report: NodeReport) -> Finding:
    if report.link_refused:
        return ok("node link", "a name that this machine holds is refused there")
    message = f"{report.host} took a name that this machine holds, so two nodes could claim one stub"
    return wrong("node link", message, "choose a base_result_dir on another filesystem")


def _gpus(report: NodeReport, asked: int, device: str) -> Finding:
    seen = ", ".join(report.gpus) or "none"
    message = (
        f"asked for {asked}, sees {seen}; driver {report.driver or 'not found'}; CUDA_VISIBLE_DEVICES {report.gpu_mask}"
    )
    if len(report.gpus) >= asked or device == "cpu":
        return ok("node GPUs", message)
    remedy = "check the partition, slurm.gpu_type and slurm.gpus_per_node; the driver may be missing on the node"
    # A worker that was given GPUs never falls back to the CPU without being told to.
    return wrong("node GPUs", message, f"{remedy}; set adapter_config.device: cpu to run without")


def _hf_home(report: NodeReport) -> Finding:
    here = hf_home()
    if report.hf_home_readable:
        return ok("node HF_HOME", f"{report.hf_home} can be read")
    if not os.access(here, os.R_OK | os.X_OK):
        return ok("node HF_HOME", f"{report.hf_home} is not there yet, as here")
    message = f"{report.hf_home} cannot be read on {report.host}: models fetched here would not be found there"
    return warning("node HF_HOME", message, "export HF_HOME=FOLDER on the shared filesystem")

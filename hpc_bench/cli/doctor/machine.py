"""What this machine brings: Python and packages, the Hugging Face cache, GPUs."""

from __future__ import annotations

import os
from pathlib import Path

from hpc_bench.cli.doctor.filesystem import nearest_folder, space
from hpc_bench.cli.doctor.finding import Finding, ok, skipped, warning, wrong
from hpc_bench.cli.doctor.probe import MISSING, hf_home, package_versions
from hpc_bench.errors import BackendError
from hpc_bench.running.gpus import driver_version, visible_gpus
from hpc_bench.running.local import LocalBackend
from hpc_bench.sweep.sweep import Sweep

__all__ = ["check_gpus", "check_hf_home", "check_versions"]

ROOM_FOR_MODELS_GB = 20.0


def check_versions() -> Finding:
    """Python and the packages, as installed here."""
    versions = package_versions()
    message = ", ".join(f"{name} {version}" for name, version in versions.items() if version != MISSING)
    # hpc-bench itself runs, and may do so from a source tree
    missing = [name for name, version in versions.items() if version == MISSING and name != "hpc-bench"]
    if missing:
        return wrong("versions", f"not installed: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    return ok("versions", message)


def check_hf_home(*, cluster: bool) -> Finding:
    """Where models go, and whether they fit."""
    home = hf_home()
    try:
        if home.exists() and not os.access(home, os.R_OK | os.X_OK):
            return wrong("HF_HOME", f"{home} cannot be read", f"chmod u+rx {home}, or set HF_HOME to a folder of yours")
        found = space("HF_HOME", nearest_folder(home), ROOM_FOR_MODELS_GB)
    except OSError as error:
        return wrong("HF_HOME", f"{home}: {error}", "set HF_HOME to a folder that can be used")
    if found.state == "ok" and cluster and home.is_relative_to(Path.home()):
        remedy = "export HF_HOME=FOLDER on the shared filesystem that is made for data"
        return warning("HF_HOME", f"{home} is in the home folder, where quotas are often small", remedy)
    return Finding("HF_HOME", found.state, f"{home}; {found.message}", found.remedy)


def check_gpus(sweep: Sweep | None) -> Finding:
    """The GPUs of this machine, as the local backend would use them."""
    if sweep and (sweep.local.gpus == "none" or sweep.adapter.device == "cpu"):
        return skipped("GPUs", "the sweep asks for the CPU")
    gpus = visible_gpus()
    if sweep:
        most_gpus = max(model.gpus for model in sweep.models)
        try:
            LocalBackend(sweep.local.gpus, sweep.max_concurrent_runs, most_gpus, device=sweep.adapter.device)
        except BackendError as error:
            return wrong("GPUs", str(error), "fix the sweep, or run it where such GPUs are")
    if not gpus:
        remedy = "check nvidia-smi and CUDA_VISIBLE_DEVICES, if this machine has GPUs"
        return warning("GPUs", "none visible: models run on the CPU", remedy)
    return ok("GPUs", f"{', '.join(f'{gpu.index} ({gpu.name})' for gpu in gpus)}; driver {driver_version()}")

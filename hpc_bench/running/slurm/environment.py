"""Which variables of the user's shell Slurm's commands see: their site's settings, and nothing that bends our own."""

from __future__ import annotations

import os
from collections.abc import Mapping

from hpc_bench.execution.credentials import redact
from hpc_bench.sweep.slurm_section import SlurmSection

__all__ = ["asked_clusters", "clean_environment", "inherited", "inherited_words"]

_KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT")
_OF_A_JOB = ("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_")
_OF_QUERIES = ("SQUEUE_", "SINFO_", "SCONTROL_", "SCANCEL_", "SACCT_", "SPRIO_")
_OURS = (
    *("ARRAY_INX", "ERROR", "EXPORT", "GET_USER_ENV", "GPUS", "GPUS_PER_NODE", "GPUS_PER_TASK", "GRES", "INPUT"),
    *("JOB_NAME", "NO_REQUEUE", "OPEN_MODE", "OUTPUT", "REQUEUE", "SIGNAL", "TIMELIMIT", "WAIT", "WCKEY"),
)
"""Of sbatch(1)'s SBATCH_ variables those whose options hpc-bench always sets."""
_VARIABLES = {
    "PARTITION": "partition",
    "ACCOUNT": "account",
    "QOS": "qos",
    "CONSTRAINT": "constraint",
    "RESERVATION": "reservation",
    "CLUSTERS": "clusters",
    "MEM_PER_NODE": "mem",
    "MEM_PER_CPU": "mem",
    "MEM_PER_GPU": "mem",
    "CPUS_PER_GPU": "cpus_per_task",
}
"""The others that stand for a key of the slurm section."""


def clean_environment(settings: SlurmSection | None = None) -> dict[str, str]:
    """This process's environment without what an enclosing job left there and what would hide jobs or change formats;
    and without variables for what `settings` gives.
    """
    dropped = {f"SBATCH_{name}" for name in _OURS}
    if settings is not None:
        dropped |= {f"SBATCH_{name}" for name, key in _VARIABLES.items() if getattr(settings, key) is not None}
    prefixes = (*_OF_A_JOB, *_OF_QUERIES)
    return {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or not (name.startswith(prefixes) or name in dropped)
    }


def inherited(settings: SlurmSection) -> Mapping[str, str]:
    """The SBATCH_* variables that are in force, since nobody gave their keys; as they are shown and recorded."""
    return {name: redact(value) for name, value in clean_environment(settings).items() if name.startswith("SBATCH_")}


def asked_clusters(settings: SlurmSection) -> list[str]:
    """Those that sbatch may choose from; one of no name is the default."""
    named = settings.clusters or inherited(settings).get("SBATCH_CLUSTERS", "")
    return [name.strip() for name in named.split(",")]


def inherited_words(settings: SlurmSection) -> list[str]:
    """Such as partition: high (SBATCH_PARTITION)."""
    found = inherited(settings).items()
    keys = {name: name.removeprefix("SBATCH_") for name, _ in found}
    return [f"{_VARIABLES.get(keys[name], keys[name].lower())}: {value} ({name})" for name, value in found]

"""Who works: backends start workers, a worker supervises an engine, an engine holds a model; and how it goes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["BACKENDS"]

BACKENDS: Mapping[str, str] = MappingProxyType(
    {
        "local": "hpc_bench.running.local:LocalBackend",
        "slurm": "hpc_bench.running.slurm.backend:SlurmBackend",
    }
)
"""Name -> the backend's class, imported when used."""

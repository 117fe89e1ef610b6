"""Arguments that commands share, and what they name: the sweep, the backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hpc_bench.errors import SweepError
from hpc_bench.running import BACKENDS

__all__ = ["BACKEND", "EXECUTION", "GPUS", "NEW", "RESULTS", "RETRY", "SET", "SWEEP", "load_sweep_file"]

SWEEP = click.argument("sweep_file", type=click.Path(path_type=Path), required=False)
RESULTS = click.argument("results", type=click.Path(path_type=Path), default=Path("results"))
EXECUTION = click.option("--execution", metavar="NAME", help="Another execution than the newest one.")
BACKEND = click.option(
    "--backend",
    type=click.Choice(list(BACKENDS)),
    help="Where to run. Default: local; a sweep with a slurm section has none.",
)
GPUS = click.option(
    "--gpus", metavar="IDS", help="Run locally, on these GPUs: ids such as 0,1, all, or none (the CPU)."
)
SET = click.option(
    "--set",
    "changes",
    metavar="KEY=VALUE",
    multiple=True,
    help="Put a key over the sweep's, e.g. slurm.partition=long.",
)
NEW = click.option("--new", is_flag=True, help="Start a fresh execution instead of resuming the newest one.")
RETRY = click.option("--retry-failed", is_flag=True, help="Give stubs that used up their attempts new ones.")


def load_sweep_file(path: Path | None, changes: tuple[str, ...]) -> Any:
    """The sweep in a file, ./sweep.yaml if none is named."""
    from hpc_bench.sweep.sweep import load_sweep

    default = Path("sweep.yaml")
    if path is None and not default.exists():
        raise SweepError("no sweep file was named and there is no ./sweep.yaml; `hpc-bench init` writes one")
    return load_sweep(path or default, changes)

"""Which backends a sweep needs: what of them is checked, and whether a fault of theirs is the sweep's."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from hpc_bench.cli.backend_choice import backend_names
from hpc_bench.cli.doctor.finding import Finding
from hpc_bench.running.slurm.commands import has_slurm
from hpc_bench.sweep.sweep import Sweep

__all__ = ["Need", "Needs", "as_needed", "needs_of"]

Need = Literal["required", "optional", "none"]
"""optional: it may be used, so it is checked; but without it the sweep can run all the same."""


@dataclass(frozen=True)
class Needs:
    """What is needed of each backend."""

    slurm: Need
    local: Need


def needs_of(sweep: Sweep | None, backend: str | None) -> Needs:
    """`backend`: what the user named; without a sweep it is Slurm wherever that is installed."""
    if backend is None and sweep is None:
        backend = "slurm" if has_slurm() else "local"
    if backend is not None:
        return Needs("required", "none") if backend == "slurm" else Needs("none", "required")
    asked = backend_names(None, None, sweep)
    return Needs("required", "optional") if "slurm" in asked else Needs("optional", "required")


def as_needed(need: Need, findings: Iterable[Finding]) -> Iterator[Finding]:
    """The findings about a backend; where it is optional, a fault is only worth knowing."""
    for finding in findings:
        if need == "optional" and finding.state == "wrong":
            finding = dataclasses.replace(finding, state="warning")
        yield finding

"""By which version of its benchmark's scoring a result was scored, and what to say where that is not the present one.

Such a result stands for what was asked, so it is not stale: its answers only want scoring again.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from hpc_bench import catalog
from hpc_bench.errors import HpcBenchError
from hpc_bench.execution.header import Header

__all__ = ["advise_rescoring", "present_versions"]


def present_versions(header: Header) -> dict[str, int]:
    """Benchmark -> the scoring version that is installed; without those of plug-ins that are not installed here."""
    versions = {}
    for name, spec in header.benchmarks.items():
        with suppress(HpcBenchError):
            versions[name] = catalog.resolve("benchmark", spec.kind).scoring_version
    return versions


def advise_rescoring(results: int, folder: Path) -> str:
    """What to say of so many complete results of an execution; empty for none."""
    if not results:
        return ""
    were = "1 result was" if results == 1 else f"{results} results were"
    them = "it" if results == 1 else "them"
    return f"{were} scored by other rules than the present ones; `hpc-bench rescore {folder}` scores {them} again"

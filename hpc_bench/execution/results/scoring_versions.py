"""By which version of its benchmark's scoring a result was scored, and what to say where that is not the present one.

Such a result stands for what was asked, so it is not stale: its answers only want scoring again.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hpc_bench import catalog
from hpc_bench.errors import HpcBenchError
from hpc_bench.execution.header import Header

__all__ = ["SCORING_VERSION", "advise_rescoring", "present_versions", "scored_by"]

SCORING_VERSION = "scoring_version"
"""The key of stub.json, and of a stub in the summary."""


def scored_by(facts: Mapping[str, Any]) -> int:
    """The scoring version behind a result's scores, from its stub.json; where it says none, the first."""
    version: int = facts.get(SCORING_VERSION, 1)
    return version


def present_versions(header: Header) -> dict[str, int]:
    """Benchmark -> the scoring version that is installed; without those of plug-ins that are not installed here."""
    versions = {}
    for name, entry in header.benchmarks.items():
        with suppress(HpcBenchError):
            versions[name] = catalog.resolve("benchmark", entry.get("kind", name)).scoring_version
    return versions


def advise_rescoring(results: int, folder: Path) -> str:
    """What to say of so many complete results of an execution; empty for none."""
    if not results:
        return ""
    were = "1 result was" if results == 1 else f"{results} results were"
    them = "it" if results == 1 else "them"
    return f"{were} scored by other rules than the present ones; `hpc-bench rescore {folder}` scores {them} again"

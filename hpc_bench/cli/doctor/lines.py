"""How findings are shown: a line each, and below it what to do."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from hpc_bench.cli.doctor.finding import Finding

__all__ = ["print_finding"]

_STYLES = {"ok": "green", "warning": "yellow", "wrong": "bold red", "skipped": "dim"}


def print_finding(console: Console, finding: Finding) -> None:
    """One finding, as soon as it is there: some checks take their time."""
    line = Text.assemble((f"{finding.state:<8}", _STYLES[finding.state]), f"{finding.name:<19}", finding.message)
    console.print(line, soft_wrap=True)
    if finding.remedy:
        console.print(Text(f"{'':<8}{'':<19}-> {finding.remedy}"), soft_wrap=True)

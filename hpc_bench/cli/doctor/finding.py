"""What a check says: fine, worth knowing, or wrong with the remedy; and how it is printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.text import Text

__all__ = ["Finding", "ok", "print_finding", "skipped", "warning", "wrong"]

State = Literal["ok", "warning", "wrong", "skipped"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    name: str
    state: State
    message: str
    remedy: str = ""


def ok(name: str, message: str) -> Finding:
    """As it should be."""
    return Finding(name, "ok", message)


def warning(name: str, message: str, remedy: str = "") -> Finding:
    """A sweep can run, but somebody should know."""
    return Finding(name, "warning", message, remedy)


def wrong(name: str, message: str, remedy: str) -> Finding:
    """A sweep would fail, or could not be trusted."""
    return Finding(name, "wrong", message, remedy)


def skipped(name: str, message: str) -> Finding:
    """Could not be checked, because of another finding or of where this runs."""
    return Finding(name, "skipped", message)


_STYLES = {"ok": "green", "warning": "yellow", "wrong": "bold red", "skipped": "dim"}


def print_finding(console: Console, finding: Finding) -> None:
    """One finding, as soon as it is there: some checks take their time."""
    line = Text.assemble((f"{finding.state:<8}", _STYLES[finding.state]), f"{finding.name:<19}", finding.message)
    console.print(line, soft_wrap=True)
    if finding.remedy:
        console.print(Text(f"{'':<8}{'':<19}-> {finding.remedy}"), soft_wrap=True)

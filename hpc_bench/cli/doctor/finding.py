"""What a check says: fine, worth knowing, or wrong with how to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "ok", "skipped", "warning", "wrong"]

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

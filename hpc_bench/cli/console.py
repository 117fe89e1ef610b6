"""The console that every command prints to."""

from __future__ import annotations

from rich.console import Console

__all__ = ["make_console"]

_WIDE = 160


def make_console() -> Console:
    """Standard output; wide where it is no terminal, so that a log keeps whole lines."""
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=False)
    if not console.is_terminal:
        console.width = max(console.width, _WIDE)
    return console

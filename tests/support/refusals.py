"""What a mistake of the user ends in, and the commands that only read what is on disk."""

from __future__ import annotations

from pathlib import Path

from click.testing import Result


def assert_refused(result: Result, *words: str) -> None:
    """Exit code 2 and one line for the user that holds all the words."""
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith("\n")
    for word in words:
        assert word in result.stderr


def reading_commands(base: Path) -> list[tuple[str | Path, ...]]:
    """Those that read the executions below a folder."""
    return [("collect", base), ("status", base), ("logs", base, "dense"), ("cancel", base)]

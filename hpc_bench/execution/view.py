"""TODO-VIEW."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Failure"]


@dataclass(frozen=True)
class Failure:
    """Why stubs failed, once for all that failed alike."""

    reason: str
    """The kind of failure and its message."""
    titles: tuple[str, ...]

    @property
    def summary(self) -> str:
        """On one line."""
        more = f" and {len(self.titles) - 1} more" if len(self.titles) > 1 else ""
        return f"{self.titles[0]}{more}: {self.reason}"

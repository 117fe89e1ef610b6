"""In which environment a result was made, and where results that are compared differ in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hpc_bench.execution.results.facts import Facts

__all__ = ["KEYS", "Difference", "environment_of", "find_differences"]

KEYS = ("hpc_bench", "torch", "transformers", "dtype", "device")
"""The keys of a result's provenance on which greedy scores depend beside the configuration."""
_MOST_TITLES = 3


@dataclass(frozen=True)
class Difference:
    """What some results have in another way than those that they stand beside."""

    key: str
    theirs: str
    others: str
    titles: tuple[str, ...]
    """Of the stubs."""

    @property
    def summary(self) -> str:
        """On one line."""
        more = f" and {len(self.titles) - _MOST_TITLES} more" if len(self.titles) > _MOST_TITLES else ""
        return f"{self.key} {self.theirs}, not {self.others}: {', '.join(self.titles[:_MOST_TITLES])}{more}"


def environment_of(facts: Facts) -> dict[str, str]:
    """The environment of a result; keys that it does not know are left out."""
    return {key: str(facts.provenance[key]) for key in KEYS if facts.provenance.get(key) is not None}


def find_differences(pairs: Iterable[tuple[str, Mapping[str, str], Mapping[str, str]]]) -> list[Difference]:
    """For (title, environment, the one that it is compared with): each difference once, with all its stubs."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for title, mine, others in pairs:
        for key in KEYS:
            if key in mine and key in others and mine[key] != others[key]:
                found.setdefault((key, mine[key], others[key]), []).append(title)
    return [Difference(*differing, tuple(titles)) for differing, titles in found.items()]

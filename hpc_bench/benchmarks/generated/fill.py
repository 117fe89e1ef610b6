"""Fills a puzzle with text up to a length in tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hpc_bench.benchmarks.base import Tokens, prompt_tokens
from hpc_bench.values import Sample

__all__ = ["Puzzle", "fill", "most_units"]

_SLACK = 500
"""A 500th of the budget may stay free; a text of that length is not worth another count."""
_PROBE = 64
_TRIES = 40


@dataclass(frozen=True)
class Puzzle:
    """A question and its answers; how much text lies around them is still open."""

    render: Callable[[int], str]
    """The context with so many units of filler (sentences, words); the same at every call."""
    question: str
    answer_prefix: str
    references: tuple[str, ...]
    needles: tuple[str, ...] = ()
    """Parts of the context that hold the answer."""


def fill(puzzle: Puzzle, room: int, tokens: Tokens) -> str | None:
    """The longest context that leaves the whole prompt within `room` tokens; None: none does."""

    def measure(units: int) -> int:
        asked = Sample("", puzzle.render(units), puzzle.question, puzzle.references, 0, puzzle.answer_prefix)
        return prompt_tokens(tokens, asked)

    units = most_units(measure, room)
    return None if units is None else puzzle.render(units)


def most_units(measure: Callable[[int], int], budget: int) -> int | None:
    """The most units whose measure is within the budget, or nearly the most; None if not even 0 units are.

    `measure` grows about evenly, and is expensive: few calls, by interpolation.
    """
    low, low_size = 0, measure(0)
    if low_size > budget:
        return None
    high, high_size = 0, 0  # 0: none known yet
    slack, units, start = budget // _SLACK, _PROBE, low_size
    for attempt in range(_TRIES):
        size = measure(units)
        if size <= budget:
            low, low_size = units, size
        else:
            high, high_size = units, size
        if budget - low_size <= slack or high == low + 1:
            break
        aim = budget - slack // 2 - low_size
        if not high:
            rate = max((low_size - start) / low, 0.5)  # hardly a unit takes less than a token
            units = low + max(1, int(aim / rate))
        elif attempt % 3 == 2:
            units = (low + high) // 2
        else:
            units = min(max(low + aim * (high - low) // (high_size - low_size), low + 1), high - 1)
    return low

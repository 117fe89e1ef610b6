"""What a reasoning model answers, apart from what it thinks before."""

from __future__ import annotations

__all__ = ["final_answer"]

_END_OF_THINKING = "</think>"


def final_answer(text: str) -> str:
    """The text behind the last end-of-thinking tag, as it is; the whole text where there is none."""
    return text.rpartition(_END_OF_THINKING)[2]

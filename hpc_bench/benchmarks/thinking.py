"""What a reasoning model answers, apart from what it thinks before."""

from __future__ import annotations

__all__ = ["START_OF_THINKING", "final_answer"]

START_OF_THINKING = "<think>"
_END_OF_THINKING = "</think>"


def final_answer(text: str) -> str:
    """The text behind the last finished thought, as it is, up to an unfinished one; all of a text without think tags.

    So what was said before a model began to think again counts, and nothing where it never came to an answer. Adapters
    put the opening tag in front of a text where the chat template has printed it already.
    """
    return text.rpartition(_END_OF_THINKING)[2].partition(START_OF_THINKING)[0]

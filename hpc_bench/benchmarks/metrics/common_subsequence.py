"""The longest common subsequence of two lists of words, in time that hardly grows with the length of one of them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

__all__ = ["common_places", "word_places"]


def word_places(words: Sequence[str], vocabulary: Iterable[str]) -> dict[str, int]:
    """For each word of the vocabulary that is there: the bits of its places."""
    by_word: dict[str, list[int]] = {word: [] for word in vocabulary}
    for place, word in enumerate(words):
        if word in by_word:
            by_word[word].append(place)
    return {word: _as_bits(places, len(words)) for word, places in by_word.items() if places}


def _as_bits(places: Iterable[int], size: int) -> int:
    packed = bytearray(size // 8 + 1)
    for place in places:
        packed[place >> 3] |= 1 << (place & 7)
    return int.from_bytes(packed, "little")


def common_places(
    down: Sequence[str], across: Sequence[str], places: dict[str, int], most_steps: int = sys.maxsize
) -> list[int] | None:
    """Where the words of a longest common subsequence are in `across`, from the last to the first; `places` is that of
    its words. None: the walk takes more than `most_steps`.

    Of several longest ones it is that of a walk from the end of the table of all lengths, which takes equal words,
    else goes left where that keeps the length, else up.
    """
    rows = _growth(down, len(across), places)
    picked: list[int] = []
    i, j = len(down), len(across)
    for _ in range(min(most_steps, i + j) + 1):
        if not i or not j:
            return picked
        if down[i - 1] == across[j - 1]:
            i, j = i - 1, j - 1
            picked.append(j)
        elif rows[i - 1][(j - 1) >> 3] >> ((j - 1) & 7) & 1:
            j -= 1
        else:
            i -= 1
    return None


def _growth(down: Sequence[str], size: int, places: dict[str, int]) -> list[bytes]:
    """The table as one row of bits for each word of `down`, 0 where it grows by one from left to right (Hyyrö 2004,
    "Bit-parallel LCS-length computation revisited").
    """
    rows: list[bytes] = []
    row = everywhere = (1 << size) - 1
    packed = row.to_bytes(size // 8 + 1, "little")
    for word in down:
        if word in places:  # else the row is that above, and shares its memory
            hits = row & places[word]
            row = ((row + hits) | (row - hits)) & everywhere
            packed = row.to_bytes(size // 8 + 1, "little")
        rows.append(packed)
    return rows

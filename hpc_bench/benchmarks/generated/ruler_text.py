"""The words and sentences of the ruler benchmark's own generator.

Task forms and parameters are those of NVIDIA/RULER (scripts/data/synthetic/constants.py), the wording is our own.
Wording and the order of random draws are part of the samples: a change here, or in the modules that draw, needs a new
`TEXT_VERSION`, and so does another way of filling a length.
"""

from __future__ import annotations

import random
import string
import uuid
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from hpc_bench.benchmarks.generated.needle_text import KEYS

__all__ = [
    "CWE_ANSWER",
    "CWE_INTRO",
    "CWE_QUESTION",
    "DOCUMENT",
    "FWE_ANSWER",
    "FWE_INTRO",
    "FWE_QUESTION",
    "NEEDLE",
    "NIAH_ANSWER",
    "NIAH_INTRO",
    "NIAH_QUESTION",
    "NOISE",
    "QA_ANSWER",
    "QA_INTRO",
    "QA_QUESTION",
    "TEXT_VERSION",
    "VT_ANSWER",
    "VT_INTRO",
    "VT_QUESTION",
    "Growing",
    "coded_words",
    "distinct",
    "key_words",
    "nonce_words",
    "numbers",
    "uuids",
    "variables",
]

TEXT_VERSION = 2

NOISE = (
    "The grass is green.",
    "The sky is blue.",
    "The sun is yellow.",
    "Here we go.",
    "There and back again.",
)
"""RULER's noise haystack repeats these five."""

NEEDLE = "A special magic {kind} for {key} is {value}."
NIAH_INTRO = {
    "one": "A special magic {kind} is hidden in the text below. Read it and answer the question at the end.\n\n",
    "many": "Some special magic {kind}s are hidden in the text below. Read it and answer the question at the end.\n\n",
}
NIAH_QUESTION = {
    "one": "\nWhat is the special magic {kind} for {keys} in the text above?",
    "many": "\nWhat are all the special magic {kind}s for {keys} in the text above?",
}
NIAH_ANSWER = {
    "one": " The special magic {kind} for {keys} is",
    "many": " The special magic {kind}s for {keys} are",
}

VT_INTRO = "In the text below variables get values, some of them from each other. Follow where each value goes.\n\n"
VT_QUESTION = (
    "\nQuestion: Which variables hold the value {value}, set directly or taken from another? Name all of them."
)
VT_ANSWER = " Answer: The {count} variables that hold the value {value} are:"

CWE_INTRO = "Here is a numbered list of words, of which some occur more often than the others.\n\n"
CWE_QUESTION = "\nQuestion: Which {count} words occur most often in the list above?"
CWE_ANSWER = " Answer: The {count} words that occur most often are:"

FWE_INTRO = "The words of the text below are coded. Count how often each of them occurs.\n\n"
FWE_QUESTION = (
    "\nQuestion: Leaving the dots '...' aside, which {count} coded words occur most often in the text above? "
    "Name them without an explanation."
)
FWE_ANSWER = " Answer: The {count} coded words that occur most often are:"

QA_INTRO = "Read the documents below, and reply to the question that follows them with the answer alone.\n\n"
DOCUMENT = "Document {number}:\n{text}\n"
QA_QUESTION = "\nReply with the answer alone, as found in the documents.\nQuestion: {question}"
QA_ANSWER = " Answer:"

_CONSONANTS, _VOWELS = "bdfghjklmnprstvwz", "aeiou"
_WORD_PAIRS = 10_000
"""Of `KEYS`, before keys get a third word: as long as a new pair is found quickly."""

Item = TypeVar("Item")
Name = TypeVar("Name", bound=Hashable)


class Growing(Generic[Item]):
    """The items of an endless iterator, drawn when first asked for: item i is the same at every call."""

    def __init__(self, source: Iterator[Item]) -> None:
        self._source = source
        self._drawn: list[Item] = []

    def __getitem__(self, index: int) -> Item:
        while len(self._drawn) <= index:
            self._drawn.append(next(self._source))
        return self._drawn[index]

    def first(self, count: int) -> list[Item]:
        """The first items."""
        return [self[index] for index in range(count)]


def distinct(items: Iterator[Name]) -> Iterator[Name]:
    """Each item once."""
    seen: set[Name] = set()
    for item in items:
        if item not in seen:
            seen.add(item)
            yield item


def key_words(rng: random.Random) -> Iterator[str]:
    """Distinct keys such as amber-otter."""
    seen: set[str] = set()
    while True:
        key = "-".join(rng.sample(KEYS, 2 if len(seen) < _WORD_PAIRS else 3))
        if key not in seen:
            seen.add(key)
            yield key


def numbers(rng: random.Random, digits: int = 7) -> Iterator[str]:
    """Distinct numbers."""
    return distinct(str(rng.randrange(10 ** (digits - 1), 10**digits)) for _ in _endlessly())


def uuids(rng: random.Random) -> Iterator[str]:
    """Distinct UUIDs of version 4."""
    return distinct(str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in _endlessly())


def variables(rng: random.Random) -> Iterator[str]:
    """Distinct names of five capitals."""
    return distinct("".join(rng.choices(string.ascii_uppercase, k=5)) for _ in _endlessly())


def nonce_words(rng: random.Random) -> Iterator[str]:
    """Distinct words that can be spoken, all of six letters: none is part of another."""
    shape = (_CONSONANTS, _VOWELS) * 3
    return distinct("".join(map(rng.choice, shape)) for _ in _endlessly())


def coded_words(rng: random.Random) -> Iterator[str]:
    """Distinct words of six random letters."""
    return distinct("".join(rng.choices(string.ascii_lowercase, k=6)) for _ in _endlessly())


def _endlessly() -> Iterator[None]:
    while True:
        yield None

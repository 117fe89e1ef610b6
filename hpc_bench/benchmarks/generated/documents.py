"""RULER's question answering among distracting documents (NVIDIA/RULER, scripts/data/synthetic/qa.py)."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hpc_bench.benchmarks.data.texts import as_text, warn_of_halves, without_halves
from hpc_bench.benchmarks.generated import ruler_text as text
from hpc_bench.benchmarks.generated.fill import Puzzle
from hpc_bench.errors import DatasetError

__all__ = ["Question", "qa_puzzle", "read_questions"]


@dataclass(frozen=True)
class Question:
    """A question with the documents that answer it."""

    question: str
    answers: tuple[str, ...]
    documents: tuple[str, ...]
    related: tuple[str, ...]
    """Documents of the same article or search, the first to distract."""


def read_questions(task: str, path: Path) -> list[Question]:
    """All questions of a file, in its order: SQuAD's JSON for qa_1, HotpotQA's for qa_2; DatasetError if it is not."""
    name, reader = _READERS[task]
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        mended = without_halves(content)
        found = list(reader(mended))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path} is no JSON in the form of {name}, which {task} is made of: {error!r}") from error
    if not found:
        raise DatasetError(f"{path} holds no questions")
    if mended != content:
        warn_of_halves(path, f"questions of {task}")
    return found


def _read_squad(data: Mapping[str, Any]) -> Iterator[Question]:
    for article in data["data"]:
        documents = [f"{article['title']}\n{paragraph['context']}" for paragraph in article["paragraphs"]]
        for document, paragraph in zip(documents, article["paragraphs"], strict=True):
            related = tuple(dict.fromkeys(other for other in documents if other != document))
            for asked in paragraph["qas"]:
                answers = tuple(dict.fromkeys(as_text(answer["text"], "text") for answer in asked["answers"]))
                if answers:  # none: a question of SQuAD 2 that cannot be answered
                    yield Question(asked["question"], answers, (document,), related)


def _read_hotpot(data: Sequence[Mapping[str, Any]]) -> Iterator[Question]:
    for row in data:
        documents = {title: f"{title}\n{''.join(sentences)}" for title, sentences in row["context"]}
        facts = {title for title, _ in row.get("supporting_facts", [])} & set(documents) or set(documents)
        yield Question(
            row["question"],
            (as_text(row["answer"], "answer"),),
            tuple(document for title, document in documents.items() if title in facts),
            tuple(document for title, document in documents.items() if title not in facts),
        )


_READERS: Mapping[str, tuple[str, Callable[[Any], Iterator[Question]]]] = MappingProxyType(
    {"qa_1": ("SQuAD", _read_squad), "qa_2": ("HotpotQA", _read_hotpot)}
)


def qa_puzzle(question: Question, documents: Sequence[str], rng: random.Random) -> Puzzle:
    """A question among distractors, a unit a word of them; the last one is cut to fit, and all are shuffled.

    Distractors are first the question's own, then any of `documents`, again from the start when all were taken.
    """
    own = [(rng.random(), document) for document in question.documents]
    others = text.Growing(_distractors(question, documents, rng))

    def render(units: int) -> str:
        chosen, index = list(own), 0
        while units > 0:
            place, words = others[index]
            chosen.append((place, " ".join(words[:units])))
            units -= len(words)
            index += 1
        texts = [document for _, document in sorted(chosen)]
        numbered = (text.DOCUMENT.format(number=number, text=one) for number, one in enumerate(texts, 1))
        return text.QA_INTRO + "\n".join(numbered)

    return Puzzle(
        render=render,
        question=text.QA_QUESTION.format(question=question.question),
        answer_prefix=text.QA_ANSWER,
        references=question.answers,
        needles=question.documents,
    )


def _distractors(question: Question, documents: Sequence[str], rng: random.Random) -> Iterator[tuple[float, list[str]]]:
    """Endless: where among the documents each goes (0 to 1), and its words."""
    own = {*question.documents}
    if own.issuperset(documents):
        raise DatasetError("the file of the option qa holds no document that could distract; give a larger one")
    related = rng.sample(question.related, len(question.related))
    for document in chain(related, _at_random(documents, own.union(related), rng), _repeated(documents, own)):
        yield rng.random(), document.split(" ")


def _at_random(documents: Sequence[str], taken: set[str], rng: random.Random) -> Iterator[str]:
    """Those that are not taken, without shuffling all of them when a few are wanted."""
    free = len(documents) - len(taken.intersection(documents))
    taken = set(taken)
    while free:
        document = rng.choice(documents)
        if document not in taken:
            taken.add(document)
            free -= 1
            yield document


def _repeated(documents: Sequence[str], own: set[str]) -> Iterator[str]:
    while True:
        yield from (document for document in documents if document not in own)

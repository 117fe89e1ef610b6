"""Makes the ruler benchmark's samples at any length of the model's own tokenizer."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from hpc_bench.benchmarks.base import Tokens, prompt_tokens
from hpc_bench.benchmarks.generated.counts import cwe_puzzles, fwe_puzzle
from hpc_bench.benchmarks.generated.documents import qa_puzzle, read_questions
from hpc_bench.benchmarks.generated.fill import Puzzle, fill
from hpc_bench.benchmarks.generated.needles import NIAH, essay_haystack, niah_puzzle, vt_puzzles
from hpc_bench.errors import DatasetError, PluginError, SweepError
from hpc_bench.places import pointer_problem
from hpc_bench.values import Json, Sample

__all__ = [
    "ESSAY_TASKS",
    "NEW_TOKENS",
    "QA_TASKS",
    "TASKS",
    "Order",
    "check_files",
    "find_essays",
    "find_questions",
    "generate",
]

TASKS = (*NIAH, "vt", "cwe", "fwe", "qa_1", "qa_2")
QA_TASKS = frozenset({"qa_1", "qa_2"})
ESSAY_TASKS = frozenset(task for task, form in NIAH.items() if form.haystack == "essay")
NEW_TOKENS: Mapping[str, int] = MappingProxyType(
    {**dict.fromkeys(NIAH, 128), "vt": 30, "cwe": 120, "fwe": 50, "qa_1": 32, "qa_2": 32}
)
"""`tokens_to_generate` in scripts/data/synthetic/constants.py."""


@dataclass(frozen=True)
class Order:
    """What is to be generated."""

    task: str
    length: int
    samples: int
    seed: int
    files: tuple[Path, ...] = ()
    """The essays, or the file of questions, of a task that needs them."""

    @property
    def room(self) -> int:
        """Tokens of the prompt; as in RULER, the new tokens count towards the length."""
        return self.length - NEW_TOKENS[self.task]

    def random(self, index: int) -> random.Random:
        """A stream of random numbers for each sample."""
        return random.Random(f"{self.seed}/{self.length}/{self.task}/{index}")  # noqa: S311 - text, no secret


def generate(order: Order, tokens: Tokens) -> Iterator[Sample]:
    """Samples in the form of RULER; of qa at most as many as the file has questions that fit the length."""
    made = 0
    for index, puzzles in enumerate(_all_puzzles(order, tokens)):
        if made == order.samples:
            break
        for puzzle in puzzles:
            if (context := fill(puzzle, order.room, tokens)) is not None:
                yield _to_sample(f"{index:04d}", order, puzzle, context)
                made += 1
                break
        else:
            if order.task not in QA_TASKS:
                raise _too_short(order, tokens)
    if not made:
        raise _too_short(order, tokens)


def _all_puzzles(order: Order, tokens: Tokens) -> Iterator[Sequence[Puzzle]]:
    """For each sample the puzzles to try; the first that fits is used."""
    if order.task in QA_TASKS:
        yield from _qa_puzzles(order)
        return
    essay = essay_haystack(_read_words(order.files)) if order.files else None
    for index in range(order.samples):
        rng = order.random(index)
        if order.task == "vt":
            yield vt_puzzles(order.length, rng)
        elif order.task == "cwe":
            yield cwe_puzzles(order.length, rng)
        elif order.task == "fwe":
            yield [fwe_puzzle(rng)]
        else:
            yield [niah_puzzle(NIAH[order.task], rng, tokens, essay)]


def check_files(needed: Iterable[tuple[str, tuple[Path, ...]]]) -> None:
    """DatasetError if a task cannot be made of its files; files that several tasks read as essays are read once."""
    for form, files in dict.fromkeys(("essays" if task in ESSAY_TASKS else task, files) for task, files in needed):
        if form == "essays":
            _read_words(files)
        elif form in QA_TASKS:
            read_questions(form, files[0])


def _qa_puzzles(order: Order) -> Iterator[Sequence[Puzzle]]:
    questions = read_questions(order.task, order.files[0])
    documents = list(dict.fromkeys(document for one in questions for document in (*one.documents, *one.related)))
    for index, question in enumerate(questions):
        yield [qa_puzzle(question, documents, order.random(index))]


def _read_words(files: Sequence[Path]) -> list[str]:
    try:
        words = " ".join(file.read_text(encoding="utf-8") for file in files).split()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"the essays in {files[0].parent} cannot be read as UTF-8 text: {error}") from error
    if not words:
        raise DatasetError(f"the essays in {files[0].parent} hold no words")
    return words


def _to_sample(sample_id: str, order: Order, puzzle: Puzzle, context: str) -> Sample:
    depths: list[Json] = [_depth(needle, context) for needle in puzzle.needles]
    return Sample(
        sample_id=sample_id,
        context=context,
        question=puzzle.question,
        references=puzzle.references,
        max_new_tokens=NEW_TOKENS[order.task],
        answer_prefix=puzzle.answer_prefix,
        task=order.task,
        extra={"length": order.length} | ({"depths": depths} if depths else {}),
    )


def _depth(needle: str, context: str) -> float:
    """0 at the start of the context, 100 at its end."""
    return round(100 * context.rindex(needle) / max(1, len(context) - len(needle)), 1)


def _too_short(order: Order, tokens: Tokens) -> PluginError:
    frame = prompt_tokens(tokens, Sample("", "", "", (), max_new_tokens=0))
    return PluginError(
        f"{order.length} tokens are too few for {order.task} with this model's tokenizer, {NEW_TOKENS[order.task]} of "
        f"them being kept for the answer and {frame} for special tokens and chat template; choose a longer subset"
    )


def find_essays(path: str | None, subset: str) -> tuple[Path, ...]:
    """The text files of the option `essays`, in the order of their names."""
    if path is None:
        raise SweepError(f"{subset} hides its needles in essays, which are not shipped: {_ESSAYS}", "essays")
    root = Path(path).expanduser()
    files = (root,) if root.is_file() else tuple(sorted(root.glob("*.txt")))
    if not files:
        raise SweepError(f"{path} holds no .txt file: {_ESSAYS}", "essays")
    _refuse_pointers(files, "essays")
    return files


def find_questions(path: str | None, subset: str) -> tuple[Path, ...]:
    """The JSON file of the option `qa`."""
    task = "qa_1" if subset.endswith("qa_1") else "qa_2"
    if path is None:
        raise SweepError(f"{subset} is made of questions that are not shipped: {_QA}", "qa")
    root = Path(path).expanduser()
    file = root if root.is_file() else root / f"{task}.json"
    if not file.is_file():
        raise SweepError(f"{path} holds no {task}.json: {_QA}", "qa")
    _refuse_pointers((file,), "qa")
    return (file,)


def _refuse_pointers(files: Iterable[Path], option: str) -> None:
    for file in files:
        if problem := pointer_problem(file):
            raise SweepError(problem, option)


_ESSAYS = "name a text file, or a folder of .txt files, in the option essays"
_QA = (
    "name a SQuAD file (qa_1), a HotpotQA file (qa_2), or a folder with both as qa_1.json, qa_2.json, in the option qa"
)

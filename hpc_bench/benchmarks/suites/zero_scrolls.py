"""zero_scrolls: ten tasks over long texts, whose answers only the authors have (tau-nlp/zero_scrolls)."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from hpc_bench.benchmarks.base import SubsetSize
from hpc_bench.benchmarks.data.rows import Row
from hpc_bench.benchmarks.data.table import TableBenchmark
from hpc_bench.benchmarks.data.texts import as_text
from hpc_bench.errors import SweepError
from hpc_bench.hub_files import DEFAULT
from hpc_bench.values import AnswerPlace, Sample, Scores, Truncation

__all__ = ["ZeroScrolls"]

SUBMISSION = "submission.csv"


@dataclass(frozen=True)
class _Subset:
    samples: int
    context_words: int
    """On average, with the samples, as published (arXiv 2305.14196, table 1)."""
    new_tokens: int
    """experiments/api/api.py, `dataset_to_leave_tokens_for_generations`."""


_SUBSETS: Mapping[str, _Subset] = MappingProxyType(
    {
        "gov_report": _Subset(500, 7_273, 1024),
        "summ_screen_fd": _Subset(337, 5_663, 512),
        "qmsum": _Subset(281, 10_839, 512),
        "qasper": _Subset(500, 3_531, 128),
        "narrative_qa": _Subset(500, 49_384, 64),
        "quality": _Subset(500, 4_248, 10),
        "musique": _Subset(500, 1_749, 32),
        "squality": _Subset(260, 4_971, 512),
        "space_digest": _Subset(500, 5_481, 36),
        "book_sum_sort": _Subset(500, 6_840, 256),
    }
)


@dataclass(frozen=True)
class ZeroScrolls(TableBenchmark):
    """ZeroSCROLLS: answers to send in, not scores.

    The answers of the test split are private, so each result holds a `submission.csv` beside its answers; the ten
    tasks' files one below the other, with one heading, are what the leaderboard takes.

    Prompts are those for models without chat format. A document that is too long loses its end, as in
    experiments/hf/run_hf_model.py (`process_model_input`), but the row's `truncation_seperator`, which the authors put
    in the place of what was cut, is left out. Chat models get the same prompts as the
    user's message; experiments/api/openai_api.py (`build_prompt`) leaves the answer prefix out and adds "Do not provide
    any explanation." to the instruction of all tasks but the summaries.
    """

    version: ClassVar[int] = 2
    truncation: ClassVar[Truncation] = "right"
    answer_prefix: ClassVar[AnswerPlace] = "user"
    subsets: ClassVar[tuple[str, ...]] = tuple(_SUBSETS)
    hub_name: ClassVar[str] = "simonjegou/zero_scrolls"
    columns: ClassVar[tuple[str, ...]] = ("context", "question", "answer_prefix", "id")

    def configuration(self, subset: str | None) -> str:  # noqa: ARG002
        """One table for all tasks."""
        return DEFAULT

    def task(self, subset: str | None) -> str | None:
        """The subset's own name."""
        return subset

    def size(self, subset: str | None) -> SubsetSize:
        """From the published averages, at three tokens for two words."""
        about = _SUBSETS[_known(subset)]
        return SubsetSize(about.samples, about.context_words * 3 // 2, about.new_tokens)

    def to_sample(self, index: int, row: Row, subset: str | None) -> Sample:
        """A row of the data set, with the id that a submission names."""
        name, question, answer_prefix = _known(subset), row["question"], row["answer_prefix"]
        if answer_prefix:
            question, answer_prefix = _with_end(question, "\n\n"), _with_end(answer_prefix, "\n")
        return Sample(
            sample_id=f"{index:04d}",
            context=row["context"],
            question=question,
            references=("",),
            max_new_tokens=_SUBSETS[name].new_tokens,
            answer_prefix=answer_prefix,
            task=name,
            extra={"id": as_text(row["id"], "id")},
        )

    def score(self, samples: Sequence[Sample], predictions: Sequence[str]) -> Scores:
        """No score, but the table to send in."""
        answers = list(zip(samples, predictions, strict=True))
        return Scores(
            None,
            {},
            tuple({} for _ in answers),
            note="not scored: private answers" if answers else "no samples",
            files={SUBMISSION: _submission(answers)} if answers else {},
        )


def _with_end(text: str, end: str) -> str:
    """The data set's columns lack the lines around the answer prefix, which the authors' `input` has."""
    return text if text[-1:].isspace() else text + end


def _known(subset: str | None) -> str:
    if subset is None or subset not in _SUBSETS:
        raise SweepError(f"needs one of the subsets {', '.join(_SUBSETS)}")
    return subset


def _submission(answers: Sequence[tuple[Sample, str]]) -> str:
    """The table that submission/prepare_submission.py makes; an id that the data repeats stands in it once.

    Everything is quoted: a lone carriage return, which `csv` would not quote by itself, ends a row for pandas.
    """
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(("Task", "ID", "Prediction"))
    written: set[str] = set()
    for sample, text in answers:
        name = str(sample.extra.get("id", sample.sample_id))
        if name not in written:
            writer.writerow((sample.task, name, text))
            written.add(name)
    return table.getvalue()

"""infinite_bench: twelve tasks on contexts of a hundred thousand tokens and more (OpenBMB/InfiniteBench)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from types import MappingProxyType
from typing import Any, ClassVar

from hpc_bench.benchmarks.base import SubsetSize
from hpc_bench.benchmarks.data.rows import Row
from hpc_bench.benchmarks.data.table import TableBenchmark
from hpc_bench.benchmarks.data.texts import as_text
from hpc_bench.benchmarks.metrics import infinite_bench as scores
from hpc_bench.errors import DatasetError, SweepError
from hpc_bench.values import AnswerPlace, Metric, Sample, Scores

__all__ = ["InfiniteBench"]

_DIGITS, _INTEGER, _NUMBER = "[0-9]+", "-?[0-9]+", r"-?[0-9]+(\.[0-9]+)?"
_INTEGERS = rf"\[{_INTEGER}(, {_INTEGER})*\]"
_OPTION = r"[A-D]\..*"
_OF_OPTIONS = ("code_debug", "longbook_choice_eng")
_FOUR_OPTIONS = re.compile(r"\A(?:.*\n)?A\. (.*?)\nB\. (.*?)\nC\. (.*?)\nD\. (.*?)(?:\n\n|\Z)", re.DOTALL)
"""The last four of a question; an option may be of several lines."""


@dataclass(frozen=True)
class _Subset:
    samples: int
    context_tokens: int
    """On average; both as published in InfiniteBench's README."""
    new_tokens: int
    """DATA_NAME_TO_MAX_NEW_TOKENS in src/eval_utils.py."""
    metric: str
    score: Callable[[str, Sequence[str]], float]
    label: str = ".*"
    """What a reference looks like, as a pattern."""
    gap: str = "\n\n"
    """Between question and answer prefix (src/prompt.py, `yarn_mistral_templates`)."""


_SUBSETS: Mapping[str, _Subset] = MappingProxyType(
    {
        "passkey": _Subset(590, 122_400, 6, "accuracy", scores.score_first_digits, _DIGITS),
        "number_string": _Subset(590, 122_400, 12, "accuracy", scores.score_first_digits, _DIGITS),
        "kv_retrieval": _Subset(500, 89_900, 50, "accuracy", scores.score_retrieved_word),
        "longbook_sum_eng": _Subset(103, 171_500, 1200, "rougeLsum", scores.score_longbook_sum),
        "longbook_choice_eng": _Subset(229, 184_400, 40, "accuracy", scores.score_longbook_choice, _OPTION),
        "longbook_qa_eng": _Subset(351, 192_600, 40, "qa_f1", scores.score_longbook_qa, gap="\n"),
        "longbook_qa_chn": _Subset(175, 2_068_600, 40, "qa_f1_zh", scores.score_longbook_qa_zh, gap="\n"),
        "longdialogue_qa_eng": _Subset(200, 103_600, 40, "accuracy", scores.score_longdialogue),
        "math_find": _Subset(350, 87_900, 3, "accuracy", scores.score_math_find, _NUMBER),
        "math_calc": _Subset(50, 43_900, 30_000, "correct_prefix", scores.score_math_calc, _INTEGERS),
        "code_run": _Subset(400, 75_200, 5, "accuracy", scores.score_code_run, _INTEGER, gap=" "),
        "code_debug": _Subset(394, 114_700, 5, "accuracy", scores.score_code_debug, _OPTION),
    }
)


@dataclass(frozen=True)
class InfiniteBench(TableBenchmark):
    """InfiniteBench in the prompts of the data set's columns, with the authors' limits of new tokens and scores.

    Question and answer prefix are parted as in the authors' prompts, unless the data set parts them.

    References are acceptable answers, each in itself: the numbers of math_calc are one, and so is an option with its
    letter (`B. the cellar`), which the official scorer knows by both.
    """

    version: ClassVar[int] = 3
    answer_prefix: ClassVar[AnswerPlace] = "user"
    subsets: ClassVar[tuple[str, ...]] = tuple(_SUBSETS)
    hub_name: ClassVar[str] = "MaxJeblick/InfiniteBench"
    columns: ClassVar[tuple[str, ...]] = ("context", "question", "answer_prefix", "answer")
    empty_columns: ClassVar[tuple[str, ...]] = ("question", "answer_prefix")

    def headline(self, subset: str | None) -> str:
        """As `get_score` in src/compute_scores.py chooses."""
        return _SUBSETS[self._name(subset)].metric

    def size(self, subset: str | None) -> SubsetSize:
        """As published."""
        about = _SUBSETS[self._name(subset)]
        return SubsetSize(about.samples, about.context_tokens, about.new_tokens)

    def to_sample(self, index: int, row: Row, subset: str | None) -> Sample:
        """A row of the data set; DatasetError if its label is not of the kind that the subset has."""
        name, question, answer_prefix = self._name(subset), row["question"] or "", row["answer_prefix"] or ""
        references = _references(name, row["answer"], question)
        form = _SUBSETS[name].label
        if not references or not all(re.fullmatch(form, text, re.DOTALL) for text in references):
            raise DatasetError(f"the answer {str(row['answer'])[:50]!r} of {name} is not of the form {form}")
        return Sample(
            sample_id=f"{index:04d}",
            context=row["context"],
            question=question + _gap(name, question or row["context"], answer_prefix),
            references=references,
            max_new_tokens=_SUBSETS[name].new_tokens,
            answer_prefix=answer_prefix,
            task=name,
        )

    def score(self, samples: Sequence[Sample], predictions: Sequence[str]) -> Scores:
        """The mean of the subset's score (`get_score`), not rounded: math_calc is told in hundredths of a percent."""
        values = [
            100 * _SUBSETS[sample.task].score(text, sample.references)
            for sample, text in zip(samples, predictions, strict=True)
        ]
        if not values:
            return Scores(None, {}, (), note="no samples")
        mean, metric = sum(values) / len(values), _SUBSETS[samples[0].task].metric
        return Scores(mean, {metric: Metric(mean)}, tuple({metric: value} for value in values))

    def _name(self, subset: str | None) -> str:
        if (name := self._known(subset)) is None:
            raise SweepError(f"needs one of the subsets {', '.join(_SUBSETS)}")
        return name


def _gap(name: str, before: str, answer_prefix: str) -> str:
    """What parts the prompt so far from the answer prefix, if nothing does yet.

    A blank does not stand for a line break, and what an option ends in is a part of the option.
    """
    gap = _SUBSETS[name].gap
    tail = before[len(before.rstrip()) :]
    parted = tail.endswith(gap) if name in _OF_OPTIONS else "\n" in tail or gap in tail
    return gap if answer_prefix and not parted else ""


def _references(name: str, label: Any, question: str) -> tuple[str, ...]:
    """The label, whatever it came as, in the form that the scores read."""
    texts = _texts(label)
    if name in _OF_OPTIONS:
        return (_option(texts, question),)
    if name == "math_calc":
        numbers = re.split(r"[,\s]+", " ".join(texts).strip("[] "))
        return (f"[{', '.join(numbers)}]",)
    return tuple(texts)


def _texts(label: Any) -> list[str]:
    """A list, an array or a scalar as texts; whole numbers without a point."""
    plain = label.tolist() if hasattr(label, "tolist") else label
    if isinstance(plain, (list, tuple)):
        return [text for item in plain for text in _texts(item)]
    if isinstance(plain, float) and isfinite(plain):
        return [str(int(plain) if plain.is_integer() else plain)]
    return [] if plain is None else [as_text(plain, "answer")]


def _option(label: Sequence[str], question: str) -> str:
    """`B. the cellar` from a letter, an option's text or both; what the label lacks comes from the question's options
    (as OPTIONS is used in src/eval_utils.py, `get_answer`). Empty: the label names no option.
    """
    found = _FOUR_OPTIONS.match(question)
    options = dict(zip("ABCD", found.groups(), strict=True)) if found else {}
    letters = [text for text in label if re.fullmatch("[A-D]", text)]
    letters += [letter for letter, option in options.items() if option in label]
    if not letters:
        return ""
    texts = [text for text in label if text not in letters]
    return f"{letters[0]}. {texts[0] if texts else options.get(letters[0], '')}"

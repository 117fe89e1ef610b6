"""own_data: a benchmark without code, made of rows of one's own, a metric by name and a prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from hpc_bench.benchmarks.base import Benchmark, SubsetSize, Tokens
from hpc_bench.benchmarks.data.local_files import columns_of, named_path
from hpc_bench.benchmarks.data.rows import Row, digest_data, read_local
from hpc_bench.benchmarks.data.texts import as_text, as_texts
from hpc_bench.benchmarks.metrics.named import METRICS
from hpc_bench.errors import DatasetError, unknown_name
from hpc_bench.options import doc
from hpc_bench.values import Json, Metric, Sample, Scores

__all__ = ["OwnData"]

_PARTS = ("context", "question", "answer_prefix")
_SPLIT = "test"
_BYTES_PER_TOKEN = 4
_GUESSED_ROWS = 100


@dataclass(frozen=True)
class OwnData(Benchmark):
    """Rows with the columns context, question, and answer or answers (text, a list of texts, or SQuAD's mapping).

    The columns answer_prefix, max_new_tokens and task are used where they are there; scores are also given by task.
    """

    data: str = field(
        metadata={
            "file": True,
            **doc(
                "A .jsonl, .parquet or .csv file, a folder of them, or a folder made by `save_to_disk`; of its splits, "
                "test."
            ),
        }
    )
    metric: str = field(
        metadata=doc("contains, contains_all, exact_match, qa_f1 or rouge_l (`metrics.named.METRICS`).")
    )
    prompt: dict[str, str] = field(
        default_factory=dict,
        metadata=doc(
            "Templates of context, question and answer_prefix: {context} in the one and {question} in the other "
            "become the row's; nothing else in braces is touched. Left out: as the row has it."
        ),
    )
    max_new_tokens: int | None = field(default=None, metadata=doc("None: as the column of that name says."))

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(unknown_name("metric", self.metric, METRICS))
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise ValueError("max_new_tokens must be at least 1")
        _check_prompt(self.prompt)
        path = named_path("data", self.data)
        columns = columns_of(path)
        if columns is not None and (problem := self._problem(columns)):
            raise ValueError(f"data: {path} {problem}")

    @property
    def _path(self) -> Path:
        return Path(self.data).expanduser()

    def _problem(self, columns: Sequence[str]) -> str:
        """What the rows lack; empty if nothing."""
        expected = ["context", "question", *([] if self.max_new_tokens else ["max_new_tokens"])]
        missing = [column for column in expected if column not in columns]
        if not {"answer", "answers"} & set(columns):
            missing.append("answer or answers")
        if not missing:
            return ""
        advice = "; max_new_tokens can be an option as well" if "max_new_tokens" in missing else ""
        return f"lacks {', '.join(missing)} (columns found: {', '.join(map(str, columns))}){advice}"

    def identity(self, subset: str | None) -> dict[str, Json]:  # noqa: ARG002
        """The data by sha256, and all options."""
        options = {key: value for key, value in asdict(self).items() if key != "data"}
        return {"version": self.version, **options, "sha256": digest_data(self._path, _SPLIT)}

    def headline(self, subset: str | None) -> str:  # noqa: ARG002
        """The metric that was named."""
        return self.metric

    def size(self, subset: str | None) -> SubsetSize:  # noqa: ARG002
        """From the size of the data on disk."""
        files = [self._path] if self._path.is_file() else [item for item in self._path.rglob("*") if item.is_file()]
        tokens = sum(file.stat().st_size for file in files) // _BYTES_PER_TOKEN // _GUESSED_ROWS
        return SubsetSize(_GUESSED_ROWS, max(1, tokens), self.max_new_tokens or 128)

    def check_data(self, subsets: Sequence[str | None]) -> None:  # noqa: ARG002 - it has none
        """Makes every sample."""
        self.load(None, len)

    def load(self, subset: str | None, tokens: Tokens) -> list[Sample]:  # noqa: ARG002
        """All rows, those of one context next to each other; a sample's id is its place in the data."""
        rows = read_local(self._path, _SPLIT)
        if problem := self._problem(list(rows[0].values)) if rows else "holds no rows":
            raise DatasetError(f"{self._path} {problem}")
        by_context: dict[str, list[Sample]] = {}
        for index, row in enumerate(rows):
            try:
                sample = self._to_sample(index, row.values)
            except ValueError as error:
                raise DatasetError(f"{self._path}: {row.place}: {error}") from error
            by_context.setdefault(sample.context, []).append(sample)
        return [sample for group in by_context.values() for sample in group]

    def _to_sample(self, index: int, row: Row) -> Sample:
        parts = {part: self._fill(part, row) for part in _PARTS}
        return Sample(
            sample_id=f"{index:04d}",
            context=parts["context"],
            question=parts["question"],
            references=_references(row),
            max_new_tokens=self.max_new_tokens or _limit(row),
            answer_prefix=parts["answer_prefix"],
            task=_text_or_none(row, "task"),
        )

    def _fill(self, part: str, row: Row) -> str:
        """A replacement of that one word, so that no text of the user's can reach into an object."""
        if part == "answer_prefix":
            return self.prompt.get(part, _text_or_none(row, part))
        return self.prompt.get(part, f"{{{part}}}").replace(f"{{{part}}}", as_text(row.get(part), part))

    def score(self, samples: Sequence[Sample], predictions: Sequence[str]) -> Scores:
        """The mean of the metric over the samples, and over those of each task where there are several."""
        compare = METRICS[self.metric]
        pairs = zip(samples, predictions, strict=True)
        values = [100 * compare(text, sample.references) for sample, text in pairs]
        if not values:
            return Scores(None, {}, (), note="no samples")
        score = round(fmean(values), 2)
        rows = tuple({self.metric: value} for value in values)
        return Scores(score, {self.metric: Metric(score)}, rows, by=_by_task(samples, values))


def _check_prompt(prompt: Mapping[str, str]) -> None:
    for part, template in prompt.items():
        if part not in _PARTS:
            raise ValueError(unknown_name("part of the prompt", part, _PARTS))
        for name in ("context", "question"):
            if part == name and f"{{{name}}}" not in template:
                raise ValueError(f"prompt.{part} must hold {{{name}}}, where the row's {name} goes")
            if part != name and f"{{{name}}}" in template:
                raise ValueError(f"prompt.{part} cannot hold {{{name}}}, which goes into prompt.{name}")


def _references(row: Row) -> tuple[str, ...]:
    """One text or several."""
    key = "answer" if row.get("answers") is None else "answers"
    value = row.get(key)
    if value is None or not (texts := as_texts(_without_places(value), key)):
        raise ValueError("has no answer")
    return texts


def _without_places(value: Any) -> Any:
    """The texts of SQuAD's answers, which stand beside their places in the context: a mapping of lists in the data set
    on the hub, a list of mappings in the authors' own files.
    """
    if isinstance(value, dict) and "text" in value and value.keys() <= {"text", "answer_start"}:
        return value["text"]
    return [_without_places(item) for item in value] if isinstance(value, (list, tuple)) else value


def _limit(row: Row) -> int:
    value = row["max_new_tokens"]
    if isinstance(value, str) and value.isascii() and value.isdigit():  # as a .csv has it
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"max_new_tokens is {value!r}, and must be a whole number of at least 1")
    return value


def _text_or_none(row: Row, column: str) -> str:
    """Empty where the row has none."""
    return "" if row.get(column) is None else as_text(row[column], column)


def _by_task(samples: Iterable[Sample], values: Iterable[float]) -> dict[str, dict[str, float]]:
    tasks: dict[str, list[float]] = {}
    for sample, value in zip(samples, values, strict=True):
        tasks.setdefault(sample.task, []).append(value)
    return {"task": {name: round(fmean(of), 2) for name, of in tasks.items()}} if len(tasks) > 1 else {}

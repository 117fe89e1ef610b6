"""longbench: question answering over long documents (THUDM/LongBench)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import ClassVar

from hpc_bench.benchmarks.base import Benchmark, SubsetSize, Tokens
from hpc_bench.benchmarks.qa_f1 import best_qa_f1
from hpc_bench.benchmarks.rows import Row, digest_data, find_data, read_hub, read_local, require_columns
from hpc_bench.errors import PluginError, SweepError
from hpc_bench.hub import HubRepo
from hpc_bench.records import Json, Metric, Sample, Scores

__all__ = ["LongBench"]

_HUB_NAME = "Xnhyacinth/LongBench"
_COLUMNS = ("context", "question", "answer_prefix", "answers")
_FIRST_LINE_ONLY = frozenset({"triviaqa"})
"""Few-shot tasks: asked without a chat template, and the model may go on with a next example."""


@dataclass(frozen=True)
class _Subset:
    samples: int
    context_words: int
    """On average, as published in LongBench's README."""
    new_tokens: int
    """LongBench/config/dataset2maxlen.json."""


_SUBSETS: Mapping[str, _Subset] = MappingProxyType(
    {
        "narrativeqa": _Subset(200, 18_409, 128),
        "qasper": _Subset(200, 3_619, 128),
        "multifieldqa_en": _Subset(150, 4_559, 64),
        "hotpotqa": _Subset(200, 9_151, 32),
        "2wikimqa": _Subset(200, 4_887, 32),
        "musique": _Subset(200, 11_214, 32),
        "triviaqa": _Subset(200, 8_209, 32),
    }
)


@dataclass(frozen=True)
class LongBench(Benchmark):
    """LongBench, the seven English question answering subsets, which are scored by F1 over words.

    The other LongBench subsets use other metrics and are not part of this class yet. Prompts are the columns of the
    data set, new-token limits those of LongBench/config/dataset2maxlen.json, scores those of LongBench/eval.py.
    """

    subsets: ClassVar[tuple[str, ...]] = tuple(_SUBSETS)

    data: str | None = None
    """A local folder with <subset>.jsonl, <subset>.parquet or <subset>/, or one file or `save_to_disk` folder
    whose rows say their subset in the column `task`. None: the hub."""
    revision: str = "main"
    """Of the data set on the hub."""

    def __post_init__(self) -> None:
        if self.data is not None and not Path(self.data).expanduser().exists():
            raise ValueError(f"data: {self.data} does not exist; give a file or folder, or leave it out to use the hub")

    def identity(self, subset: str | None) -> dict[str, Json]:
        """Local data by sha256, the hub's by name and revision."""
        if self.data is not None:
            return {"version": self.version, "sha256": digest_data(find_data(self.data, _known(subset)))}
        return {"version": self.version, "data": _HUB_NAME, "revision": self.revision}

    def hub_data(self, subset: str | None) -> HubRepo | None:
        """The configuration of the same name, unless local data was named."""
        return HubRepo("dataset", _HUB_NAME, self.revision, _known(subset)) if self.data is None else None

    def size(self, subset: str | None) -> SubsetSize:
        """From the published averages, at three tokens for two words."""
        about = _SUBSETS[_known(subset)]
        return SubsetSize(about.samples, about.context_words * 3 // 2, about.new_tokens)

    def load(self, subset: str | None, tokens: Tokens) -> list[Sample]:  # noqa: ARG002
        """All rows; a sample's id is its place in the data set."""
        name = _known(subset)
        samples = [_to_sample(index, row, name) for index, row in self._read_rows(name)]
        by_context: dict[str, list[Sample]] = {}
        for sample in samples:
            by_context.setdefault(sample.context, []).append(sample)
        return [sample for group in by_context.values() for sample in group]

    def score(self, samples: Sequence[Sample], predictions: Sequence[str]) -> Scores:
        """The mean of the best F1 over the references (LongBench/eval.py, `scorer`)."""
        f1 = [_score_one(sample, text) for sample, text in zip(samples, predictions, strict=True)]
        if not f1:
            return Scores(None, {}, (), note="no samples")
        score = round(fmean(f1), 2)
        return Scores(score, {"qa_f1": Metric(score)}, tuple({"qa_f1": value} for value in f1))

    def _read_rows(self, subset: str) -> list[tuple[int, Row]]:
        if self.data is None:
            on_hub = HubRepo("dataset", _HUB_NAME, self.revision, subset)
            rows = read_hub(on_hub)
            require_columns(rows, _COLUMNS, on_hub.title)
            return list(enumerate(rows))
        path = find_data(self.data, subset)
        rows = read_local(path)
        if path != Path(self.data).expanduser():
            require_columns(rows, _COLUMNS, str(path))
            return list(enumerate(rows))
        require_columns(rows, (*_COLUMNS, "task"), str(path))
        return _rows_of_task(rows, subset, path)


def _known(subset: str | None) -> str:
    if subset is None or subset not in _SUBSETS:
        raise SweepError(f"needs one of the subsets {', '.join(_SUBSETS)}")
    return subset


def _rows_of_task(rows: Sequence[Row], task: str, path: Path) -> list[tuple[int, Row]]:
    chosen = [(index, row) for index, row in enumerate(rows) if row["task"] == task]
    if not chosen:
        raise PluginError(f"{path} holds no rows of task {task} (has: {', '.join(sorted({r['task'] for r in rows}))})")
    return chosen


def _to_sample(index: int, row: Row, subset: str) -> Sample:
    answers = row["answers"]
    return Sample(
        sample_id=f"{index:04d}",
        context=row["context"],
        question=row["question"],
        references=(answers,) if isinstance(answers, str) else tuple(answers),
        max_new_tokens=_SUBSETS[subset].new_tokens,
        answer_prefix=row["answer_prefix"],
        task=subset,
        chat=subset not in _FIRST_LINE_ONLY,
        extra={"length": row["length"]} if "length" in row else {},
    )


def _score_one(sample: Sample, prediction: str) -> float:
    if sample.task in _FIRST_LINE_ONLY:
        prediction = prediction.lstrip("\n").split("\n")[0]
    return 100 * best_qa_f1(prediction, sample.references)

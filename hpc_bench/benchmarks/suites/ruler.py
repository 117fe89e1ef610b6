"""ruler: 13 synthetic tasks at any length (NVIDIA/RULER), from the hub or made on the spot."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

from hpc_bench.benchmarks.base import SubsetSize, Tokens
from hpc_bench.benchmarks.data.local_files import find_data, named_path
from hpc_bench.benchmarks.data.rows import Row, digest_files
from hpc_bench.benchmarks.data.table import TableBenchmark
from hpc_bench.benchmarks.data.texts import as_texts
from hpc_bench.benchmarks.generated.ruler import (
    ESSAY_TASKS,
    NEW_TOKENS,
    QA_TASKS,
    TASKS,
    Order,
    check_files,
    find_essays,
    find_questions,
    generate,
)
from hpc_bench.benchmarks.generated.ruler_text import TEXT_VERSION
from hpc_bench.benchmarks.metrics.string_match import string_match, string_match_part
from hpc_bench.errors import DatasetError, SweepError, unknown_name
from hpc_bench.options import doc
from hpc_bench.values import HubRepo, Json, Metric, Sample, Scores

__all__ = ["Ruler"]

_HUB_LENGTHS = (4096, 8192, 16384, 32768)
_SHORTEST, _LONGEST = 256, 1_048_576
_OFFICIAL_SAMPLES = 500
_GENERATOR_OPTIONS: Mapping[str, object] = MappingProxyType(
    {"samples": _OFFICIAL_SAMPLES, "seed": 0, "essays": None, "qa": None}
)


@dataclass(frozen=True)
class Ruler(TableBenchmark):
    """RULER; a subset is `<length>_<task>`, the length in tokens.

    From the hub (or `data` in its schema) the texts are the authors', of lengths counted with their tokenizer. With
    `source: generate` they are made in RULER's forms (scripts/synthetic.yaml), in a wording of our own, at any length
    of the model's tokenizer; new tokens count towards it, as in RULER, and so do special tokens and chat template.
    Essays and the documents of qa come from local files then. New-token limits and scores are RULER's, whatever the
    source.
    """

    subsets: ClassVar[tuple[str, ...]] = tuple(f"{length}_{task}" for length in _HUB_LENGTHS for task in TASKS)
    hub_name: ClassVar[str] = "simonjegou/ruler"
    columns: ClassVar[tuple[str, ...]] = ("context", "question", "answer_prefix", "answer")

    source: Literal["hub", "generate"] = "hub"
    samples: int = field(
        default=_OFFICIAL_SAMPLES, metadata=doc("Of a generated subset; as many as RULER's own scripts make.")
    )
    seed: int = field(default=0, metadata=doc("Of what is generated."))
    essays: str | None = field(
        default=None,
        metadata={
            "file": True,
            **doc("A text file, or a folder of .txt files: the haystack of five of the generated niah tasks."),
        },
    )
    qa: str | None = field(
        default=None,
        metadata={
            "file": True,
            **doc(
                "SQuAD's JSON for generated qa_1, HotpotQA's for qa_2, or a folder with both as qa_1.json and "
                "qa_2.json."
            ),
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 1:
            raise ValueError("samples must be at least 1")
        if self.source == "generate" and self.data is not None:
            raise ValueError("data has no effect on what is generated; leave out either data or source: generate")
        changed = [name for name, default in _GENERATOR_OPTIONS.items() if getattr(self, name) != default]
        if self.source == "hub" and changed:
            raise ValueError(f"{', '.join(changed)}: without effect but with source: generate")
        for name in ("essays", "qa"):
            if (path := getattr(self, name)) is not None:
                named_path(name, path)

    def check_subset(self, subset: str) -> str:
        """Any length from 256 to 1048576 with any of the tasks; from the hub only the lengths that it has."""
        length, _, task = subset.partition("_")
        if task not in TASKS:
            known = length if re.fullmatch(r"[1-9][0-9]*", length) else str(_HUB_LENGTHS[0])
            raise SweepError(unknown_name("subset", subset, [f"{known}_{name}" for name in TASKS]))
        if not re.fullmatch(r"[1-9][0-9]{2,6}", length) or not _SHORTEST <= int(length) <= _LONGEST:
            raise SweepError(
                f"{subset!r}: {length!r} is no length in tokens; give an integer from {_SHORTEST} to {_LONGEST}, "
                f"as in '4096_{task}'"
            )
        if self.source == "hub" and self.data is None and int(length) not in _HUB_LENGTHS:
            raise SweepError(
                f"{subset!r}: {self.hub_name} has the lengths {', '.join(map(str, _HUB_LENGTHS))} only; "
                "with `source: generate` any length is made"
            )
        return subset

    def configuration(self, subset: str | None) -> str:
        """The length: one table holds all its tasks."""
        return str(self._parts(subset)[0])

    def task(self, subset: str | None) -> str:
        """The task's name in its column."""
        return self._parts(subset)[1]

    def identity(self, subset: str | None) -> dict[str, Json]:
        """What is generated by seed, samples, wording and the files it is made of."""
        if self.source == "hub":
            self._refuse_other_length(subset)
            own = {field.name for field in fields(Ruler)} - {field.name for field in fields(TableBenchmark)}
            return {key: value for key, value in super().identity(subset).items() if key not in own}
        files = self._files(subset)
        return {
            "version": self.version,
            "text_version": TEXT_VERSION,
            "source": self.source,
            "samples": self.samples,
            "seed": self.seed,
            **({"sha256": digest_files(files)} if files else {}),
        }

    def hub_data(self, subset: str | None) -> HubRepo | None:
        """None for what is generated or local."""
        return super().hub_data(subset) if self.source == "hub" else None

    def headline(self, subset: str | None) -> str:  # noqa: ARG002
        """RULER's, of either kind."""
        return "string_match"

    def size(self, subset: str | None) -> SubsetSize:
        """500 samples, as on the hub, unless the sweep says otherwise."""
        length, task = self._parts(subset)
        return SubsetSize(self.samples, length, NEW_TOKENS[task])

    def check_data(self, subsets: Sequence[str | None]) -> None:
        """Local rows, or the files that samples are made of."""
        if self.source == "hub":
            super().check_data(subsets)
        else:
            check_files((self.task(subset), self._files(subset)) for subset in subsets)

    def load(self, subset: str | None, tokens: Tokens) -> Iterable[Sample]:
        """The rows of the data set, or samples made for this tokenizer."""
        if self.source == "hub":
            self._refuse_other_length(subset)
            return super().load(subset, tokens)
        length, task = self._parts(subset)
        return generate(Order(task, length, self.samples, self.seed, self._files(subset)), tokens)

    def to_sample(self, index: int, row: Row, subset: str | None) -> Sample:
        """A row of the data set; the new-token limit is RULER's."""
        length, task = self._parts(subset)
        references = as_texts(row["answer"], "answer")
        if not references:
            raise DatasetError("has no answer")
        return Sample(
            sample_id=f"{index:04d}",
            context=row["context"],
            question=row["question"],
            references=references,
            max_new_tokens=NEW_TOKENS[task],
            answer_prefix=row["answer_prefix"],
            task=task,
            extra={"length": length},
        )

    def score(self, samples: Sequence[Sample], predictions: Sequence[str]) -> Scores:
        """The mean share of the references found, of qa whether any was (scripts/eval/synthetic/constants.py)."""
        shares = [
            (string_match_part if sample.task.endswith(tuple(QA_TASKS)) else string_match)(text, sample.references)
            for sample, text in zip(samples, predictions, strict=True)
        ]
        if not shares:
            return Scores(None, {}, (), note="no samples")
        score = round(sum(shares) / len(shares) * 100, 2)  # in this order, on which the last digit hangs
        return Scores(score, {"string_match": Metric(score)}, tuple({"string_match": 100 * share} for share in shares))

    @classmethod
    def averages(cls, subsets: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        """For each length the mean over its 13 tasks."""
        lengths = dict.fromkeys(subset.partition("_")[0] for subset in subsets)
        return {length: {f"{length}_{task}": 1.0 for task in TASKS} for length in lengths}

    def _parts(self, subset: str | None) -> tuple[int, str]:
        if subset is None:
            raise SweepError("needs a subset: a length in tokens and a task, such as '4096_niah_single_1'")
        length, _, task = self.check_subset(subset).partition("_")
        return int(length), task

    def _files(self, subset: str | None) -> tuple[Path, ...]:
        """The local files that a generated subset is made of; SweepError names the option that lacks."""
        length, task = self._parts(subset)
        if task in ESSAY_TASKS:
            return find_essays(self.essays, f"{length}_{task}")
        return find_questions(self.qa, f"{length}_{task}") if task in QA_TASKS else ()

    def _refuse_other_length(self, subset: str | None) -> None:
        """One local file for all lengths cannot be told from one of the wrong length."""
        length = self.configuration(subset)
        if self.data is not None and (found := find_data(self.data, length)).name.partition(".")[0] != length:
            raise SweepError(f"{found} is not named after its length; give a folder with {length}.jsonl", "data")

"""loogle: questions, clozes and summaries over long documents (bigai-nlco/LooGLE)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from types import MappingProxyType
from typing import ClassVar

from hpc_bench.benchmarks.base import SubsetSize
from hpc_bench.benchmarks.data.rows import Row
from hpc_bench.benchmarks.data.table import TableBenchmark
from hpc_bench.benchmarks.data.texts import as_text
from hpc_bench.benchmarks.metrics.loogle import (
    bert_scores,
    masks_of,
    matched_masks,
    overlap_scores,
)
from hpc_bench.benchmarks.metrics.meteor import HASH_SEEDS, meteor_scores
from hpc_bench.errors import DatasetError, SweepError
from hpc_bench.values import AnswerPlace, Metric, Sample, Scores

__all__ = ["LooGLE"]

_CLOZE = "shortdep_cloze"


@dataclass(frozen=True)
class _Subset:
    samples: int
    context_words: int
    """About as many as the paper says (arXiv 2311.04939, table 2)."""
    new_tokens: int
    """config/task2maxlen.json."""


_SUBSETS: Mapping[str, _Subset] = MappingProxyType(
    {
        "shortdep_qa": _Subset(1951, 14_000, 300),
        "longdep_qa": _Subset(1101, 21_000, 500),
        "longdep_summarization": _Subset(516, 17_000, 500),
        "shortdep_cloze": _Subset(2880, 16_000, 50),
    }
)


@dataclass(frozen=True)
class LooGLE(TableBenchmark):
    """LooGLE, scored as Evaluation/automatic_eval.py does, with the new-token limits of config/task2maxlen.json.

    The headline is ROUGE-L recall for questions and summaries, which asks for no model or data beside the answers,
    and the share of exactly filled masks for clozes. METEOR and the BERT score come with it where their data and
    model are on this machine; else the note says what is missing. The authors' METEOR changes with the hash seed of
    Python: it is given under seed 0, and under seeds 0-3 as `by.meteor_hash_seed`. The authors ran open models with
    `repetition_penalty: 2` (pred_opensource_models.py).
    """

    answer_prefix: ClassVar[AnswerPlace] = "user"
    scoring_version: ClassVar[int] = 2
    subsets: ClassVar[tuple[str, ...]] = tuple(_SUBSETS)
    hub_name: ClassVar[str] = "simonjegou/loogle"
    columns: ClassVar[tuple[str, ...]] = ("context", "question", "answer_prefix", "answer")

    def headline(self, subset: str | None) -> str:
        """Of several, the one that needs nothing beside the answers."""
        return "exact_match" if _known(subset) == _CLOZE else "rouge_l"

    def size(self, subset: str | None) -> SubsetSize:
        """From the paper's averages, at three tokens for two words."""
        about = _SUBSETS[_known(subset)]
        return SubsetSize(about.samples, about.context_words * 3 // 2, about.new_tokens)

    def to_sample(self, index: int, row: Row, subset: str | None) -> Sample:
        """A row of the data set; a cloze's reference is a JSON object of its masks."""
        name = _known(subset)
        # Of clozes the data set has a text that holds masks, and the authors' files the masks themselves.
        answer = str(row["answer"]) if name == _CLOZE else as_text(row["answer"], "answer")
        if name == _CLOZE:
            try:
                masks_of(answer)
            except ValueError as error:
                raise DatasetError(f"the answer {answer[:80]!r} of {name} {error}") from error
        return Sample(
            sample_id=f"{index:04d}",
            context=row["context"],
            question=row["question"],
            references=(answer,),
            max_new_tokens=_SUBSETS[name].new_tokens,
            answer_prefix=row["answer_prefix"],
            task=name,
        )

    def score(self, samples: Sequence[Sample], predictions: Sequence[str]) -> Scores:
        """Means over the answers, or over the masks of clozes (Evaluation/automatic_eval.py)."""
        pairs = [
            # An empty answer counts as the word None (`evaluation`).
            (text or "None", sample.references[0])
            for sample, text in zip(samples, predictions, strict=True)
        ]
        if not pairs:
            return Scores(None, {}, (), note="no samples")
        return _score_clozes(pairs) if samples[0].task == _CLOZE else _score_texts(pairs)

    @classmethod
    def averages(cls, subsets: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        """Each subset alone: the authors give each task its own figures, and a cloze's are no ROUGE."""
        return {subset: {subset: 1.0} for subset in subsets}


def _known(subset: str | None) -> str:
    if subset is None or subset not in _SUBSETS:
        raise SweepError(f"needs one of the subsets {', '.join(_SUBSETS)}")
    return subset


def _score_texts(pairs: Sequence[tuple[str, str]]) -> Scores:
    """Means of the figures, as `get_semantic_matching`; METEOR's by each hash seed are among the parts."""
    rows = [overlap_scores(text, reference) for text, reference in pairs]
    meteor, about_meteor = meteor_scores(pairs)
    if meteor:
        rows = [{**row, "meteor": value} for row, value in zip(rows, meteor[0], strict=True)]
    bert, no_bert = bert_scores([text for text, _ in pairs], [reference for _, reference in pairs])
    if bert is not None:
        rows = [{**row, "bert_score": value} for row, value in zip(rows, bert, strict=True)]
    rows = [{name: _percent(value) for name, value in row.items()} for row in rows]
    means = {name: fmean(row[name] for row in rows) for name in rows[0]}
    seeds = {str(seed): round(100 * fmean(values), 2) for seed, values in zip(HASH_SEEDS, meteor, strict=False)}
    return Scores(
        score=round(means["rouge_l"], 2),
        metrics={name: Metric(round(mean, 2)) for name, mean in means.items()},
        per_sample=tuple(rows),
        by={"meteor_hash_seed": seeds} if seeds else {},
        note="; ".join(filter(None, (about_meteor, no_bert))),
    )


def _score_clozes(pairs: Sequence[tuple[str, str]]) -> Scores:
    """Shares of all masks together, as `get_match_score`; a sample's own are shares of its masks."""
    counts = [_count_matches(text, reference) for text, reference in pairs]
    masks = sum(of for _, _, of in counts)
    exact, partial = (_rounded(sum(count[place] for count in counts), masks) for place in (0, 1))
    return Scores(
        score=exact,
        metrics={"exact_match": Metric(exact), "partial_match": Metric(partial)},
        per_sample=tuple(
            {"exact_match": 100 * exact / of, "partial_match": 100 * partial / of} for exact, partial, of in counts
        ),
    )


def _rounded(found: int, masks: int) -> float:
    """The share in percent, to the last digit as the authors' numpy rounds it to four places."""
    import numpy as np

    return round(100 * float(round(np.int64(found) / np.int64(masks), 4)), 2)


def _count_matches(text: str, reference: str) -> tuple[int, int, int]:
    try:
        masks = masks_of(reference)
    except ValueError:
        return 0, 0, 1
    return *matched_masks(text, masks), max(1, len(masks))


def _percent(share: float) -> float:
    """Of a figure that rounding may put beyond its ends."""
    return 100 * min(1.0, max(0.0, share))

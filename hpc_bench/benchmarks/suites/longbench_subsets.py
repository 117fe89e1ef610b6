"""The subsets of LongBench and LongBench-E: metric, new-token limit and size of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

__all__ = ["BARE_PROMPT", "FIRST_LINE_ONLY", "SUBSETS", "LongBenchSubset"]

BARE_PROMPT = frozenset({"trec", "triviaqa", "samsum", "lsht", "lcc", "repobench-p"})
"""Few-shot and code tasks, asked without a chat template (LongBench/pred.py, `get_pred`)."""

FIRST_LINE_ONLY = frozenset({"trec", "triviaqa", "samsum", "lsht"})
"""Few-shot tasks, where the model may go on with a next example (LongBench/eval.py, `scorer`)."""


@dataclass(frozen=True)
class LongBenchSubset:
    """One of the subsets."""

    name: str
    """The one whose metric and rules it has: its own without _e."""
    metric: str
    """LongBench/eval.py, `dataset2metric`."""
    new_tokens: int
    """LongBench/config/dataset2maxlen.json."""
    samples: int
    """LongBench/task.md, as is the length behind the next figure."""
    context_tokens: int
    """At 1.5 a word of English, 3 a word of code, 1 a Chinese character."""
    by_length: bool = False
    """Of LongBench-E, which is scored by bins of length."""


_LONGBENCH = (
    LongBenchSubset("narrativeqa", "qa_f1", 128, 200, 27_600),
    LongBenchSubset("qasper", "qa_f1", 128, 200, 5_400),
    LongBenchSubset("multifieldqa_en", "qa_f1", 64, 150, 6_800),
    LongBenchSubset("multifieldqa_zh", "qa_f1_zh", 64, 200, 6_700),
    LongBenchSubset("hotpotqa", "qa_f1", 32, 200, 13_700),
    LongBenchSubset("2wikimqa", "qa_f1", 32, 200, 7_300),
    LongBenchSubset("musique", "qa_f1", 32, 200, 16_800),
    LongBenchSubset("dureader", "rouge_zh", 128, 200, 15_800),
    LongBenchSubset("gov_report", "rouge_l", 512, 200, 13_100),
    LongBenchSubset("qmsum", "rouge_l", 512, 200, 15_900),
    LongBenchSubset("multi_news", "rouge_l", 512, 200, 3_200),
    LongBenchSubset("vcsum", "rouge_zh", 512, 200, 15_400),
    LongBenchSubset("trec", "classification", 64, 200, 7_800),
    LongBenchSubset("triviaqa", "qa_f1", 32, 200, 12_300),
    LongBenchSubset("samsum", "rouge_l", 128, 200, 9_400),
    LongBenchSubset("lsht", "classification", 64, 200, 22_300),
    LongBenchSubset("passage_count", "count", 32, 200, 16_700),
    LongBenchSubset("passage_retrieval_en", "retrieval", 32, 200, 13_900),
    LongBenchSubset("passage_retrieval_zh", "retrieval_zh", 32, 200, 6_700),
    LongBenchSubset("lcc", "code_sim", 64, 500, 3_700),
    LongBenchSubset("repobench-p", "code_sim", 64, 500, 12_600),
)
_E_SAMPLES = {
    "qasper": 224,
    "multifieldqa_en": 150,
    "hotpotqa": 300,
    "2wikimqa": 300,
    "gov_report": 300,
    "multi_news": 294,
    "trec": 300,
    "triviaqa": 300,
    "samsum": 300,
    "passage_count": 300,
    "passage_retrieval_en": 300,
    "lcc": 300,
    "repobench-p": 300,
}
_E_CONTEXT_TOKENS = 9_000  # about 6,000 words: a third each below 4,000, below 8,000 and above


def _all_subsets() -> dict[str, LongBenchSubset]:
    plain = {subset.name: subset for subset in _LONGBENCH}
    extended = {
        f"{name}_e": replace(plain[name], samples=samples, context_tokens=_E_CONTEXT_TOKENS, by_length=True)
        for name, samples in _E_SAMPLES.items()
    }
    return plain | extended


SUBSETS: Mapping[str, LongBenchSubset] = MappingProxyType(_all_subsets())
"""All by the name that a sweep gives them; those of LongBench-E end in _e."""

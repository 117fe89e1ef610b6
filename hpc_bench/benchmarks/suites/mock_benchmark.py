"""mock_benchmark: five short questions with known answers, for trying the machinery."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from hpc_bench.benchmarks.base import Benchmark, SubsetSize, Tokens
from hpc_bench.values import Metric, Sample, Scores

__all__ = ["MockBenchmark"]

_NEW_TOKENS = 32

_LIGHTHOUSE = (
    "The lighthouse on Gull Island was built in 1874 by the engineer Clara Whitfield. Its lamp first burned whale oil, "
    "and it was changed to electricity only in 1931. Today nobody lives on the island, and the lamp is switched on and "
    "off by a small solar computer."
)
_BAKERY = (
    "Every morning at four, Tomas opens the bakery on Mill Street. He bakes rye bread first, because it sells out "
    "before eight. On Sundays his sister Irena makes plum cake, which people from the next town come to buy."
)
_EXPEDITION = (
    "The expedition reached the northern lake after nine days of walking. The guides had expected ice, but the water "
    "was open, so they built a raft from spruce logs and crossed to the far shore before dark."
)

_ITEMS = (
    (_LIGHTHOUSE, "Who built the lighthouse on Gull Island?", ("Clara Whitfield", "Whitfield")),
    (_LIGHTHOUSE, "In which year was the lamp changed to electricity?", ("1931",)),
    (_BAKERY, "Which bread does Tomas bake first?", ("rye bread", "rye")),
    (_BAKERY, "On which day does Irena make plum cake?", ("Sunday",)),
    (_EXPEDITION, "What did the guides build to cross the lake?", ("a raft", "raft")),
)


@dataclass(frozen=True)
class MockBenchmark(Benchmark):
    """Five reading-comprehension questions over three contexts, the first two of which carry two questions each."""

    def headline(self, subset: str | None) -> str:  # noqa: ARG002
        """Whether a reference is contained."""
        return "match"

    def size(self, subset: str | None) -> SubsetSize:
        """Exact, but for the tokenizer."""
        self._refuse(subset)
        return SubsetSize(len(_ITEMS), 60, _NEW_TOKENS, 2)

    def load(self, subset: str | None, tokens: Tokens) -> Iterator[Sample]:  # noqa: ARG002
        """The five questions."""
        self._refuse(subset)
        for index, (context, question, references) in enumerate(_ITEMS):
            yield Sample(
                sample_id=str(index),
                context=context,
                question=f"\n\nQuestion: {question}\n",
                references=references,
                max_new_tokens=_NEW_TOKENS,
                answer_prefix="Answer:",
                task="mock_benchmark",
            )

    def score(self, samples: Sequence[Sample], predictions: Sequence[str]) -> Scores:
        """An answer is right if it contains a reference, upper or lower case; exact matches are told apart."""
        per_sample = tuple(_match(text, sample.references) for sample, text in zip(samples, predictions, strict=True))
        if not per_sample:
            return Scores(None, {}, (), note="no samples")
        metrics = {name: round(fmean(row[name] for row in per_sample), 2) for name in ("match", "exact_match")}
        return Scores(metrics["match"], {name: Metric(value) for name, value in metrics.items()}, per_sample)

    def _refuse(self, subset: str | None) -> None:
        if subset is not None:
            self.check_subset(subset)


def _match(prediction: str, references: Sequence[str]) -> dict[str, float]:
    text = prediction.strip().casefold()
    known = [reference.casefold() for reference in references]
    return {
        "match": 100.0 * any(reference in text for reference in known),
        "exact_match": 100.0 * (text in known),
    }
